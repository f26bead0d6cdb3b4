//! Numbers of documents: one after the other without gaps, in each tenant, series and year.

use std::time::Duration;

use erp_core::db::{FromRow, Migration, Row, RowError, Sample};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::Json;
use erp_core::input;
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, Tenant, Text};
use erp_testkit::{Actor, TestApp};
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::json;

static ORDERING: Module = Module {
    name: "ordering",
    routes,
    migrations: &[Migration { name: "0001_orders", sql: ORDERS, after: &[], was: &[] }],
    samples: &[Sample { table: "orders", insert: ORDER }],
    ..Module::BARE
};

const ORDERS: &str = "create table public.orders (id uuid not null, number text not null);
    select app.tenant_table('public.orders', audit_as => 'order');
    alter table public.orders add constraint orders_number_key unique (tenant_id, number);";
const ORDER: &str = "insert into public.orders (id, number) values ('00000000-0000-7000-8000-00000000ca78', 'PO-2000-00001');";
const CREATE: &str =
    "insert into orders (id, number) values ($1, app.document_number('PO', $2)) returning number";
const CREATE_MANY: &str = "insert into orders (id, number) \
    select gen_random_uuid(), app.document_number('PO', $1) from generate_series(1, 3) returning number";

fn routes() -> Routes {
    Routes::new()
        .post("/test/orders", Access::SignedIn, create)
        .post("/test/orders/three", Access::SignedIn, create_three)
        .post("/test/orders/refused", Access::SignedIn, refuse)
        .post("/test/numbers", Access::SignedIn, next)
}

struct Number(String);

impl FromRow for Number {
    fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self(row.try_get("number")?))
    }
}

input! {
    /// Which numbers are counted.
    Series { series: Text<1, 20> }
}

async fn create(call: Call) -> Result<String> {
    let id: Id<Tenant> = call.new_id();
    let made: Number = call.tenant().last().row(CREATE, &[&id, &call.year()]).await?;
    Ok(made.0)
}

async fn create_three(call: Call) -> Result<String> {
    let made: Vec<Number> = call.tenant().last().rows(CREATE_MANY, &[&call.year()]).await?;
    Ok(made.into_iter().map(|number| number.0).collect::<Vec<_>>().join(" "))
}

/// Takes a number, and finds out afterwards that the document cannot be.
async fn refuse(call: Call) -> Result<String> {
    let id: Id<Tenant> = call.new_id();
    let mut tx = call.tenant();
    tx.row::<Number>(CREATE, &[&id, &call.year()]).await?;
    Err(Error::new(&codes::CONFLICT))
}

async fn next(call: Call, Json(of): Json<Series>) -> Result<String> {
    let sql = "select app.next_number($1, $2)::text as number";
    let taken: Number = call.tenant().last().row(sql, &[&of.series, &call.year()]).await?;
    Ok(taken.0)
}

async fn app() -> TestApp {
    Box::pin(TestApp::builder().module(&ORDERING).start()).await
}

async fn order(actor: &Actor<'_>) -> String {
    actor.post("/test/orders", json!({})).await.assert(200).text()
}

#[tokio::test]
async fn orders_that_are_created_at_the_same_time_have_numbers_without_gap_or_duplicate() {
    let app = app().await;
    let alice = app.alice();
    let mut numbers = Vec::new();
    for _ in 0..5 {
        // Ten of a kind at a time, since one tenant has no more than its share of the pool.
        numbers.extend(join_all((0..10).map(|_| order(&alice))).await);
    }
    numbers.sort_unstable();
    let expected: Vec<String> = (1..=50).map(|number| format!("PO-2026-{number:05}")).collect();
    assert_eq!(numbers, expected);
    let three = alice.post("/test/orders/three", json!({})).await.assert(200).text();
    assert_eq!(three, "PO-2026-00051 PO-2026-00052 PO-2026-00053", "of one statement");
    let created = app.audit_of("acme").await;
    let created: Vec<_> = created.iter().filter(|row| row["action"] == "order.created").collect();
    assert_eq!(created.len(), 53, "the orders are audited, the counter is not");
    app.finish().await;
}

#[tokio::test]
async fn a_rollback_leaves_no_gap() {
    let app = app().await;
    let alice = app.alice();
    alice.post("/test/orders/refused", json!({})).await.assert(409);
    assert_eq!(order(&alice).await, "PO-2026-00001", "also where the counter was new");
    let attempts = (0..20).map(async |attempt| {
        if attempt % 2 == 0 {
            alice.post("/test/orders/refused", json!({})).await.assert(409);
            None
        } else {
            Some(order(&alice).await)
        }
    });
    let mut numbers: Vec<String> = join_all(attempts).await.into_iter().flatten().collect();
    numbers.sort_unstable();
    let expected: Vec<String> = (2..=11).map(|number| format!("PO-2026-{number:05}")).collect();
    assert_eq!(numbers, expected);
    app.finish().await;
}

