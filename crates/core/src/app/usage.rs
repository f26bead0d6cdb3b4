//! What happens in tenants, such as requests: gathered here, and added to what the database knows every few seconds.
//!
//! A statement for each request would cost more than many requests do. So what the last five seconds held is lost when the process
//! is killed, and added when it is stopped; and a tenant can go beyond its quota of a day by what it asks for within five seconds,
//! of each instance.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::App;
use crate::auth::{Caller, Counting, Meter};
use crate::error::{Error, ExceededQuota, Result, codes};
use crate::shared::{Day, TenantId};

/// Requests that a tenant's plan pays for.
pub static REQUESTS: Meter = Meter::happenings(
    "core.requests",
    "requests",
    "Requests of the tenant's members, keys and service accounts that were let in.",
);
/// Jobs that were run.
pub(crate) static JOBS_RUN: Meter =
    Meter::unlimited("core.jobs", "jobs", "Jobs that were done; those that failed are not counted.");
/// Mails that were handed over.
pub(crate) static MAILS_SENT: Meter =
    Meter::unlimited("core.mails", "mails", "Mails that the mail server has taken.");
/// What files take.
pub(crate) static FILE_BYTES: Meter = Meter {
    name: "core.file_bytes",
    about: "What the tenant's files take in the store.",
    unit: "bytes",
    counting: Counting::Bytes,
};

/// How many tenants' numbers are remembered that have nothing to be added: beyond, they are read anew when they are added to.
const MOST: usize = 10_000;

/// What has happened in tenants.
#[derive(Default)]
pub struct GatheredUsage(Mutex<GatheredNumbers>);

#[derive(Default)]
struct GatheredNumbers {
    today: HashMap<(TenantId, &'static str), DayNumbers>,
    /// What was not added before its day was over.
    before: Vec<UsageAddition>,
}

/// The numbers of one meter in one tenant on one day.
#[derive(Clone, Copy)]
struct DayNumbers {
    day: Day,
    /// What is to be added.
    new: i64,
    /// What the database had when it was last added to, all instances together, and what is being added.
    known: i64,
}

/// What is to be added to what the database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageAddition {
    pub(crate) tenant: TenantId,
    pub(crate) meter: &'static str,
    pub(crate) day: Day,
    pub(crate) number: i64,
}

impl GatheredUsage {
    /// Counts one more, unless as many as `quota` have been counted today; then returns how many.
    fn add(&self, tenant: TenantId, meter: &Meter, day: Day, quota: Option<i64>) -> Result<(), i64> {
        let mut held = self.lock();
        let GatheredNumbers { today, before } = &mut *held;
        let numbers = today.entry((tenant, meter.name)).or_insert(DayNumbers { day, new: 0, known: 0 });
        if numbers.day != day {
            let DayNumbers { day: over, new: number, .. } =
                std::mem::replace(numbers, DayNumbers { day, new: 0, known: 0 });
            let rest = UsageAddition { tenant, meter: meter.name, day: over, number };
            before.extend((number > 0).then_some(rest));
        }
        let used = numbers.known + numbers.new;
        if quota.is_some_and(|quota| used >= quota) {
            return Err(used);
        }
        numbers.new += 1;
        Ok(())
    }

    /// Takes what is to be added.
    pub(crate) fn take(&self) -> Vec<UsageAddition> {
        let mut held = self.lock();
        let mut taken = std::mem::take(&mut held.before);
        if held.today.len() > MOST {
            held.today.retain(|_, numbers| numbers.new > 0);
        }
        for ((tenant, meter), numbers) in &mut held.today {
            let number = std::mem::take(&mut numbers.new);
            numbers.known += number;
            let addition = UsageAddition { tenant: *tenant, meter, day: numbers.day, number };
            taken.extend((number > 0).then_some(addition));
        }
        taken
    }

    /// Puts back what could not be added.
    pub(crate) fn put_back(&self, additions: Vec<UsageAddition>) {
        let mut held = self.lock();
        for addition in additions {
            let UsageAddition { tenant, meter, day, number } = addition;
            match held.today.get_mut(&(tenant, meter)).filter(|numbers| numbers.day == day) {
                Some(numbers) => {
                    numbers.new += number;
                    numbers.known -= number;
                }
                None => held.before.push(addition),
            }
        }
    }

