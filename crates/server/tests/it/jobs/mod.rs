//! Jobs, from the request that enqueues one to what became of it, on a module with a kind for each thing that can happen.

mod running;
mod schedules;
mod steering;
mod workers;

use std::time::Duration;

use erp_core::answer::{NoContent, Refusing};
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::db::{Migration, Sample};
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use erp_core::jobs::{AnyJobKind, Job, JobKind, JobOptions, give_up, job_codes};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::Text;
use erp_core::{from_row, input};
use erp_testkit::{JWT_SECRET, TestApp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) static ERRANDS: Module = Module {
    name: "errands",
    routes,
    jobs: KINDS,
    system: SYSTEM,
    migrations: &[Migration { name: "0001_errands", sql: TABLE, after: &[], was: &[] }],
    samples: &[Sample { table: "errands", insert: SAMPLE }],
    ..Module::BARE
};

const TABLE: &str = "
    create table public.errands (id uuid not null default gen_random_uuid(), what text not null);
    select app.tenant_table('public.errands', audit_as => 'errand');";
const SAMPLE: &str = "insert into public.errands (what) values ('canary');";

erp_core::system_work! {
    /// What the test's module does as the system.
    SYSTEM {
        SWEEPING = "errands-sweep": "Removes what is over.";
    }
}

const KINDS: &[&dyn AnyJobKind] = &[
    &WRITE, &COUNT, &TWICE, &PANICS, &HOPELESS, &STEPS, &SLEEPS, &SLOWLY, &BLOCKS, &LATE, &FORGETS, &SWEEP,
    &ALONE, &PLAIN,
];

/// What all kinds of the test but one take.
#[derive(Serialize, Deserialize)]
struct Errand {
    what: String,
}

static WRITE: JobKind<Errand> =
    JobKind::new("errands.write", "Writes it down.", |job, errand| Box::pin(write(job, errand)));
static PLAIN: JobKind<()> = JobKind::new("errands.plain", "Has no arguments.", |job, ()| {
    Box::pin(async move { job.result(&"plain") })
});
static COUNT: JobKind<Errand> = JobKind::new("errands.count", "Changes nothing.", |job, errand| {
    Box::pin(async move { job.result(&errand.what.len()) })
});
static TWICE: JobKind<Errand> =
    JobKind::new("errands.twice", "Fails once, and then writes it down.", |job, errand| {
        Box::pin(twice(job, errand))
    })
    .attempts(2);
static PANICS: JobKind<Errand> =
    JobKind::new("errands.panics", "Panics.", |_, _| Box::pin(async { panic!("as it is meant to") }))
        .attempts(1);
static HOPELESS: JobKind<Errand> = JobKind::new("errands.hopeless", "Gives up.", |job, errand| {
    Box::pin(async move {
        write(job, errand).await?;
        Err(give_up("There is no such customer."))
    })
});
static STEPS: JobKind<Errand> =
    JobKind::new("errands.steps", "Writes three, and fails after two.", |job, errand| {
        Box::pin(steps(job, errand))
    });
static SLEEPS: JobKind<Errand> =
    JobKind::new("errands.sleeps", "Sleeps for so many milliseconds.", |_, errand| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(errand.what.parse().unwrap_or(0))).await;
            Ok(())
        })
    });
static SLOWLY: JobKind<Errand> =
    JobKind::new("errands.slowly", "Writes it down, and then takes so many milliseconds.", |job, errand| {
        Box::pin(slowly(job, errand))
    });
static ALONE: JobKind<Errand> =
    JobKind::<Errand>::new("errands.alone", "Two at a time, of each tenant.", |_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        })
    })
    .at_most(2);
static BLOCKS: JobKind<Errand> =
    JobKind::<Errand>::new("errands.blocks", "Blocks its thread.", |job, errand| {
        Box::pin(async move {
            std::thread::sleep(Duration::from_millis(errand.what.parse().unwrap_or(0)));
            job.result(&std::thread::current().name())
        })
    })
    .on_threads();
static LATE: JobKind<Errand> = JobKind::<Errand>::new("errands.late", "Never ends.", |job, errand| {
    Box::pin(async move {
        write(job, errand).await?;
        std::future::pending().await
    })
})
.time_limit(Duration::from_millis(100))
.attempts(1);
static FORGETS: JobKind<Errand> =
    JobKind::<Errand>::new("errands.forgets", "Forgets to commit.", |job, errand| {
        Box::pin(async move {
            let mut tx = job.call.tenant();
            tx.rows::<()>(ADD, &[&errand.what]).await.map(drop)
        })
    })
    .attempts(1);
static SWEEP: JobKind<Errand> = JobKind::new("errands.sweep", "Sweeps as the system.", |job, _| {
    Box::pin(async move {
        job.system()?;
        let held: One =
            job.call.tenant_read().last().row("select count(*) as count from errands", &[]).await?;
        job.result(&(job.call.caller.actor().to_string(), held.count))
    })
})
.system(&SWEEPING);

const ADD: &str = "insert into errands (what) values ($1)";

struct One {
    count: i64,
}
from_row!(One { count });

async fn write(job: &Job, errand: Errand) -> Result<()> {
    let _: Vec<()> = job.call.tenant().last().rows(ADD, &[&errand.what]).await?;
    Ok(())
}

async fn slowly(job: &Job, errand: Errand) -> Result<()> {
    let time = errand.what.parse().unwrap_or(0);
    write(job, errand).await?;
    tokio::time::sleep(Duration::from_millis(time)).await;
    Ok(())
}

