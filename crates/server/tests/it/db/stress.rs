//! 64 clients that hang up at random points, 20 tenants, a pool of 4: nobody ever sees a foreign row (T-04, S-06).

use std::time::{Duration, Instant};

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::module::{Access, Module, Routes};
use erp_core::shared::{Id, TenantId, UserId};
use erp_testkit::TestApp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) const CLIENTS: u64 = 64;
pub(super) const TENANTS: usize = 20;
const DURATION: Duration = Duration::from_secs(6);

/// The product reads in one exchange; this route does so in two, so that clients can leave an open transaction.
pub(super) static STEPS: Module = Module { name: "steps", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new().get("/test/steps", Access::SignedIn, steps)
}

struct Named {
    name: String,
}
from_row!(Named { name });

async fn steps(State(app): State<App>, caller: Caller) -> Result<Json<Value>> {
    let mut tx = app.db.tenant_read(&caller);
    let _: Vec<()> = tx.rows("select pg_sleep(0.02)", &[]).await?;
    let items: Vec<Named> = tx.last().rows("select name from items", &[]).await?;
    let items: Vec<Value> = items.iter().map(|item| json!({ "name": item.name })).collect();
    Ok(Json(json!({ "items": items })))
}

/// A tenant, as a client sees it.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) slug: String,
    pub(super) token: String,
}

/// What the clients have counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) complete: u64,
    pub(super) left: u64,
    pub(super) foreign: u64,
}

/// A small generator that repeats itself with its seed: xorshift64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub(super) fn pick(&mut self, places: usize) -> usize {
        usize::try_from(self.roll(places as u64)).unwrap()
    }
}

pub(super) async fn make_tenants(app: &TestApp) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let slug = format!("stress-{number}");
        let add = "insert into tenants (id, slug) values (gen_random_uuid(), $1) returning id";
        let tenant: TenantId = app.sql().query_one(add, &[&slug]).await.unwrap().get(0);
        let user: UserId = Id::new(app.edge().app.clock.as_ref(), app.edge().app.rng.as_ref());
        let items = format!(
            "begin; insert into auth.people (id, email) values ('{user}', '{user}@{slug}.example'); \
             set local app.tenant_id = '{tenant}'; insert into memberships (user_id, email) values ('{user}', '{user}@{slug}.example'); \
             insert into grants (id, principal_id, built_in) values (gen_random_uuid(), '{user}', 'member'); \
             insert into items (id, sku, name) select gen_random_uuid(), '{slug}/' || n, '{slug}' from generate_series(1, 5) n; commit"
        );
        app.sql().batch_execute(&items).await.unwrap();
        let issued = app.edge().app.authenticator.issue(tenant, user, None);
        tenants.push(Tenant { slug, token: issued.unwrap().access_token.expose().clone() });
    }
    tenants
}

/// What a client may ask for.
pub(super) const READ: (&str, &str) = ("GET", "/api/v1/items");
pub(super) const READ_IN_STEPS: (&str, &str) = ("GET", "/test/steps");
pub(super) const CREATE: (&str, &str) = ("POST", "/api/v1/items");

/// A request of a tenant, as it goes over the wire.
pub(super) fn request(tenant: &Tenant, (method, path): (&str, &str), dice: &mut Dice) -> Vec<u8> {
    let Tenant { slug, token } = tenant;
    let body = match method {
        "POST" => format!(r#"{{"sku":"{slug}/{}","name":"{slug}"}}"#, dice.roll(u64::MAX)),
        _ => String::new(),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One whole answer: its status and body.
pub(super) async fn answer(stream: &mut TcpStream) -> (u16, Value) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
            let body = end + 4;
            if bytes.len() >= body + length.parse::<usize>().unwrap() {
                return (head[9..12].parse().unwrap(), serde_json::from_slice(&bytes[body..]).unwrap());
            }
        }
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the server hung up: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// How many rows in an answer are not the tenant's.
pub(super) fn foreign(tenant: &Tenant, body: &Value) -> u64 {
    let single = std::slice::from_ref(body);
    let items = body["items"].as_array().map_or(single, Vec::as_slice);
    items.iter().filter(|item| item["name"] != tenant.slug.as_str()).count() as u64
}

/// Calls for random tenants, and hangs up before, within or after half of its requests.
async fn client(address: std::net::SocketAddr, tenants: Vec<Tenant>, seed: u64) -> Tally {
    let (mut dice, mut tally) = (Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)), Tally::default());
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    while started.elapsed() < DURATION {
        let tenant = &tenants[dice.pick(TENANTS)];
        let request = request(tenant, [READ, READ_IN_STEPS, CREATE][dice.pick(3)], &mut dice);
        let hangs_up = match dice.roll(6) {
            0 => {
                let part = dice.pick(request.len());
                stream.write_all(&request[..part]).await.unwrap();
                true
            }
            1 | 2 => {
                stream.write_all(&request).await.unwrap();
                tokio::time::sleep(Duration::from_micros(dice.roll(150_000))).await;
                true
            }
            3 => {
                stream.write_all(&request).await.unwrap();
                let _ = stream.read(&mut [0; 16]).await.unwrap();
                true
            }
            _ => {
                stream.write_all(&request).await.unwrap();
                let (status, body) = answer(&mut stream).await;
                assert!(matches!(status, 200 | 201), "{status}: {body}");
                tally.complete += 1;
                tally.foreign += foreign(tenant, &body);
                false
            }
        };
        if hangs_up {
            tally.left += 1;
            stream = TcpStream::connect(address).await.unwrap();
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_04_stress_clients_that_hang_up_leave_no_tenant_behind() {
    let app = TestApp::builder().module(&STEPS).setting("DATABASE_MAX_CONNECTIONS", "4").start().await;
    let tenants = make_tenants(&app).await;
    let clients = (1..=CLIENTS).map(|seed| tokio::spawn(client(app.address(), tenants.clone(), seed)));
    let mut total = Tally::default();
    for tally in futures_util::future::join_all(clients).await {
        let tally = tally.unwrap();
        total.complete += tally.complete;
        total.left += tally.left;
        total.foreign += tally.foreign;
    }
    println!("{} answers, {} hang-ups", total.complete, total.left);
    assert_eq!(total.foreign, 0, "foreign rows");
    assert!(total.complete > 50 && total.left > 50, "{} answers, {} hang-ups", total.complete, total.left);
    // The app answers at once, and each row is where it belongs.
    let begun = Instant::now();
    app.alice().get("/api/v1/items").await.assert(200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let misplaced = "select count(*) from items i join tenants t on t.id = i.tenant_id where t.slug like 'stress%' and i.name <> t.slug";
    assert_eq!(app.sql().query_one(misplaced, &[]).await.unwrap().get::<_, i64>(0), 0);
    app.finish().await;
}
