//! Which tenants have series of their own: the busiest, so that their number is bounded.
//!
//! The first `limit` tenants take a place each. After that, a tenant without one is counted among those that wait; at
//! the first scrape after a minute, one that recorded more than twice as much as the least busy place takes that
//! place, and all counts are halved, so that what is long past weighs little. The series of a tenant that lost its
//! place stand still until the next such scrape, which no longer shows them; what it records meanwhile is `other`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::series::OTHER;
use crate::shared::TenantId;

/// How often places are given anew.
const PERIOD: Duration = Duration::from_secs(60);
/// How many tenants are counted while they wait, for each place.
const WAITING: usize = 4;

/// What the label `tenant` says, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantLabel(Says);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Other,
    Tenant([u8; 36]),
}

impl TenantLabel {
    /// The tenant's UUID; `other`; or empty, which leaves the label out.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Says::Nothing => "",
            Says::Other => OTHER,
            Says::Tenant(id) => std::str::from_utf8(id).unwrap_or(OTHER),
        }
    }

    pub(super) fn of(tenant: TenantId) -> Self {
        let mut text = [0; 36];
        tenant.as_uuid().hyphenated().encode_lower(&mut text);
        Self(Says::Tenant(text))
    }
}

/// The places, and those that wait for one.
pub(super) struct Tenants {
    limit: usize,
    placed: RwLock<HashMap<TenantId, AtomicU64>>,
    others: Mutex<Others>,
}

struct Others {
    waiting: HashMap<TenantId, Contender>,
    /// Their counts and they, so that the smallest is found without looking at all.
    by_count: BTreeSet<(u64, TenantId)>,
    /// Lost their place last time, and still have series.
    leaving: Vec<TenantId>,
    /// When places were last given.
    given: Instant,
}

/// A count of the space-saving algorithm: `count` may be too high, by at most `error`.
#[derive(Clone, Copy, Default)]
struct Contender {
    count: u64,
    error: u64,
}

impl Contender {
    fn certain(self) -> u64 {
        self.count - self.error
    }
}

impl Tenants {
    pub(super) fn new(limit: usize) -> Self {
        let others = Others {
            waiting: HashMap::new(),
            by_count: BTreeSet::new(),
            leaving: Vec::new(),
            given: Instant::now(),
        };
        Self { limit, placed: RwLock::new(HashMap::new()), others: Mutex::new(others) }
    }

    /// What the label says for `tenant`, which is thereby counted.
    pub(super) fn label(&self, tenant: Option<TenantId>) -> TenantLabel {
        let Some(tenant) = tenant.filter(|_| self.limit > 0) else { return TenantLabel(Says::Nothing) };
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = placed.get(&tenant) {
            count.fetch_add(1, Ordering::Relaxed);
            return TenantLabel::of(tenant);
        }
        let full = placed.len() >= self.limit;
        drop(placed);
        if !full && self.place(tenant) {
            return TenantLabel::of(tenant);
        }
        self.others().count(tenant, self.limit * WAITING);
        TenantLabel(Says::Other)
    }

    fn place(&self, tenant: TenantId) -> bool {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let free = placed.len() < self.limit;
        if free {
            placed.entry(tenant).or_default().fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the places anew when a minute has passed, and says whose series are to go.
    pub(super) fn replace_if_due(&self) -> Vec<TenantId> {
        let mut others = self.others();
        if others.given.elapsed() < PERIOD {
            return Vec::new();
        }
        others.given = Instant::now();
        drop(others);
        self.replace()
    }

    pub(super) fn replace(&self) -> Vec<TenantId> {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let mut others = self.others();
        let mut gone = std::mem::take(&mut others.leaving);
        let mut hopeful: Vec<_> =
            others.waiting.iter().map(|(tenant, one)| (one.certain(), *tenant)).collect();
        let mut least: Vec<_> =
            placed.iter().map(|(tenant, count)| (count.load(Ordering::Relaxed), *tenant)).collect();
        hopeful.sort_by_key(|(count, tenant)| (Reverse(*count), *tenant));
        least.sort_by_key(|(count, tenant)| (*count, *tenant));
        for ((count, comes), (fewer, leaves)) in hopeful.into_iter().zip(least) {
            if count <= fewer * 2 {
                break;
            }
            placed.remove(&leaves);
            placed.insert(comes, AtomicU64::new(count));
            others.waiting.remove(&comes);
            others.leaving.push(leaves);
        }
        placed.values_mut().for_each(|count| *count.get_mut() /= 2);
        others.halve();
        gone.retain(|tenant| !placed.contains_key(tenant));
        gone
    }
}

impl Others {
    /// Space-saving (Metwally and others, 2005): a newcomer takes over the smallest count, as its possible error.
    fn count(&mut self, tenant: TenantId, most: usize) {
        let mut one = match self.waiting.get(&tenant) {
            Some(known) => *known,
            None if self.waiting.len() >= most => self.take_smallest(),
            None => Contender::default(),
        };
        self.by_count.remove(&(one.count, tenant));
        one.count += 1;
        self.by_count.insert((one.count, tenant));
        self.waiting.insert(tenant, one);
    }

    fn take_smallest(&mut self) -> Contender {
        let Some((count, smallest)) = self.by_count.pop_first() else { return Contender::default() };
        self.waiting.remove(&smallest);
        Contender { count, error: count }
    }

    fn halve(&mut self) {
        self.waiting.retain(|_, one| {
            *one = Contender { count: one.count / 2, error: one.error / 2 };
            one.count > 0
        });
        self.by_count = self.waiting.iter().map(|(tenant, one)| (one.count, *tenant)).collect();
    }
}
