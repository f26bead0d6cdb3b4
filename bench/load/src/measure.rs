//! What is measured, one function for each part of `script/bench`.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::NoTls;
use tokio_postgres::config::Host;

use crate::client::{self, Connection, Load, Outcome};
use crate::contestant::{Contestant, Setup};
use crate::data::{self, Database};
use crate::delay;
use crate::process::{Redis, resident_mib, round_trip_to_redis};
use crate::report::{Bound, Report, Row, median};
use crate::request;
use crate::token::Signer;

const STARTS: usize = 10;
const SIGN_INS: usize = 100;
/// How long an idle process is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// How long, and how often.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub duration: Duration,
}

/// The point read, against both peers, and behind a delay.
pub async fn point(report: &mut Report, setup: &Setup, database: &Database, effort: Effort) -> Result<()> {
    let url = &database.runtime_url;
    let contestants =
        [setup.product(url).await?, setup.peer("bare", url).await?, setup.peer("usual", url).await?];
    let signer = Signer::new(&setup.secret);
    for contestant in &contestants[1..] {
        same_answers(&contestants[0], contestant, &signer).await?;
    }
    for connections in [16, 64] {
        let name = format!("point read, {connections} clients");
        let rounds = rounds(&contestants, connections, effort, 200, &|| request::point_reads(&signer)).await?;
        let [product, bare, usual] = &rounds[..] else { bail!("three contestants") };
        if connections == 16 {
            let cpu = ratios(product, bare, |outcome| outcome.cpu_ms_per_request);
            report.check(format!("{name}: server CPU / bare"), "×", &cpu, Bound::AtMost(1.25));
        }
        let speed = ratios(product, bare, |outcome| outcome.requests_per_second);
        report.check(format!("{name}: requests/s / bare"), "×", &speed, Bound::AtLeast(0.80));
        let speed = ratios(product, usual, |outcome| outcome.requests_per_second);
        report.check(format!("{name}: requests/s / usual"), "×", &speed, Bound::AtLeast(2.0));
        add_rows(report, &name, &contestants, &rounds);
    }
    delayed(report, setup, database, &contestants[0], &signer).await
}

/// An audited create against the same without its audit trigger, and against the usual stack, which writes an audit row by a
/// statement of its own into a table like ours. With a hundred tenants, and with one, whose writers all want its head.
pub async fn create(
    report: &mut Report,
    setup: &Setup,
    admin_url: &str,
    database: &Database,
    effort: Effort,
) -> Result<()> {
    let mut others = Vec::new();
    for name in ["bench_unaudited", "bench_usual"] {
        let other = data::migrated(admin_url, name, &setup.server).await?;
        data::fill(&other).await?;
        others.push(other);
    }
    let contestants = [
        setup.product(&database.runtime_url).await?,
        setup.product(&others[0].runtime_url).await?.named("unaudited"),
        setup.peer("usual", &others[1].runtime_url).await?,
    ];
    // The product does not start without it, and has started.
    for other in &others {
        data::stop_auditing(other).await?;
    }
    let signer = Signer::new(&setup.secret);
    for (tenants, least) in [(data::TENANTS, 0.75), (1, 0.40)] {
        let name = format!("create, 16 clients, {tenants} tenants");
        let rounds = rounds(&contestants, 16, effort, 201, &|| request::creates(&signer, tenants)).await?;
        let [audited, unaudited, usual] = &rounds[..] else { bail!("three contestants") };
        let speed = ratios(audited, unaudited, |outcome| outcome.requests_per_second);
        report.check(format!("{name}: requests/s / unaudited"), "×", &speed, Bound::AtLeast(least));
        if tenants > 1 {
            let speed = ratios(audited, usual, |outcome| outcome.requests_per_second);
            report.check(format!("{name}: requests/s / usual"), "×", &speed, Bound::AtLeast(1.3));
        }
        add_rows(report, &name, &contestants, &rounds);
    }
    Ok(())
}

/// How many round trips a read of one statement waits for.
async fn delayed(
    report: &mut Report,
    setup: &Setup,
    database: &Database,
    near: &Contestant,
    signer: &Signer,
) -> Result<()> {
    let url = delay::to_postgres(&database.runtime_url).await?;
    let delay = (round_trip(&url).await? - round_trip(&database.runtime_url).await?) * 1000.0;
    let far = setup.product(&url).await?;
    report_delays(report, "point read", [near, &far], delay, signer).await
}

