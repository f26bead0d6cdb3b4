//! Results that are read row by row: as long as they like, in their tenant, and gone when their reader is.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::{Result, codes};
use erp_core::from_row;
use erp_core::module::{Access, Module, Routes};
use erp_core::shared::TenantId;
use erp_testkit::{PROBE, TestApp};
use futures_util::StreamExt as _;

struct Number {
    n: i32,
}
from_row!(Number { n });

struct Seen {
    tenant_id: TenantId,
}
from_row!(Seen { tenant_id });

static EXPORT: Module = Module { name: "export", routes, ..Module::BARE };

const HUNDRED_THOUSAND: &str = "select n from generate_series(1, 100000) n";
const MILLION: &str = "select n from generate_series(1, 1000000) n";

fn routes() -> Routes {
    Routes::new().get("/test/export", Access::SignedIn, export)
}

/// The rows outlive the handler, in the body of its answer.
async fn export(State(app): State<App>, caller: Caller) -> Result<Body> {
    let rows = app.db.tenant_read(&caller).stream::<Number>(HUNDRED_THOUSAND, &[]).await?;
    Ok(Body::from_stream(rows.into_stream().map(|row| row.map(|row| format!("{}\n", row.n)))))
}

async fn app() -> TestApp {
    TestApp::builder().module(&PROBE).module(&EXPORT).setting("DATABASE_MAX_CONNECTIONS", "1").start().await
}

/// The memory of this process in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("0 0");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_million_rows_are_read_in_flat_memory() {
    let app = app().await;
    let caller = app.caller(&app.alice()).await;
    let mut rows = app.edge().app.db.tenant_read(&caller).stream::<Number>(MILLION, &[]).await.unwrap();
    let (mut sum, mut grown, before) = (0_i64, 0, resident());
    while let Some(row) = rows.next().await {
        let n = i64::from(row.unwrap().n);
        sum += n;
        if n % 100_000 == 0 {
            grown = grown.max(resident() - before);
        }
    }
    assert_eq!(sum, 500_000_500_000);
    assert!(rows.next().await.is_none(), "after its end it stays ended");
    assert!(grown < 8 * 1024, "{grown} KiB");
    app.alice().get("/api/v1/items").await.assert(200); // the one connection is back
    app.finish().await;
}

#[tokio::test]
async fn t_04_a_stream_is_in_its_tenant_and_read_only() {
    const ADD: &str =
        "insert into items (id, sku, name) values (gen_random_uuid(), 'S-1', 'S') returning tenant_id";
    let app = app().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    let db = &app.edge().app.db;
    for caller in [&alice, &bob, &alice] {
        let rows = db.tenant_read(caller).stream::<Seen>("select tenant_id from items", &[]).await.unwrap();
        let rows: Vec<Seen> = rows.into_stream().map(Result::unwrap).collect().await;
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.tenant_id == caller.tenant()));
    }
    let refused = db.tenant_read(&alice).stream::<Seen>(ADD, &[]).await.err().unwrap();
    assert!(refused.cause().unwrap().to_string().contains("25006"), "{refused:?}");
    assert!(
        refused.code() == &codes::INTERNAL && format!("{refused:?}").contains("use `tenant`"),
        "{refused:?}"
    );
    assert_eq!(db.tenant(&alice).stream::<Seen>(ADD, &[]).await.err().unwrap().code(), &codes::INTERNAL);
    app.finish().await;
}

