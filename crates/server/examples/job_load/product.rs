//! What is measured: the product with a module more, whose jobs do next to nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::db::{Migration, Sample};
use erp_core::error::Result;
use erp_core::events::EventKind;
use erp_core::extract::Json;
use erp_core::input;
use erp_core::jobs::JobKind;
use erp_core::module::{Access, Module, Operation, Product, Routes};
use erp_core::resource::Call;
use erp_modules::PRODUCT;
use erp_modules::catalog::Item;
use erp_testkit::with_modules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The product that all measures have.
pub(crate) fn measured() -> Product {
    with_modules(PRODUCT, &[&BENCH])
}

static BENCH: Module = Module {
    name: "bench",
    routes,
    jobs: &[&NOTHING, &SLEEP, &STAMP, &MARK],
    events: &[&CREATED],
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
        .post("/bench/enqueue/sleep", Access::SignedIn, enqueue_sleep)
        .doc(Operation::new("benchEnqueueSleep", "Enqueue one job that takes 20 ms"))
        .open_to_readers("it is the benchmark's")
        .post("/bench/items", Access::SignedIn, create)
        .doc(Operation::new("benchCreate", "Create an item"))
        .open_to_readers("it is the benchmark's")
        .post("/bench/items/job", Access::SignedIn, create_with_job)
        .doc(Operation::new("benchCreateWithJob", "Create an item, and enqueue a job"))
        .open_to_readers("it is the benchmark's")
        .post("/bench/items/event", Access::SignedIn, create_with_event)
        .doc(Operation::new("benchCreateWithEvent", "Create an item, and emit an event"))
        .open_to_readers("it is the benchmark's")
}

/// An item was created.
#[derive(Serialize, Deserialize, JsonSchema)]
struct ItemCreated {
    number: i64,
}

static CREATED: EventKind<ItemCreated> = EventKind::new("bench.item_created", "An item was created.");

input! { Load { count: i64, at_a_time: i64 } }

input! { Wanted { number: i64 } }

const CREATE: &str =
    "insert into items (id, sku, name, quantity) values (gen_random_uuid(), 'B-' || $1::bigint, 'Bolt', 5)";

async fn create(call: Call, Json(wanted): Json<Wanted>) -> Result<NoContent> {
    let _: Vec<()> = call.tenant().last().rows(CREATE, &[&wanted.number]).await?;
    Ok(NoContent)
}

async fn create_with_job(call: Call, Json(wanted): Json<Wanted>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &NOTHING, &json!({"number": wanted.number}))?;
    let _: Vec<()> = tx.last().rows(CREATE, &[&wanted.number]).await?;
    Ok(NoContent)
}

async fn create_with_event(call: Call, Json(wanted): Json<Wanted>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.emit(&mut tx, &CREATED, call.new_id::<Item>(), &ItemCreated { number: wanted.number })?;
    let _: Vec<()> = tx.last().rows(CREATE, &[&wanted.number]).await?;
    Ok(NoContent)
}

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

async fn enqueue_sleep(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &SLEEP, &Value::Null)?;
    tx.commit().await?;
    Ok(NoContent)
}
