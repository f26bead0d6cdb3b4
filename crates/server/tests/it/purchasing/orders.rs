//! Head and lines in one request, and other tenants' suppliers, items and orders.

use erp_testkit::TestApp;
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_order_is_created_read_and_revised_with_its_lines() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, other) = (supplier(&alice, "Works").await, supplier(&alice, "Forge").await);
    let (a, b) = (item(&alice, "O-1", 0).await, item(&alice, "O-2", 0).await);
    let body = order(&of, &[(&b, 5), (&a, 7), (&b, 1)]);
    let made = alice.post(ORDERS, body).await.assert(201);
    let (path, first) = (made.header("location").to_owned(), made.json());
    assert_eq!(path, format!("{ORDERS}/{}", first["id"].as_str().unwrap()));
    assert_eq!(
        (&first["status"], &first["supplier"], &first["revision"], made.header("etag")),
        (&json!("draft"), &json!("Works"), &json!(1), "\"1\"")
    );
    let price = json!({ "amount": "1.25", "currency": "EUR" });
    assert_eq!(first["total"], json!({ "amount": "16.25", "currency": "EUR" }));
    let lines = json!([
        { "position": 1, "itemId": b, "quantity": 5, "unitPrice": price },
        { "position": 2, "itemId": a, "quantity": 7, "unitPrice": price },
        { "position": 3, "itemId": b, "quantity": 1, "unitPrice": price },
    ]);
    assert_eq!(first["lines"], lines);
    assert_eq!(alice.get(&path).await.assert(200).json(), first);

    let revised = alice.put(&path, order(&other, &[(&b, 5), (&b, 9)])).await.assert(200);
    assert_eq!(revised.header("etag"), "\"2\"");
    let second = revised.json();
    assert_eq!((&second["supplier"], &second["revision"]), (&json!("Forge"), &json!(2)));
    let lines = json!([
        { "position": 1, "itemId": b, "quantity": 5, "unitPrice": price },
        { "position": 2, "itemId": b, "quantity": 9, "unitPrice": price },
    ]);
    assert_eq!((&second["lines"], &second["number"]), (&lines, &first["number"]));
    assert_eq!(alice.get(&path).await.assert(200).json(), second);
    let longer = alice.put(&path, order(&of, &[(&a, 1), (&a, 2), (&a, 3), (&a, 4)])).await.assert(200).json();
    assert_eq!(alice.get(&path).await.json()["lines"], longer["lines"], "longer than before");

    let stale =
        http::Request::put(&path).header("if-match", "\"1\"").header("content-type", "application/json");
    let stale = stale.body(order(&of, &[(&a, 1)]).to_string()).unwrap();
    alice.request(stale).await.assert(412).problem("core.stale");
    assert_eq!(alice.get(&path).await.json(), longer);
    app.finish().await;
}

/// What is audited: the head under the step's action, and the lines that differ.
#[tokio::test]
async fn a_revision_is_audited_with_the_lines_that_it_changes() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "O-1", 0).await);
    let id = made(&alice, ORDERS, order(&of, &[(&a, 1), (&a, 2), (&a, 3)])).await;
    let before = app.audit_of("acme").await.len();
    alice.put(&format!("{ORDERS}/{id}"), order(&of, &[(&a, 1), (&a, 9)])).await.assert(200);
    let audit = app.audit_of("acme").await;
    let told =
        audit[before..].iter().map(|row| (row["action"].as_str().unwrap(), row["resource_id"].clone()));
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(action, _)| *action);
    assert_eq!(
        told,
        [
            ("purchase_order.revised", json!(id)),
            ("purchase_order_line.deleted", json!(format!("{id},3"))),
            ("purchase_order_line.updated", json!(format!("{id},2"))),
        ]
    );
    app.finish().await;
}

