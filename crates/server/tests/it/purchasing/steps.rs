//! The steps of an order: who may take which, in which state, what they do, and what happens at the same time.

use erp_core::auth::Role;
use erp_modules::purchasing::{RECEIVE, WRITE};
use erp_testkit::TestApp;
use futures_util::future::{join, join_all};
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_order_goes_from_its_draft_to_its_receipt_and_the_audit_log_names_each_step() {
    let app = TestApp::start().await;
    let (alice, max) = (app.alice(), app.max());
    let (of, a, b) =
        (supplier(&alice, "Works").await, item(&alice, "S-1", 10).await, item(&alice, "S-2", 0).await);
    let id = made(&max, ORDERS, order(&of, &[(&b, 5), (&a, 7), (&b, 1)])).await;
    let before = app.audit_of("acme").await.len();
    let approved = step(&alice, &id, "approve", &[("if-match", "\"1\"")]).await.assert(200);
    assert_eq!((&approved.json()["status"], approved.header("etag")), (&json!("approved"), "\"2\""));
    assert_eq!(approved.json()["approvedBy"], json!(app.person("acme", Role::Owner).user_id));
    let received = step(&max, &id, "receive", &[("if-match", "\"2\"")]).await.assert(200);
    assert_eq!((&received.json()["status"], received.header("etag")), (&json!("received"), "\"3\""));
    assert_eq!(
        (quantity(&alice, &a).await, quantity(&alice, &b).await),
        (17, 6),
        "twice the same item is summed up"
    );
    let audit = app.audit_of("acme").await;
    let told: Vec<_> = audit[before..].iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(told, ["purchase_order.approved", "purchase_order.received", "item.updated", "item.updated"]);
    let max_id = json!(app.person("acme", Role::Member).user_id);
    let receipt = &audit[before + 1];
    assert_eq!((&receipt["actor"], &receipt["after"]["received_by"]), (&max_id, &max_id));
    assert_eq!(receipt["before"]["status"], "approved");
    app.finish().await;
}

#[tokio::test]
async fn each_step_is_taken_in_its_states_only_and_the_refusal_names_them() {
    let app = TestApp::start().await;
    let (alice, other) = (app.alice(), approver(&app).await);
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "S-1", 0).await);
    let put = async |id: &str| alice.put(&format!("{ORDERS}/{id}"), order(&of, &[(&a, 3)])).await;
    let (mut ids, body) = (Vec::new(), order(&of, &[(&a, 1)]));
    for steps in [&[][..], &["approve"], &["approve", "receive"], &["cancel"]] {
        let id = made(&alice, ORDERS, body.clone()).await;
        for verb in steps {
            let actor = if *verb == "approve" { &other } else { &alice };
            step(actor, &id, verb, &[]).await.assert(200);
        }
        ids.push(id);
    }
    // draft, approved, received, cancelled; 200 is tried last, since it moves the order
    for (verb, statuses) in [
        ("receive", [409, 0, 409, 409]),
        ("approve", [0, 409, 409, 409]),
        ("cancel", [0, 0, 409, 409]),
        ("revise", [0, 409, 409, 409]),
    ] {
        for (id, status) in ids.iter().zip(statuses).filter(|(_, status)| *status != 0) {
            let answer = if verb == "revise" {
                put(id).await
            } else {
                step(if verb == "approve" { &other } else { &alice }, id, verb, &[]).await
            };
            let problem = answer.assert(status).problem("core.wrong_state");
            let now = alice.get(&format!("{ORDERS}/{id}")).await.json()["status"].clone();
            let error = &problem["errors"][0];
            assert_eq!((&error["pointer"], &error["code"]), (&json!("/status"), &json!("state")));
            assert_eq!(error["params"]["from"], now, "{verb}");
            assert!(!error["params"]["allowed"].as_array().unwrap().contains(&now), "{problem}");
        }
    }
    let problem = step(&alice, &ids[3], "cancel", &[]).await.problem("core.wrong_state");
    assert_eq!(
        problem["errors"][0]["params"],
        json!({ "from": "cancelled", "to": "cancelled", "allowed": ["draft", "approved"] })
    );
    assert_eq!(problem["detail"], "It is 'cancelled'; this can be done while it is 'draft' or 'approved'.");
    step(&alice, &ids[1], "cancel", &[("if-match", "\"1\"")]).await.assert(412).problem("core.stale");
    step(&alice, &ids[1], "cancel", &[("if-match", "\"2\"")]).await.assert(200);
    assert_eq!(quantity(&alice, &a).await, 1, "one of them was received");
    app.finish().await;
}

