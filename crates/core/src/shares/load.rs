//! How much each tenant asks of this process: so that none takes what the others need, and operators see who asks most (T-22).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shared::TenantId;

/// Above this many entries, those of tenants that are quiet are dropped.
const TIDY_ABOVE: usize = 1024;
/// The minutes of which the numbers are kept, the present one included.
pub const LOAD_MINUTES: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);

/// How much each tenant asks of this process.
pub struct TenantLoads {
    begun: Instant,
    tenants: Mutex<HashMap<TenantId, Arc<TenantLoad>>>,
}

/// What one tenant asks, and has asked in the last minutes.
struct TenantLoad {
    /// Its requests that are worked on.
    under_way: AtomicUsize,
    /// Connections to the database that it holds.
    connections: AtomicUsize,
    numbers: Mutex<LoadNumbers>,
}

struct LoadNumbers {
    /// The last minutes, by their number modulo how many there are.
    minutes: [LoadMinute; LOAD_MINUTES],
    /// The database time that it has used and not got back yet, as of `since`.
    level: Duration,
    since: Instant,
}

#[derive(Clone, Copy, Default)]
struct LoadMinute {
    number: u64,
    requests: u64,
    errors: u64,
    database: Duration,
}

/// What a tenant may ask of a process at most, by its plan; `None`: as much as any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadLimits {
    /// Requests that are worked on at a time.
    pub at_once: Option<u32>,
    /// Database time in a minute: how long it holds connections, all of them together.
    pub database: Option<Duration>,
}

/// Which of its limits a tenant has reached, and when it may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadRefusal {
    /// The name of the limit.
    pub policy: &'static str,
    /// When there will be room, as far as is known.
    pub wait: Duration,
}

/// A request that is worked on; over when dropped.
pub struct RequestUnderWay(Arc<TenantLoad>);

/// A connection that a tenant holds; given back when dropped.
pub(crate) struct HeldConnection {
    of: Arc<TenantLoad>,
    begun: Instant,
    /// Since when minutes are numbered.
    first: Instant,
}

/// What a tenant asks now, and has asked in the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOfTenant {
    /// Whose it is.
    pub tenant: TenantId,
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that were answered with 5xx.
    pub errors: u64,
    /// How long it held connections to the database, all together.
    pub database: Duration,
    /// Connections that it holds now.
    pub connections: usize,
    /// Its requests that are worked on now.
    pub under_way: usize,
}

impl Default for TenantLoads {
    fn default() -> Self {
        Self { begun: Instant::now(), tenants: Mutex::default() }
    }
}

