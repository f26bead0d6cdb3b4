//! What a transaction promises when a module or the server breaks off in the middle of it.

use std::pin::pin;
use std::time::Duration;

use erp_core::error::codes;
use erp_core::from_row;
use erp_core::shared::TenantId;
use erp_testkit::{PROBE, TestApp};
use serde_json::json;

struct Seen {
    tenant_id: TenantId,
}
from_row!(Seen { tenant_id });

struct Named {
    name: String,
}
from_row!(Named { name });

const ADD: &str = "insert into items (id, sku, name) values (gen_random_uuid(), $1, 'Bolt')";
const HEAD: &str = "select 1 from audit_heads where tenant_id = $1 for update";
const WAITING: &str =
    "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

async fn app() -> TestApp {
    TestApp::builder().module(&PROBE).setting("DATABASE_MAX_CONNECTIONS", "1").start().await
}

async fn made(app: &TestApp, sku: &str) -> i64 {
    app.sql().query_one("select count(*) from items where sku = $1", &[&sku]).await.unwrap().get(0)
}

/// The backend that waits for the lock.
async fn waiting(app: &TestApp) -> i32 {
    loop {
        if let Some(row) = app.sql().query_opt(WAITING, &[]).await.unwrap() {
            return row.get(0);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_column_of_a_domain_takes_and_gives_values_of_its_base_type() {
    let app = app().await;
    let domains = "create domain public.label as text check (value <> '');
        create domain public.short_label as public.label check (length(value) < 200);
        alter table public.items alter column name type public.short_label";
    app.sql().batch_execute(domains).await.unwrap();
    let (db, alice) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let add = "insert into items (id, sku, name) values (gen_random_uuid(), 'D-1', $1)";
    let mut tx = db.tenant(&alice);
    let _: Vec<()> = tx.rows(add, &[&"Bolt"]).await.unwrap();
    tx.commit().await.unwrap();
    let found = db.tenant_read(&alice).last();
    let found: Vec<Named> = found.rows("select name from items where name = $1", &[&"Bolt"]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "Bolt");
    app.finish().await;
}

#[tokio::test]
async fn u_05_a_last_statement_that_cannot_be_sent_commits_nothing() {
    let app = app().await;
    let (db, alice) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let mut tx = db.tenant(&alice);
    let _: Vec<()> = tx.rows(ADD, &[&"T-1"]).await.unwrap();
    // A text does not fit a bigint: the driver refuses it before it sends anything.
    tx.last().rows::<()>("select $1::bigint", &[&"text"]).await.unwrap_err();
    assert_eq!(made(&app, "T-1").await, 0, "half of a transaction that failed was committed");
    app.finish().await;
}

#[tokio::test]
async fn t_04_a_transaction_goes_on_after_no_statement_that_was_given_up() {
    const FIRST: [&str; 4] = [
        "select tenant_id from items limit 1",
        "select tenant_id from items limit 2",
        "select tenant_id from items limit 3",
        "select tenant_id from items limit 4",
    ];
    let app = app().await;
    let (db, alice) = (&app.edge().app.db, app.caller(&app.alice()).await);
    for (polls, first) in FIRST.into_iter().enumerate() {
        let mut tx = db.tenant(&alice);
        {
            let mut given_up = pin!(tx.rows::<Seen>(first, &[]));
            for _ in 0..=polls {
                assert!(futures_util::poll!(given_up.as_mut()).is_pending());
            }
        }
        // BEGIN and the tenant may not have been sent: whatever came now could run outside of both.
        let next = tx.rows::<Seen>("select tenant_id from items", &[]).await;
        assert!(next.is_err(), "{} rows after {polls} polls", next.unwrap().len());
        tx.commit().await.unwrap_err();
    }
    app.finish().await;
}

#[tokio::test]
async fn t_04_nothing_of_a_tenant_stays_in_its_session() {
    let app = app().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    let db = &app.edge().app.db;
    let mut tx = db.tenant(&alice);
    // Such a cursor outlives its transaction, row level security was applied when it was filled.
    let declared =
        tx.rows::<()>("declare export cursor with hold for select tenant_id from items", &[]).await;
    let _ = tx.commit().await;
    let seen = db.tenant_read(&bob).last().rows::<Seen>("fetch all from export", &[]).await;
    let foreign = seen.map_or(0, |seen| seen.iter().filter(|row| row.tenant_id != bob.tenant()).count());
    assert_eq!(foreign, 0, "bob reads rows of alice's tenant");
    assert!(declared.is_err());
    for sql in [
        "listen items",
        "lock table items",
        "select pg_advisory_lock(1)",
        "select Set_Config('app.tenant_id', $1, true)",
        "commit",
    ] {
        let error = db.tenant(&alice).last().rows::<()>(sql, &[]).await.unwrap_err();
        assert!(error.cause().unwrap().to_string().contains("no place"), "{sql}: {error:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn s_10_a_stale_plan_in_the_middle_of_a_transaction_fails_once() {
    let app = app().await;
    let (db, alice) = (&app.edge().app.db, app.caller(&app.alice()).await);
    let work = async || {
        let mut tx = db.tenant(&alice);
        let _: Vec<()> = tx.rows("select 1", &[]).await?;
        tx.rows::<()>("select * from items", &[]).await?;
        tx.commit().await
    };
    work().await.unwrap();
    app.sql().batch_execute("alter table items add column colour text").await.unwrap();
    let _ = work().await;
    work().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn t_17_a_slug_that_reads_like_anothers_id_is_not_taken_for_it() {
    let app = TestApp::start().await;
    let (alice, globex) = (app.person("acme", erp_core::auth::Role::Owner).user_id, app.tenant_id("globex"));
    app.join("globex", alice, erp_core::auth::Role::Member).await;
    let squat = format!("insert into tenants (id, slug) values (gen_random_uuid(), '{globex}')");
    // Whichever of the two comes first in the table.
    for change in
        [squat.as_str(), "update tenants set status = status where slug = 'globex'", "analyze tenants"]
    {
        app.sql().batch_execute(change).await.unwrap();
        let request = http::Request::get("/api/v1/me").header("x-tenant-id", globex.to_string());
        let me = app.alice().request(request.body("").unwrap()).await.assert(200).json();
        assert_eq!(me["tenant"]["slug"], "globex", "after {change}");
    }
    app.finish().await;
}

#[tokio::test]
async fn s_05_a_commit_whose_outcome_is_not_known_is_answered_as_such() {
    let app = app().await;
    app.expect_errors();
    let mut blocker = app.database().superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.query(HEAD, &[&app.tenant_id("acme")]).await.unwrap();
    let kill = async {
        let pid = waiting(&app).await;
        app.sql().query("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let alice = app.alice();
    let post = alice.post("/api/v1/items", json!({ "sku": "T-2", "name": "Bolt" }));
    let (answer, ()) = tokio::join!(post, kill);
    answer.assert(503).problem("core.outcome_unknown");
    lock.rollback().await.unwrap();
    app.finish().await;
}

/// A pooler says this of a server that it has lost, whatever was under way.
#[tokio::test]
async fn s_05_a_protocol_violation_at_the_commit_is_an_unknown_outcome_and_no_reason_to_repeat() {
    let app = app().await;
    app.expect_errors();
    // A sequence counts what was rolled back, too.
    let violate = "create sequence app.tries;
        create function app.violate() returns trigger language plpgsql security definer as $$ begin
            perform nextval('app.tries');
            raise exception using errcode = '08P01', message = 'server conn crashed?';
        end $$;
        create constraint trigger violate after insert on items deferrable initially deferred
            for each row execute function app.violate()";
    app.sql().batch_execute(violate).await.unwrap();
    let answer = app.alice().post("/api/v1/items", json!({ "sku": "T-3", "name": "Bolt" })).await;
    let tries: i64 = app.sql().query_one("select last_value from app.tries", &[]).await.unwrap().get(0);
    assert_eq!(tries, 1, "{answer}");
    answer.assert(503).problem("core.outcome_unknown");
    app.finish().await;
}

#[tokio::test]
async fn d_07_the_answer_at_the_deadline_does_not_promise_a_rollback() {
    let app = TestApp::builder().setting("REQUEST_TIMEOUT", "300ms").start().await;
    app.expect_errors();
    let mut blocker = app.database().superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.query(HEAD, &[&app.tenant_id("acme")]).await.unwrap();
    let answer = app.alice().post("/api/v1/items", json!({ "sku": "T-3", "name": "Bolt" })).await.assert(503);
    // COMMIT was sent with the statement; it gets the lock while the connection is being reclaimed.
    lock.rollback().await.unwrap();
    let problem = answer.problem(codes::TIMEOUT.code);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outcome = if made(&app, "T-3").await == 1 { "it was committed all the same" } else { "rolled back" };
    assert!(!problem["detail"].as_str().unwrap().contains("and rolled back"), "{outcome}: {problem}");
    app.finish().await;
}

#[tokio::test]
async fn s_04_a_monitor_that_loses_its_connection_looks_again_before_it_gives_up_requests() {
    let app = app().await;
    let (db, alice) = (&app.edge().app.db, app.caller(&app.alice()).await);
    app.sql().batch_execute("select pg_advisory_lock(4)").await.unwrap();
    let read = db.tenant_read(&alice).last().rows::<()>("select pg_advisory_xact_lock(4)", &[]);
    let lose = async {
        waiting(&app).await;
        let lost = app.monitor().await;
        app.sql().query("select pg_terminate_backend($1)", &[&lost]).await.unwrap();
        while app.monitor().await == lost {}
        app.sql().batch_execute("select pg_advisory_unlock(4)").await.unwrap();
    };
    let (read, ()) = tokio::join!(read, lose);
    read.unwrap();
    assert!(db.is_up());
    app.finish().await;
}
