//! What the queue of jobs can do, with PostgreSQL on the same machine: `script/bench jobs`. With `kills`, what becomes of its
//! jobs while workers are killed: `script/check-deep kills`.
//!
//! Each measure has a database of its own, and processes of its own where it says so: this program again, with `work`.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use erp_core::answer::NoContent;
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::db::{Migration, Sample};
use erp_core::error::Result;
use erp_core::extract::Json;
use erp_core::input;
use erp_core::jobs::JobKind;
use erp_core::middleware::Peer;
use erp_core::module::{Access, Module, Operation, Product, Routes};
use erp_core::resource::Call;
use erp_modules::PRODUCT;
use erp_testkit::Database;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
const LIMIT: Duration = Duration::from_secs(180);

static BENCH: Module = Module {
    name: "bench",
    routes,
    jobs: &[&NOTHING, &SLEEP, &STAMP, &MARK],
    migrations: &[Migration { name: "0001_marks", sql: MARKS, after: &[], was: &[] }],
    samples: &[Sample {
        table: "marks",
        insert: "insert into public.marks (job) values (gen_random_uuid())",
    }],
    ..Module::BARE
};
const MARKS: &str =
    "create table public.marks (id uuid not null default gen_random_uuid(), job uuid not null);
    select app.tenant_table('public.marks', audit_as => 'mark');";
static MODULES: [&Module; 5] =
    [PRODUCT.modules[0], PRODUCT.modules[1], PRODUCT.modules[2], PRODUCT.modules[3], &BENCH];
static MEASURED: Product = Product { modules: &MODULES, ..PRODUCT };

static NOTHING: JobKind<Value> =
    JobKind::new("bench.nothing", "Does nothing.", |_, _| Box::pin(async { Ok(()) }));
static SLEEP: JobKind<Value> = JobKind::new("bench.sleep", "Takes 20 ms.", |_, _| {
    Box::pin(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    })
});
/// Says how long it waited between its commit, whose time it carries, and its start.
static STAMP: JobKind<Value> = JobKind::new("bench.stamp", "Tells how long it has waited.", |job, sent| {
    Box::pin(async move {
        let now = job.call.now().as_microsecond();
        job.result(&(now - sent.as_i64().unwrap_or(now)))
    })
});

/// Changes something, in two steps: a job whose worker is killed between them goes on with the second.
static MARK: JobKind<Value> = JobKind::<Value>::new("bench.mark", "Leaves two marks.", |job, _| {
    Box::pin(async move {
        let begun: u32 = job.kept()?.unwrap_or(0);
        for step in begun..2 {
            let id = *job.id().as_uuid();
            let _: Vec<()> =
                job.call.tenant().last().rows("insert into marks (job) values ($1)", &[&id]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if step == 0 {
                job.keep(&1).await?;
            }
        }
        Ok(())
    })
})
.attempts(1000);

fn routes() -> Routes {
    Routes::new()
        .post("/bench/enqueue", Access::SignedIn, enqueue)
        .doc(Operation::new("benchEnqueue", "Enqueue jobs, each in a transaction of its own"))
        .open_to_readers("it is the benchmark's")
}

input! { Load { count: i64, at_a_time: i64 } }

/// Each in a transaction of its own, so many at a time.
async fn enqueue(call: Call, Json(load): Json<Load>) -> Result<NoContent> {
    let left = AtomicU32::new(u32::try_from(load.count).unwrap_or(0));
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let one = async || {
        while take() {
            let mut tx = call.tenant();
            let now = json!(call.now().as_microsecond());
            call.enqueue(&mut tx, &STAMP, &now)?;
            tx.commit().await?;
        }
        Ok(())
    };
    let all = futures_util::future::join_all((0..load.at_a_time).map(|_| one())).await;
    all.into_iter().collect::<Result<Vec<()>>>().map(|_| NoContent)
}

/// What was measured, and what it is to be.
struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    bound: f64,
    at_least: bool,
}

