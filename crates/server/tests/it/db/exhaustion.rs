//! A pool that is used up: who comes too late is told so in time, and nothing is left behind (S-06).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erp_testkit::TestApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stress::{CREATE, Dice, READ, READ_IN_STEPS, STEPS, Tenant, make_tenants, request};
use crate::deep;

const POOL: usize = 4;
const EXCESS: usize = 40;
const ACQUIRE: Duration = Duration::from_secs(1);
/// What an answer may take beyond the acquire timeout on a busy machine.
const MARGIN: Duration = Duration::from_millis(600);

async fn count(app: &TestApp, condition: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and usename = 'erp_app' and {condition}"
    );
    app.sql().query_one(&sql, &[]).await.unwrap().get(0)
}

async fn start() -> TestApp {
    let app = TestApp::builder().module(&STEPS).setting("DATABASE_MAX_CONNECTIONS", &POOL.to_string());
    app.setting("DATABASE_ACQUIRE_TIMEOUT", "1s").setting("LOG_LEVEL", "warn").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_06_stress_an_exhausted_pool_refuses_in_time_and_recovers() {
    let app = start().await;
    app.expect_errors();
    let lock = app.database().superuser().await;
    lock.batch_execute("begin; lock table items in access exclusive mode").await.unwrap();
    let (alice, bob) = (app.alice(), app.bob());
    let blocked = futures_util::future::join_all((0..POOL).map(|_| alice.get("/api/v1/items")));
    let scene = async {
        while count(&app, "wait_event_type = 'Lock'").await < POOL as i64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let late = (0..EXCESS).map(|_| async {
            let begun = Instant::now();
            (bob.get("/api/v1/items").await, begun.elapsed())
        });
        let late = futures_util::future::join_all(late).await;
        lock.batch_execute("commit").await.unwrap();
        late
    };
    let (served, late) = tokio::join!(blocked, scene);
    for (answer, took) in &late {
        answer.clone().assert(503).problem("core.overloaded");
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0), "{answer}");
        assert!(*took < ACQUIRE + MARGIN, "{took:?}");
    }
    for answer in served {
        answer.assert(200);
    }
    let slowest = late.iter().map(|(_, took)| *took).max().unwrap();
    println!(
        "deep: S-06: pool of {POOL} locked: {EXCESS} requests answered 503, the slowest after {slowest:.2?}"
    );
    for answer in futures_util::future::join_all((0..EXCESS).map(|_| bob.get("/api/v1/items"))).await {
        answer.assert(200);
    }
    assert_eq!(count(&app, "state like 'idle in transaction%'").await, 0);
    app.finish().await;
}

/// Begins requests and leaves them at random points.
async fn leave(address: std::net::SocketAddr, tenants: Arc<Vec<Tenant>>, left: Arc<AtomicU64>, seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let tenant = &tenants[dice.pick(tenants.len())];
        let what = [READ, READ_IN_STEPS, CREATE][dice.pick(3)];
        let request = request(tenant, what, &mut dice);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let part = if dice.roll(4) == 0 { dice.pick(request.len()) } else { request.len() };
        stream.write_all(&request[..part]).await.unwrap();
        match dice.roll(8) {
            0 => drop(tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 16])).await),
            _ => tokio::time::sleep(Duration::from_micros(dice.roll(40_000))).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_06_stress_clients_that_abort_leak_no_connection() {
    let app = start().await;
    app.expect_errors(); // a pool of four may well refuse some
    let tenants = Arc::new(make_tenants(&app).await);
    let aborts = if deep() { 10_000 } else { 1_000 };
    let (left, begun) = (Arc::new(AtomicU64::new(aborts)), Instant::now());
    let clients = (1..=32_u64)
        .map(|seed| tokio::spawn(leave(app.address(), Arc::clone(&tenants), Arc::clone(&left), seed)));
    for client in futures_util::future::join_all(clients).await {
        client.unwrap();
    }
    let took = begun.elapsed();
    // Whatever the server still works on comes to its end.
    let deadline = Instant::now() + Duration::from_secs(5);
    while count(&app, "state <> 'idle'").await > 0 {
        assert!(Instant::now() < deadline, "a connection is still busy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let idle_in_transaction = count(&app, "state like 'idle in transaction%'").await;
    let open = count(&app, "true").await;
    println!(
        "deep: S-06: {aborts} aborts of 32 clients in {:.1} s: {idle_in_transaction} connections idle in transaction, \
         {open} open with a pool of {POOL}",
        took.as_secs_f64()
    );
    assert_eq!(idle_in_transaction, 0);
    assert!(open <= POOL as i64 + 1, "{open} connections: the pool's and the monitor's");
    for answer in futures_util::future::join_all(
        (0..POOL * 2).map(|_| async { app.alice().get("/api/v1/items").await }),
    )
    .await
    {
        answer.assert(200);
    }
    app.finish().await;
}
