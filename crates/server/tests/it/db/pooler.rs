//! Behind PgBouncer in transaction mode, where each transaction may run on another connection of the server (T-05).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erp_core::db::Owner;
use erp_core::lifecycle::Exit;
use erp_testkit::{Pooler, TestApp};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::stress::{
    CLIENTS, CREATE, Dice, READ, READ_IN_STEPS, STEPS, TENANTS, Tally, Tenant, answer, foreign, make_tenants,
    request,
};
use crate::deep;

/// Reads for random tenants, now and then writes, and now and then hangs up, until `reads` are used up.
async fn client(
    address: std::net::SocketAddr,
    tenants: Arc<Vec<Tenant>>,
    reads: Arc<AtomicU64>,
    seed: u64,
) -> (Tally, u64) {
    let (mut dice, mut tally, mut created) =
        (Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)), Tally::default(), 0);
    let mut stream = TcpStream::connect(address).await.unwrap();
    while reads.load(Ordering::Relaxed) > 0 {
        let tenant = &tenants[dice.pick(TENANTS)];
        let (what, hangs_up) = match dice.roll(40) {
            0 => (READ_IN_STEPS, true),
            1 => (READ_IN_STEPS, false),
            2 => (READ, true),
            3 | 4 => (CREATE, false),
            _ => (READ, false),
        };
        stream.write_all(&request(tenant, what, &mut dice)).await.unwrap();
        if hangs_up {
            tokio::time::sleep(Duration::from_micros(dice.roll(50_000))).await;
            stream = TcpStream::connect(address).await.unwrap();
            tally.left += 1;
            continue;
        }
        let (status, body) = answer(&mut stream).await;
        assert!(matches!(status, 200 | 201), "{status}: {body}");
        tally.foreign += foreign(tenant, &body);
        if what == CREATE {
            created += 1;
        } else {
            tally.complete += 1;
            let _ = reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        }
    }
    (tally, created)
}

#[tokio::test]
async fn a_migration_through_a_pooler_in_transaction_mode_is_refused_and_leaves_no_lock() {
    if !Pooler::is_installed("the lock of migrations") {
        return;
    }
    let app = TestApp::start().await;
    let (_pooler, url) = Pooler::start(&app.database().roles.owner_url);
    let tasks = TaskTracker::new();
    let refused = Owner::connect(&url.parse().unwrap(), &tasks).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.exit, Exit::Configuration);
    assert!(refused.to_string().contains("pooler in transaction mode"), "{refused}");
    // A session of the server's own is taken, as often as one asks.
    for _ in 0..3 {
        Owner::connect(&app.database().roles.owner_url.parse().unwrap(), &tasks).await.map(|_| ()).unwrap();
    }
    let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
        where l.locktype = 'advisory' and d.datname = current_database()";
    assert_eq!(app.sql().query_one(locks, &[]).await.unwrap().get::<_, i64>(0), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_05_stress_behind_pgbouncer_no_tenant_sees_another() {
    if !Pooler::is_installed("T-05") {
        return;
    }
    let app = TestApp::builder().module(&STEPS).pooled().setting("DATABASE_MAX_CONNECTIONS", "16");
    let app = app.setting("LOG_LEVEL", "warn").start().await;
    let tenants = Arc::new(make_tenants(&app).await);
    let (wanted, begun) = (if deep() { 50_000 } else { 3_000 }, Instant::now());
    let reads = Arc::new(AtomicU64::new(wanted));
    let clients = (1..=CLIENTS)
        .map(|seed| tokio::spawn(client(app.address(), Arc::clone(&tenants), Arc::clone(&reads), seed)));
    let (mut total, mut created) = (Tally::default(), 0);
    for outcome in futures_util::future::join_all(clients).await {
        let (tally, wrote) = outcome.unwrap();
        total.complete += tally.complete;
        total.left += tally.left;
        total.foreign += tally.foreign;
        created += wrote;
    }
    println!(
        "deep: T-05: {} reads, {created} writes and {} hang-ups of {CLIENTS} clients for {TENANTS} tenants through \
         a pool of 2 in {:.1} s: {} foreign rows",
        total.complete,
        total.left,
        begun.elapsed().as_secs_f64(),
        total.foreign
    );
    assert_eq!(total.foreign, 0, "foreign rows");
    assert!(total.complete >= wanted && created > 50 && total.left > 50);
    let said = app.log().text() + &app.pooler().unwrap().log();
    assert!(!said.contains("prepared statement"), "{said}");

    // Every row is where it belongs, and has its audit row.
    let of_stress = "from items i join tenants t on t.id = i.tenant_id where t.slug like 'stress%'";
    let count = async |sql: &str| app.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let rows = count(&format!("select count(*) {of_stress}")).await;
    assert_eq!(rows, i64::try_from(created).unwrap() + 5 * i64::try_from(TENANTS).unwrap());
    assert_eq!(count(&format!("select count(*) {of_stress} and i.name <> t.slug")).await, 0);
    let unaudited = format!(
        "select count(*) {of_stress} and not exists (select from audit_log l where l.tenant_id = i.tenant_id \
         and l.action = 'item.created' and l.after ->> 'sku' = i.sku)"
    );
    assert_eq!(count(&unaudited).await, 0);
    app.finish().await;
}

#[tokio::test]
async fn t_05_behind_pgbouncer_everything_works() {
    if !Pooler::is_installed("T-05") {
        return;
    }
    let app = TestApp::builder().pooled().setting("DATABASE_TIMEOUT", "700ms").start().await;
    let alice = app.alice();
    let item = alice.post("/api/v1/items", json!({ "sku": "P-1", "name": "A" })).await.assert(201).json();
    let path = format!("/api/v1/items/{}", item["id"].as_str().unwrap());
    for name in ["B", "C"] {
        alice.patch(&path, json!({ "name": name })).await.assert(200);
    }
    alice.post("/api/v1/items", json!({ "sku": "P-1", "name": "A" })).await.assert(409);
    app.bob().get(&path).await.assert(404);
    let acme = app.person("acme", erp_core::auth::Role::Owner).credential.clone();
    let login = json!({ "tenant": acme.tenant, "email": acme.email, "password": acme.password });
    app.anonymous().post("/api/v1/auth/login", login).await.assert(200);
    alice.delete(&path).await.assert(204);
    let audited = app.audit_of("acme").await;
    let of_item = |action: &str| {
        audited.iter().filter(|row| row["action"] == action && row["resource_id"] == item["id"]).count()
    };
    assert_eq!((of_item("item.created"), of_item("item.updated"), of_item("item.deleted")), (1, 2, 1));

    // The bound of a statement holds, though no startup parameter could set it.
    let lock = app.database().superuser().await;
    lock.batch_execute("begin; lock table items in access exclusive mode").await.unwrap();
    app.expect_errors();
    let begun = Instant::now();
    let answer = alice.get("/api/v1/items").await;
    assert!(answer.status.is_server_error() && begun.elapsed() < Duration::from_secs(5), "{answer}");
    lock.batch_execute("rollback").await.unwrap();
    alice.get("/api/v1/items").await.assert(200);
    app.finish().await;
}
