//! Caches of a module: whose values they are, how often they are loaded, and when a value is of no more use.

mod in_process;
mod invalidation;
mod loads;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use erp_core::auth::Caller;
use erp_core::cache::{Caches, ResultCache};
use erp_core::db::{Db, Tag};
use erp_core::error::Result;
use erp_core::from_row;
use erp_core::module::Module;
use erp_testkit::{Builder, PROBE, TestApp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Total {
    items: i64,
}
from_row!(Total { items });

/// The items of the catalogue.
static ITEMS: Tag = Tag::new("kept.items");
static OTHERS: Tag = Tag::new("kept.others");
static TOTALS: ResultCache<Vec<Total>> =
    ResultCache::new("kept.totals", "How many items there are.", MINUTE).tags(&[&ITEMS]);
static NUMBERS: ResultCache<i64> =
    ResultCache::new("kept.numbers", "Numbers of a test's own.", MINUTE).tags(&[&ITEMS]);
static TEXTS: ResultCache<String> = ResultCache::new("kept.texts", "Texts of a test's own.", MINUTE);
static KEPT: Module = Module { name: "kept", caches: &[&TOTALS, &NUMBERS, &TEXTS], ..Module::BARE };

const MINUTE: Duration = Duration::from_secs(60);
const COUNT: &str = "select count(*) as items from items where sku like $1 || '%'";
const ADD: &str = "insert into items (id, sku, name) values (gen_random_uuid(), $1, 'Kept')";

fn builder() -> Builder {
    TestApp::builder().module(&PROBE).module(&KEPT)
}

fn caches(app: &TestApp) -> &Caches {
    &app.edge().app.caches
}

fn db(app: &TestApp) -> &Db {
    &app.edge().app.db
}

/// How many items of a kind there are, as the cache has it.
async fn count(app: &TestApp, caller: &Caller, kind: &'static str) -> i64 {
    caches(app).query(caller, &TOTALS, COUNT, (kind,)).await.unwrap()[0].items
}

/// Adds an item, and says that items have changed.
async fn add(app: &TestApp, caller: &Caller, sku: &str) {
    let mut tx = db(app).tenant(caller);
    tx.invalidate(&ITEMS);
    tx.last().rows::<()>(ADD, &[&sku]).await.unwrap();
}

/// A number that is kept under a key, or else `loaded`.
async fn number(app: &TestApp, caller: &Caller, key: &str, loaded: i64) -> Result<Arc<i64>> {
    caches(app).value(caller, &NUMBERS, &key, async move |_, _| Ok(loaded)).await
}

fn metric(app: &TestApp, name: &str) -> f64 {
    let text = app.edge().app.scrape(erp_core::metrics::Format::Text004);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}