impl Row {
    fn passed(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("work") => return work(arguments.get(1).cloned().unwrap_or_default()).await,
        Some("kills") => return kills().await,
        _ => {}
    }
    let named = arguments.iter().filter(|argument| *argument != "--json").collect::<Vec<_>>();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|given| *given == name);
    let mut rows = Vec::new();
    if wanted("burn-down") {
        rows.push(burn_down().await?);
    }
    if wanted("one-by-one") {
        rows.extend(one_by_one().await?);
    }
    if wanted("newcomer") {
        rows.extend(newcomer().await?);
    }
    if wanted("processes") {
        rows.push(many_processes().await?);
    }
    print(&rows, arguments.iter().any(|argument| argument == "--json"))?;
    if rows.iter().all(Row::passed) { Ok(()) } else { Err(io::Error::other("a bound was missed")) }
}

fn print(rows: &[Row], as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let row = |row: &Row| json!({"name": row.name, "value": row.value, "unit": row.unit, "bound": row.bound, "passed": row.passed()});
        return writeln!(out, "{:#}", Value::from(rows.iter().map(row).collect::<Vec<_>>()));
    }
    for row in rows {
        let (sign, verdict) =
            (if row.at_least { "≥" } else { "≤" }, if row.passed() { "PASS" } else { "FAIL" });
        writeln!(out, "{:<52} {:>10.1} {:<7} {verdict} {sign} {}", row.name, row.value, row.unit, row.bound)?;
    }
    Ok(())
}

/// A process that works until its standard input ends.
async fn work(settings: String) -> io::Result<()> {
    let settings: Vec<(String, String)> = serde_json::from_str(&settings).map_err(io::Error::other)?;
    let context = start(settings).await?;
    let mut end = String::new();
    tokio::task::spawn_blocking(move || io::stdin().read_line(&mut end))
        .await
        .map_err(io::Error::other)??;
    context.shut_down(false).await;
    Ok(())
}

fn settings(database: &Database, workers: u32) -> Vec<(String, String)> {
    let rows = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", database.roles.system_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("LOG_FILE", "/dev/null"),
        ("REQUEST_TIMEOUT", "10m"),
        ("JOB_BACKLOG", "10000000"),
        ("RATE_LIMIT_MAX", "1000000"),
        ("SPEED_LIMIT_STEP", "0"),
        ("SHUTDOWN_DRAIN_DELAY", "0s"),
    ];
    let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    rows.chain([("JOB_WORKERS".to_owned(), workers.to_string())]).collect()
}

/// One log is all that a process may install.
static LOGGING: Mutex<Option<erp_core::logging::Logging>> = Mutex::new(None);

async fn start(settings: Vec<(String, String)>) -> io::Result<Context> {
    let held = LOGGING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let logging = held.map_or(LogSetup::Install { terminal: false }, LogSetup::Given);
    let layers = Layers::from(MapSource::environment(
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    ));
    let options = BootstrapOptions::new(logging, std::ffi::OsString::new());
    let context = bootstrap(&MEASURED, &layers, options).await.map_err(io::Error::other)?;
    *LOGGING.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.edge.app.logging.clone());
    Ok(context)
}

/// Asks the process to enqueue.
async fn ask(context: &Context, database: &Database, count: u32, at_a_time: u32) -> io::Result<()> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?;
    let issued = context.edge.app.authenticator.issue(person.tenant_id, person.user_id);
    let token = issued.map_err(io::Error::other)?.access_token;
    let body = json!({"count": count, "atATime": at_a_time}).to_string();
    let request = Request::post("/bench/enqueue")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-forwarded-proto", "https")
        .body(Body::from(body))
        .map_err(io::Error::other)?;
    let response = Arc::clone(&context.edge).handle(PEER, request).await;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{}", response.status())))
    }
}

