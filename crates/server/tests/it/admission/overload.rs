//! More than can be worked on, and bodies that come too slowly or never end.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::Result;
use erp_core::module::{Access, Module, Routes};
use erp_testkit::TestApp;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
/// What four connections to the database can do, when each request keeps one busy for 50 ms.
const CAPACITY: u32 = 80;
const SOON: Duration = Duration::from_millis(100);

static SLOW: Module = Module { name: "slow", routes, ..Module::BARE };

fn routes() -> Routes {
    Routes::new().get("/test/slow", Access::SignedIn, slow)
}

async fn slow(State(app): State<App>, caller: Caller) -> Result<&'static str> {
    let _: Vec<()> = app.db.tenant_read(&caller).last().rows("select pg_sleep(0.05)", &[]).await?;
    Ok("slept")
}

/// What became of the requests of one stretch of time.
#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    shed: AtomicUsize,
    /// Refusals that took long.
    late: AtomicUsize,
    /// After how many seconds those refused were told to come back.
    waits: Mutex<BTreeSet<u32>>,
}

/// Sends requests at a fixed rate, whatever becomes of them.
async fn drive(app: &TestApp, rate: u32, stretch: Duration) -> Tally {
    let (tally, alice, start) = (Tally::default(), app.alice(), Instant::now());
    let count = rate * u32::try_from(stretch.as_millis()).unwrap() / 1000;
    let one = |number: u32| {
        let (tally, alice) = (&tally, &alice);
        async move {
            sleep_until(start + Duration::from_secs(1) / rate * number).await;
            let begin = Instant::now();
            let answer = alice.get("/test/slow").await;
            if answer.status == 200 {
                tally.served.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let answer = answer.assert(503);
            answer.problem("core.overloaded");
            let wait = answer.header("retry-after").parse().unwrap();
            assert!((1..=4).contains(&wait), "{answer}");
            tally.waits.lock().unwrap().insert(wait);
            tally.shed.fetch_add(1, Ordering::Relaxed);
            if begin.elapsed() > SOON {
                tally.late.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    join_all((0..count).map(one)).await;
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_08_stress_at_three_times_the_capacity_the_rest_is_refused_at_once() {
    let app = TestApp::builder()
        .module(&SLOW)
        .setting("DATABASE_MAX_CONNECTIONS", "4")
        .setting("DATABASE_TENANT_MAX_CONNECTIONS", "4")
        .setting("MAX_CONCURRENT_REQUESTS", "16")
        .start()
        .await;
    app.expect_errors();
    let stretch = Duration::from_secs(2);
    let alone = drive(&app, CAPACITY * 3 / 4, stretch).await.served.into_inner();
    let peak = alone * 4 / 3;
    let done = std::cell::Cell::new(false);
    let overload = async {
        let tally = drive(&app, CAPACITY * 3, stretch).await;
        done.set(true);
        tally
    };
    let watch = async {
        let mut slowest = Duration::ZERO;
        while !done.get() {
            for path in ["/livez", "/readyz", "/metrics"] {
                let begin = Instant::now();
                app.anonymous().get(path).await.assert(200);
                slowest = slowest.max(begin.elapsed());
            }
            sleep(Duration::from_millis(50)).await; // a prober's pace
        }
        slowest
    };
    let (tally, slowest) = tokio::join!(overload, watch);
    let (served, shed, late) = (tally.served.into_inner(), tally.shed.into_inner(), tally.late.into_inner());
    println!(
        "deep: S-08: peak {peak}, at three times it {served} served and {shed} refused, {late} of those late; slowest probe {slowest:?}"
    );
    // On a machine of its own; what else runs beside the tests takes its share.
    let (tenths, soon) = if crate::deep() { (8, SOON) } else { (5, SOON * 5) };
    assert!(served * 10 >= peak * tenths, "{served} of {peak}: goodput fell");
    assert!(shed > 0 && late * 20 <= shed, "{late} of {shed} refusals came late");
    let waits = tally.waits.into_inner().unwrap();
    assert!(waits.len() > 1, "all {shed} are to come back together, after {waits:?}");
    assert!(slowest < soon, "{slowest:?}");
    let shed_total = app.anonymous().get("/metrics").await.text().to_owned();
    assert!(shed_total.contains(&format!("http_requests_shed_total {shed}")));
    app.alice().get("/test/slow").await.assert(200);
    app.finish().await;
}

/// Sends a head and what of the body there is; the answer, and how long it took until the server closed.
async fn send(app: &TestApp, head: &str, body: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let begin = Instant::now();
    let token = app.alice().token().to_owned();
    let head = format!(
        "POST /api/v1/items HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
                        content-type: application/json\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut text = Vec::new();
    let sent = async {
        let _ = writer.write_all(body).await; // the server may have had enough
    };
    let received = timeout(PATIENCE, reader.read_to_end(&mut text));
    let _ = tokio::join!(sent, received);
    (String::from_utf8_lossy(&text).into_owned(), begin.elapsed())
}

#[tokio::test]
async fn d_02_a_body_that_does_not_come_is_408_and_the_connection_ends() {
    let app = TestApp::builder().setting("BODY_TIMEOUT", "300ms").start().await;
    let before = app.audit_of("acme").await.len();
    for head in ["content-length: 1000", "transfer-encoding: chunked"] {
        let (answer, took) = send(&app, head, b"5\r\n{\"sk").await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("core.request_timeout"), "{answer}");
        assert!(answer.contains("connection: close") && took < PATIENCE / 2, "{took:?}: {answer}");
    }
    assert_eq!(app.audit_of("acme").await.len(), before, "nothing was made of it");
    app.finish().await;
}

#[tokio::test]
async fn d_03_a_body_without_a_length_is_cut_at_the_limit() {
    let app = TestApp::start().await;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let (answer, _) = send(&app, "transfer-encoding: chunked", &chunk.repeat(64)).await; // 4 MiB, and no end
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Whether the answer outruns the reset is the network's business; that the server has stopped reading is ours.
    let seen = app.log().with_message("POST /api/v1/items 413");
    assert_eq!(seen.len(), 1, "{seen:?}");
    app.finish().await;
}

/// Sends heads whose bodies do not come, and waits until so many of them are refused.
async fn hold(app: &TestApp, path: &str, head: &str, count: usize, refused: usize) -> Vec<TcpStream> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\n{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let (deadline, line) = (Instant::now() + PATIENCE, format!("POST {path} 503"));
    while app.log().with_message(&line).len() < refused {
        assert!(Instant::now() < deadline, "{path}: {:?}", app.log().with_message(&line));
        sleep(Duration::from_millis(10)).await;
    }
    held
}

/// Clients whose bodies do not come hold places: strangers of one address an eighth of them, and the members of one
/// tenant three quarters. The others have the rest.
#[tokio::test]
async fn s_08_slow_bodies_of_some_leave_places_to_others() {
    let app = TestApp::builder().setting("MAX_CONCURRENT_REQUESTS", "16").start().await;
    app.expect_errors();
    let (alice, bob) = (app.alice(), app.bob());
    let token = format!("authorization: Bearer {}\r\n", alice.token());
    let strangers = hold(&app, "/api/v1/auth/login", "", 16, 14).await;
    let members = hold(&app, "/api/v1/items", &token, 16, 4).await;
    alice.get("/api/v1/items").await.assert(503).problem("core.overloaded");
    bob.get("/api/v1/items").await.assert(200);
    drop((strangers, members));
    app.finish().await;
}