/// How many delays, of so many milliseconds each, the second waits for more than the first.
async fn report_delays(
    report: &mut Report,
    what: &str,
    [near, far]: [&Contestant; 2],
    delay: f64,
    signer: &Signer,
) -> Result<()> {
    let mut values = Vec::new();
    for _ in 0..3 {
        values.push(later(near, far, signer).await? / delay);
    }
    let name = format!("{what} behind a delay of {} ms", delay::DELAY.as_millis());
    report.check(name, "delays", &values, Bound::AtMost(1.25));
    Ok(())
}

/// By how many milliseconds the second answers later, at the median.
async fn later(near: &Contestant, far: &Contestant, signer: &Signer) -> Result<f64> {
    let mut p50 = [0.0; 2];
    for (contestant, p50) in [near, far].into_iter().zip(&mut p50) {
        let requests = request::point_reads(signer)?;
        *p50 = client::run(&load(contestant, 1, Duration::from_millis(500), &requests)).await?.p50_ms;
    }
    Ok(p50[1] - p50[0])
}

/// How many round trips to Redis a request waits for when instances share their limits.
pub async fn limits(report: &mut Report, setup: &Setup, database: &Database) -> Result<()> {
    let redis = Redis::start().await?;
    let far = delay::to(Host::Tcp("127.0.0.1".to_owned()), redis.port).await?;
    let delay = round_trip_to_redis(far).await? - round_trip_to_redis(redis.port).await?;
    let with = async |port: u16| {
        let url = format!("redis://127.0.0.1:{port}/");
        setup.product_with(&database.runtime_url, &[("REDIS_URL", &url)]).await
    };
    let (near, far) = (with(redis.port).await?, with(far).await?);
    let signer = Signer::new(&setup.secret);
    report_delays(report, "point read, limits in Redis", [&near, &far], delay, &signer).await
}

/// The median time of a statement of one round trip, in seconds.
async fn round_trip(url: &str) -> Result<f64> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let mut seconds = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        client.batch_execute("select 1").await?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(&seconds))
}

/// `/ping` through the whole chain.
pub async fn ping(report: &mut Report, setup: &Setup, database: &Database, effort: Effort) -> Result<()> {
    let url = &database.runtime_url;
    let contestants =
        [setup.product(url).await?, setup.peer("bare-ping", url).await?, setup.peer("usual", url).await?];
    let rounds = rounds(&contestants, 16, effort, 200, &|| Ok(Rc::new(vec![request::get("/ping")]))).await?;
    let cpu = ratios(&rounds[0], &rounds[1], |outcome| outcome.cpu_ms_per_request);
    report.check("/ping, 16 clients: server CPU / bare", "×", &cpu, Bound::AtMost(2.5));
    add_rows(report, "/ping, 16 clients", &contestants, &rounds);
    Ok(())
}

/// From the start of the process to the first 200 of its readiness, the isolation proof included.
pub async fn start(report: &mut Report, setup: &Setup, database: &Database) -> Result<()> {
    let mut values = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let started = Instant::now();
        drop(setup.product(&database.runtime_url).await?);
        values.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    report.check("cold start to first 200", "ms", &values, Bound::Below(250.0));
    Ok(())
}

#[derive(Deserialize)]
struct Credential {
    tenant: String,
    email: String,
    password: String,
}

/// Resident memory of an idle process, before anybody has signed in and after a hundred have.
pub async fn memory(report: &mut Report, setup: &Setup, admin_url: &str, folder: &Path) -> Result<()> {
    let database = data::migrated(admin_url, "bench_memory", &setup.server).await?;
    let data_dir = folder.to_str().context("the temporary folder has a strange name")?;
    data::run(&setup.server, &["db", "seed"], &database, &[("DATA_DIR", data_dir)]).await?;
    let credentials: Vec<Credential> =
        serde_json::from_slice(&std::fs::read(folder.join("demo-credentials.json"))?)?;
    let product = setup.product(&database.runtime_url).await?;
    tokio::time::sleep(SETTLE).await;
    let before = resident_mib(product.pid)?;
    let mut connection = Connection::open(product.port).await?;
    for Credential { tenant, email, password } in credentials.iter().cycle().take(SIGN_INS) {
        let status = connection.exchange(&request::sign_in(tenant, email, password)).await?;
        ensure!(status == 200, "a sign-in was answered with {status}");
    }
    tokio::time::sleep(SETTLE).await;
    let after = resident_mib(product.pid)?;
    report.check("resident memory, idle, before a sign-in", "MiB", &[before], Bound::Below(24.0));
    let name = format!("resident memory, idle, after {SIGN_INS} sign-ins");
    report.check(name, "MiB", &[after], Bound::Below(48.0));
    Ok(())
}