#[tokio::test]
async fn t_04_a_stream_that_is_dropped_leaves_nothing_running() {
    const SLOW: &str = "select n, pg_sleep(0.001) from generate_series(1, 1000000) n";
    let app = app().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    let db = &app.edge().app.db;
    for (sql, read) in [(MILLION, 0), (MILLION, 10), (MILLION, 1000), (MILLION, 1500), (SLOW, 1), (SLOW, 20)]
    {
        let mut rows = db.tenant_read(&alice).stream::<Number>(sql, &[]).await.unwrap();
        for n in 1..=read {
            assert_eq!(rows.next().await.unwrap().unwrap().n, n);
        }
        drop(rows);
        let begun = Instant::now();
        let seen: Vec<Seen> =
            db.tenant_read(&bob).last().rows("select tenant_id from items", &[]).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?} after {read} rows", begun.elapsed());
        assert!(seen.len() == 3 && seen.iter().all(|row| row.tenant_id == bob.tenant()));
    }
    app.assert_connections_are_clean().await; // soon: the last one is being cleaned up
    app.finish().await;
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_says_so() {
    const FAILING: &str = "select 1 / (1500 - n) as n from generate_series(1, 3000) n";
    let app = app().await;
    let caller = app.caller(&app.alice()).await;
    let db = &app.edge().app.db;
    let mut rows = db.tenant_read(&caller).stream::<Number>(FAILING, &[]).await.unwrap();
    let mut read = 0;
    let error = loop {
        match rows.next().await {
            Some(Ok(_)) => read += 1,
            Some(Err(error)) => break error,
            None => panic!("the end, after {read} rows"),
        }
    };
    assert!(read == 1499 && error.cause().unwrap().to_string().contains("22012"), "{read} rows, {error:?}");
    assert!(rows.next().await.is_none());
    // What fails at once fails before there is a stream.
    let at_once = db.tenant_read(&caller).stream::<Number>("select 1 / 0 as n", &[]).await;
    assert!(at_once.is_err());
    // A column that is not there is an error, and not a panic.
    let mut rows = db.tenant_read(&caller).stream::<Number>("select 1 as other", &[]).await.unwrap();
    assert_eq!(rows.next().await.unwrap().err().unwrap().code(), &codes::INTERNAL);
    app.alice().get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn d_07_a_streams_limit_bounds_the_server_and_not_the_reader() {
    const LIMIT: Duration = Duration::from_millis(300);
    let app = app().await;
    let caller = app.caller(&app.alice()).await;
    let read = || app.edge().app.db.tenant_read(&caller).statement_timeout(LIMIT);
    let slow = "select n, pg_sleep(0.05) from generate_series(1, 100) n";
    let mut rows = read().stream::<Number>(slow, &[]).await.unwrap();
    let error = loop {
        match rows.next().await.expect("it takes five seconds") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), &codes::TIMEOUT);
    // A reader who takes his time between the rows gets them all.
    let mut rows = read().stream::<Number>("select n from generate_series(1, 5000) n", &[]).await.unwrap();
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row.unwrap();
        count += 1;
        if count % 500 == 0 {
            tokio::time::sleep(LIMIT / 4).await;
        }
    }
    assert_eq!(count, 5000);
    app.finish().await;
}

/// Makes PostgreSQL bear no longer than 300 ms with a transaction that it does not hear of. No statement of a module may.
const IMPATIENCE: &str = "create function public.impatient() returns text language sql as \
    $$ select set_config('idle_in_transaction_session_timeout', '300ms', true) $$; \
    grant execute on function public.impatient() to public";
const IMPATIENT: &str = "select n, (select public.impatient()) from generate_series(1, 5000) n";

#[tokio::test]
async fn d_02_a_transaction_that_is_kept_alive_waits_for_its_reader() {
    let app = app().await;
    app.sql().batch_execute(IMPATIENCE).await.unwrap();
    let caller = app.caller(&app.alice()).await;
    let db = &app.edge().app.db;
    for (every, whole) in [(Duration::from_millis(100), true), (Duration::from_secs(60), false)] {
        let mut rows = db.tenant_read(&caller).stream::<Number>(IMPATIENT, &[]).await.unwrap();
        let mut read = 0;
        let mut failed = false;
        while let Some(row) = rows.next().await {
            let Ok(row) = row else {
                failed = true;
                break;
            };
            read = row.n;
            // Within what the server has computed ahead, at the end of it, and between two.
            if [1, 100, 1099, 2500].contains(&read) {
                let waited = tokio::time::timeout(Duration::from_millis(900), rows.keep_alive(every)).await;
                assert!(waited.is_err(), "{waited:?}");
            }
        }
        assert_eq!((!failed && read == 5000, failed), (whole, !whole), "{read} rows");
    }
    app.alice().get("/api/v1/items").await.assert(200);
    app.finish().await;
}

/// Rows of 2 KB: a few make up what the server computes ahead.
const WIDE: &str = "select n, repeat('wide ', 400) from generate_series(1, 500) n";

/// What the server has computed ahead lies in the socket, and its statement is over: a pause is the reader's.
#[tokio::test]
async fn d_02_a_slow_reader_of_wide_rows_does_not_keep_the_server_within_its_statement() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_TIMEOUT", "400ms").start().await;
    let caller = app.caller(&app.alice()).await;
    let mut rows = app.edge().app.db.tenant_read(&caller).stream::<Number>(WIDE, &[]).await.unwrap();
    let mut read = 0;
    while let Some(row) = rows.next().await {
        read = row.unwrap().n;
        if [1, 33, 70, 250].contains(&read) {
            tokio::time::sleep(Duration::from_secs(1)).await; // longer than a statement may take
        }
    }
    assert_eq!(read, 500);
    app.finish().await;
}

#[tokio::test]
async fn a_stream_may_be_the_body_of_an_answer() {
    let app = app().await;
    let text = app.alice().get("/test/export").await.assert(200).text();
    assert_eq!((text.lines().count(), text.lines().last()), (100_000, Some("100000")));
    app.alice().get("/api/v1/items").await.assert(200);
    app.finish().await;
}
