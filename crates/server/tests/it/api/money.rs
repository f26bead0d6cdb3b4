//! Amounts of money and days, from the body to the row and back, in lists and exports.

use erp_core::answer::NoContent;
use erp_core::db::{Migration, Sample};
use erp_core::error::{Error, Result, Violation, codes};
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Currency, Day, Days, Id, Int, Money, Version};
use erp_core::{input, list, patch, record, sql};
use erp_testkit::{Actor, Answer, TestApp};
use jiff::Timestamp;
use serde_json::{Value, json};

static INVOICING: Module = Module {
    name: "invoicing",
    routes,
    migrations: &[Migration { name: "0001_invoices", sql: INVOICES, after: &[], was: &[] }],
    samples: &[Sample { table: "invoices", insert: INVOICE }],
    ..Module::BARE
};

const INVOICES: &str = "create table public.invoices (id uuid not null,
      total_minor bigint not null, total_currency text not null, deposit_minor bigint check (deposit_minor >= 0),
      deposit_currency text, issued_on date not null, paid_on date, created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(), version bigint not null default 1);
    select app.tenant_table('public.invoices', audit_as => 'invoice');
    create index on public.invoices (tenant_id, total_currency, total_minor, id);";
const INVOICE: &str = "insert into public.invoices (id, total_minor, total_currency, issued_on)
    values ('00000000-0000-7000-8000-00000000ca80', 1250, 'EUR', '2026-02-03');";
const PATH: &str = "/test/invoices";

fn routes() -> Routes {
    Routes::new()
        .get(PATH, Access::SignedIn, list)
        .post(PATH, Access::SignedIn, create)
        .put("/test/invoices/{id}", Access::SignedIn, replace)
        .patch("/test/invoices/{id}", Access::SignedIn, change)
        .get("/test/invoices/{id}", Access::SignedIn, read)
        .post("/test/sums", Access::SignedIn, sum)
}

record! {
    /// An invoice.
    Invoice in "invoices" as "invoice" {
        id: Id<Invoice>,
        total: Money,
        deposit: Option<Money<0>>,
        issued_on: Day,
        paid_on: Option<Day>,
        created_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST and PUT.
    NewInvoice { total: Money, deposit: Option<Money<0>>, issued_on: Day, paid_on: Option<Day> }
}

patch! {
    /// The body of PATCH.
    InvoicePatch { total: Money, deposit: Option<Money<0>>, issued_on: Day, paid_on: Option<Day> }
}

input! {
    /// What a list of invoices can be narrowed to.
    Search {
        /// In one currency.
        currency: Option<Currency>,
        /// When they were issued.
        issued_on: Option<Days>,
    }
}

list! {
    /// Invoices.
    Invoices of Invoice by Search
    from "invoices" where "($1::text is null or total_currency = $1)
        and ($2::date is null or issued_on >= $2) and ($3::date is null or issued_on <= $3)"
    sorted [total, issued_on]
}

const READ: &str = sql!["select ", Invoice::COLUMNS, " from invoices where id = $1"];
const CREATE: &str = sql![
    "insert into invoices (id, ",
    NewInvoice::COLUMNS,
    ") values ($1, ",
    NewInvoice::VALUES,
    ") returning ",
    Invoice::COLUMNS
];
const REPLACE: &str =
    sql!["update invoices set ", NewInvoice::SET, " where ", THIS, " returning ", Invoice::COLUMNS];
const CHANGE: &str =
    sql!["update invoices set ", InvoicePatch::SET, " where ", THIS, " returning ", Invoice::COLUMNS];

async fn list(call: Call, page: Page<Invoices>) -> Result<Listed<Invoices>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewInvoice>) -> Result<Created<Invoice>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Invoice>>) -> Result<Tagged<Invoice>> {
    call.read(READ, id).await
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Invoice>>,
    when: IfMatch,
    Json(new): Json<NewInvoice>,
) -> Result<Tagged<Invoice>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn change(
    call: Call,
    Path(id): Path<Id<Invoice>>,
    when: IfMatch,
    Json(patch): Json<InvoicePatch>,
) -> Result<Tagged<Invoice>> {
    call.change(CHANGE, id, when, &patch.values()).await
}