#[tokio::test]
async fn the_author_cannot_approve_whatever_the_roles() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "S-1", 0).await);
    let refused = async |actor: &Actor<'_>, id: &str| {
        step(actor, id, "approve", &[]).await.assert(403).problem("core.separation_of_duties");
    };
    let id = made(&alice, ORDERS, order(&of, &[(&a, 1)])).await;
    refused(&alice, &id).await;
    // A second role, also one of the tenant's own, does not make another person of her.
    let owner = app.person("acme", Role::Owner).user_id;
    let (role, grant) = ("00000000-0000-7000-8000-0000000000aa", "00000000-0000-7000-8000-0000000000ab");
    let second = format!(
        "insert into roles (id, name) values ('{role}', 'Approvers'); \
         insert into role_permissions (role_id, permission) values ('{role}', 'purchasing.order.approve'); \
         insert into grants (id, principal_id, role_id) values ('{grant}', '{owner}', '{role}')"
    );
    app.execute_in("acme", &second).await;
    refused(&alice, &id).await;
    // Bob, who works in acme as well, comes in by another membership; the order is still alice's to write only.
    app.join("acme", app.person("globex", Role::Owner).user_id, Role::Owner).await;
    let acme = app.tenant_id("acme").to_string();
    let as_member = |verb: &str, id: &str| {
        http::Request::post(format!("{ORDERS}/{id}/{verb}"))
            .header("x-tenant-id", acme.clone())
            .body("")
            .unwrap()
    };
    bob.request(as_member("approve", &id)).await.assert(200);
    // An order that bob has written from there is his, from wherever he comes.
    let create = http::Request::post(ORDERS)
        .header("x-tenant-id", acme.clone())
        .header("content-type", "application/json");
    let made_by_bob =
        bob.request(create.body(order(&of, &[(&a, 1)]).to_string()).unwrap()).await.assert(201).json();
    let theirs = made_by_bob["id"].as_str().unwrap();
    bob.request(as_member("approve", theirs)).await.assert(403).problem("core.separation_of_duties");
    // Who has revised it has written it, too.
    let revise = format!("{ORDERS}/{theirs}");
    alice.put(&revise, order(&of, &[(&a, 2)])).await.assert(200);
    refused(&alice, theirs).await;
    step(&approver(&app).await, theirs, "approve", &[]).await.assert(200);
    let denied = app.log().text();
    assert!(
        denied.contains("purchasing.order.approve") && denied.contains("Access denied"),
        "told to the security desk"
    );
    app.finish().await;
}

#[tokio::test]
async fn each_step_wants_its_permission() {
    let app = TestApp::start().await;
    let (alice, max) = (app.alice(), app.max());
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "S-1", 0).await);
    let id = made(&alice, ORDERS, order(&of, &[(&a, 1)])).await;
    for verb in ["approve", "receive", "cancel"] {
        step(&app.reader_of("acme"), &id, verb, &[]).await.assert(403).problem("core.forbidden");
    }
    step(&max, &id, "approve", &[]).await.assert(403).problem("core.forbidden");
    let writer = app.someone("acme", &[&WRITE]).await;
    step(&writer, &id, "approve", &[]).await.assert(403).problem("core.forbidden");
    let other = approver(&app).await;
    step(&other, &id, "cancel", &[]).await.assert(403).problem("core.forbidden");
    step(&other, &id, "approve", &[]).await.assert(200);
    step(&other, &id, "receive", &[]).await.assert(403).problem("core.forbidden");
    step(&writer, &id, "receive", &[]).await.assert(403).problem("core.forbidden");
    step(&app.someone("acme", &[&RECEIVE]).await, &id, "receive", &[]).await.assert(200);
    assert_eq!(quantity(&alice, &a).await, 1, "by somebody who may not write items");
    app.finish().await;
}

