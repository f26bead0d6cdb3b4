//! H-09, S-05: a request that is sent again has one effect, and gets its first answer again.

use std::time::Duration;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::Result;
use erp_core::from_row;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::{Actor, Answer, TestApp};
use futures_util::future::join_all;
use http::{Method, Request};
use serde_json::{Value, json};

const ITEMS: &str = "/api/v1/items";
const HEAD: &str = "select from audit_heads where tenant_id = $1 for update";

static TWICE: Module = Module { name: "twice", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new()
        .post("/test/two-changes", Access::SignedIn, two_changes)
        .post("/test/forgets-the-second", Access::SignedIn, forgets_the_second)
        .post("/test/nothing", Access::SignedIn, nothing)
        .post("/test/changes-and-fails", Access::SignedIn, changes_and_fails)
}

/// Changes twice, in two transactions; between them it reads what it has changed.
async fn two_changes(State(app): State<App>, caller: Caller) -> Result<String> {
    let mut seen = 0;
    for action in ["item.counted", "item.moved"] {
        let change = app.db.tenant(&caller).action(action).last();
        let _: Vec<()> = change.rows("update items set quantity = quantity + 1", &[]).await?;
        let sum: Sum = app.db.tenant_read(&caller).last().row(SUM, &[]).await?;
        let mut read = app.db.tenant_read(&caller); // dropped as it is
        let again: Option<Sum> = read.optional(SUM, &[]).await?;
        assert_eq!(again.map(|again| again.sum), Some(sum.sum));
        seen = sum.sum;
    }
    Ok(seen.to_string())
}

const SUM: &str = "select coalesce(sum(quantity), 0)::bigint as sum from items";

struct Sum {
    sum: i64,
}
from_row!(Sum { sum });

/// Its second change is dropped.
async fn forgets_the_second(State(app): State<App>, caller: Caller) -> Result<&'static str> {
    let change = app.db.tenant(&caller).last();
    let _: Vec<()> = change.rows("update items set quantity = quantity + 1", &[]).await?;
    let mut second = app.db.tenant(&caller);
    let _: Vec<()> = second.rows("update items set quantity = quantity + 1", &[]).await?;
    Ok("done")
}

async fn nothing() -> &'static str {
    "nothing was changed"
}

async fn changes_and_fails(State(app): State<App>, caller: Caller) -> Result<&'static str> {
    let change = app.db.tenant(&caller).last();
    let _: Vec<()> = change.rows("update items set quantity = 4711", &[]).await?;
    Err(erp_core::error::Error::new(&erp_core::error::codes::CONFLICT))
}

async fn send(actor: &Actor<'_>, method: Method, path: &str, key: &str, body: Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("idempotency-key", key);
    let request = request.header("content-type", "application/json").body(body.to_string()).unwrap();
    actor.request(request).await
}

async fn post(actor: &Actor<'_>, key: &str, sku: &str) -> Answer {
    send(actor, Method::POST, ITEMS, key, json!({ "sku": sku, "name": "Bolt" })).await
}

async fn count(app: &TestApp, sql: &str) -> i64 {
    app.sql().query_one(sql, &[]).await.unwrap().get(0)
}

async fn made(app: &TestApp, sku: &str) -> i64 {
    count(app, &format!("select count(*) from items where sku = '{sku}'")).await
}

#[tokio::test]
async fn h_09_a_repetition_gets_the_first_answer_byte_for_byte() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let audited = app.audit_of("acme").await.len();
    let first = post(&alice, "key-1", "I-1").await.assert(201);
    assert!(first.headers.get("idempotency-replayed").is_none());
    for key in ["key-1", "\"key-1\""] {
        let again = post(&alice, key, "I-1").await.assert(201);
        assert_eq!(again.body, first.body);
        for header in ["etag", "location", "content-type"] {
            assert_eq!(again.header(header), first.header(header));
        }
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(made(&app, "I-1").await, 1);
    assert_eq!(app.audit_of("acme").await.len(), audited + 1, "one effect, one audit row");
    app.finish().await;
}

