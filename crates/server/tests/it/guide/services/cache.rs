//! The section "Cache".

use std::sync::Arc;
use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::cache::ResultCache;
use erp_core::db::Tag;
use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::Call;
use erp_testkit::TestApp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
struct OnHand {
    sku: String,
    quantity: i64,
}
from_row!(OnHand { sku, quantity });

#[derive(Serialize, JsonSchema)]
struct Stock {
    items: Arc<Vec<OnHand>>,
}

/// The quantities of items.
static QUANTITIES: Tag = Tag::new("stock.quantities");

static ON_HAND: ResultCache<Vec<OnHand>> =
    ResultCache::new("stock.on_hand", "What is on hand, of items with a prefix.", Duration::from_secs(60))
        .tags(&[&QUANTITIES]);

static STOCK: Module = Module { name: "stock", caches: &[&ON_HAND], routes, ..Module::BARE };

async fn on_hand(call: Call, Path(prefix): Path<String>) -> Result<Json<Stock>> {
    let sql = "select sku, quantity from items where starts_with(sku, $1) order by sku";
    let items = call.cached(&ON_HAND, sql, (prefix,)).await?;
    Ok(Json(Stock { items }))
}

async fn receive(call: Call, Path(sku): Path<String>) -> Result<NoContent> {
    let mut tx = call.tenant();
    tx.invalidate(&QUANTITIES);
    tx.last().rows::<()>("update items set quantity = quantity + 1 where sku = $1", &[&sku]).await?;
    Ok(NoContent)
}

fn routes() -> Routes {
    Routes::new().get("/api/v1/stock/{prefix}", Access::SignedIn, on_hand).post(
        "/api/v1/stock/{sku}/receipts",
        Access::SignedIn,
        receive,
    )
}

#[tokio::test]
async fn the_module_of_the_section_on_caches_runs() {
    let app = TestApp::builder().module(&STOCK).start().await;
    let alice = app.alice();
    let quantity = async || {
        let stock = alice.get("/api/v1/stock/BOLT").await.assert(200).json();
        stock["items"][0]["quantity"].as_i64().unwrap()
    };
    let loads = || {
        let text = app.edge().app.scrape(erp_core::metrics::Format::Text004);
        text.contains("cache_load_duration_seconds_count{cache=\"stock.on_hand\"} 1\n")
    };
    let before = quantity().await;
    assert_eq!((quantity().await, loads()), (before, true));
    alice.post("/api/v1/stock/BOLT-M8/receipts", serde_json::json!({})).await.assert(204);
    assert_eq!(quantity().await, before + 1);
    app.finish().await;
}
