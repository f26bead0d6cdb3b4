//! What each layer of the request chain costs: the whole chain, then the same without one layer at a time, in process
//! and without a socket: microseconds and allocations a request, without those of making the request.
//!
//! `script/bench layers`

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::factory::AppOptions;
use erp_core::middleware::{Edge, Peer};
use erp_core::module::Access;
use erp_core::shared::{ManualClock, SystemClock};
use erp_modules::PRODUCT;
use erp_testkit::Database;
use futures_util::FutureExt as _;
use http::StatusCode;

const TIMES: u32 = 1_000;
const ROUNDS: usize = 60;
const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
const ANSWER: &str = r#"{"id":"01900000-0000-7000-8000-000000000000","name":"small"}"#;

/// A layer that is left out: by a setting, or by a switch.
struct Without {
    layer: &'static str,
    setting: Option<(&'static str, &'static str)>,
    switch: fn(AppOptions) -> AppOptions,
}

const fn setting(layer: &'static str, name: &'static str, value: &'static str) -> Without {
    Without { layer, setting: Some((name, value)), switch: |options| options }
}

const fn switch(layer: &'static str, switch: fn(AppOptions) -> AppOptions) -> Without {
    Without { layer, setting: None, switch }
}

const WITHOUT: [Without; 10] = [
    switch("nothing: the whole chain", |options| options),
    switch("the line of the log", |options| options.enable_request_log(false)),
    setting("metrics", "METRICS_ENABLED", "false"),
    switch("security headers", |options| options.enable_security_headers(false)),
    switch("CORS", |options| options.enable_cors(false)),
    switch("rate limits and slowing down", |options| options.enable_rate_limit(false)),
    setting("slowing down", "SPEED_LIMIT_STEP", "0"),
    switch("deadline", |options| options.enable_deadline(false)),
    switch("compression (of a small answer)", |options| options.enable_compression(false)),
    setting("HTTPS enforcement", "FORCE_HTTPS", "false"),
];

/// A chain, and what it was measured to cost in each round.
struct Measured {
    layer: &'static str,
    context: Context,
    token: String,
    micros: Vec<f64>,
    /// How much less than the whole chain's, measured right before it: a processor changes its pace.
    less: Vec<f64>,
    allocations: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let database = Database::create(&PRODUCT).await;
    let mut chains: Vec<Measured> = Vec::new();
    for without in WITHOUT {
        let logging = match chains.first() {
            None => LogSetup::Install { terminal: false },
            Some(first) => LogSetup::Given(first.context.edge.app.logging.clone()),
        };
        chains.push(chain(&database, without, logging).await?);
    }
    for _ in 0..ROUNDS {
        for index in 0..chains.len() {
            let whole = chains[0].cost();
            let chain = &mut chains[index];
            let cost = chain.cost();
            chain.micros.push(cost);
            chain.less.push(whole - cost);
            tokio::task::yield_now().await;
        }
    }
    for chain in &mut chains {
        chain.allocations = chain.allocated();
    }
    print(&mut chains)
}

impl Measured {
    /// Microseconds of a request, without those of making it.
    fn cost(&self) -> f64 {
        let Context { edge, .. } = &self.context;
        edge.app.logging.set_level(edge.app.config.logging.level); // they share one log
        let making = time(|| drop(request(&self.token)));
        let whole = time(|| ask(edge, &self.token));
        whole.saturating_sub(making).as_nanos() as f64 / 1000.0
    }

    fn allocated(&self) -> u64 {
        let making = allocated(|| drop(request(&self.token)));
        allocated(|| ask(&self.context.edge, &self.token)) - making
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn time(run: impl Fn()) -> Duration {
    let started = Instant::now();
    (0..TIMES).for_each(|_| run());
    started.elapsed() / TIMES
}

fn allocated(run: impl Fn()) -> u64 {
    measure(run).count_total
}

async fn chain(database: &Database, without: Without, logging: LogSetup) -> io::Result<Measured> {
    let settings = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("LOG_FILE", "/dev/null"),
        ("LOG_LEVEL", "http"),
        ("METRICS_ENABLED", "true"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("CORS_ORIGINS", "https://app.example.com"),
        ("RATE_LIMIT_MAX", "1000000"),
        ("RATE_LIMIT_WINDOW", "1s"),
    ];
    let settings =
        settings.into_iter().filter(|(name, _)| without.setting.is_none_or(|(other, _)| other != *name));
    let layers = Layers::from(MapSource::environment(settings.chain(without.setting)));
    let mut options = BootstrapOptions::new(logging, std::ffi::OsString::new());
    // It stands, so that nothing is read anew in the middle.
    options.clock = Arc::new(ManualClock::new(erp_core::shared::Clock::now(&SystemClock)));
    options.app = (without.switch)(AppOptions::new())
        .custom_routes(|routes| routes.get("/small", Access::SignedIn, small));
    let context = bootstrap(&PRODUCT, &layers, options).await.map_err(io::Error::other)?;
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?;
    let issued = context.edge.app.authenticator.issue(person.tenant_id, person.user_id, None);
    let token = issued.map_err(io::Error::other)?.access_token.expose().clone();
    // The first reads the tenant's own limit and the permissions, and verifies the token.
    Arc::clone(&context.edge).handle(PEER, request(&token)).await;
    Ok(Measured {
        layer: without.layer,
        context,
        token,
        micros: Vec::new(),
        less: Vec::new(),
        allocations: 0,
    })
}

async fn small() -> Response {
    ([("content-type", "application/json")], ANSWER).into_response()
}

/// What a browser sends through a proxy that ends TLS.
fn request(token: &str) -> Request {
    let request = Request::get("/small")
        .header("host", "api.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("origin", "https://app.example.com")
        .header("authorization", format!("Bearer {token}"))
        .header("x-forwarded-for", "198.51.100.7")
        .header("x-forwarded-proto", "https")
        .body(Body::empty());
    request.unwrap_or_default()
}

fn ask(edge: &Arc<Edge>, token: &str) {
    let response = Arc::clone(edge).handle(PEER, request(token)).now_or_never();
    assert_eq!(
        response.map(|response| response.status()),
        Some(StatusCode::OK),
        "nothing to wait for, nor to refuse"
    );
}

fn print(chains: &mut [Measured]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "| without | µs | less | allocations | fewer |\n| --- | --: | --: | --: | --: |")?;
    let all = chains.first().map_or(0, |whole| whole.allocations);
    for Measured { layer, micros, less, allocations, .. } in chains {
        let (micros, less, fewer) = (median(micros), median(less), all.saturating_sub(*allocations));
        writeln!(out, "| {layer} | {micros:.2} | {less:.2} | {allocations} | {fewer} |")?;
    }
    Ok(())
}
