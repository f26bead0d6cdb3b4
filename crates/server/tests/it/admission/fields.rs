//! Fields that want a permission of their own: without it they are nowhere to be seen, and nobody writes, sorts or filters by them.

use erp_core::auth::Role;
use erp_core::error::Result;
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Id, Identifier, Int, List, Text, Version};
use erp_core::{input, list, patch, record, sql};
use erp_testkit::{Actor, TestApp};
use http::Request;
use serde_json::{Value, json};

/// Items, whose quantity not everybody is to know.
static STOCK: Module = Module {
    name: "stock",
    about: "Items, whose quantity not everybody is to know.",
    permissions: PERMISSIONS,
    routes,
    ..Module::BARE
};

erp_core::permissions! {
    /// Of these tests.
    PERMISSIONS {
        USE = "stock.item.use" to [Owner, Member]: "Read and write items.";
        COUNT = "stock.quantity.see" to [Owner]: "See and set quantities.";
    }
}

fn routes() -> Routes {
    let may = Access::Permission(&USE);
    Routes::new()
        .get("/stock", may, all)
        .doc(Operation::new("listStock", "List"))
        .post("/stock", may, create)
        .doc(Operation::new("createStock", "Create"))
        .get("/stock/{id}", may, read)
        .doc(Operation::new("readStock", "Read"))
        .put("/stock/{id}", may, replace)
        .doc(Operation::new("replaceStock", "Replace"))
        .patch("/stock/{id}", may, change)
        .doc(Operation::new("changeStock", "Change"))
        .post("/stock/batches", may, batch)
        .doc(Operation::new("batchStock", "Many at once"))
}

record! {
    /// An item.
    Stock in "items" as "item" {
        id: Id<Stock>,
        sku: String,
        name: String,
        #[schemars(extend("x-permission" = COUNT.name))]
        quantity: Int<0>,
        version: Version,
    }
}

input! {
    /// A new one.
    NewStock {
        sku: Identifier<1, 64>,
        name: Text<1, 200>,
        #[serde(default)]
        #[schemars(extend("x-permission" = COUNT.name))]
        quantity: Int<0>,
    }
}

patch! {
    /// A part of one.
    StockPatch {
        name: Text<1, 200>,
        #[schemars(extend("x-permission" = COUNT.name))]
        quantity: Int<0>,
    }
}

input! {
    /// What a list can be narrowed to.
    StockSearch {
        sku: Option<Text<1, 64>>,
        quantity: Option<Int<0>>,
    }
}

input! {
    /// Many.
    Batch {
        ; stock: List<NewStock, 1, 10>,
    }
}

list! {
    /// All of them.
    AllStock of Stock by StockSearch from "items" sorted [sku, quantity]
}

const READ: &str = sql!["select ", Stock::COLUMNS, " from items where id = $1"];
const CREATE: &str = sql![
    "insert into items (id, ",
    NewStock::COLUMNS,
    ") values ($1, ",
    NewStock::VALUES,
    ") returning ",
    Stock::COLUMNS
];
const REPLACE: &str =
    sql!["update items set ", NewStock::SET, " where ", THIS, " returning ", Stock::COLUMNS];
const CHANGE: &str =
    sql!["update items set ", StockPatch::SET, " where ", THIS, " returning ", Stock::COLUMNS];

async fn all(call: Call, page: Page<AllStock>) -> Result<Listed<AllStock>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewStock>) -> Result<Created<Stock>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Stock>>) -> Result<Tagged<Stock>> {
    call.read(READ, id).await
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Stock>>,
    when: IfMatch,
    Json(new): Json<NewStock>,
) -> Result<Tagged<Stock>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn change(
    call: Call,
    Path(id): Path<Id<Stock>>,
    when: IfMatch,
    Json(patch): Json<StockPatch>,
) -> Result<Tagged<Stock>> {
    call.change(CHANGE, id, when, &patch.values()).await
}

async fn batch(Json(batch): Json<Batch>) -> Json<Value> {
    Json(json!({ "taken": batch.stock.len() }))
}

async fn accepting(by: &Actor<'_>, path: &str, media: &str) -> String {
    let request = Request::get(path).header("accept", media).body("").unwrap();
    by.request(request).await.assert(200).text()
}