#[tokio::test]
async fn t_09_an_order_names_no_supplier_and_no_item_of_another_tenant() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let (ours, theirs) = (supplier(&alice, "Works").await, supplier(&bob, "Works").await);
    let (mine, foreign) = (item(&alice, "O-1", 0).await, item(&bob, "O-1", 0).await);
    let id = made(&alice, ORDERS, order(&ours, &[(&mine, 1)])).await;
    let path = format!("{ORDERS}/{id}");
    for (supplier, wanted) in [(&*theirs, foreign.as_str()), (UNKNOWN, UNKNOWN)] {
        for method in [http::Method::POST, http::Method::PUT] {
            let path = if method == http::Method::PUT { &path } else { ORDERS };
            let body = order(supplier, &[(&mine, 1)]);
            let refused = alice.send(method.clone(), path, Some(body)).await.assert(422);
            assert_eq!(pointers(&refused.problem("purchasing.no_supplier")), ["/supplierId"]);
            let body = order(&ours, &[(&mine, 1), (wanted, 1), (&mine, 2), (wanted, 2)]);
            let refused = alice.send(method, path, Some(body)).await.assert(422);
            let problem = refused.problem("purchasing.no_item");
            assert_eq!(pointers(&problem), ["/lines/1/itemId", "/lines/3/itemId"]);
        }
    }
    let keyed =
        http::Request::post(ORDERS).header("idempotency-key", "k").header("content-type", "application/json");
    let keyed = keyed.body(order(&ours, &[(&mine, 1), (&foreign, 1)]).to_string()).unwrap();
    let refused = alice.request(keyed).await.assert(422).problem("purchasing.no_item");
    assert_eq!(pointers(&refused), ["/lines/1/itemId"], "under a key, too");
    bob.get(&path).await.assert(404).problem("core.not_found");
    bob.put(&path, order(&theirs, &[(&foreign, 1)])).await.assert(404).problem("core.not_found");
    for verb in ["approve", "receive", "cancel"] {
        for headers in [&[][..], &[("if-match", "\"1\"")], &[("if-match", "\"9\"")]] {
            step(&bob, &id, verb, headers).await.assert(404).problem("core.not_found");
        }
    }
    let listed = bob.get(ORDERS).await.assert(200).json();
    assert_eq!(listed["items"], json!([]));
    let listed = bob.get(&format!("{ORDERS}?supplierId={ours}")).await.assert(200).json();
    assert_eq!(listed["items"], json!([]));
    let order = alice.get(&path).await.assert(200).json();
    assert_eq!((&order["version"], &order["status"]), (&json!(1), &json!("draft")));
    app.finish().await;
}

#[tokio::test]
async fn an_order_has_one_to_200_lines_and_says_what_is_wrong_with_which() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "O-1", 0).await);
    let full: Vec<(&str, i64)> = (1..=200).map(|number| (a.as_str(), number)).collect();
    let made = alice.post(ORDERS, order(&of, &full)).await.assert(201).json();
    assert_eq!(made["lines"].as_array().unwrap().len(), 200);
    let last = &made["lines"][199];
    assert_eq!((&last["position"], &last["quantity"]), (&json!(200), &json!(200)));
    for lines in [vec![], [&full[..], &full[..1]].concat()] {
        let problem = alice.post(ORDERS, order(&of, &lines)).await.assert(422).problem("core.invalid");
        assert_eq!(pointers(&problem), ["/lines"]);
    }
    let price = json!({ "amount": "1.25", "currency": "EUR" });
    let body = json!({ "supplierId": of, "lines": [
        { "itemId": a, "quantity": 1, "unitPrice": price },
        { "itemId": "x", "quantity": 0, "unitPrice": price },
        { "itemId": a, "quantity": 1_000_000_001, "unitPrice": price, "price": 1 },
        { "itemId": a, "quantity": 1.5, "unitPrice": price },
    ] });
    let problem = alice.post(ORDERS, body).await.assert(422).problem("core.invalid");
    assert_eq!(
        pointers(&problem),
        ["/lines/1/itemId", "/lines/1/quantity", "/lines/2/price", "/lines/2/quantity", "/lines/3/quantity"]
    );
    app.finish().await;
}