#[tokio::test]
async fn h_09_every_unsafe_method_can_be_repeated() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let item = post(&alice, "made", "I-2").await.assert(201).json();
    let path = format!("{ITEMS}/{}", item["id"].as_str().unwrap());
    for (method, body, status) in [
        (Method::PATCH, json!({ "quantity": 3 }), 200),
        (Method::PUT, json!({ "sku": "I-2", "name": "Nut" }), 200),
        (Method::DELETE, Value::Null, 204),
    ] {
        let first = send(&alice, method.clone(), &path, "change", body.clone()).await.assert(status);
        let again = send(&alice, method, &path, "change", body).await.assert(status);
        assert_eq!((first.body.clone(), again.header("idempotency-replayed")), (again.body.clone(), "true"));
    }
    assert_eq!(made(&app, "I-2").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn h_09_another_request_with_the_key_is_422_and_a_malformed_key_400() {
    let app = TestApp::start().await;
    let alice = app.alice();
    post(&alice, "key", "I-3").await.assert(201);
    post(&alice, "key", "I-4").await.assert(422).problem("core.idempotency_key_reused");
    assert_eq!(made(&app, "I-4").await, 0);
    for bad in ["a b", "\"", &"x".repeat(256)] {
        post(&alice, bad, "I-5").await.assert(400).problem("core.malformed_header");
    }
    app.finish().await;
}

#[tokio::test]
async fn h_09_a_key_belongs_to_its_tenant_user_and_route() {
    let app = TestApp::builder().module(&TWICE).start().await;
    let (alice, max, bob) = (app.alice(), app.max(), app.bob());
    post(&alice, "key", "I-6").await.assert(201);
    post(&max, "key", "I-7").await.assert(201);
    let theirs = post(&bob, "key", "I-6").await.assert(201);
    assert!(theirs.headers.get("idempotency-replayed").is_none(), "another tenant's answer is not bob's");
    let elsewhere = send(&alice, Method::POST, "/test/nothing", "key", json!({})).await.assert(200);
    assert_eq!(elsewhere.text(), "nothing was changed");
    let again = send(&alice, Method::POST, "/test/nothing", "key", json!({})).await.assert(200);
    assert_eq!((&*again.text(), again.header("idempotency-replayed")), ("nothing was changed", "true"));
    // Without a caller there is nobody whose key it could be.
    let login = json!({ "tenant": "acme", "email": "x@y.z", "password": "wrong" });
    send(&app.anonymous(), Method::POST, "/api/v1/auth/login", "key", login).await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn h_09_of_many_at_once_one_works_and_the_others_wait_or_get_its_answer() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let answers = join_all((0..20).map(|_| post(&alice, "key", "I-8"))).await;
    let mut fresh = 0;
    for answer in &answers {
        match answer.status.as_u16() {
            201 => fresh += usize::from(answer.headers.get("idempotency-replayed").is_none()),
            _ => {
                let answer = answer.clone().assert(409);
                answer.problem("core.idempotency_in_flight");
                assert_eq!(answer.header("retry-after"), "1");
            }
        }
    }
    assert_eq!((fresh, made(&app, "I-8").await), (1, 1));
    app.finish().await;
}

#[tokio::test]
async fn h_09_an_error_has_no_effect_and_its_key_can_be_used_again() {
    let app = TestApp::builder().module(&TWICE).start().await;
    let alice = app.alice();
    send(&alice, Method::POST, ITEMS, "key", json!({ "sku": "" })).await.assert(422);
    post(&alice, "key", "I-9").await.assert(201);
    // Even an error after the handler's commit takes the change back.
    send(&alice, Method::POST, "/test/changes-and-fails", "key", json!({})).await.assert(409);
    assert_eq!(count(&app, "select count(*) from items where quantity = 4711").await, 0);
    send(&alice, Method::POST, "/test/changes-and-fails", "key", json!({})).await.assert(409);
    app.finish().await;
}

#[tokio::test]
async fn h_09_several_changes_of_one_request_are_one_and_reads_between_them_see_them() {
    let app = TestApp::builder().module(&TWICE).start().await;
    let (before, items) = (count(&app, SUM).await, count(&app, "select count(*) from items").await);
    let acme =
        count(&app, "select count(*) from items i join tenants t on t.id = i.tenant_id where slug = 'acme'");
    let (acme, alice) = (acme.await, app.alice());
    let done = send(&alice, Method::POST, "/test/two-changes", "key", json!({})).await.assert(200);
    assert!(acme > 0 && items > acme);
    assert_eq!(count(&app, SUM).await, before + 2 * acme);
    let again = send(&alice, Method::POST, "/test/two-changes", "key", json!({})).await.assert(200);
    assert_eq!((again.text(), again.header("idempotency-replayed")), (done.text(), "true"));
    assert_eq!(count(&app, SUM).await, before + 2 * acme, "one effect");
    let actions = async |action: &str| {
        let sql = format!("select count(*) from audit_log where action = '{action}'");
        count(&app, &sql).await
    };
    assert_eq!((actions("item.counted").await, actions("item.moved").await), (acme, acme));
    app.finish().await;
}

#[tokio::test]
async fn h_09_a_later_change_that_is_dropped_is_a_fault_and_nothing_is_done() {
    let app = TestApp::builder().module(&TWICE).start().await;
    app.expect_errors();
    let before = count(&app, SUM).await;
    let refused = send(&app.alice(), Method::POST, "/test/forgets-the-second", "key", json!({})).await;
    refused.assert(500).problem("core.internal");
    assert_eq!(count(&app, SUM).await, before);
    app.finish().await;
}

#[tokio::test]
async fn h_09_what_has_expired_is_forgotten_and_a_lease_runs_out() {
    let app = TestApp::start().await;
    let alice = app.alice();
    post(&alice, "key", "I-10").await.assert(201);
    let id = app.tenant_id("acme");
    let sql = "update idempotency_keys set expires_at = now() - interval '1 s' where tenant_id = $1";
    app.sql().execute(sql, &[&id]).await.unwrap();
    post(&alice, "key", "I-11").await.assert(201); // another request, under a key that is free again
    app.sql().execute(sql, &[&id]).await.unwrap();
    post(&alice, "other", "I-12").await.assert(201);
    assert_eq!(count(&app, "select count(*) from idempotency_keys").await, 1, "the expired one is gone");
    // The process that held this claim has died.
    let died = "update idempotency_keys set status = null, claimed_until = now() + interval '30 s' where tenant_id = $1";
    app.sql().execute(died, &[&id]).await.unwrap();
    post(&alice, "other", "I-12").await.assert(409).problem("core.idempotency_in_flight");
    let over = "update idempotency_keys set claimed_until = now() - interval '1 s' where tenant_id = $1";
    app.sql().execute(over, &[&id]).await.unwrap();
    post(&alice, "other", "I-13").await.assert(201);
    app.finish().await;
}

/// The server is lost while COMMIT is under way: it may have been carried out, or not.
#[tokio::test]
async fn s_05_a_retry_after_an_unknown_outcome_has_exactly_one_effect() {
    let app = TestApp::start().await;
    app.expect_errors();
    let alice = app.alice();
    let mut blocker = app.database().superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.query(HEAD, &[&app.tenant_id("acme")]).await.unwrap();
    let kill = async {
        let waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let pid: i32 = loop {
            match app.sql().query_opt(waiting, &[]).await.unwrap() {
                Some(row) => break row.get(0),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        app.sql().query("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(post(&alice, "key", "I-14"), kill);
    let answer = answer.assert(503);
    answer.problem("core.outcome_unknown");
    assert!(answer.headers.contains_key("retry-after"));
    lock.rollback().await.unwrap();
    let retried = post(&alice, "key", "I-14").await.assert(201);
    assert_eq!(post(&alice, "key", "I-14").await.assert(201).body, retried.body);
    assert_eq!(made(&app, "I-14").await, 1);
    app.finish().await;
}

/// T-18, T-03: a key is a row of its tenant's, and the runtime role sees no other.
#[tokio::test]
async fn t_18_a_tenants_keys_are_its_own() {
    let app = TestApp::start().await;
    post(&app.alice(), "key", "I-15").await.assert(201);
    let (db, bob) = (&app.edge().app.db, app.bob());
    let answer = post(&bob, "key", "I-16").await.assert(201);
    assert!(answer.headers.get("idempotency-replayed").is_none());
    assert!(db.is_up());
    let tenants = "select count(distinct tenant_id) from idempotency_keys where key = 'key'";
    assert_eq!(count(&app, tenants).await, 2);
    app.finish().await;
}

#[tokio::test]
async fn h_09_a_claim_from_before_the_databases_clock_was_set_back_blocks_nobody() {
    let app = TestApp::start().await;
    let alice = app.alice();
    post(&alice, "k", "BACK-1").await.assert(201);
    let moved = "update idempotency_keys set status = null, headers = null, body = null, \
        claimed_until = now() + interval '1 hour'";
    app.sql().batch_execute(moved).await.unwrap();
    app.execute_in("acme", "delete from items where sku = 'BACK-1'").await;
    post(&alice, "k", "BACK-1").await.assert(201);
    app.finish().await;
}