#[tokio::test]
async fn a_field_is_absent_from_every_answer_without_its_permission() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let (alice, max) = (app.alice(), app.max());
    let made = alice.post("/stock", json!({ "sku": "A", "name": "A", "quantity": 7 })).await.assert(201);
    assert_eq!(made.json()["quantity"], 7);
    let path = made.header("location").to_owned();
    let mine = max.post("/stock", json!({ "sku": "B", "name": "B" })).await.assert(201).json();
    assert_eq!((mine.get("quantity"), &mine["sku"]), (None, &json!("B")));
    let read = max.get(&path).await.assert(200);
    assert_eq!((read.json().get("quantity"), &read.json()["sku"]), (None, &json!("A")));
    assert!(read.header("etag").starts_with('"'));
    let changed = max.patch(&path, json!({ "name": "Bolt" })).await.assert(200).json();
    assert_eq!((changed.get("quantity"), &changed["name"]), (None, &json!("Bolt")));
    assert_eq!(alice.get(&path).await.json()["quantity"], 7);

    let listed = max.get("/stock").await.assert(200).json();
    assert!(
        listed["items"].as_array().unwrap().iter().all(|item| item.get("quantity").is_none()),
        "{listed}"
    );
    assert!(listed["items"].as_array().unwrap().len() > 1);
    let lines = accepting(&max, "/stock", "application/x-ndjson").await;
    assert!(lines.contains("\"sku\":\"A\"") && !lines.contains("quantity"), "{lines}");
    let csv = accepting(&max, "/stock", "text/csv").await;
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "id,sku,name,version");
    assert!(rows.iter().all(|row| row.matches(',').count() == 3), "{csv}");
    let csv = accepting(&alice, "/stock", "text/csv").await;
    assert!(csv.starts_with("id,sku,name,quantity,version\r\n") && csv.contains(",A,Bolt,7,"), "{csv}");
    app.finish().await;
}

