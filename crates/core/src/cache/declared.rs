//! What modules keep: each cache a static row, with what its values depend on and how long they are kept.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::db::{HasTag, Tag};

/// The longest that a cache may keep a value: generations in Redis live for twice as long.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What can be kept: it goes to Redis as JSON, and comes back as the same.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in a cache",
    note = "it goes to Redis and back as JSON: derive `serde::Serialize` and `serde::Deserialize`, and hold no borrowed data"
)]
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for T {}

/// A cache that a module declares: values of the type `V`, each of one tenant. [`Call::cached`](crate::resource::Call::cached)
/// reads it.
///
/// ```
/// use std::time::Duration;
/// use erp_core::cache::ResultCache;
/// use erp_core::db::Tag;
/// use erp_core::module::Module;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OnHand { warehouse: String, quantity: i64 }
///
/// static STOCK: Tag = Tag::new("warehouse.stock");
/// static ON_HAND: ResultCache<Vec<OnHand>> =
///     ResultCache::new("warehouse.on_hand", "What is on hand, by warehouse.", Duration::from_secs(60)).tags(&[&STOCK]);
///
/// static WAREHOUSE: Module = Module { name: "warehouse", caches: &[&ON_HAND], ..Module::BARE };
/// ```
pub struct ResultCache<V> {
    facts: CacheFacts,
    own: Tag,
    values: PhantomData<fn() -> V>,
}

/// What the tables show of a cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheFacts {
    /// Its name, which begins with that of its module: `warehouse.on_hand`. The label `cache` of metrics.
    pub name: &'static str,
    /// What its values are, in a sentence.
    pub what: &'static str,
    /// How long a value is kept, give or take a tenth.
    pub ttl: Duration,
    /// The data that its values depend on.
    pub tags: &'static [&'static Tag],
    /// What its values mean: see [`ResultCache::version`].
    pub version: u32,
}

/// A row of [`Module::caches`](crate::module::Module::caches), whatever the type of its values.
pub trait DeclaredCache: Sync {
    /// What the tables show of it.
    fn facts(&self) -> CacheFacts;
}

impl<V> ResultCache<V> {
    /// A cache of this name, what its values are, and how long one is kept: from a second to a day.
    ///
    /// A tenth more or less, by chance, so that values that were loaded together are not all loaded again together.
    pub const fn new(name: &'static str, what: &'static str, ttl: Duration) -> Self {
        assert!(
            ttl.as_secs() >= 1 && ttl.as_secs() <= LONGEST.as_secs(),
            "a cache keeps values from 1 s to 24 h"
        );
        let facts = CacheFacts { name, what, ttl, tags: &[], version: 1 };
        Self { facts, own: Tag::new(name), values: PhantomData }
    }

    /// The data that its values depend on: a transaction that changes it says so with
    /// [`TenantTx::invalidate`](crate::db::TenantTx::invalidate).
    #[must_use]
    pub const fn tags(mut self, tags: &'static [&'static Tag]) -> Self {
        self.facts.tags = tags;
        self
    }

    /// Another version, for values that look as before and mean something else: net amounts where there were gross ones.
    /// Instances of both versions then do not share them. A changed statement or type needs none. Default: 1.
    #[must_use]
    pub const fn version(mut self, version: u32) -> Self {
        self.facts.version = version;
        self
    }

    pub(super) fn facts(&self) -> &CacheFacts {
        &self.facts
    }

    /// What its values depend on: its own tag, and those that it names.
    pub(super) fn depends_on(&self) -> impl Iterator<Item = &Tag> + Clone {
        std::iter::once(&self.own).chain(self.facts.tags.iter().copied())
    }
}

impl<V> HasTag for ResultCache<V> {
    fn tag(&self) -> &Tag {
        &self.own
    }
}

impl<V> DeclaredCache for ResultCache<V> {
    fn facts(&self) -> CacheFacts {
        self.facts
    }
}

/// `docs/reference/caches.md`, of caches with the module of each.
pub fn caches_markdown(caches: impl Iterator<Item = (&'static str, CacheFacts)>) -> String {
    let mut page = String::from(
        "# Caches\n\n\
         <!-- Generated from the modules' tables: run the tests with BLESS=1 to write it anew. -->\n\n\
         What is kept of what was read, for each tenant by itself. A transaction that changes the data of a tag makes the\n\
         values that depend on it worthless once it is committed; what no tag tells of shows when its time is over. How long\n\
         that is varies by a tenth. The name is the label `cache` of the metrics `cache_…`.\n\n\
         | Cache | Of | What | Kept for | Depends on |\n| --- | --- | --- | --- | --- |\n",
    );
    for (module, CacheFacts { name, what, ttl, tags, .. }) in caches {
        let tags: Vec<String> = tags.iter().map(|tag| format!("`{}`", tag.name())).collect();
        let _ =
            writeln!(page, "| `{name}` | {module} | {what} | {} s | {} |", ttl.as_secs(), tags.join(", "));
    }
    page
}