async fn twice(job: &Job, errand: Errand) -> Result<()> {
    write(job, errand).await?;
    if job.attempt() == 1 { Err(Error::internal("as it is meant to")) } else { Ok(()) }
}

async fn steps(job: &Job, errand: Errand) -> Result<()> {
    let begun: u32 = job.kept()?.unwrap_or(0);
    for step in begun..3 {
        write(job, Errand { what: format!("{} {step}", errand.what) }).await?;
        if step == 2 && job.attempt() == 1 {
            return Err(Error::internal("as it is meant to"));
        }
        job.progress(u64::from(step) + 1, Some(3));
        job.keep(&(step + 1)).await?;
    }
    Ok(())
}

input! { NewErrand { kind: Text<1, 40>, what: Text<1, 20000>, key: Option<Text<1, 40>>, after: Option<i64> } }

fn routes() -> Routes {
    Routes::new()
        .post("/test/errands", Access::SignedIn, post)
        .doc(Operation::new("postErrand", "Enqueue an errand"))
        .open_to_readers("it is a test's")
        .post("/test/errands/written", Access::SignedIn, write_and_post)
        .doc(Operation::new("writeErrand", "Write an errand down, and enqueue it"))
        .open_to_readers("it is a test's")
        .post("/test/errands/plain", Access::SignedIn, post_plain)
        .doc(Operation::new("postPlainErrand", "Enqueue an errand without arguments"))
        .open_to_readers("it is a test's")
        .post("/test/errands/refused", Access::SignedIn, refuse)
        .doc(Operation::new("refuseErrand", "Enqueue an errand, and refuse"))
        .open_to_readers("it is a test's")
}

async fn post(
    call: Call,
    Json(new): Json<NewErrand>,
) -> Result<NoContent, Refusing<job_codes::BACKLOG_FULL>> {
    let kinds = [
        &WRITE, &COUNT, &TWICE, &PANICS, &HOPELESS, &STEPS, &SLEEPS, &SLOWLY, &BLOCKS, &LATE, &FORGETS,
        &SWEEP, &ALONE,
    ];
    let wanted = format!("errands.{}", new.kind);
    let kind = kinds.into_iter().find(|kind| kind.facts().name == wanted);
    let mut options = JobOptions::default();
    if let Some(key) = &new.key {
        options = options.unique(key.to_string());
    }
    if let Some(seconds) = new.after {
        options = options.after(Duration::from_secs(seconds.unsigned_abs()));
    }
    let mut tx = call.tenant();
    let errand = Errand { what: new.what.to_string() };
    call.enqueue_with(&mut tx, kind.expect("one of the test's kinds"), &errand, options)?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn post_plain(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &PLAIN, &())?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn write_and_post(call: Call, Json(new): Json<NewErrand>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &COUNT, &Errand { what: new.what.to_string() })?;
    let _: Vec<()> = tx.last().rows(ADD, &[&new.what.to_string()]).await?;
    Ok(NoContent)
}

async fn refuse(call: Call, Json(new): Json<NewErrand>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &WRITE, &Errand { what: new.what.to_string() })?;
    tx.rows::<()>(ADD, &[&"with it"]).await?;
    tx.rollback();
    Ok(NoContent)
}

/// The product with the test's module, and a worker with four slots.
async fn working() -> TestApp {
    TestApp::builder().module(&ERRANDS).setting("JOB_WORKERS", "4").start().await
}

/// Another process on the same database, with a worker of so many slots.
pub(crate) async fn beside(app: &TestApp, workers: &str) -> Context {
    beside_with(app, workers, &[("WEBHOOK_SECRET", "q8Zr5Xw2Nk7Lm3Vt9Bc4Hd6Jf1Gs0PyAeU")]).await
}

/// The same with further settings.
pub(crate) async fn beside_with(app: &TestApp, workers: &str, more: &[(&str, &str)]) -> Context {
    let roles = &app.database().roles;
    let files = format!("file://{}", app.files().display());
    let settings = [
        ("APP_ENV", "development"),
        ("DATABASE_URL", roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", &roles.system_url),
        ("JWT_SECRET", JWT_SECRET),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("SHUTDOWN_TIMEOUT", "1s"),
        ("JOB_WORKERS", workers),
        ("FILES_URL", &files),
    ];
    let logging = app.edge().app.logging.clone();
    let options = BootstrapOptions::new(LogSetup::Given(logging), std::ffi::OsString::new());
    let layers = Layers::from(MapSource::environment(settings.into_iter().chain(more.iter().copied())));
    bootstrap(app.product(), &layers, options).await.expect("another process starts")
}

/// Waits until `sql` answers true.
pub(crate) async fn until(app: &TestApp, sql: &str) {
    const PICTURE: &str = "select coalesce(jsonb_agg(to_jsonb(j)), '[]') from (
                select 'ready' as place, id, kind, attempt, error from job_ready union all
                select 'running', id, kind, attempt, error from job_running union all
                select 'scheduled', id, kind, attempt, error from job_scheduled union all
                select 'dead', id, kind, attempt, error from job_dead union all
                select 'done', id, kind, attempt, error from job_done) j";
    app.until(sql, PICTURE).await;
}

/// What the test's module has written in a tenant.
async fn written(app: &TestApp, tenant: &str) -> Vec<String> {
    let sql = "select what from errands where tenant_id = $1 order by what";
    let rows = app.sql().query(sql, &[&app.tenant_id(tenant)]).await.expect("the test's SQL");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn value(app: &TestApp, sql: &str) -> Value {
    app.sql().query_one(sql, &[]).await.expect("the test's SQL").get(0)
}