    /// Learns how many there are, all instances together.
    pub(crate) fn learn(&self, tenant: TenantId, meter: &'static str, day: Day, used: i64) {
        let mut held = self.lock();
        if let Some(numbers) = held.today.get_mut(&(tenant, meter)).filter(|numbers| numbers.day == day) {
            numbers.known = used;
        }
    }

    fn lock(&self) -> MutexGuard<'_, GatheredNumbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// The day, in UTC: all tenants' usage has the same.
    pub fn usage_day(&self) -> Result<Day> {
        Day::new(self.clock.now().to_zoned(TimeZone::UTC).date()).map_err(Error::internal)
    }

    /// Counts what has happened in a tenant.
    pub(crate) fn count_usage(&self, tenant: TenantId, meter: &'static Meter) {
        if let Ok(day) = self.usage_day() {
            let _ = self.usage.add(tenant, meter, day, None);
        }
    }

    /// Counts a request of the caller's, and refuses it where its tenant has used what it has for the day.
    ///
    /// # Errors
    /// `core.quota_used_up`.
    pub(crate) fn count_request(&self, caller: &Caller) -> Result<()> {
        let quota = caller.entitlements().quota(&REQUESTS);
        let added = self.usage.add(caller.tenant(), &REQUESTS, self.usage_day()?, quota);
        let (Err(used), Some(limit)) = (added, quota) else { return Ok(()) };
        let meter = REQUESTS.name;
        Err(Error::new(&codes::QUOTA_USED_UP)
            .beyond(ExceededQuota { meter: meter.into(), limit, used })
            .violated(vec![meter])
            .retry_after(self.rest_of_the_day()))
    }

    fn rest_of_the_day(&self) -> Duration {
        let gone = u64::try_from(self.clock.now().as_second().rem_euclid(86_400)).unwrap_or_default();
        Duration::from_secs(86_400_u64.saturating_sub(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn what_happens_is_added_once_whatever_becomes_of_the_database() {
        let usage = GatheredUsage::default();
        let today = day("2026-11-30");
        for _ in 0..3 {
            usage.add(tenant(1), &REQUESTS, today, None).unwrap();
        }
        let taken = usage.take();
        assert_eq!((taken.len(), taken[0].number), (1, 3));
        usage.add(tenant(1), &REQUESTS, today, None).unwrap();
        usage.put_back(taken); // the database was away
        assert_eq!(usage.take()[0].number, 4);
        assert!(usage.take().is_empty());
    }

    #[test]
    fn a_quota_counts_what_is_known_of_all_instances_and_what_is_new_here() {
        let usage = GatheredUsage::default();
        let today = day("2026-11-30");
        usage.add(tenant(1), &REQUESTS, today, Some(10)).unwrap();
        let _adding = usage.take();
        assert_eq!(usage.add(tenant(1), &REQUESTS, today, Some(1)), Err(1), "also while it is being added");
        usage.learn(tenant(1), REQUESTS.name, today, 9); // eight were another's
        usage.add(tenant(1), &REQUESTS, today, Some(10)).unwrap();
        assert_eq!(usage.add(tenant(1), &REQUESTS, today, Some(10)), Err(10));
        usage.add(tenant(2), &REQUESTS, today, Some(10)).unwrap();
        usage.add(tenant(1), &REQUESTS, day("2026-12-01"), Some(10)).unwrap();
        let mut taken = usage.take();
        taken.sort_by_key(|one| (one.day, one.tenant.to_string()));
        let told: Vec<_> = taken.iter().map(|one| (one.day.to_string(), one.number)).collect();
        let expected = [("2026-11-30", 1), ("2026-11-30", 1), ("2026-12-01", 1)];
        assert_eq!(told, expected.map(|(day, number)| (day.to_owned(), number)), "yesterday's is not lost");
    }

    #[test]
    fn tenants_that_are_quiet_leave_nothing_behind() {
        let usage = GatheredUsage::default();
        for number in 0..3 * MOST as u128 {
            usage.add(tenant(number), &REQUESTS, day("2026-11-30"), None).unwrap();
        }
        assert_eq!(usage.take().len(), 3 * MOST);
        usage.take();
        assert!(usage.lock().today.is_empty(), "{}", usage.lock().today.len());
    }
}
