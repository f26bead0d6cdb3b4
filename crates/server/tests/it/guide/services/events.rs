//! The section "Events".

use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::events::{DomainEvent, EventKind, Subscriber};
use erp_core::extract::Path;
use erp_core::from_row;
use erp_core::jobs::Job;
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::Id;
use erp_modules::catalog::Item;
use erp_testkit::TestApp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[derive(Serialize, Deserialize, JsonSchema)]
struct ShelfEmptied {
    sku: String,
}

static EMPTIED: EventKind<ShelfEmptied> = EventKind::new("shelves.shelf_emptied", "A shelf was emptied.");

static SHELVES: Module = Module { name: "shelves", events: &[&EMPTIED], routes, ..Module::BARE };

async fn empty(call: Call, Path(id): Path<Id<Item>>) -> Result<NoContent> {
    let mut tx = call.tenant();
    let item: Emptied = tx.row("update items set quantity = 0 where id = $1 returning sku", &[&id]).await?;
    call.emit(&mut tx, &EMPTIED, id, &ShelfEmptied { sku: item.sku })?;
    tx.commit().await?;
    Ok(NoContent)
}

erp_core::system_work! {
    /// What supplies does as the system.
    SYSTEM {
        FILLING = "supplies-fill": "Fills up what was emptied, whichever person has emptied it.";
    }
}

static ON_EMPTIED: Subscriber<ShelfEmptied> =
    Subscriber::new("supplies.on_emptied", "Fills up a shelf.", &EMPTIED, &FILLING, |job, event| {
        Box::pin(fill_up(job, event))
    });

static SUPPLIES: Module =
    Module { name: "supplies", subscribers: &[&ON_EMPTIED], system: SYSTEM, ..Module::BARE };

async fn fill_up(job: &Job, event: DomainEvent<ShelfEmptied>) -> Result<()> {
    let sql = "update items set quantity = quantity + 10 where sku = $1";
    job.call.tenant().last().rows::<()>(sql, &[&event.payload.sku]).await.map(drop)
}

struct Emptied {
    sku: String,
}
from_row!(Emptied { sku });

fn routes() -> Routes {
    Routes::new()
        .post("/test/shelves/{id}/empty", Access::SignedIn, empty)
        .doc(Operation::new("emptyShelf", "Empty a shelf"))
}

#[tokio::test]
async fn the_modules_of_the_section_on_events_run() {
    let app = TestApp::builder().module(&SHELVES).module(&SUPPLIES).setting("JOB_WORKERS", "2").start().await;
    let alice = app.alice();
    let made = alice.post("/api/v1/items", json!({"sku": "BOLT", "name": "Bolt", "quantity": 3})).await;
    let made = made.assert(201);
    let item = made.header("location").to_owned();
    let id = item.rsplit('/').next().unwrap();
    alice.post(&format!("/test/shelves/{id}/empty"), json!({})).await.assert(204);
    let deadline = Instant::now() + Duration::from_secs(20);
    while alice.get(&item).await.assert(200).json()["quantity"] != 10 {
        assert!(Instant::now() < deadline, "{}", alice.get(&item).await);
        sleep(Duration::from_millis(20)).await;
    }
    app.finish().await;
}