/// Jobs that are there already, of `tenants` tenants. They are for the owner of the first demo tenant's permissions, so
/// that there is somebody on whose behalf they run.
async fn fill(root: &Client, database: &Database, kind: &str, tenants: u32, each: u32) -> io::Result<()> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?.user_id;
    let sql = format!(
        "insert into tenants (id, slug) select gen_random_uuid(), 'bench-' || n from generate_series(1, {tenants}) n;
         insert into memberships (tenant_id, user_id)
           select t.id, '{person}'::uuid from tenants t where t.slug like 'bench-%';
         insert into grants (tenant_id, id, principal_id, built_in)
           select t.id, gen_random_uuid(), '{person}'::uuid, 'owner' from tenants t where t.slug like 'bench-%';
         insert into job_ready (tenant_id, id, kind, priority, attempt, attempts, principal, origin, args, enqueued_at)
           select t.id, gen_random_uuid(), '{kind}', 1, 0, 1000, '{person}'::uuid, 'bench', 'null', now()
           from generate_series(1, {each}) n, tenants t where t.slug like 'bench-%';"
    );
    // The tenants with their triggers, which make the heads of their audit logs; the rest, which is much, without.
    let (tenants, rest) = sql.split_once(';').unwrap_or((&sql, ""));
    let sql = format!(
        "{tenants}; set session_replication_role = replica; {rest} set session_replication_role = default; analyze;"
    );
    root.batch_execute(&sql).await.map_err(io::Error::other)
}

async fn number(root: &Client, sql: &str) -> io::Result<f64> {
    let row = root.query_one(sql, &[]).await.map_err(io::Error::other)?;
    Ok(row.get::<_, Option<f64>>(0).unwrap_or(f64::NAN))
}