#[tokio::test]
async fn prices_are_exact_of_one_currency_and_none_below_zero() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "O-1", 0).await);
    let body = |prices: &[(&str, &str)], quantity: i64| {
        let line = |(amount, currency): &(&str, &str)| {
            let price = json!({ "amount": amount, "currency": currency });
            json!({ "itemId": a, "quantity": quantity, "unitPrice": price })
        };
        json!({ "supplierId": of, "lines": prices.iter().map(line).collect::<Vec<_>>() })
    };
    for (prices, quantity, total) in [
        (&[("0.10", "EUR"), ("0.20", "EUR")][..], 1, ("0.30", "EUR")),
        (&[("333", "JPY"), ("0", "JPY")], 3, ("999", "JPY")),
        (&[("0.001", "KWD")], 1_000_000_000, ("1000000.000", "KWD")),
        (&[("9999999.99", "EUR")], 1_000_000_000, ("9999999990000000.00", "EUR")),
    ] {
        let made = alice.post(ORDERS, body(prices, quantity)).await.assert(201).json();
        assert_eq!(made["total"], json!({ "amount": total.0, "currency": total.1 }));
        let path = format!("{ORDERS}/{}", made["id"].as_str().unwrap());
        assert_eq!(alice.get(&path).await.json()["total"], made["total"]);
    }
    let path = format!("{ORDERS}/{}", made(&alice, ORDERS, body(&[("1", "EUR")], 1)).await);
    for (prices, quantity, pointer) in [
        (&[("1", "EUR"), ("1", "EUR"), ("1", "USD")][..], 1, "/lines/2/unitPrice"),
        (&[("1", "EUR"), ("99999999.99", "EUR")], 1_000_000_000, "/lines/1/unitPrice"),
        (&[("9999999.99", "EUR"), ("9999999.99", "EUR")], 1_000_000_000, "/lines/1/unitPrice"),
        (&[("1.005", "EUR")], 1, "/lines/0/unitPrice/amount"),
        (&[("-1.00", "EUR")], 1, "/lines/0/unitPrice/amount"),
        (&[("1.00", "EURO")], 1, "/lines/0/unitPrice/currency"),
    ] {
        for method in [http::Method::POST, http::Method::PUT] {
            let at = if method == http::Method::PUT { &path } else { ORDERS };
            let answer = alice.send(method, at, Some(body(prices, quantity))).await.assert(422);
            assert_eq!(pointers(&answer.problem("core.invalid")), [pointer]);
        }
    }
    let float = json!({ "supplierId": of, "lines": [{ "itemId": a, "quantity": 1, "unitPrice": 1.25 }] });
    alice.post(ORDERS, float).await.assert(422).problem("core.invalid");
    assert_eq!(alice.get(&path).await.json()["version"], 1);
    app.finish().await;
}

/// Two who replace the lines at the same time: one of the bodies stands in the end, and nothing of the other.
#[tokio::test]
async fn of_two_revisions_at_the_same_time_one_stands_whole() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "O-1", 0).await);
    let path = format!("{ORDERS}/{}", made(&alice, ORDERS, order(&of, &[(&a, 1)])).await);
    for round in 0..10 {
        let (long, short) = ([(a.as_str(), 7); 9], [(a.as_str(), 8); 2]);
        let (first, second) = futures_util::future::join(
            alice.put(&path, order(&of, &long)),
            alice.put(&path, order(&of, &short)),
        )
        .await;
        for answer in [first, second] {
            answer.assert(200);
        }
        let lines = alice.get(&path).await.json()["lines"].as_array().unwrap().clone();
        let quantities: Vec<i64> = lines.iter().map(|line| line["quantity"].as_i64().unwrap()).collect();
        assert!(quantities == [7; 9] || quantities == [8; 2], "round {round}: {quantities:?}");
    }
    app.finish().await;
}
