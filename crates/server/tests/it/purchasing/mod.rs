//! The module `purchasing`: orders with lines, their numbers, their states, and what their receipt does to items.

mod lists;
mod numbers;
mod orders;
pub(crate) mod services;
mod steps;

use erp_modules::purchasing::{APPROVE, READ};
use erp_testkit::{Actor, Answer, Fixture, Prepared, Setup, TestApp};
use http::Request;
use serde_json::{Value, json};

pub(crate) const ORDERS: &str = "/api/v1/purchase-orders";
/// An id that nothing has.
const UNKNOWN: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// What the sweeps send. What follows from the contract is an order to approve, to revise and to cancel.
pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /api/v1/purchase-orders", |setup| Box::pin(new_order(setup))),
    Fixture::new("POST /api/v1/purchase-orders/{id}/receive", |setup| Box::pin(order_to_receive(setup))),
    Fixture::new("PUT /api/v1/purchase-orders/{id}/quote", |setup| Box::pin(quote(setup))),
    Fixture::new("GET /api/v1/purchase-orders/{id}/quote", |setup| Box::pin(order_with_quote(setup))),
];

async fn new_order(setup: &Setup<'_>) -> Prepared {
    let (supplier, item) = (setup.make("/api/v1/suppliers").await, setup.make("/api/v1/items").await);
    Prepared::body(order(&supplier, &[(&item, 3)]))
}

/// A colleague has written it, and the caller has approved it.
async fn order_to_receive(setup: &Setup<'_>) -> Prepared {
    let id = setup.make(ORDERS).await;
    step(setup.caller(), &id, "approve", &[]).await.assert(200);
    Prepared::at([id])
}

/// What a supplier has offered for an order of a colleague's.
async fn quote(setup: &Setup<'_>) -> Prepared {
    Prepared::at([setup.make(ORDERS).await]).with("%PDF-1.7\n".into())
}

async fn order_with_quote(setup: &Setup<'_>) -> Prepared {
    let id = setup.make(ORDERS).await;
    services::put_quote(setup.caller(), &id, "%PDF-1.7\nan offer").await.assert(204);
    Prepared::at([id])
}

/// The id of what `actor` makes in a collection.
pub(crate) async fn made(actor: &Actor<'_>, collection: &str, body: Value) -> String {
    actor.post(collection, body).await.assert(201).json()["id"].as_str().unwrap().to_owned()
}

async fn supplier(actor: &Actor<'_>, name: &str) -> String {
    made(actor, "/api/v1/suppliers", json!({ "name": name })).await
}

pub(crate) async fn item(actor: &Actor<'_>, sku: &str, quantity: i64) -> String {
    made(actor, "/api/v1/items", json!({ "sku": sku, "name": sku, "quantity": quantity })).await
}

async fn quantity(actor: &Actor<'_>, item: &str) -> i64 {
    actor.get(&format!("/api/v1/items/{item}")).await.assert(200).json()["quantity"].as_i64().unwrap()
}

/// The body of an order of so many pieces of these items, at 1.25 EUR each.
pub(crate) fn order(supplier: &str, lines: &[(&str, i64)]) -> Value {
    let price = json!({ "amount": "1.25", "currency": "EUR" });
    let line =
        |(item, quantity): &(&str, i64)| json!({ "itemId": item, "quantity": quantity, "unitPrice": price });
    let lines = lines.iter().map(line);
    json!({ "supplierId": supplier, "lines": lines.collect::<Vec<_>>() })
}

/// Somebody in acme who may approve, and has written nothing.
async fn approver(app: &TestApp) -> Actor<'_> {
    app.someone("acme", &[&APPROVE, &READ]).await
}

/// Takes a step of an order, with headers.
async fn step(actor: &Actor<'_>, id: &str, verb: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::post(format!("{ORDERS}/{id}/{verb}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    actor.request(request.body("").unwrap()).await
}

/// An order of alice's for one item, approved by another person: its id, and the item's.
async fn approved(app: &TestApp, pieces: i64) -> (String, String) {
    let alice = app.alice();
    let (of, item) = (supplier(&alice, "Works").await, item(&alice, "APPROVED-1", 10).await);
    let id = made(&alice, ORDERS, order(&of, &[(&item, pieces)])).await;
    step(&approver(app).await, &id, "approve", &[]).await.assert(200);
    (id, item)
}

/// The pointers of a problem's errors.
fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect()
}
