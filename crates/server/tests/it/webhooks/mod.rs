//! Webhooks, from the event to the bytes that an endpoint gets, over real connections.

mod delivering;
mod incoming;
mod routes;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::events::EventKind;
use erp_core::extract::Json;
use erp_core::input;
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, IdKind, Text};
use erp_core::webhooks::SigningSecret;
use erp_testkit::{Actor, Builder, TestApp};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HOST: &str = "hooks.example.com";
const WEBHOOK_SECRET: &str = "q8Zr5Xw2Nk7Lm3Vt9Bc4Hd6Jf1Gs0PyAeU";

/// Emits an event for whatever is asked for.
static BELLS: Module = Module { name: "bells", routes, events: &[&RUNG, &RUNG_AGAIN], ..Module::BARE };

enum Bell {}

impl IdKind for Bell {
    const NAME: &'static str = "bell";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BellRung {
    tone: String,
}

static RUNG: EventKind<BellRung> = EventKind::new("bells.bell_rung", "A bell was rung.");
static RUNG_AGAIN: EventKind<BellRung> =
    EventKind::new("bells.bell_rung@2", "A bell was rung, in another form.");

input! { Ringing { tone: Text<1, 200>, bell: Option<Id<Bell>> } }

fn routes() -> Routes {
    Routes::new()
        .post("/test/bells", Access::SignedIn, ring)
        .doc(Operation::new("ringBell", "Ring a bell"))
        .open_to_readers("it is a test's")
}

async fn ring(call: Call, Json(ringing): Json<Ringing>) -> Result<NoContent> {
    let mut tx = call.tenant();
    let bell = ringing.bell.unwrap_or_else(|| call.new_id());
    call.emit(&mut tx, &RUNG, bell, &BellRung { tone: ringing.tone.to_string() })?;
    tx.commit().await?;
    Ok(NoContent)
}

/// Something that an endpoint was sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn tone(&self) -> String {
        self.json()["data"]["tone"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn verifies(&self, secret: &str) -> bool {
        let secret = SigningSecret::parse(secret).unwrap();
        let at = self.header("webhook-timestamp").parse().unwrap();
        secret.verifies(self.header("webhook-id"), at, &self.body, self.header("webhook-signature"))
    }
}

/// What an endpoint does with the next requests to a path, the last one for ever.
#[derive(Clone, Copy)]
enum Reaction {
    Status(u16),
    With(u16, &'static str, &'static str),
    Hangs,
    /// Answers with two megabytes.
    Page(u16),
}

/// An HTTP server of somebody else.
#[derive(Clone)]
pub(crate) struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    reactions: Arc<Mutex<HashMap<String, Vec<Reaction>>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, received: Arc::default(), reactions: Arc::default() };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                let service = service_fn(move |request| serving.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    async fn answer(
        self,
        request: http::Request<Incoming>,
    ) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let received = Received { path: path.clone(), headers: head.headers, body };
        self.received.lock().unwrap().push(received);
        let reaction = {
            let mut reactions = self.reactions.lock().unwrap();
            let of_path = reactions.entry(path).or_insert_with(|| vec![Reaction::Status(200)]);
            if of_path.len() > 1 { of_path.remove(0) } else { of_path[0] }
        };
        let response = Response::builder();
        Ok(match reaction {
            Reaction::Hangs => std::future::pending().await,
            Reaction::Page(status) => response.status(status).body(Full::from(vec![b'x'; 2 << 20])).unwrap(),
            Reaction::Status(status) => response.status(status).body(Full::from("so be it\0")).unwrap(),
            Reaction::With(status, name, value) => {
                response.status(status).header(name, value).body(Full::default()).unwrap()
            }
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{HOST}:{}{path}", self.port)
    }

    fn reacts(&self, path: &str, reactions: &[Reaction]) {
        self.reactions.lock().unwrap().insert(path.to_owned(), reactions.to_vec());
    }

    /// What came to a path.
    fn at(&self, path: &str) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Waits until so many have come to a path.
    pub(crate) async fn until(&self, path: &str, count: usize) -> Vec<Received> {
        let deadline = Instant::now() + PATIENCE;
        while self.at(path).len() < count {
            assert!(Instant::now() < deadline, "{path}: {} of {count}", self.at(path).len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.at(path)
    }
}

fn builder() -> Builder {
    TestApp::builder()
        .module(&BELLS)
        .name(HOST, Ipv4Addr::LOCALHOST.into())
        .setting("OUTBOUND_ALLOW", HOST)
        .setting("WEBHOOK_SECRET", WEBHOOK_SECRET)
        .setting("JOB_WORKERS", "8")
}

async fn working() -> (TestApp, Receiver) {
    (builder().start().await, Receiver::start().await)
}

/// An endpoint of a person's tenant; its path in the API, and its secret.
async fn endpoint(person: &Actor<'_>, url: &str) -> (String, String) {
    let body = json!({ "url": url, "events": ["bells.bell_rung"] });
    let made = person.post("/api/v1/webhooks", body).await.assert(201);
    (made.header("location").to_owned(), made.json()["secret"].as_str().unwrap().to_owned())
}

async fn rings(person: &Actor<'_>, tone: &str, bell: Option<&str>) {
    let body = bell.map_or(json!({ "tone": tone }), |bell| json!({ "tone": tone, "bell": bell }));
    person.post("/test/bells", body).await.assert(204);
}

/// Waits until `sql` answers true.
async fn until(app: &TestApp, sql: &str) {
    const PICTURE: &str = "select jsonb_build_object('deliveries', (select jsonb_agg(to_jsonb(d)) from webhook_deliveries d),
                'health', (select jsonb_agg(to_jsonb(h)) from webhook_health h), 'webhooks', (select jsonb_agg(to_jsonb(w)) from webhooks w),
                'cursors', (select jsonb_agg(to_jsonb(c)) from event_cursors c), 'ready', (select jsonb_agg(to_jsonb(j)) from job_ready j),
                'scheduled', (select jsonb_agg(to_jsonb(j)) from job_scheduled j), 'dead', (select jsonb_agg(to_jsonb(j)) from job_dead j))";
    app.until(sql, PICTURE).await;
}

/// Lets everything that rests go on at once: time goes by.
async fn time_goes_by(app: &TestApp) {
    let sql = "update webhook_health set rests_until = null; \
        update webhook_deliveries set next_at = now() where status = 'pending'; update job_scheduled set run_at = now()";
    // A worker that changes the same rows in another order may win.
    while let Err(error) = app.sql().batch_execute(sql).await {
        assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "{error}");
    }
}

/// The one delivery, as it is shown.
async fn delivery(person: &Actor<'_>, webhook: &str) -> Value {
    let page = person.get(&format!("{webhook}/deliveries")).await.assert(200).json();
    let id = page["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{page:#}")).to_owned();
    person.get(&format!("{webhook}/deliveries/{id}")).await.assert(200).json()
}