#[tokio::test]
async fn two_receipts_at_the_same_time_raise_quantities_once() {
    let app = TestApp::start().await;
    let (id, item) = approved(&app, 5).await;
    let alice = app.alice();
    let answers = join_all((0..8).map(|_| step(&alice, &id, "receive", &[]))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(quantity(&alice, &item).await, 15);
    app.finish().await;
}

#[tokio::test]
async fn of_a_receipt_and_a_cancellation_at_the_same_time_one_wins() {
    let app = TestApp::start().await;
    let (alice, other) = (app.alice(), approver(&app).await);
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "S-1", 0).await);
    let mut received = 0;
    for round in 0..10 {
        let id = made(&alice, ORDERS, order(&of, &[(&a, 1)])).await;
        step(&other, &id, "approve", &[]).await.assert(200);
        let max = app.max();
        let (one, two) = join(step(&alice, &id, "receive", &[]), step(&max, &id, "cancel", &[])).await;
        let status = alice.get(&format!("{ORDERS}/{id}")).await.json()["status"].clone();
        let (winner, loser) = if status == "received" { (one, two) } else { (two, one) };
        winner.assert(200);
        loser.assert(409).problem("core.wrong_state");
        received += i64::from(status == "received");
        assert_eq!(quantity(&alice, &a).await, received, "round {round}");
    }
    app.finish().await;
}

/// A receipt that waits for the item of the smallest id holds none of the others yet, wherever the lines have it: in this
/// order no two receipts wait for each other in a circle.
#[tokio::test]
async fn a_receipt_locks_items_in_the_order_of_their_ids() {
    let app = TestApp::start().await;
    let (alice, other) = (app.alice(), approver(&app).await);
    let of = supplier(&alice, "Works").await;
    let mut items = vec![item(&alice, "S-0", 0).await];
    // The clock of tests stands, and so the rest of an id decides: not the first row of the table is to be locked first.
    while items.len() < 4 || items.iter().min() == items.first() {
        items.push(item(&alice, &format!("S-{}", items.len()), 0).await);
    }
    let mut sorted = items.clone();
    sorted.sort_unstable();
    let lines: Vec<(&str, i64)> = sorted.iter().rev().map(|item| (item.as_str(), 1)).collect();
    let id = made(&alice, ORDERS, order(&of, &lines)).await;
    step(&other, &id, "approve", &[]).await.assert(200);
    let holder = app.database().superuser().await;
    holder
        .batch_execute(&format!("begin; select from items where id = '{}' for update", sorted[0]))
        .await
        .unwrap();
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let look = async {
        while app.sql().query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await; // each look is a round trip
        }
        for item in &sorted[1..] {
            let free = format!("begin; select from items where id = '{item}' for update nowait; rollback");
            app.sql().batch_execute(&free).await.unwrap_or_else(|error| panic!("{item} is locked: {error}"));
        }
        holder.batch_execute("rollback").await.unwrap();
    };
    let (received, ()) = join(step(&alice, &id, "receive", &[]), look).await;
    received.assert(200);
    app.finish().await;
}

