//! What a cache costs and saves: the time of a value that the process has, asked for as a handler does, and how often the
//! database is asked when 200 want the same at once. Exit 1: a bound was missed.
//!
//! `script/bench cache [--json]`

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use erp_core::auth::Caller;
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::cache::{Caches, ResultCache};
use erp_core::config::{Layers, MapSource};
use erp_core::db::Tag;
use erp_core::from_row;
use erp_core::middleware::Peer;
use erp_core::module::Module;
use erp_modules::PRODUCT;
use erp_testkit::{Database, Measurement, PROBE, report, with_modules};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

const TIMES: u32 = 20_000;
const ROUNDS: u32 = 50;
const MANY: i64 = 10_000;
/// Nanoseconds of a hit whose value and key no processor has near: 500 on a quiet machine, 800 beside four builds.
const WITHOUT_PROCESSOR_CACHE: f64 = 1000.0;
const AT_ONCE: usize = 200;
const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
const COUNT: &str = "select count(*) + $2 as items from items where sku like $1 || '%'";

#[derive(Serialize, Deserialize)]
struct Total {
    items: i64,
}
from_row!(Total { items });

static ITEMS: Tag = Tag::new("measured.items");
static TOTALS: ResultCache<Vec<Total>> =
    ResultCache::new("measured.totals", "How many items there are.", Duration::from_secs(3600))
        .tags(&[&ITEMS]);
static MEASURED: Module = Module { name: "measured", caches: &[&TOTALS], ..Module::BARE };

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let database = Database::create(&PRODUCT).await;
    let measured = measure(&database).await;
    database.remove();
    report(&measured?, std::env::args().any(|argument| argument == "--json"))
}

async fn measure(database: &Database) -> io::Result<Vec<Measurement>> {
    let context = start(database).await?;
    let caller = caller(&context, database).await?;
    let caches = &context.edge.app.caches;
    let queries = queries(database, caches, &caller).await?;
    for key in 0..MANY {
        ask(caches, &caller, key).await;
    }
    let misses = Cell::new(0_u64);
    let hit = |key: i64| {
        if ask(caches, &caller, key).now_or_never().is_none() {
            misses.set(misses.get() + 1); // it would have to wait
        }
    };
    // Steps that reach all of them in an order that no processor foresees.
    let next = |number: u32| i64::from(number.wrapping_mul(2_654_435_761)) % MANY;
    let measured = vec![
        Measurement::at_most("a hit, of one value", best(|_| hit(0)), "ns", 500.0),
        Measurement::at_most(
            "a hit, of one of 10,000 values",
            best(|number| hit(next(number))),
            "ns",
            WITHOUT_PROCESSOR_CACHE,
        ),
        Measurement::at_most("queries of 200 parallel misses", queries, "", 1.0),
    ];
    if misses.get() == 0 { Ok(measured) } else { Err(io::Error::other("what was measured were no hits")) }
}

/// As `Call::cached`, of which this is all.
async fn ask(caches: &Caches, caller: &Caller, key: i64) -> Option<i64> {
    let rows = caches.query(caller, &TOTALS, COUNT, ("BOLT", key)).await.ok()?;
    rows.first().map(|total| total.items)
}

/// The best round, in nanoseconds: what the code costs, without what else the machine was doing.
fn best(run: impl Fn(u32)) -> f64 {
    let round = |first: u32| {
        let started = Instant::now();
        (first..first + TIMES).for_each(&run);
        started.elapsed()
    };
    let best = (0..ROUNDS).map(|number| round(number * TIMES)).min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// How often PostgreSQL runs the statement that 200 ask for at once, as it counts itself.
async fn queries(database: &Database, caches: &Caches, caller: &Caller) -> io::Result<f64> {
    let calls = async || database.calls("select count(*) + %").await;
    let before = calls().await;
    let answers = join_all((0..AT_ONCE).map(|_| ask(caches, caller, -1))).await;
    if answers.iter().any(Option::is_none) {
        return Err(io::Error::other("a read failed"));
    }
    Ok((calls().await - before) as f64)
}

async fn start(database: &Database) -> io::Result<Context> {
    let settings = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", database.roles.system_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("LOG_FILE", "/dev/null"),
        ("JOB_WORKERS", "0"),
    ];
    let layers = Layers::from(MapSource::environment(settings));
    let product = with_modules(PRODUCT, &[&PROBE, &MEASURED]);
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, OsString::new());
    bootstrap(&product, &layers, options).await.map_err(io::Error::other)
}

/// Somebody of the first tenant, as a handler gets them.
async fn caller(context: &Context, database: &Database) -> io::Result<Caller> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?;
    let issued = context.edge.app.authenticator.issue(person.tenant_id, person.user_id, None);
    let token = issued.map_err(io::Error::other)?.access_token.expose().clone();
    let request = Request::get("/test/caller").header("authorization", format!("Bearer {token}"));
    let request =
        request.header("x-forwarded-proto", "https").body(Body::empty()).map_err(io::Error::other)?;
    let response = Arc::clone(&context.edge).handle(PEER, request).await;
    let caller = response.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| io::Error::other(format!("the caller was refused: {}", response.status())))
}
