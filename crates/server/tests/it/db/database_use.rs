//! How the database is used: how many connections, which logs, what is tried again.

use std::time::{Duration, Instant};

use erp_core::error::{Error, codes};
use erp_core::metrics::Format;
use erp_testkit::{PROBE, TestApp};

#[tokio::test]
async fn more_connections_than_the_server_gives_are_warned_of_at_the_start() {
    let app = TestApp::builder().setting("INSTANCES", "100").start().await;
    let text = app.log().text();
    assert!(text.contains("100 instances with pools of 24 each may open 2500 connections"), "{text}");
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

#[tokio::test]
async fn every_statement_is_logged_when_asked_for_and_slow_ones_always_without_their_values() {
    let sql = "select $1::text || pg_sleep(0.05)::text as one";
    let value = "a-value-that-no-log-shows";
    for (logging, slow, message, level) in
        [("true", "1s", "Query", "info"), ("false", "20ms", "Slow query", "warn")]
    {
        let app = TestApp::builder().module(&PROBE).setting("DATABASE_LOGGING", logging);
        let app = app.setting("DATABASE_SLOW_QUERY", slow).start().await;
        let caller = app.caller(&app.alice()).await;
        let rows: Vec<One> =
            app.edge().app.db.tenant_read(&caller).last().rows(sql, &[&value]).await.unwrap();
        assert!(rows[0].one.starts_with(value));
        let streamed = "select $1::text || pg_sleep(0.06)::text as one";
        let mut rows =
            app.edge().app.db.tenant_read(&caller).stream::<One>(streamed, &[&value]).await.unwrap();
        assert!(rows.next().await.unwrap().is_ok() && rows.next().await.is_none());
        let lines = app.log().with_message(message);
        for sql in [sql, streamed] {
            let line = lines.iter().find(|line| line["sql"] == sql);
            let line = line.unwrap_or_else(|| panic!("{message}: {lines:?}"));
            let told = (line["level"].as_str(), line["operation"].as_str());
            assert_eq!(told, (Some(level), Some("select")), "{line}");
            assert!(line["duration"].as_f64().is_some_and(|took| took >= 50.0), "{line}");
        }
        let other = if message == "Query" { "Slow query" } else { "Query" };
        assert!(app.log().with_message(other).is_empty(), "one line a statement");
        assert!(!app.log().text().contains(value));
        app.finish().await;
    }
}

#[tokio::test]
async fn what_postgresql_rolled_back_is_tried_again_twice() {
    let app = TestApp::builder().module(&PROBE).start().await;
    app.sql()
        .batch_execute(
            "create sequence tries;
            create function fail(times int, state text) returns text language plpgsql security definer as $$
            begin
              if nextval('public.tries') <= times then
                raise exception 'as if' using errcode = state;
              end if;
              return 'done';
            end $$;
            grant execute on function fail to erp_app",
        )
        .await
        .unwrap();
    let caller = app.caller(&app.alice()).await;
    let db = &app.edge().app.db;
    let sql = "select fail($1, $2) as one";
    for (state, failures, tries) in [("40P01", 2, 3), ("40001", 2, 3), ("40001", 9, 3), ("22012", 1, 1)] {
        app.sql().batch_execute("alter sequence tries restart").await.unwrap();
        let begun = Instant::now();
        let done = db.tenant(&caller).last().optional::<One>(sql, &[&failures, &state]).await;
        assert_eq!(done.is_ok(), failures < tries, "{state} {failures}: {:?}", done.err());
        let tried: i64 = app.sql().query_one("select last_value from tries", &[]).await.unwrap().get(0);
        assert_eq!(tried, i64::from(tries), "{state} {failures}");
        assert!(tries == 1 || begun.elapsed() >= Duration::from_millis(50), "the second pause is longer");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_22_a_tenant_waits_for_its_own_share_and_the_others_do_not() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_TENANT_MAX_CONNECTIONS", "1");
    let app = app.setting("DATABASE_ACQUIRE_TIMEOUT", "300ms").start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    let db = &app.edge().app.db;
    let mut first = db.tenant_read(&alice);
    let _: Vec<One> = first.rows(ONE, &[]).await.unwrap();
    let refused = db.tenant_read(&alice).last().rows::<One>(ONE, &[]).await.err().unwrap();
    assert_eq!(refused.code().code, "core.overloaded");
    assert_eq!(db.tenant_read(&bob).last().rows::<One>(ONE, &[]).await.unwrap().len(), 1);
    drop(first);
    assert_eq!(db.tenant_read(&alice).last().rows::<One>(ONE, &[]).await.unwrap().len(), 1);
    app.finish().await;
}

/// What the system does in a tenant for those who have not signed in yet takes the tenant's share too, and who waits for a
/// place there holds no connection.
#[tokio::test]
async fn t_22_the_systems_work_in_a_tenant_takes_that_tenants_place() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_SYSTEM_MAX_CONNECTIONS", "3").start().await;
    let (acme, globex) = (app.tenant_id("acme"), app.tenant_id("globex"));
    let trace = erp_core::auth::Trace::new("test");
    let system = app.system().await;
    let enter = async |first: bool| {
        let mut tx = system.begin(&trace);
        if first {
            let _: Option<One> = tx.optional(ONE, &[]).await.unwrap();
        }
        let mut tx = tx.within(acme).await.unwrap();
        let _: Vec<One> = tx.rows(ONE, &[]).await.unwrap();
        tx
    };
    let held = (enter(true).await, enter(false).await);
    let mut waiting: Vec<_> = (0..6).map(|number| Box::pin(enter(number % 2 == 0))).collect();
    while !app.edge().app.scrape(Format::Text004).contains("\ndb_pool_waiting 6\n") {
        let _ =
            tokio::time::timeout(Duration::from_millis(10), futures_util::future::select_all(&mut waiting))
                .await;
    }
    let read = system.begin(&trace).within(globex).await.unwrap().last();
    let reading = tokio::time::timeout(Duration::from_secs(2), read.rows(ONE, &[]));
    // Those who wait go on beside it: one may still have a connection for its first statement.
    let rows: Vec<One> = tokio::select! {
        rows = reading => rows.unwrap().unwrap(),
        _ = futures_util::future::select_all(&mut waiting) => panic!("no place is free"),
    };
    assert_eq!(rows.len(), 1, "a connection is left for another tenant");
    drop(held);
    for entered in
        futures_util::future::join_all(waiting.into_iter().map(|enter| async { drop(enter.await) })).await
    {
        let () = entered;
    }
    app.finish().await;
}

/// D-07: an operator finds the statement that was cancelled, and what became of a request whose id a client shows.
#[tokio::test]
async fn d_07_a_statement_that_is_cancelled_is_counted_and_logged_with_the_requests_id() {
    let app = TestApp::builder().setting("REQUEST_TIMEOUT", "400ms").setting("DATABASE_SLOW_QUERY", "200ms");
    let app = app.start().await;
    app.expect_errors();
    let lock = app.database().superuser().await;
    lock.batch_execute("begin; lock table items in access exclusive mode").await.unwrap();
    let answer = app.alice().get("/api/v1/items").await.assert(503);
    let id = answer.header("x-request-id").to_owned();
    let line = |message: &str| {
        let lines = app.log().with_message(message);
        lines
            .into_iter()
            .find(|line| line["correlationId"] == id)
            .unwrap_or_else(|| panic!("{message}: {}", app.log().text()))
    };
    let slow = line("Slow query");
    assert_eq!((&slow["table"], &slow["success"]), (&"items".into(), &false.into()), "{slow}");
    let warning = line("Request not served");
    assert_eq!((&warning["level"], &warning["code"]), (&"warn".into(), &"core.timeout".into()), "{warning}");
    // And a client that hangs up.
    let alice = app.alice();
    let left = alice.get("/api/v1/items?limit=1");
    assert!(tokio::time::timeout(Duration::from_millis(250), left).await.is_err());
    let failures = async || {
        let metrics = app.anonymous().get("/metrics").await.text();
        let of = |line: &str| {
            line.starts_with("db_operations_total{")
                && line.contains("table=\"items\"")
                && line.contains("success=\"false\"")
        };
        metrics
            .lines()
            .filter(|line| of(line))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
            .sum::<u32>()
    };
    let begun = Instant::now();
    while failures().await < 2 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{}", failures().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lock.batch_execute("commit").await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn with_tenant_commits_what_succeeds_and_keeps_nothing_of_what_fails() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let caller = app.caller(&app.alice()).await;
    let db = &app.edge().app.db;
    let sql = "update items set name = $1 where sku = 'BOLT-M8' returning name as one";
    let renamed =
        db.with_tenant(&caller, async |tx| tx.optional::<One>(sql, &[&"kept"]).await).await.unwrap();
    assert_eq!(renamed.unwrap().one, "kept");
    let failed = db.with_tenant(&caller, async |tx| {
        tx.optional::<One>(sql, &[&"lost"]).await?;
        Err::<(), _>(Error::new(&codes::CONFLICT))
    });
    assert_eq!(failed.await.unwrap_err().code().code, "core.conflict");
    let names = "select string_agg(name, ',') from items where sku = 'BOLT-M8' and name in ('kept', 'lost')";
    let names: String = app.sql().query_one(names, &[]).await.unwrap().get(0);
    assert_eq!(names, "kept", "in one tenant, and once");
    app.finish().await;
}

const ONE: &str = "select 'x' as one";

struct One {
    one: String,
}
erp_core::from_row!(One { one });

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_after_its_time() {
    let app = TestApp::builder().setting("DATABASE_IDLE_TIMEOUT", "1s").start().await;
    let begun = Instant::now();
    app.alice().get("/api/v1/items").await.assert(200);
    let db = &app.edge().app.db;
    let idle = async || {
        let metrics = app.anonymous().get("/metrics").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("db_pool_connections{state=\"idle\"} "));
        line.unwrap().to_owned()
    };
    while db.connections() != (0, 0) || idle().await != "0" {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?} are still there", db.connections());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "closed after {:?}", begun.elapsed());
    app.alice().get("/api/v1/items").await.assert(200);
    assert!(db.connections().0 > 0, "another is opened when one is needed");
    app.finish().await;
}
