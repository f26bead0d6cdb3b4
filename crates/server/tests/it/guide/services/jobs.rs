//! The section "Jobs".

use std::time::Duration;

use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use erp_core::jobs::{Job, JobId, JobKind};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_testkit::TestApp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[derive(Serialize, Deserialize)]
struct Reorder {
    sku: String,
}

static REORDER: JobKind<Reorder> =
    JobKind::<Reorder>::new("shelf.reorder", "Fills up an item.", |job, args| Box::pin(reorder(job, args)))
        .attempts(5)
        .time_limit(Duration::from_secs(20));

static SHELF: Module = Module { name: "shelf", jobs: &[&REORDER, &COUNT], routes, ..Module::BARE };

async fn sold(call: Call, Path(sku): Path<String>) -> Result<Json<Begun>> {
    let mut tx = call.tenant();
    let _: Vec<()> = tx.rows("update items set quantity = quantity - 1 where sku = $1", &[&sku]).await?;
    let job_id = call.enqueue(&mut tx, &REORDER, &Reorder { sku })?;
    tx.commit().await?;
    Ok(Json(Begun { job_id }))
}

async fn reorder(job: &Job, Reorder { sku }: Reorder) -> Result<()> {
    let sql = "update items set quantity = quantity + 10 where sku = $1 returning quantity";
    let now: OnShelf = job.call.tenant().last().row(sql, &[&sku]).await?;
    job.result(&now.quantity)
}

async fn count(job: &Job, Shelves { shelves }: Shelves) -> Result<()> {
    for shelf in job.kept()?.unwrap_or(0)..shelves {
        // what one shelf changes is committed with the step
        job.progress(shelf, Some(shelves));
        job.keep(&(shelf + 1)).await?;
    }
    Ok(())
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Begun {
    job_id: JobId,
}

struct OnShelf {
    quantity: i64,
}
from_row!(OnShelf { quantity });

#[derive(Serialize, Deserialize)]
struct Shelves {
    shelves: u64,
}

static COUNT: JobKind<Shelves> =
    JobKind::<Shelves>::new("shelf.count", "Counts shelf by shelf.", |job, args| Box::pin(count(job, args)));

fn routes() -> Routes {
    Routes::new()
        .post("/test/shelf/{sku}/sold", Access::SignedIn, sold)
        .doc(Operation::new("sellFromShelf", "Sell one from the shelf"))
        .post("/test/shelf/count", Access::SignedIn, begin_count)
        .doc(Operation::new("countShelves", "Count the shelves"))
}

async fn begin_count(call: Call) -> Result<Json<Begun>> {
    let mut tx = call.tenant();
    let job_id = call.enqueue(&mut tx, &COUNT, &Shelves { shelves: 3 })?;
    tx.commit().await?;
    Ok(Json(Begun { job_id }))
}

#[tokio::test]
async fn the_module_of_the_section_on_jobs_runs() {
    let app = TestApp::builder().module(&SHELF).setting("JOB_WORKERS", "1").start().await;
    let alice = app.alice();
    alice.post("/api/v1/items", json!({"sku": "BOLT", "name": "Bolt", "quantity": 3})).await.assert(201);
    let mut results = Vec::new();
    for path in ["/test/shelf/BOLT/sold", "/test/shelf/count"] {
        let begun = alice.post(path, json!({})).await.assert(200).json();
        let job = format!("/api/v1/jobs/{}", begun["jobId"].as_str().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while alice.get(&job).await.assert(200).json()["state"] != "done" {
            assert!(Instant::now() < deadline, "{}", alice.get(&job).await);
            sleep(Duration::from_millis(20)).await;
        }
        results.push(alice.get(&format!("{job}/result")).await.assert(200).json());
    }
    assert_eq!(results, [json!({ "result": 12 }), json!({ "result": null })]);
    app.finish().await;
}