impl TenantLoads {
    /// Lets a request of the tenant's begin.
    ///
    /// # Errors
    /// Which limit it has reached.
    pub fn enter(&self, tenant: TenantId, limits: LoadLimits) -> Result<RequestUnderWay, LoadRefusal> {
        let load = self.of(tenant);
        if let Some(limit) = limits.database {
            let level = load.lock().level(limit);
            if level >= limit {
                // What it has used comes back evenly, all of it in a minute.
                let wait = MINUTE.mul_f64((level - limit).as_secs_f64() / limit.as_secs_f64().max(0.001));
                return Err(LoadRefusal { policy: "database-time", wait });
            }
        }
        let before = load.under_way.fetch_add(1, Ordering::Relaxed);
        let begun = RequestUnderWay(load);
        match limits.at_once.is_some_and(|most| before >= most as usize) {
            true => Err(LoadRefusal { policy: "requests-at-once", wait: Duration::from_secs(1) }),
            false => Ok(begun),
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, tenant: TenantId, failed: bool) {
        let load = self.of(tenant);
        let mut numbers = load.lock();
        let minute = numbers.minute(self.number());
        minute.requests += 1;
        minute.errors += u64::from(failed);
    }

    /// The tenant holds a connection from here on.
    pub(crate) fn hold(&self, tenant: TenantId) -> HeldConnection {
        let of = self.of(tenant);
        of.connections.fetch_add(1, Ordering::Relaxed);
        HeldConnection { of, begun: Instant::now(), first: self.begun }
    }

    /// All tenants that have asked something in the last minutes.
    pub fn all(&self) -> Vec<LoadOfTenant> {
        let now = self.number();
        let told = |(tenant, load): (&TenantId, &Arc<TenantLoad>)| {
            let numbers = load.lock();
            let recent = numbers.minutes.iter().filter(|minute| minute.is_recent(now));
            let mut told = LoadOfTenant {
                tenant: *tenant,
                requests: 0,
                errors: 0,
                database: Duration::ZERO,
                connections: load.connections.load(Ordering::Relaxed),
                under_way: load.under_way.load(Ordering::Relaxed),
            };
            for minute in recent {
                told.requests += minute.requests;
                told.errors += minute.errors;
                told.database += minute.database;
            }
            told
        };
        let all: Vec<_> = self.lock().iter().map(told).collect();
        let quiet =
            |load: &LoadOfTenant| load.requests == 0 && load.database.is_zero() && load.connections == 0;
        all.into_iter().filter(|load| !quiet(load) || load.under_way > 0).collect()
    }

    fn of(&self, tenant: TenantId) -> Arc<TenantLoad> {
        let mut tenants = self.lock();
        if tenants.len() >= TIDY_ABOVE && !tenants.contains_key(&tenant) {
            let now = self.number();
            tenants.retain(|_, load| Arc::strong_count(load) > 1 || load.lock().matters(now));
        }
        let new = || {
            Arc::new(TenantLoad {
                under_way: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
                numbers: Mutex::new(LoadNumbers {
                    minutes: [LoadMinute::default(); LOAD_MINUTES],
                    level: Duration::ZERO,
                    since: Instant::now(),
                }),
            })
        };
        Arc::clone(tenants.entry(tenant).or_insert_with(new))
    }

    /// The number of the present minute.
    fn number(&self) -> u64 {
        number_since(self.begun)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<TenantLoad>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the present minute, where the first one began then.
fn number_since(first: Instant) -> u64 {
    1 + first.elapsed().as_secs() / MINUTE.as_secs()
}

impl TenantLoad {
    fn lock(&self) -> MutexGuard<'_, LoadNumbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadNumbers {
    /// The numbers of a minute; those of the same place before it are over.
    fn minute(&mut self, number: u64) -> &mut LoadMinute {
        let place = usize::try_from(number).unwrap_or_default() % LOAD_MINUTES;
        let minute = &mut self.minutes[place];
        if minute.number != number {
            *minute = LoadMinute { number, ..LoadMinute::default() };
        }
        minute
    }

    /// How much of the database time is used: `limit` of it comes back in a minute.
    fn level(&mut self, limit: Duration) -> Duration {
        let now = Instant::now();
        let back = limit.mul_f64((now - self.since).as_secs_f64() / MINUTE.as_secs_f64());
        (self.level, self.since) = (self.level.saturating_sub(back), now);
        self.level
    }

    /// Whether it is still to be told of, or to be held against the tenant.
    fn matters(&self, now: u64) -> bool {
        !self.level.is_zero() && self.since.elapsed() < MINUTE * 10
            || self.minutes.iter().any(|minute| minute.is_recent(now))
    }
}

impl LoadMinute {
    fn is_recent(&self, now: u64) -> bool {
        self.number > 0 && self.number + LOAD_MINUTES as u64 > now
    }
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for HeldConnection {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.of.connections.fetch_sub(1, Ordering::Relaxed);
        let mut numbers = self.of.lock();
        numbers.level += took;
        numbers.minute(number_since(self.first)).database += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn t_22_a_tenant_has_no_more_requests_at_a_time_than_its_plan() {
        let loads = TenantLoads::default();
        let limits = LoadLimits { at_once: Some(2), database: None };
        let held = [loads.enter(tenant(1), limits).unwrap(), loads.enter(tenant(1), limits).unwrap()];
        assert_eq!(loads.enter(tenant(1), limits).err().unwrap().policy, "requests-at-once");
        let _other = loads.enter(tenant(2), limits).unwrap();
        drop(held);
        assert!(loads.enter(tenant(1), limits).is_ok(), "a refusal takes nothing");
    }

    #[test]
    fn t_22_a_tenant_that_has_used_its_database_time_waits_until_it_has_come_back() {
        let loads = TenantLoads::default();
        let limits = LoadLimits { at_once: None, database: Some(Duration::from_millis(100)) };
        drop(loads.enter(tenant(1), limits).unwrap());
        let mut held = loads.hold(tenant(1));
        held.begun -= Duration::from_millis(150);
        drop(held);
        let refusal = loads.enter(tenant(1), limits).err().unwrap();
        let wait = refusal.wait.as_secs_f64();
        assert!(refusal.policy == "database-time" && (29.0..31.0).contains(&wait), "{refusal:?}");
        assert!(loads.enter(tenant(2), limits).is_ok());
        assert!(loads.enter(tenant(1), LoadLimits::default()).is_ok(), "the plan is another one now");
        // Half a minute later half of what it may use has come back.
        loads.of(tenant(1)).lock().since -= Duration::from_secs(31);
        assert!(loads.enter(tenant(1), limits).is_ok());
    }

    #[test]
    fn what_was_asked_is_told_for_five_minutes_and_quiet_tenants_leave_nothing_behind() {
        let loads = TenantLoads::default();
        loads.ended(tenant(1), false);
        loads.ended(tenant(1), true);
        let held = loads.hold(tenant(1));
        let told = loads.all();
        assert_eq!((told.len(), told[0].requests, told[0].errors, told[0].connections), (1, 2, 1, 1));
        drop(held);
        let begun = loads.begun;
        let later = TenantLoads { begun: begun - MINUTE * 5, ..loads };
        assert_eq!(later.all(), []);
        for number in 2..3 * TIDY_ABOVE as u128 {
            drop(later.enter(tenant(number), LoadLimits::default()));
        }
        assert!(later.lock().len() <= TIDY_ABOVE, "{}", later.lock().len());
    }
}