input! {
    /// A price and how often it is paid, and what is added.
    Sum { price: Money<0>, count: Int<0>, shipping: Money }
}

async fn sum(Json(sum): Json<Sum>) -> Result<NoContent> {
    let price = sum.price.times(sum.count);
    let price =
        price.map_err(|fault| Error::new(&codes::INVALID).violation(Violation::of_money("/count", fault)))?;
    price.signed().checked_add(sum.shipping)?;
    Ok(NoContent)
}

async fn app() -> TestApp {
    Box::pin(TestApp::builder().module(&INVOICING).start()).await
}

fn money(amount: &str, currency: &str) -> Value {
    json!({ "amount": amount, "currency": currency })
}

fn invoice(amount: &str, currency: &str, day: &str) -> Value {
    json!({ "total": money(amount, currency), "issuedOn": day })
}

/// Where a body or query is wrong, and how.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let problem = answer.problem("core.invalid");
    let errors = problem["errors"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    errors.iter().map(|one| (text(&one["pointer"]), text(&one["code"]))).collect()
}

fn told_once(answer: &Answer, pointer: &str, code: &str) {
    assert_eq!(told(answer), [(pointer.to_owned(), code.to_owned())], "{}", answer.text());
}

#[tokio::test]
async fn an_amount_is_stored_exactly_changed_as_a_whole_and_audited() {
    let app = app().await;
    let alice = app.alice();
    let made = alice.post(PATH, invoice("9999999999999999.9", "EUR", "2024-02-29")).await.assert(201);
    let path = made.header("location").to_owned();
    assert_eq!(made.json()["total"], money("9999999999999999.90", "EUR"));
    assert_eq!((&made.json()["deposit"], &made.json()["paidOn"]), (&Value::Null, &Value::Null));
    assert_eq!(alice.get(&path).await.assert(200).json(), made.json());

    let changed = alice.patch(&path, json!({ "deposit": money("5", "JPY") })).await.assert(200).json();
    assert_eq!((&changed["deposit"], &changed["total"]), (&money("5", "JPY"), &made.json()["total"]));
    let changed = alice.patch(&path, json!({ "total": money("-0.00", "EUR") })).await.assert(200).json();
    assert_eq!((&changed["deposit"], &changed["total"]), (&money("5", "JPY"), &money("0.00", "EUR")));
    let cleared =
        alice.patch(&path, json!({ "deposit": null, "paidOn": "9998-12-31" })).await.assert(200).json();
    assert_eq!((&cleared["deposit"], &cleared["paidOn"]), (&Value::Null, &json!("9998-12-31")));
    told_once(
        &alice.patch(&path, json!({ "total": { "amount": "1.00" } })).await.assert(422),
        "/total/currency",
        "missing",
    );
    told_once(&alice.patch(&path, json!({ "total": null })).await.assert(422), "/total", "type");

    let replaced = invoice("1.005", "BHD", "0001-01-01");
    assert_eq!(alice.put(&path, replaced).await.assert(200).json()["total"], money("1.005", "BHD"));
    let audit = app.audit_of("acme").await;
    let last = audit.iter().rfind(|row| row["action"] == "invoice.updated").unwrap();
    assert_eq!(
        (&last["after"]["total_minor"], &last["after"]["total_currency"]),
        (&json!(1005), &json!("BHD"))
    );
    app.finish().await;
}