/// Waits until so many jobs are done.
async fn done(root: &Client, count: u32) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while number(root, "select count(*)::float8 from job_done").await? < f64::from(count) {
        if Instant::now() > deadline {
            return Err(io::Error::other("the jobs have not come to an end"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Kills workers a hundred times, and counts what each job has left: two marks and two audit rows, each once.
async fn kills() -> io::Result<()> {
    let (kills, jobs) = (100, 20_000);
    let database = Database::create(&MEASURED).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.mark", 20, jobs / 20).await?;
    let mut children: Vec<Child> = (0..4).map(|_| child(&database)).collect::<io::Result<_>>()?;
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let one = &mut children[kill % 4];
        one.kill().await?; // SIGKILL
        *one = child(&database)?;
    }
    done(&root, jobs).await?;
    let wrong = "select count(*)::float8 from (select job from marks group by job having count(*) <> 2) m";
    let (wrong, marks) =
        (number(&root, wrong).await?, number(&root, "select count(distinct job)::float8 from marks").await?);
    let audited =
        number(&root, "select count(*)::float8 from audit_log where action = 'mark.created'").await?;
    let again = number(&root, "select sum(attempt - 1)::float8 from job_done").await?;
    for mut child in children {
        drop(child.stdin.take());
        child.wait().await?;
    }
    database.remove();
    writeln!(
        io::stdout(),
        "{kills} kills, {jobs} jobs, {again} attempts more, {marks} jobs with marks, {wrong} with other than two, \
         {audited} audit rows"
    )?;
    let right = wrong == 0.0 && marks == f64::from(jobs) && audited == 2.0 * f64::from(jobs);
    if right { Ok(()) } else { Err(io::Error::other("not every job had its effect once")) }
}

async fn burn_down() -> io::Result<Row> {
    let count = 100_000;
    let database = Database::create(&MEASURED).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.nothing", 20, count / 20).await?;
    let begun = Instant::now();
    let context = start(settings(&database, 10)).await?;
    done(&root, count).await?;
    let took = begun.elapsed().as_secs_f64();
    context.shut_down(false).await;
    database.remove();
    Ok(Row {
        name: "no-ops that were there, one process",
        value: f64::from(count) / took,
        unit: "jobs/s",
        bound: 10_000.0,
        at_least: true,
    })
}

async fn one_by_one() -> io::Result<[Row; 2]> {
    let count = 20_000;
    let database = Database::create(&MEASURED).await;
    let root = database.superuser().await;
    let context = start(settings(&database, 10)).await?;
    ask(&context, &database, 500, 8).await?;
    done(&root, 500).await?;
    let begun = Instant::now();
    ask(&context, &database, count, 8).await?;
    done(&root, count + 500).await?;
    let took = begun.elapsed().as_secs_f64();
    // At a pace that leaves room: how soon one begins, not how long a queue gets.
    root.batch_execute("delete from job_done").await.map_err(io::Error::other)?;
    for _ in 0..200 {
        ask(&context, &database, 1, 1).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done(&root, 200).await?;
    let waited =
        "select percentile_cont(0.95) within group (order by (result #>> '{}')::float8) / 1000 from job_done";
    let waited = number(&root, waited).await?;
    context.shut_down(false).await;
    database.remove();
    Ok([
        Row {
            name: "enqueued one by one to their completion",
            value: f64::from(count) / took,
            unit: "jobs/s",
            bound: 2_500.0,
            at_least: true,
        },
        Row {
            name: "from before the commit to the start, p95",
            value: waited,
            unit: "ms",
            bound: 50.0,
            at_least: false,
        },
    ])
}

/// A tenant with one job, while ten thousand have a hundred each.
async fn newcomer() -> io::Result<[Row; 2]> {
    let database = Database::create(&MEASURED).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.sleep", 10_000, 100).await?;
    let context = start(settings(&database, 10)).await?;
    done(&root, 1_000).await?;
    let mut worst: f64 = 0.0;
    for _ in 0..5 {
        ask(&context, &database, 1, 1).await?;
        let deadline = Instant::now() + LIMIT;
        let waited = "select max((result #>> '{}')::float8) / 1000 from job_done where kind = 'bench.stamp'";
        let before = "select count(*)::float8 from job_done where kind = 'bench.stamp'";
        let had = number(&root, before).await?;
        while number(&root, before).await? <= had && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        worst = worst.max(number(&root, waited).await?);
    }
    let scraped = context.edge.app.scrape(erp_core::metrics::Format::Text004);
    let figure = |name: &str| {
        let line = scraped.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let mean =
        1000.0 * figure("jobs_claim_duration_seconds_sum") / figure("jobs_claim_duration_seconds_count");
    context.shut_down(false).await;
    database.remove();
    Ok([
        Row {
            name: "one job beside 10,000 tenants with 1,000,000, to its start",
            value: worst,
            unit: "ms",
            bound: 1000.0,
            at_least: false,
        },
        Row { name: "a claim meanwhile, mean", value: mean, unit: "ms", bound: 5.0, at_least: false },
    ])
}

/// Jobs of 20 ms: how much more eight processes do than one.
async fn many_processes() -> io::Result<Row> {
    let mut rates = Vec::new();
    for (processes, each) in [(1u32, 200u32), (8, 1000)] {
        let database = Database::create(&MEASURED).await;
        let root = database.superuser().await;
        fill(&root, &database, "bench.sleep", 20, each).await?;
        let children: Vec<Child> = (0..processes).map(|_| child(&database)).collect::<io::Result<_>>()?;
        done(&root, 20 * each / 10).await?; // all have started
        let (from, begun) = (number(&root, "select count(*)::float8 from job_done").await?, Instant::now());
        done(&root, 20 * each * 9 / 10).await?;
        let to = number(&root, "select count(*)::float8 from job_done").await?;
        rates.push((to - from) / begun.elapsed().as_secs_f64());
        for mut child in children {
            drop(child.stdin.take()); // it ends by itself
            child.wait().await?;
        }
        database.remove();
    }
    let gain = rates.last().copied().unwrap_or(0.0) / rates.first().copied().unwrap_or(f64::NAN);
    Ok(Row {
        name: "jobs of 20 ms: eight processes to one",
        value: gain,
        unit: "times",
        bound: 5.0,
        at_least: true,
    })
}

fn child(database: &Database) -> io::Result<Child> {
    let settings = serde_json::to_string(&settings(database, 10)).map_err(io::Error::other)?;
    let program = std::env::current_exe()?;
    Command::new(program)
        .arg("work")
        .arg(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}