/// One load for a profiler: the product alone.
pub async fn drive(product: &Contestant, setup: &Setup, what: &str, duration: Duration) -> Result<Outcome> {
    let signer = Signer::new(&setup.secret);
    let requests = match what {
        "ping" => Rc::new(vec![request::get("/ping")]),
        _ => request::point_reads(&signer)?,
    };
    client::run(&load(product, 16, duration, &requests)).await
}

fn load<'a>(
    contestant: &Contestant,
    connections: usize,
    duration: Duration,
    requests: &'a Rc<Vec<Vec<u8>>>,
) -> Load<'a> {
    Load { port: contestant.port, pid: contestant.pid, connections, duration, requests, status: 200 }
}

/// The contestants in turn, again and again: what each did in each round. A short round that nobody counts comes first.
async fn rounds(
    contestants: &[Contestant],
    connections: usize,
    effort: Effort,
    status: u16,
    requests: &dyn Fn() -> Result<Rc<Vec<Vec<u8>>>>,
) -> Result<Vec<Vec<Outcome>>> {
    let mut outcomes: Vec<Vec<Outcome>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..=effort.rounds {
        let warm_up = round == 0;
        let duration = if warm_up { Duration::from_millis(500) } else { effort.duration };
        let fresh = requests()?;
        for (contestant, outcomes) in contestants.iter().zip(&mut outcomes) {
            let outcome = client::run(&Load { status, ..load(contestant, connections, duration, &fresh) })
                .await
                .with_context(|| contestant.name)?;
            if !warm_up {
                outcomes.push(outcome);
            }
        }
    }
    Ok(outcomes)
}

/// Ours over theirs, round by round.
fn ratios(ours: &[Outcome], theirs: &[Outcome], value: fn(&Outcome) -> f64) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)).collect()
}

fn add_rows(report: &mut Report, load: &str, contestants: &[Contestant], rounds: &[Vec<Outcome>]) {
    for (contestant, outcomes) in contestants.iter().zip(rounds) {
        let middle = |value: fn(&Outcome) -> f64| median(&outcomes.iter().map(value).collect::<Vec<_>>());
        report.rows.push(Row {
            load: load.to_owned(),
            contestant: contestant.name,
            requests_per_second: middle(|outcome| outcome.requests_per_second),
            p50_ms: middle(|outcome| outcome.p50_ms),
            p99_ms: middle(|outcome| outcome.p99_ms),
            cpu_ms_per_request: middle(|outcome| outcome.cpu_ms_per_request),
        });
    }
}

/// A comparison is worth nothing unless both do the work: the same item, and 404 for another tenant's, 401 for a
/// stranger.
async fn same_answers(product: &Contestant, peer: &Contestant, signer: &Signer) -> Result<()> {
    let token = signer.sign(data::tenant(7), data::user(7, 1))?;
    let item = |tenant, number| request::read_item(&token, data::item(tenant, number));
    let path = format!("/api/v1/items/{}", data::item(7, 1));
    let mut answers = Vec::new();
    for contestant in [product, peer] {
        let mut connection = Connection::open(contestant.port).await?;
        let (status, body) = connection.fetch(&item(7, 42)).await?;
        ensure!(status == 200, "{} answers its own item with {status}", contestant.name);
        let body: Value = serde_json::from_slice(&body)?;
        let (theirs, _) = connection.fetch(&item(8, 42)).await?;
        ensure!(theirs == 404, "{} answers another tenant's item with {theirs}", contestant.name);
        let (stranger, _) = connection.fetch(&request::get(&path)).await?;
        ensure!(stranger == 401, "{} answers a stranger with {stranger}", contestant.name);
        answers.push(body);
    }
    ensure!(answers[0] == answers[1], "{} answers otherwise: {} / {}", peer.name, answers[0], answers[1]);
    Ok(())
}
