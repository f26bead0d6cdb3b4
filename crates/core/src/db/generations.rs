//! Which data has changed, by tenant and tag: what a cache asks before it trusts a value.
//!
//! A transaction names the tags of the data that it changes ([`TenantTx::invalidate`](crate::db::TenantTx::invalidate)).
//! Once it is committed their generations move on, and values of an earlier generation are of no more use. A transaction
//! that is rolled back moves none; one whose outcome nobody knows moves them, since it may have been committed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::shared::TenantId;

/// How many generations there are. Of the tags of all tenants several share one: to change the data of one of them costs
/// the values of the others too, which are then loaded once more. So the memory for them has a bound: 512 KiB.
const SLOTS: usize = 1 << 16;
/// More tags than this are not held until the other instances know of them: then everything counts as changed.
const MOST_UNTOLD: usize = 10_000;

/// Data that changes together, of one tenant each: caches name the tags that their values depend on, and transactions those
/// whose data they change.
///
/// ```
/// use erp_core::db::Tag;
///
/// /// What is on hand, and where.
/// pub static STOCK: Tag = Tag::new("warehouse.stock");
/// ```
#[derive(Debug)]
pub struct Tag {
    name: &'static str,
    hash: u64,
}

impl Tag {
    /// A tag of this name, which begins with that of its module.
    pub const fn new(name: &'static str) -> Self {
        Self { name, hash: hash(name) }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// What stands for data that can change: a [`Tag`], or a cache, whose values depend on its own tag too.
pub trait HasTag {
    /// The tag.
    fn tag(&self) -> &Tag;
}

impl HasTag for Tag {
    fn tag(&self) -> &Tag {
        self
    }
}

/// FNV-1a, at compile time.
const fn hash(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// A tag of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TenantTag {
    pub(crate) tenant: TenantId,
    pub(crate) name: &'static str,
    hash: u64,
}

impl TenantTag {
    pub(crate) fn new(tenant: TenantId, tag: &Tag) -> Self {
        Self { tenant, name: tag.name, hash: tag.hash }
    }
}

/// The generations of this process, and what other instances are still to be told.
pub(crate) struct Generations {
    counters: Box<[AtomicU64]>,
    /// Whether there is somebody who tells other instances.
    told: AtomicBool,
    untold: Mutex<Untold>,
    changed: Notify,
}

/// What the other instances do not know yet, each with the number of the change.
#[derive(Default)]
struct Untold {
    last: u64,
    tags: HashMap<TenantTag, u64>,
    /// Everything: there was no room for more tags.
    all: Option<u64>,
}

/// Some of what is to be told, to be told in one go.
pub(crate) struct Telling {
    pub(crate) tags: Vec<TenantTag>,
    /// Everything has changed.
    pub(crate) all: bool,
    last: u64,
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            counters: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            told: AtomicBool::new(false),
            untold: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Generations {
    /// The generation of what depends on these tags: as long as it is the same, none of their data has changed.
    pub(crate) fn of<'a>(&self, tenant: TenantId, tags: impl Iterator<Item = &'a Tag>) -> u64 {
        // Each only grows, so that the sum is the same only where all are.
        tags.fold(0_u64, |sum, tag| {
            let slot = self.slot(TenantTag::new(tenant, tag));
            sum.wrapping_add(slot.map_or(0, |slot| slot.load(Ordering::Acquire)))
        })
    }

    /// The data of these tags has changed, and is committed.
    pub(crate) fn advance(&self, changed: &[TenantTag]) {
        if changed.is_empty() {
            return;
        }
        // First, so that a reader that sees the new generation does not ask others who do not know of it.
        if self.told.load(Ordering::Acquire) {
            self.lock().note(changed);
        }
        for slot in changed.iter().filter_map(|tag| self.slot(*tag)) {
            slot.fetch_add(1, Ordering::AcqRel);
        }
        self.changed.notify_one();
    }

    /// From now on changes are kept until other instances were told.
    pub(crate) fn tell_others(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// Whether other instances may still take for valid what depends on these tags, and is not.
    pub(crate) fn is_untold<'a>(&self, tenant: TenantId, mut tags: impl Iterator<Item = &'a Tag>) -> bool {
        let untold = self.lock();
        untold.all.is_some()
            || (!untold.tags.is_empty()
                && tags.any(|tag| untold.tags.contains_key(&TenantTag::new(tenant, tag))))
    }

    /// Waits until there is something to tell.
    pub(crate) async fn to_tell(&self, most: usize) -> Telling {
        loop {
            if let Some(telling) = self.lock().some(most) {
                return telling;
            }
            self.changed.notified().await;
        }
    }

    /// The other instances know that now.
    pub(crate) fn was_told(&self, telling: &Telling) {
        let mut untold = self.lock();
        for tag in &telling.tags {
            if untold.tags.get(tag).is_some_and(|number| *number <= telling.last) {
                untold.tags.remove(tag);
            }
        }
        if telling.all && untold.all.is_some_and(|number| number <= telling.last) {
            untold.all = None;
        }
    }

    fn slot(&self, tag: TenantTag) -> Option<&AtomicU64> {
        // The last bits of a tenant's id are random.
        let mixed = (tag.tenant.as_uuid().as_u128() as u64 ^ tag.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.counters.get((mixed >> 48) as usize)
    }

    fn lock(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Untold {
    fn note(&mut self, changed: &[TenantTag]) {
        self.last += 1;
        for tag in changed {
            if self.tags.len() < MOST_UNTOLD || self.tags.contains_key(tag) {
                self.tags.insert(*tag, self.last);
            } else {
                self.all = Some(self.last);
            }
        }
    }

    fn some(&self, most: usize) -> Option<Telling> {
        let tags: Vec<TenantTag> = self.tags.keys().take(most).copied().collect();
        let telling = Telling { tags, all: self.all.is_some(), last: self.last };
        (telling.all || !telling.tags.is_empty()).then_some(telling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    static ITEMS: Tag = Tag::new("catalog.items");
    static STOCK: Tag = Tag::new("warehouse.stock");

    fn tenants() -> [TenantId; 2] {
        let rng = SystemRng::new();
        [(); 2].map(|()| TenantId::new(&SystemClock, &rng))
    }

    #[test]
    fn t_18_a_tag_moves_on_for_its_tenant_and_for_what_depends_on_it() {
        let (generations, [one, two]) = (Generations::default(), tenants());
        let of = |tenant, tags: &[&'static Tag]| generations.of(tenant, tags.iter().copied());
        let before = [of(one, &[&ITEMS]), of(one, &[&STOCK]), of(one, &[&ITEMS, &STOCK]), of(two, &[&ITEMS])];
        generations.advance(&[TenantTag::new(one, &ITEMS)]);
        let after = [of(one, &[&ITEMS]), of(one, &[&STOCK]), of(one, &[&ITEMS, &STOCK]), of(two, &[&ITEMS])];
        let moved: Vec<bool> = before.iter().zip(after).map(|(before, after)| *before != after).collect();
        assert_eq!(moved, [true, false, true, false]);
    }

    #[tokio::test]
    async fn what_changes_while_it_is_told_is_told_again() {
        let (generations, [one, _]) = (Generations::default(), tenants());
        generations.tell_others();
        let items = TenantTag::new(one, &ITEMS);
        let untold = || generations.is_untold(one, [&ITEMS].into_iter());
        assert!(!untold());
        generations.advance(&[items]);
        let telling = generations.to_tell(10).await;
        assert_eq!((telling.tags.len(), telling.all), (1, false));
        generations.advance(&[items]);
        generations.was_told(&telling);
        assert!(untold(), "it has changed once more");
        let telling = generations.to_tell(10).await;
        generations.was_told(&telling);
        assert!(!untold());
    }

    #[tokio::test]
    async fn beyond_its_bound_everything_counts_as_changed() {
        let generations = Generations::default();
        generations.tell_others();
        let tenant = |number: usize| TenantId::from_uuid(uuid::Uuid::from_u128(number as u128));
        for number in 0..=MOST_UNTOLD {
            generations.advance(&[TenantTag::new(tenant(number), &ITEMS)]);
        }
        assert!(generations.is_untold(tenant(usize::MAX), [&STOCK].into_iter()));
        while generations.lock().some(1).is_some() {
            let telling = generations.to_tell(1000).await;
            generations.was_told(&telling);
        }
        assert!(!generations.is_untold(tenant(1), [&ITEMS].into_iter()));
    }
}
