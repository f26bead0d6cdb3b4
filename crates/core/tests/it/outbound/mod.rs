//! Calls of other services, against real servers on loopback: what a destination may do, and what a tenant may ask for.

mod faults;
mod guard;
mod reports;
mod service;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erp_core::auth::Trace;
use erp_core::config::{Config, Layers, Level, LogFormat, MapSource};
use erp_core::lifecycle::StartError;
use erp_core::logging::{CapturingSink, LogOptions, Logging};
use erp_core::metrics::{Format, Metrics};
use erp_core::outbound::{Destination, GivenBy, Outbound, OutboundError, OutboundOptions, Resolver};
use erp_core::shared::{Clock as _, SystemClock, SystemRng, TenantId};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tracing::subscriber::DefaultGuard;

/// Names as a test wants them: each question takes the next answer, and the last one stays.
#[derive(Default)]
struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Names {
    /// `name` leads to each of `answers` in turn, addresses separated by commas.
    fn leads(&self, name: &str, answers: &[&str]) {
        let read = |answer: &&str| {
            answer.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().unwrap()).collect()
        };
        self.answers.lock().unwrap().insert(name.to_owned(), answers.iter().map(read).collect());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The client's resolver, which holds on to the names.
struct Asking(Arc<Names>);

impl Resolver for Asking {
    fn resolve(&self, host: &str, _: GivenBy) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.0.answers.lock().unwrap();
        let answer = match answers.get_mut(host.trim_end_matches('.')) {
            None => Err(io::Error::other("no such name")),
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
        };
        Box::pin(async move { answer })
    }
}

/// A client with names, metrics and a log of its own.
struct Caller {
    outbound: Outbound,
    names: Arc<Names>,
    metrics: Metrics,
    tenant: TenantId,
    trace: Trace,
    sink: CapturingSink,
    logging: Logging,
    _log: DefaultGuard,
}

impl Caller {
    fn new(settings: &[(&str, &str)]) -> Self {
        let (names, metrics) = (Arc::new(Names::default()), Metrics::new(true));
        let outbound = client(settings, &names, &metrics).unwrap();
        let sink = CapturingSink::new();
        let log = LogOptions::new(Level::Verbose, LogFormat::Json, "boot_test", Arc::new(SystemClock));
        let (logging, subscriber) = Logging::new(log.to(sink.clone()));
        let tenant = TenantId::new(&SystemClock, &SystemRng::new());
        let _log = tracing::subscriber::set_default(subscriber);
        Self { outbound, names, metrics, tenant, trace: Trace::new("test"), sink, logging, _log }
    }

    /// Why there is no client with these settings.
    fn refused(settings: &[(&str, &str)]) -> String {
        client(settings, &Arc::default(), &Metrics::new(true)).err().unwrap().to_string()
    }

    /// In development with these hosts of this machine open to tenants.
    fn allowing(hosts: &str) -> Self {
        Self::new(&[("OUTBOUND_ALLOW", hosts)])
    }

    /// Reads what a tenant's URL shows: its status and body, or the word for why there is none.
    async fn tenant_get(&self, url: &str) -> Result<String, &'static str> {
        let url = self.outbound.tenant_url(self.tenant, url).map_err(|_| "not taken")?;
        let answer = self.outbound.get(&self.trace, &url).once().send().await;
        answer.map(|answer| shown(&answer)).map_err(|error| error.outcome())
    }

    /// The same of a destination of the operator's.
    async fn get(&self, destination: &Destination) -> Result<String, OutboundError> {
        let answer = self.outbound.get(&self.trace, destination.at("")).once().send().await;
        answer.map(|answer| shown(&answer))
    }

    /// The lines of calls.
    fn calls(&self) -> Vec<Value> {
        assert!(self.logging.flush());
        let lines = self.sink.text();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message"] == "Outbound call").collect()
    }

    /// The value of a series, as `/metrics` prints it.
    fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render(Format::Text004);
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

fn client(settings: &[(&str, &str)], names: &Arc<Names>, metrics: &Metrics) -> Result<Outbound, StartError> {
    let defaults =
        [("APP_ENV", "development"), ("OUTBOUND_TIMEOUT", "2s"), ("OUTBOUND_CONNECT_TIMEOUT", "1s")];
    let settings = defaults.iter().chain(settings).copied();
    let config = Config::load(&Layers::from(MapSource::environment(settings))).unwrap();
    let options = OutboundOptions {
        resolver: Arc::new(Asking(Arc::clone(names))),
        user_agent: "erp-test/1".to_owned(),
        metrics: metrics.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng::new()),
    };
    Outbound::new(&config, options)
}

fn shown(answer: &erp_core::outbound::OutboundResponse) -> String {
    format!("{} {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body))
}

/// A destination of the operator's on this machine.
fn local(port: u16) -> Destination {
    Destination::new("local", &format!("http://127.0.0.1:{port}")).unwrap()
}

/// What a test of a hang waits at most, so that it fails and does not hang itself.
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> jiff::Timestamp {
    SystemClock.now()
}
