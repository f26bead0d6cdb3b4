//! Streams: each row reaches the receiver at least once, however often that dies, and has the same id each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erp_testkit::TestApp;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fill;
use crate::deep;

/// How often each id has come.
type Received = Arc<Mutex<BTreeMap<String, u32>>>;

/// A receiver that can be killed: what it has read and not noted yet is lost with it.
struct Receiver {
    received: Received,
    address: std::net::SocketAddr,
    running: JoinHandle<()>,
}

impl Receiver {
    async fn start(address: &str, received: &Received) -> Self {
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await, // the one before has not let it go yet
            }
        };
        let (address, noted) = (listener.local_addr().unwrap(), Arc::clone(received));
        let running = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(note(stream, Arc::clone(&noted)));
            }
        });
        Self { received: Arc::clone(received), address, running }
    }

    async fn kill(self) -> std::net::SocketAddr {
        self.running.abort();
        let _ = self.running.await;
        self.address
    }

    /// How many rows of a tenant have come.
    fn rows_of(&self, tenant: &str) -> usize {
        self.received.lock().unwrap().keys().filter(|id| id.starts_with(tenant)).count()
    }
}

/// Notes the ids of messages that are framed by octet counting, a while after they were read.
async fn note(mut stream: TcpStream, received: Received) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        tokio::time::sleep(Duration::from_millis(3)).await; // who is killed here has read and not noted
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length: usize =
                std::str::from_utf8(&bytes[..space]).unwrap().parse().expect("octet counting");
            if bytes.len() < space + 1 + length {
                break;
            }
            let message = String::from_utf8(bytes[space + 1..space + 1 + length].to_vec()).unwrap();
            let id =
                message.split("[audit@32473 id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            *received.lock().unwrap().entry(id.to_owned()).or_default() += 1;
            bytes.drain(..space + 1 + length);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stress_a_receiver_that_is_killed_again_and_again_loses_nothing() {
    let kills = if deep() { 50 } else { 6 };
    let received = Received::default();
    let mut receiver = Receiver::start("127.0.0.1:0", &received).await;
    let url = format!("syslog://{}", receiver.address);
    let app = TestApp::builder().setting("AUDIT_STREAM_URL", &url).start().await;
    let mut last = 200;
    for nth in 0..kills {
        fill(&app, last).await;
        app.seal_audit().await;
        tokio::time::sleep(Duration::from_millis(400 * (nth % 5))).await; // sometimes before it was asked, sometimes within the time
        let address = receiver.kill().await;
        receiver = Receiver::start(&address.to_string(), &received).await;
        last += 200;
    }
    fill(&app, last).await;
    app.seal_audit().await;
    let (acme, globex) = (app.tenant_id("acme").to_string(), app.tenant_id("globex").to_string());
    let sealed = "select (first_seq + size - 2)::int8 from audit_logs where is_open and tenant_id = $1";
    let sealed = async |tenant: &str| -> i64 {
        app.sql().query_one(sealed, &[&app.tenant_id(tenant)]).await.unwrap().get(0)
    };
    let wanted = (sealed("acme").await as usize, sealed("globex").await as usize);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while (receiver.rows_of(&acme), receiver.rows_of(&globex)) != wanted {
        let come = (receiver.rows_of(&acme), receiver.rows_of(&globex));
        assert!(std::time::Instant::now() < until, "{come:?} of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let twice = received.lock().unwrap().values().filter(|times| **times > 1).count();
    println!("{kills} kills: {} rows, {twice} of them more than once", wanted.0);
    assert!(twice > 0, "what did not count as received came again");
    app.finish().await;
}