#[tokio::test]
async fn nobody_sorts_or_filters_by_a_field_without_its_permission_nor_writes_it() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let (alice, max) = (app.alice(), app.max());
    let path = alice.post("/stock", json!({ "sku": "A", "name": "A", "quantity": 7 })).await.assert(201);
    let path = path.header("location").to_owned();
    for query in ["sort=quantity", "sort=-quantity", "quantity=7", "sku=A&%71uantity=7", "sort=%2Dquantity"] {
        let refused = max.get(&format!("/stock?{query}")).await.assert(403);
        refused.problem("core.forbidden");
        assert_eq!(refused.header("x-missing-permission"), "stock.quantity.see", "{query}");
        alice.get(&format!("/stock?{query}")).await.assert(200);
    }
    max.get("/stock?sku=A&sort=-sku").await.assert(200);
    let ndjson = Request::get("/stock?sort=quantity").header("accept", "text/csv").body("").unwrap();
    max.request(ndjson).await.assert(403);

    let whole = json!({ "sku": "C", "name": "C", "quantity": 1 });
    let refused = max.post("/stock", whole.clone()).await.assert(403).problem("core.forbidden");
    assert_eq!(refused["errors"][0]["pointer"], "/quantity");
    for body in [json!({ "quantity": 9 }), json!({ "quantity": null }), json!({ "name": "X", "quantity": 7 })]
    {
        max.patch(&path, body).await.assert(403);
    }
    // To replace a record is to write all of it: what is not said is cleared.
    max.put(&path, json!({ "sku": "A", "name": "A" })).await.assert(403);
    let nested =
        json!({ "stock": [{ "sku": "D", "name": "D" }, { "sku": "E", "name": "E", "quantity": 1 }] });
    max.post("/stock/batches", nested.clone()).await.assert(403);
    max.post("/stock/batches", json!({ "stock": [{ "sku": "D", "name": "D" }] })).await.assert(200);
    alice.post("/stock/batches", nested).await.assert(200);
    // A key that is there twice does not slip through: what is read is refused, or what is looked at.
    let twice = Request::patch(&path).header("content-type", "application/json");
    let twice = max.request(twice.body(r#"{"quantity":1,"name":"X","quantity":2}"#).unwrap()).await;
    assert!(twice.status == 403 || twice.status == 422, "{twice}");
    let stored = alice.get(&path).await.json();
    assert_eq!((&stored["quantity"], &stored["name"]), (&json!(7), &json!("A")));
    alice.put(&path, whole).await.assert(200);
    let lines = app.log().with_message("Access denied");
    assert!(lines.iter().all(|line| line["action"] == "stock.quantity.see"), "{lines:?}");
    app.finish().await;
}

/// What is kept for a key is the handler's answer, and each time it goes out it is for the one who asks.
#[tokio::test]
async fn the_audit_log_shows_no_column_without_its_permission() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let alice = app.alice();
    let made = alice.post("/stock", json!({ "sku": "A", "name": "A", "quantity": 73_921 })).await.assert(201);
    alice.patch(made.header("location"), json!({ "quantity": 73_922 })).await.assert(200);
    // An auditor reads the log, and is not to know quantities.
    let auditor = app.another("acme", Role::Auditor).await;
    const REPORT: &str = "/api/v1/reports/changes-by-resource?resource=item&since=2026-01-01T00:00:00Z&until=2100-01-01T00:00:00Z";
    let csv = |path: &str| Request::get(path).header("accept", "text/csv").body("").unwrap();
    for path in ["/api/v1/audit?resource=item", REPORT] {
        assert!(alice.get(path).await.assert(200).text().contains("73922"), "{path}");
        let shown = auditor.get(path).await.assert(200).text();
        assert!(!shown.contains("7392") && !shown.contains("quantity"), "{path}: {shown}");
        assert!(shown.contains("item.updated"), "that it was changed is told: {shown}");
    }
    let report = csv(REPORT);
    assert!(!auditor.request(report).await.assert(200).text().contains("7392"));
    // What is found by a text, and the bytes of an entry, would tell it.
    for path in ["/api/v1/audit?text=73922", "/api/v1/audit/1/proof"] {
        let refused = auditor.get(path).await.assert(403);
        assert_eq!(refused.header("x-missing-permission"), "stock.quantity.see", "{path}");
    }
    assert_eq!(
        alice.get("/api/v1/audit?text=73922").await.assert(200).json()["items"].as_array().unwrap().len(),
        1
    );
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_repeated_shows_what_its_reader_may_see_now() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let somebody = app.another("acme", Role::Owner).await;
    let body = json!({ "sku": "A", "name": "A", "quantity": 7 }).to_string();
    let send = async |body: &str| {
        let request = Request::post("/stock").header("content-type", "application/json");
        let request = request.header("idempotency-key", "once").body(body.to_owned()).unwrap();
        somebody.request(request).await
    };
    assert_eq!(send(&body).await.assert(201).json()["quantity"], 7);
    let demote =
        format!("update grants set built_in = 'member' where principal_id = '{}'", somebody.id().unwrap());
    app.execute_in("acme", &demote).await;
    app.clock().advance(jiff::SignedDuration::from_secs(5));
    let again = send(&body).await.assert(201);
    assert_eq!((again.header("idempotency-replayed"), again.json().get("quantity")), ("true", None));
    app.finish().await;
}

/// A permission that no module declares is a typing mistake, and would conceal nothing.
#[tokio::test]
async fn a_field_that_wants_a_permission_which_nobody_declares_is_answered_by_nobody() {
    static ODD: Module = Module { name: "odd", permissions: &[], routes: odd, ..Module::BARE };
    #[derive(serde::Serialize, schemars::JsonSchema)]
    struct Odd {
        #[schemars(extend("x-permission" = "odd.thing.se"))]
        cost: i64,
    }
    fn odd() -> Routes {
        Routes::new().get("/odd", Access::SignedIn, async || Json(Odd { cost: 7 }))
    }
    let app = TestApp::builder().module(&ODD).start().await;
    app.expect_errors();
    let answer = app.alice().get("/odd").await.assert(500);
    assert!(answer.json().get("cost").is_none(), "{answer}");
    app.finish().await;
}

#[tokio::test]
async fn the_contract_says_which_permission_a_field_wants() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let contract = app.anonymous().get("/openapi.json").await.assert(200).json();
    let schema = &contract["components"]["schemas"]["Stock"];
    assert_eq!(schema["properties"]["quantity"]["x-permission"], "stock.quantity.see", "{schema}");
    assert_eq!(schema["required"], json!(["id", "sku", "name", "version"]));
    app.finish().await;
}