/// Receipts of the same items in opposite orders of their lines wait for each other, and never in a circle.
#[tokio::test]
async fn receipts_of_the_same_items_do_not_lock_each_other_out() {
    let app = TestApp::start().await;
    let (alice, other) = (app.alice(), approver(&app).await);
    let of = supplier(&alice, "Works").await;
    let mut items = Vec::new();
    for number in 0..6 {
        items.push(item(&alice, &format!("S-{number}"), 0).await);
    }
    let mut ids = Vec::new();
    for turn in 0..8 {
        let mut lines: Vec<(&str, i64)> = items.iter().map(|item| (item.as_str(), 1)).collect();
        if turn % 2 == 0 {
            lines.reverse();
        }
        lines.rotate_left(turn / 2);
        let id = made(&alice, ORDERS, order(&of, &lines)).await;
        step(&other, &id, "approve", &[]).await.assert(200);
        ids.push(id);
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    for answer in join_all(ids.iter().map(|id| step(&alice, id, "receive", &[]))).await {
        answer.assert(200);
    }
    for item in &items {
        assert_eq!(quantity(&alice, item).await, 8);
    }
    app.sql().execute("select pg_stat_force_next_flush()", &[]).await.unwrap();
    assert_eq!(app.sql().query_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
    app.finish().await;
}

#[tokio::test]
async fn a_step_that_is_repeated_under_its_key_is_taken_once() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, item) = (supplier(&alice, "Works").await, item(&alice, "S-1", 10).await);
    let id = made(&alice, ORDERS, order(&of, &[(&item, 5)])).await;
    let other = approver(&app).await;
    for (actor, verb) in [(&other, "approve"), (&alice, "receive")] {
        let key = format!("key-{verb}");
        let first = step(actor, &id, verb, &[("idempotency-key", &key)]).await.assert(200);
        let second = step(actor, &id, verb, &[("idempotency-key", &key)]).await.assert(200);
        assert_eq!((first.json(), first.header("etag")), (second.json(), second.header("etag")));
        let anew = step(actor, &id, verb, &[("idempotency-key", "another")]).await.assert(409);
        anew.problem("core.wrong_state");
        step(actor, &id, verb, &[]).await.assert(409).problem("core.wrong_state");
    }
    assert_eq!(quantity(&alice, &item).await, 15);
    let audit = app.audit_of("acme").await;
    let steps = audit
        .iter()
        .filter_map(|row| row["action"].as_str())
        .filter(|action| action.starts_with("purchase_order."));
    assert_eq!(
        steps.collect::<Vec<_>>(),
        ["purchase_order.created", "purchase_order.approved", "purchase_order.received"]
    );
    app.finish().await;
}

#[tokio::test]
async fn a_receipt_that_an_item_cannot_hold_changes_nothing() {
    let app = TestApp::start().await;
    let (id, item) = approved(&app, 5).await;
    let alice = app.alice();
    let most = 9_007_199_254_740_991_i64;
    let raise = |quantity: i64| json!({ "quantity": quantity });
    let path = format!("/api/v1/items/{item}");
    alice.patch(&path, raise(most - 4)).await.assert(200);
    for headers in [&[][..], &[("idempotency-key", "k-1")]] {
        let answer = step(&alice, &id, "receive", headers).await.assert(409);
        answer.problem("catalog.quantity_too_large");
        assert_eq!(quantity(&alice, &item).await, most - 4);
        assert_eq!(alice.get(&format!("{ORDERS}/{id}")).await.json()["status"], "approved");
    }
    alice.patch(&path, raise(most - 5)).await.assert(200);
    step(&alice, &id, "receive", &[]).await.assert(200);
    assert_eq!(quantity(&alice, &item).await, most);
    app.finish().await;
}

/// What Rust asks for, PostgreSQL keeps: a statement that forgets the state or the person is refused.
#[tokio::test]
async fn the_database_keeps_states_and_separation_by_itself() {
    let app = TestApp::start().await;
    let (id, _) = approved(&app, 1).await;
    let acme = app.tenant_id("acme");
    let runtime = app.database().runtime().await;
    for (sql, constraint) in [
        ("update purchase_orders set status = 'draft'", "purchase_orders_status_moves"),
        ("update purchase_orders set status = 'lost'", "purchase_orders_status_moves"),
        ("update purchase_orders set approved_by = created_by", "purchase_orders_approved_by_not_created_by"),
        (
            "insert into purchase_orders (id, number, status, supplier_id, created_by, total_minor, total_currency) \
             select gen_random_uuid(), 'PO-1', 'approved', supplier_id, created_by, 1, 'EUR' from purchase_orders",
            "purchase_orders_status_begins",
        ),
    ] {
        let whole = format!("begin; set local app.tenant_id = '{acme}'; {sql}");
        let refused = runtime.batch_execute(&whole).await.unwrap_err();
        runtime.batch_execute("rollback").await.unwrap();
        let refused = refused.as_db_error().unwrap();
        assert_eq!((refused.code().code(), refused.constraint()), ("23514", Some(constraint)), "{sql}");
    }
    assert_eq!(app.alice().get(&format!("{ORDERS}/{id}")).await.json()["status"], "approved");
    app.finish().await;
}