#[tokio::test]
async fn i_02_an_amount_that_is_none_is_refused_where_it_stands() {
    let app = app().await;
    let alice = app.alice();
    for (amount, currency, pointer, code) in [
        ("1e3", "EUR", "/total/amount", "invalid"),
        ("٣", "EUR", "/total/amount", "invalid"),
        ("+1", "EUR", "/total/amount", "invalid"),
        (" 1", "EUR", "/total/amount", "invalid"),
        ("1.", "EUR", "/total/amount", "invalid"),
        (".5", "EUR", "/total/amount", "invalid"),
        ("", "EUR", "/total/amount", "invalid"),
        ("1.005 EUR", "EUR", "/total/amount", "invalid"),
        ("1.005", "EUR", "/total/amount", "precision"),
        ("0.5", "JPY", "/total/amount", "precision"),
        ("-1.0005", "BHD", "/total/amount", "precision"),
        ("10000000000000000", "EUR", "/total/amount", "length"),
        ("1000000000000000000000000", "JPY", "/total/amount", "length"),
        ("1", "eur", "/total/currency", "invalid"),
        ("1", "XXX", "/total/currency", "invalid"),
        ("1", "XAU", "/total/currency", "invalid"),
    ] {
        let refused = alice.post(PATH, invoice(amount, currency, "2026-01-01")).await.assert(422);
        told_once(&refused, pointer, code);
    }
    let precise = alice.post(PATH, invoice("1.005", "EUR", "2026-01-01")).await.problem("core.invalid");
    assert_eq!(precise["errors"][0]["params"], json!({ "max": 2, "actual": 3 }));
    assert_eq!(precise["errors"][0]["detail"], "has 3 decimal places; EUR has 2");
    for (total, pointer, code) in [
        (json!({ "amount": 1.5, "currency": "EUR" }), "/total/amount", "type"),
        (json!({ "amount": "1", "currency": "EUR", "minor": 1 }), "/total/minor", "unknown"),
        (json!({ "currency": "EUR" }), "/total/amount", "missing"),
        (json!("1 EUR"), "/total", "type"),
        (json!(["1", "EUR"]), "/total", "type"),
    ] {
        let refused = alice.post(PATH, json!({ "total": total, "issuedOn": "2026-01-01" })).await.assert(422);
        told_once(&refused, pointer, code);
    }
    let mut all = invoice("1e3", "eur", "2024-02-30");
    all["deposit"] = money("-1", "EUR");
    let mut all = told(&alice.post(PATH, all).await.assert(422));
    all.sort();
    let pointers: Vec<&str> = all.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/deposit/amount", "/issuedOn", "/total/amount", "/total/currency"]);
    app.finish().await;
}

#[tokio::test]
async fn i_02_a_sum_that_overflows_or_mixes_currencies_is_refused() {
    let app = app().await;
    let alice = app.alice();
    let sum = |price, count: i64, shipping| json!({ "price": price, "count": count, "shipping": shipping });
    let (price, yen) = (money("90000000000.00", "EUR"), money("1", "JPY"));
    alice.post("/test/sums", sum(price.clone(), 100, money("-5", "EUR"))).await.assert(204);
    let huge =
        alice.post("/test/sums", sum(price.clone(), 9_007_199_254_740_991, price.clone())).await.assert(422);
    told_once(&huge, "/count", "length");
    told_once(&alice.post("/test/sums", sum(price, 1, yen)).await.assert(422), "", "invalid");
    app.finish().await;
}

async fn totals(alice: &Actor<'_>, query: &str) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), Some(String::new()));
    while let Some(cursor) = next {
        let page = alice.get(&format!("{PATH}?limit=1{query}{cursor}")).await.assert(200).json();
        for item in page["items"].as_array().unwrap() {
            found.push(format!(
                "{} {}",
                item["total"]["amount"].as_str().unwrap(),
                item["total"]["currency"].as_str().unwrap()
            ));
        }
        next = page["nextCursor"].as_str().map(|cursor| format!("&cursor={cursor}"));
    }
    found
}