#[tokio::test]
async fn tenants_series_and_years_count_by_themselves() {
    let app = app().await;
    for expected in ["PO-2026-00001", "PO-2026-00002"] {
        assert_eq!((order(&app.alice()).await, order(&app.bob()).await), (expected.into(), expected.into()));
    }
    let invoice = app.alice().post("/test/numbers", json!({ "series": "INV" })).await.assert(200).text();
    assert_eq!(invoice, "1", "another series");
    app.clock().advance(
        "2026-12-31T23:59:59Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .duration_since(erp_core::shared::Clock::now(app.clock())),
    );
    assert_eq!(order(&app.alice()).await, "PO-2026-00003", "in the last second of the year");
    app.clock().advance(SignedDuration::from_secs(1));
    assert_eq!(order(&app.alice()).await, "PO-2027-00001", "and in the first one of the next");
    app.clock().advance(SignedDuration::from_secs(-1));
    assert_eq!(order(&app.alice()).await, "PO-2026-00004", "a clock set back finds its counter again");
    app.finish().await;
}

#[tokio::test]
async fn a_number_beyond_the_padding_has_more_digits() {
    let app = app().await;
    order(&app.alice()).await;
    // Nobody counts to 99999 here: the owner switches the trigger off, which the runtime role cannot.
    let set = "alter table document_numbers disable trigger only_counts; update document_numbers set last = 99998; \
        alter table document_numbers enable trigger only_counts";
    app.execute_in("acme", set).await;
    let numbers = [order(&app.alice()).await, order(&app.alice()).await, order(&app.alice()).await];
    assert_eq!(numbers, ["PO-2026-99999", "PO-2026-100000", "PO-2026-100001"]);
    app.finish().await;
}

/// A transaction that has taken a number lets those wait that count in the same series, and nobody else.
#[tokio::test]
async fn only_the_same_tenant_and_series_wait_for_a_number() {
    let app = app().await;
    let holder = app.database().runtime().await;
    let begin = format!("begin; set local app.tenant_id = '{}';", app.tenant_id("acme"));
    holder.batch_execute(&format!("{begin} select app.next_number('PO', 2026)")).await.unwrap();
    let alice = app.alice();
    let mut waiting = Box::pin(order(&alice));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "does not wait");
    assert_eq!(order(&app.bob()).await, "PO-2026-00001", "another tenant");
    let other = app.alice().post("/test/numbers", json!({ "series": "SO" })).await.assert(200).text();
    assert_eq!(other, "1", "another series");
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(waiting.await, "PO-2026-00001", "the number that was given back");
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_can_only_count_its_own_numbers_one_by_one() {
    let app = app().await;
    order(&app.alice()).await;
    let runtime = app.database().runtime().await;
    let refused = async |tenant: &str, sql: &str| {
        let all = format!("begin; set local app.tenant_id = '{tenant}'; {sql}");
        let error = runtime.batch_execute(&all).await.expect_err(sql);
        runtime.batch_execute("rollback").await.unwrap();
        error.code().unwrap().code().to_owned()
    };
    let (acme, globex) = (app.tenant_id("acme").to_string(), app.tenant_id("globex").to_string());
    for sql in [
        "update document_numbers set last = last + 2",
        "update document_numbers set last = last - 1",
        "update document_numbers set series = 'X'",
        "update document_numbers set year = 2025, last = last + 1",
        "insert into document_numbers (series, year, last) values ('X', 2026, 7)",
        "delete from document_numbers",
    ] {
        assert_eq!(refused(&acme, sql).await, "42501", "{sql}");
    }
    for series in ["po", "", "P-O", "P O", "ABCDEFGHIJKLMNOPQ"] {
        let sql = format!("select app.next_number('{series}', 2026)");
        assert_eq!(refused(&acme, &sql).await, "23514", "{series}");
    }
    assert_eq!(refused("", "select app.next_number('PO', 2026)").await, "42501", "without a tenant");
    let steal =
        format!("insert into document_numbers (tenant_id, series, year) values ('{acme}', 'X', 2026)");
    assert_eq!(refused(&globex, &steal).await, "42501");
    let begin = format!("begin; set local app.tenant_id = '{globex}'");
    runtime.batch_execute(&begin).await.unwrap();
    assert!(runtime.query("select from document_numbers", &[]).await.unwrap().is_empty(), "sees none");
    let advance = "update document_numbers set last = last + 1";
    assert_eq!(runtime.execute(advance, &[]).await.unwrap(), 0, "and advances none");
    runtime.batch_execute("commit").await.unwrap();
    assert_eq!(order(&app.alice()).await, "PO-2026-00002");
    app.finish().await;
}
