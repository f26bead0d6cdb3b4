//! What a request costs in round trips to the database, counted by a proxy that makes each one last.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erp_core::auth::Role;
use erp_testkit::TestApp;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::config::Host;

/// How long each direction takes: far longer than the machine needs to send what belongs together.
const DELAY: Duration = Duration::from_millis(5);

/// How often one connection's client has spoken after the server had.
#[derive(Default)]
struct Trips {
    count: AtomicUsize,
    server_spoke: AtomicBool,
}

/// A slow way to the database, which counts.
#[derive(Clone, Default)]
struct Proxy(Arc<Mutex<Vec<Arc<Trips>>>>);

impl Proxy {
    /// Listens on a port of its own and passes connections on to PostgreSQL's socket.
    async fn start(socket: PathBuf) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, address) = (Self::default(), listener.local_addr().unwrap());
        let theirs = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                client.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = UnixStream::connect(&socket).await.unwrap().into_split();
                let trips = Arc::new(Trips::default());
                theirs.0.lock().unwrap().push(Arc::clone(&trips));
                let there = Arc::clone(&trips);
                carry(from_client, to_server, move || {
                    there.count.fetch_add(
                        usize::from(there.server_spoke.swap(false, Ordering::SeqCst)),
                        Ordering::SeqCst,
                    );
                });
                carry(from_server, to_client, move || trips.server_spoke.store(true, Ordering::SeqCst));
            }
        });
        (proxy, address)
    }

    fn counts(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(|trips| trips.count.load(Ordering::SeqCst)).collect()
    }

    /// The trips that `work` costs on the connection that takes the most; others belong to the monitor.
    async fn trips_of<T>(&self, work: impl Future<Output = T>) -> usize {
        let before = self.counts();
        work.await;
        let after = self.counts();
        assert_eq!(before.len(), after.len(), "a warm request opens no connection");
        after.iter().zip(&before).map(|(after, before)| after - before).max().unwrap()
    }
}

/// Passes on what arrives, each part [`DELAY`] later.
fn carry(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    seen: impl Fn() + Send + 'static,
) {
    let (parts, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            seen();
            let _ = parts.send((Instant::now() + DELAY, buffer[..length].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((at, part)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    });
}

/// A URL such as `postgresql://user@%2Ffolder:5432/database` through `address`.
fn reroute(url: &str, address: SocketAddr) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let (_, database) = rest.rsplit_once('/').unwrap();
    format!("{user}@{address}/{database}")
}

/// The socket's file of the tests' PostgreSQL.
fn socket_file() -> PathBuf {
    let url = std::env::var("TEST_DATABASE_URL").unwrap();
    let config: tokio_postgres::Config = url.parse().unwrap();
    let [Host::Unix(folder)] = config.get_hosts() else {
        panic!("the cluster of script/test has a socket only")
    };
    folder.join(format!(".s.PGSQL.{}", config.get_ports()[0]))
}

#[tokio::test]
async fn a_warm_read_and_a_change_of_one_statement_cost_one_round_trip() {
    let (proxy, address) = Proxy::start(socket_file()).await;
    let builder = TestApp::builder().setting("DATABASE_MAX_CONNECTIONS", "1");
    let app = builder.start_through(|url| reroute(&url, address)).await;
    let alice = app.alice();
    let items = "/api/v1/items";
    for warm in [true, false] {
        let made = alice
            .post(items, json!({ "sku": format!("R-{warm}"), "name": "Round" }))
            .await
            .assert(201)
            .json();
        let path = format!("{items}/{}", made["id"].as_str().unwrap());
        let body = json!({ "sku": format!("R2-{warm}"), "name": "Trip" });
        let costs = [
            proxy.trips_of(alice.get(&path)).await,
            proxy.trips_of(alice.get(items)).await,
            proxy.trips_of(alice.get("/api/v1/me")).await,
            proxy.trips_of(alice.post(items, json!({ "sku": format!("R3-{warm}"), "name": "Round" }))).await,
            proxy.trips_of(alice.put(&path, body)).await,
            proxy.trips_of(alice.patch(&path, json!({ "quantity": 2 }))).await,
            proxy.trips_of(alice.delete(&path)).await,
        ];
        assert!(warm || costs == [1; 7], "read, list, me, create, replace, patch, delete: {costs:?}");
    }
    app.finish().await;
}

/// A job goes out with the statement that ends the transaction.
#[tokio::test]
async fn enqueuing_costs_no_round_trip_of_its_own() {
    let (proxy, address) = Proxy::start(socket_file()).await;
    let builder = TestApp::builder().module(&crate::jobs::ERRANDS).setting("DATABASE_MAX_CONNECTIONS", "1");
    let builder = builder.setting("DATABASE_SYSTEM_MAX_CONNECTIONS", "1");
    let app = builder.start_through(|url| reroute(&url, address)).await;
    let alice = app.alice();
    let post = || alice.post("/test/errands", json!({ "kind": "count", "what": "x" }));
    post().await.assert(204);
    // The doorbell rings afterwards, over a connection of its own.
    let rings = "select count(*) from pg_stat_activity where usename = 'erp_system' and state = 'idle' \
        and datname = current_database() and query like '%pg_notify%'";
    while app.sql().query_one(rings, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.trips_of(post()).await, 1);
    let both = || alice.post("/test/errands/written", json!({ "kind": "count", "what": "x" }));
    both().await.assert(204);
    assert_eq!(proxy.trips_of(both()).await, 1, "a record and a job");
    app.finish().await;
}

/// A document with its lines costs no more than a record; what locks it first costs one exchange more for each statement.
#[tokio::test]
async fn a_document_with_its_lines_and_a_step_cost_one_round_trip() {
    let (proxy, address) = Proxy::start(socket_file()).await;
    let builder = TestApp::builder().setting("DATABASE_MAX_CONNECTIONS", "1");
    let app = builder.start_through(|url| reroute(&url, address)).await;
    let (alice, other) = (app.alice(), app.another("acme", Role::Owner).await);
    let made = async |path: &str, body| alice.post(path, body).await.assert(201).json()["id"].clone();
    let supplier = made("/api/v1/suppliers", json!({ "name": "Works" })).await;
    let item = made("/api/v1/items", json!({ "sku": "R", "name": "Round" })).await;
    let price = json!({ "amount": "1.00", "currency": "EUR" });
    let line = json!({ "itemId": item, "quantity": 1, "unitPrice": price });
    let body = || json!({ "supplierId": supplier, "lines": [line, line, line] });
    let orders = "/api/v1/purchase-orders";
    for warm in [true, false] {
        let id = made(orders, body()).await;
        let path = format!("{orders}/{}", id.as_str().unwrap());
        let (approve, receive) = (format!("{path}/approve"), format!("{path}/receive"));
        alice.get(&path).await.assert(200);
        other.get(&path).await.assert(200);
        let costs = [
            proxy.trips_of(alice.post(orders, body())).await,
            proxy.trips_of(alice.get(&path)).await,
            proxy.trips_of(alice.put(&path, body())).await,
            proxy.trips_of(other.post(&approve, json!({}))).await,
            proxy.trips_of(alice.post(&receive, json!({}))).await,
        ];
        assert!(warm || costs == [1, 1, 2, 2, 4], "create, read, revise, approve, receive: {costs:?}");
        assert_eq!(alice.get(&path).await.json()["status"], "received");
    }
    app.finish().await;
}
