//! How the database is used: how many connections, which logs, what is tried again.

use std::time::{Duration, Instant};

use erp_testkit::{PROBE, TestApp};

#[tokio::test]
async fn more_connections_than_the_server_gives_are_warned_of_at_the_start() {
    let app = TestApp::builder().setting("INSTANCES", "100").start().await;
    let text = app.log().text();
    assert!(text.contains("100 instances with pools of 20 may open 2100 connections"), "{text}");
    app.finish().await;

    let app = TestApp::start().await;
    assert!(!app.log().text().contains("may open"), "one instance fits");
    app.finish().await;
}

#[tokio::test]
async fn who_waits_for_the_tenants_share_counts_as_waiting() {
    let one = ("DATABASE_TENANT_MAX_CONNECTIONS", "1");
    let app = TestApp::builder().module(&PROBE).setting(one.0, one.1).start().await;
    let caller = app.caller(&app.alice()).await;
    let db = &app.edge().app.db;
    let mut first = db.tenant_read(&caller);
    let _: Vec<One> = first.rows(ONE, &[]).await.unwrap();
    let second = async { db.tenant_read(&caller).last().rows::<One>(ONE, &[]).await.unwrap() };
    let looked_at = async {
        let begun = Instant::now();
        while db.waiting() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "the second waits, and is not counted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let metrics = app.anonymous().get("/metrics").await.text();
        assert!(metrics.contains("\ndb_pool_waiting 1\n"), "{metrics}");
        drop(first);
    };
    tokio::join!(second, looked_at);
    assert_eq!(db.waiting(), 0);
    app.finish().await;
}

#[tokio::test]
async fn options_of_the_url_stay_beside_ours() {
    let way = |url: String| format!("{url}?options=-c%20work_mem%3D7MB%20-c%20statement_timeout%3D1");
    let app = TestApp::builder().module(&PROBE).start_through(way).await;
    let caller = app.caller(&app.alice()).await;
    let sql = "select current_setting('work_mem') || ' ' || current_setting('statement_timeout') as one";
    let row: Option<One> = app.edge().app.db.tenant_read(&caller).last().optional(sql, &[]).await.unwrap();
    assert_eq!(row.unwrap().one, "7MB 30s", "DATABASE_TIMEOUT counts");
    app.finish().await;
}

const ONE: &str = "select 'x' as one";

struct One {
    one: String,
}
erp_core::from_row!(One { one });
