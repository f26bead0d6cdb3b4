//! Events, from the transaction that emits one to what its subscribers have made of it.

mod reading;
mod steering;

use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::db::{Migration, Sample};
use erp_core::error::{Error, Result};
use erp_core::events::{DomainEvent, EventKind, Subscriber};
use erp_core::extract::Json;
use erp_core::input;
use erp_core::jobs::{Job, give_up};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, IdKind, Int, Text};
use erp_testkit::{Actor, TestApp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Parcels that are sent, and a ledger that notes what it is told of them.
pub(crate) static PARCELS: Module = Module {
    name: "parcels",
    routes,
    events: &[&SENT, &LOST],
    subscribers: &[&ON_SENT, &ON_LOST, &FROM_START],
    system: SYSTEM,
    migrations: &[Migration { name: "0001_parcels", sql: TABLES, after: &[], was: &[] }],
    samples: &[
        Sample { table: "parcels", insert: "insert into public.parcels (id) values (gen_random_uuid());" },
        Sample { table: "parcel_notes", insert: "insert into public.parcel_notes (what) values ('canary');" },
    ],
    ..Module::BARE
};

const TABLES: &str = "
    create table public.parcels (id uuid not null, sent int not null default 0);
    select app.tenant_table('public.parcels', audit_as => 'parcel');
    create table public.parcel_notes (id uuid not null default gen_random_uuid(), noted_at timestamptz not null default clock_timestamp(),
      what text not null);
    select app.tenant_table('public.parcel_notes', audit_as => 'parcel_note');";

erp_core::system_work! {
    /// What the test's module does as the system.
    SYSTEM {
        NOTING = "parcels-note": "Notes what has happened to parcels, for a test.";
    }
}

enum Parcel {}

impl IdKind for Parcel {
    const NAME: &'static str = "parcel";
}

/// What is told of a parcel.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct ParcelTold {
    what: String,
}

static SENT: EventKind<ParcelTold> = EventKind::new("parcels.parcel_sent", "A parcel was sent.");
static LOST: EventKind<ParcelTold> = EventKind::new("parcels.parcel_lost", "A parcel was lost.");

static ON_SENT: Subscriber<ParcelTold> =
    Subscriber::new("parcels.on_sent", "Notes that it was sent.", &SENT, &NOTING, |job, event| {
        Box::pin(note(job, event))
    });
static ON_LOST: Subscriber<ParcelTold> =
    Subscriber::new("parcels.on_lost", "Notes that it was lost.", &LOST, &NOTING, |job, event| {
        Box::pin(note(job, event))
    })
    .attempts(2);
static FROM_START: Subscriber<Value> =
    Subscriber::of_all("parcels.from_start", "Notes everything.", &NOTING, |job, event| {
        Box::pin(note_all(job, event))
    })
    .from_start();

const NOTE: &str = "insert into parcel_notes (what) values ($1)";

async fn note(job: &Job, event: DomainEvent<ParcelTold>) -> Result<()> {
    let what = event.payload.what;
    let _: Vec<()> = job.call.tenant().last().rows(NOTE, &[&what]).await?;
    match what.as_str() {
        "fails" if job.attempt() > 0 => Err(Error::internal("as it is meant to")),
        "hopeless" => Err(give_up("There is no such parcel.")),
        "panics" => panic!("as it is meant to"),
        "forgets" => {
            let mut tx = job.call.tenant();
            tx.rows::<()>(NOTE, &[&"forgotten"]).await.map(drop)
        }
        _ => Ok(()),
    }
}

async fn note_all(job: &Job, event: DomainEvent<Value>) -> Result<()> {
    let what = format!("{} {} {}", event.name, event.aggregate, event.payload["what"].as_str().unwrap_or(""));
    let _: Vec<()> = job.call.tenant().last().rows(NOTE, &[&format!("all: {what}")]).await?;
    Ok(())
}

input! { Sending { what: Text<1, 20000>, times: Option<Int<1>>, lost: Option<bool>, drops: Option<bool>, parcel: Option<Id<Parcel>>, bare: Option<bool> } }

fn routes() -> Routes {
    Routes::new()
        .post("/test/parcels", Access::SignedIn, send)
        .doc(Operation::new("sendParcel", "Send a parcel"))
        .open_to_readers("it is a test's")
}

async fn send(call: Call, Json(sending): Json<Sending>) -> Result<NoContent> {
    let id: Id<Parcel> = sending.parcel.unwrap_or_else(|| call.new_id());
    let mut tx = call.tenant();
    if sending.bare != Some(true) {
        let sql = "insert into parcels (id) values ($1) on conflict (tenant_id, id) do update set sent = parcels.sent + 1";
        tx.rows::<()>(sql, &[&id]).await?;
    }
    let kind = if sending.lost == Some(true) { &LOST } else { &SENT };
    for time in 0..sending.times.map_or(1, i64::from) {
        let what = if sending.times.is_some() {
            format!("{} {time}", sending.what)
        } else {
            sending.what.to_string()
        };
        call.emit(&mut tx, kind, id, &ParcelTold { what })?;
    }
    match sending.drops {
        Some(true) => {
            tx.rollback();
            Ok(NoContent)
        }
        _ => tx.commit().await.map(|()| NoContent),
    }
}

/// The product with the test's module, and a worker with four slots.
async fn working() -> TestApp {
    TestApp::builder().module(&PARCELS).setting("JOB_WORKERS", "4").start().await
}

async fn sends(person: &Actor<'_>, what: &str) {
    person.post("/test/parcels", json!({ "what": what })).await.assert(204);
}

/// Waits until `sql` answers true.
async fn until(app: &TestApp, sql: &str) {
    const PICTURE: &str = "select jsonb_build_object('cursors', (select jsonb_agg(to_jsonb(c)) from event_cursors c),
                'events', (select jsonb_agg(to_jsonb(e)) from events e), 'notes', (select jsonb_agg(what) from parcel_notes),
                'ready', (select jsonb_agg(to_jsonb(j)) from job_ready j), 'running', (select jsonb_agg(to_jsonb(j)) from job_running j),
                'scheduled', (select jsonb_agg(to_jsonb(j)) from job_scheduled j), 'dead', (select jsonb_agg(to_jsonb(j)) from job_dead j))";
    app.until(sql, PICTURE).await;
}

async fn value(app: &TestApp, sql: &str) -> Value {
    app.sql().query_one(sql, &[]).await.expect("the test's SQL").get(0)
}

/// What `parcels.on_sent` and `parcels.on_lost` have noted in a tenant, in this order.
async fn noted(app: &TestApp, tenant: &str) -> Vec<String> {
    let sql =
        "select what from parcel_notes where tenant_id = $1 and what not like 'all: %' order by noted_at";
    let rows = app.sql().query(sql, &[&app.tenant_id(tenant)]).await.expect("the test's SQL");
    rows.iter().map(|row| row.get(0)).collect()
}