#[tokio::test]
async fn a_list_is_sorted_by_currency_then_amount_and_narrowed_to_days() {
    let app = app().await;
    let alice = app.alice();
    for (amount, currency, day) in [
        ("9", "JPY", "2026-01-01"),
        ("10.00", "EUR", "2026-01-31"),
        ("-2.50", "EUR", "0001-01-01"),
        ("10.00", "EUR", "9998-12-31"),
        ("9.99", "EUR", "2026-02-01"),
        ("1000", "JPY", "2025-12-31"),
    ] {
        alice.post(PATH, invoice(amount, currency, day)).await.assert(201);
    }
    let mut ordered = ["-2.50 EUR", "9.99 EUR", "10.00 EUR", "10.00 EUR", "9 JPY", "1000 JPY"];
    assert_eq!(totals(&alice, "").await, ordered);
    ordered.reverse();
    assert_eq!(totals(&alice, "&sort=-total").await, ordered);
    assert_eq!(totals(&alice, "&currency=JPY").await, ["9 JPY", "1000 JPY"]);
    for (days, expected) in [
        ("2026-01-01/2026-01-31", 2),
        ("2026-01-01%2F2026-01-31", 2),
        ("2026-01-01", 1),
        ("2026-02-01/..", 2),
        ("../2025-12-31", 2),
        ("0001-01-01/9998-12-31", 6),
    ] {
        assert_eq!(totals(&alice, &format!("&issuedOn={days}")).await.len(), expected, "{days}");
    }
    for days in [
        "2026-01-31/2026-01-01",
        "0000-01-01/..",
        "../9999-12-31",
        "../infinity",
        "2024-02-30",
        "..",
        "2026-01-01/P1M",
    ] {
        told_once(&alice.get(&format!("{PATH}?issuedOn={days}")).await.assert(422), "?issuedOn", "invalid");
    }
    told_once(&alice.get(&format!("{PATH}?currency=eur")).await.assert(422), "?currency", "invalid");
    app.finish().await;
}

#[tokio::test]
async fn i_05_an_export_has_the_amount_and_its_currency() {
    let app = app().await;
    let alice = app.alice();
    alice.post(PATH, invoice("-2.50", "EUR", "2026-01-01")).await.assert(201);
    let export = http::Request::get(PATH).header("accept", "text/csv").body("").unwrap();
    let csv = alice.request(export).await.assert(200).text();
    let (head, line) = csv.trim_end().split_once("\r\n").unwrap();
    assert_eq!(
        head,
        "id,total.amount,total.currency,deposit.amount,deposit.currency,issuedOn,paidOn,createdAt,version"
    );
    assert_eq!(
        line.split(',').skip(1).take(6).collect::<Vec<_>>(),
        ["-2.50", "EUR", "", "", "2026-01-01", ""]
    );
    app.finish().await;
}

#[tokio::test]
async fn no_row_holds_half_an_amount_or_a_currency_that_there_is_not() {
    let app = app().await;
    let insert = |minor: &str, currency: &str| {
        format!(
            "insert into invoices (id, tenant_id, total_minor, total_currency, deposit_minor, deposit_currency, issued_on)
             select gen_random_uuid(), id, 1, 'EUR', {minor}, {currency}, '2026-01-01' from tenants
             where id = current_setting('app.tenant_id')::uuid"
        )
    };
    for (minor, currency) in [("null", "null"), ("999999999999999999", "'CLF'")] {
        app.execute_in("acme", &insert(minor, currency)).await;
    }
    let tenant = app.tenant_id("acme").to_string();
    let root = app.database().superuser().await;
    root.execute("select set_config('app.tenant_id', $1, false)", &[&tenant]).await.unwrap();
    for (minor, currency) in [
        ("1", "null"),
        ("null", "'EUR'"),
        ("1", "'eur'"),
        ("1", "'XXX'"),
        ("1", "''"),
        ("1000000000000000000", "'EUR'"),
    ] {
        let refused = root.execute(&insert(minor, currency), &[]).await.unwrap_err();
        let constraint = refused.as_db_error().and_then(|error| error.constraint()).map(str::to_owned);
        assert_eq!(constraint.as_deref(), Some("deposit_money"), "{minor} {currency}");
    }
    app.finish().await;
}

#[tokio::test]
async fn postgresql_knows_the_same_currencies() {
    let app = app().await;
    let runtime = app.database().runtime().await;
    let letters = "unnest(string_to_array('A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q,R,S,T,U,V,W,X,Y,Z', ','))";
    let sql = format!(
        "select code, app.currency_exponent(code) from (select a || b || c as code from {letters} a, {letters} b,
         {letters} c) x where app.currency_exponent(code) is not null order by code collate \"C\""
    );
    let rows = runtime.query(&sql, &[]).await.unwrap();
    let theirs: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut ours: Vec<(String, i32)> =
        Currency::all().map(|one| (one.code().to_owned(), one.exponent().into())).collect();
    ours.sort();
    assert_eq!(theirs, ours);
    app.finish().await;
}
