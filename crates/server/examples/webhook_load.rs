//! What one dead endpoint among many costs the others: `script/bench webhooks [--json]`.
//!
//! One tenant has a thousand endpoints on this machine. Each event goes to all of them; the time is from the answer of the
//! request that emits it to its arrival. In turn all endpoints answer, and one of them never does.

#![allow(clippy::disallowed_methods, reason = "its server runs beside the product")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::events::EventKind;
use erp_core::extract::Json;
use erp_core::input;
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, IdKind, Int};
use erp_testkit::{Measurement, TestApp, report};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const ENDPOINTS: usize = 1000;
const EVENTS: i64 = 4;
const HOST: &str = "hooks.example.com";
/// The path of the endpoint that is dead in the second half.
const DEAD: &str = "/0";
const PATIENCE: Duration = Duration::from_secs(120);

static BELLS: Module = Module { name: "bells", routes, events: &[&RUNG], ..Module::BARE };

enum Bell {}

impl IdKind for Bell {
    const NAME: &'static str = "bell";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BellRung {
    time: i64,
}

static RUNG: EventKind<BellRung> = EventKind::new("bells.bell_rung", "A bell was rung.");

input! { Ringing { time: Int<-1> } }

fn routes() -> Routes {
    Routes::new().post("/test/bells", Access::SignedIn, ring).open_to_readers("it is a bench's")
}

async fn ring(call: Call, Json(ringing): Json<Ringing>) -> Result<NoContent> {
    let mut tx = call.tenant();
    let bell: Id<Bell> = call.new_id();
    call.emit(&mut tx, &RUNG, bell, &BellRung { time: ringing.time.get() })?;
    tx.commit().await?;
    Ok(NoContent)
}

/// When each event came to each path of the others for the first time.
type Arrivals = Arc<Mutex<HashMap<i64, HashMap<String, Instant>>>>;

/// Endpoints that answer at once, but for a dead one.
#[derive(Clone, Default)]
struct Receiver {
    arrivals: Arrivals,
    dead: Arc<Mutex<bool>>,
}

impl Receiver {
    async fn listen(&self) -> io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let receiver = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = receiver.clone();
                let service = service_fn(move |request| receiver.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(port)
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let is_dead = path == DEAD && self.dead.lock().is_ok_and(|dead| *dead);
        if is_dead {
            return std::future::pending().await;
        }
        if let (Some(time), Ok(mut arrivals), true) =
            (body["data"]["time"].as_i64(), self.arrivals.lock(), path != DEAD)
        {
            arrivals.entry(time).or_default().entry(path).or_insert_with(Instant::now);
        }
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// Whether one of the endpoints answers no more.
    fn dies(&self, dead: bool) {
        if let Ok(mut is_dead) = self.dead.lock() {
            *is_dead = dead;
        }
    }

    /// How many of the others' deliveries have come of an event.
    fn arrived(&self, time: i64) -> usize {
        self.arrivals.lock().map_or(0, |all| all.get(&time).map_or(0, HashMap::len))
    }

    /// How long they took.
    fn delays(&self, time: i64, begun: Instant) -> Vec<f64> {
        let delay = |arrived: &Instant| (*arrived - begun).as_secs_f64() * 1000.0;
        let all = self.arrivals.lock();
        all.map(|all| all.get(&time).map(|of| of.values().map(delay).collect()))
            .ok()
            .flatten()
            .unwrap_or_default()
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let receiver = Receiver::default();
    let port = receiver.listen().await?;
    let app = TestApp::builder()
        .module(&BELLS)
        .name(HOST, Ipv4Addr::LOCALHOST.into())
        .setting("OUTBOUND_ALLOW", HOST)
        .setting("JOB_WORKERS", "10")
        .setting("LOG_LEVEL", "error")
        .start()
        .await;
    let alice = app.alice();
    for number in 0..ENDPOINTS {
        let url = format!("http://{HOST}:{port}/{number}");
        let body = json!({ "url": url, "events": ["bells.bell_rung"] });
        alice.post("/api/v1/webhooks", body).await.assert(201);
    }
    let deliver = async |time: i64| {
        alice.post("/test/bells", json!({ "time": time })).await.assert(204);
        let begun = Instant::now();
        while receiver.arrived(time) < ENDPOINTS - 1 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        receiver.delays(time, begun)
    };
    let _ = deliver(-1).await; // statements are prepared, and connections open
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 0..EVENTS {
        receiver.dies(false);
        without.extend(deliver(2 * pair).await);
        receiver.dies(true);
        with.extend(deliver(2 * pair + 1).await);
    }
    let all = (ENDPOINTS - 1) as f64 * EVENTS as f64;
    let (before, after) = (p95(without), p95(with.clone()));
    app.expect_errors();
    let rows = [
        Measurement { name: "p95 to 1,000 endpoints that answer", value: before, unit: "ms", bound: None },
        Measurement { name: "p95 to the 999 others, with a dead one", value: after, unit: "ms", bound: None },
        Measurement::at_most("what the dead one costs the others", 100.0 * (after / before - 1.0), "%", 15.0),
        Measurement::at_least("deliveries to the others that arrived", with.len() as f64, "", all),
    ];
    let told = report(&rows, std::env::args().any(|argument| argument == "--json"));
    app.finish().await;
    told
}

fn p95(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 95 / 100).copied().unwrap_or(f64::NAN)
}
