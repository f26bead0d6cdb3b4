use std::collections::BTreeMap;

use jiff::tz::TimeZoneDatabase;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cron::{Cron, Timetable};
use super::enqueue::bounded;
use super::{AnyJobKind, Job, JobFacts, JobKind, JobTable};
use crate::error::Error;
use crate::lifecycle::{Exit, StartError};

/// A run is late, and not missed, while no more time than this has passed: workers look once a second, and a deploy takes
/// some seconds.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// A longer name would make the name of a run too long for the column that tells where a job comes from.
const LONGEST_NAME: usize = 80;
/// What that column begins with for a run of a schedule. No client's correlation id can hold a colon.
const ORIGIN: &str = "schedule:";

/// Jobs that the clock enqueues: a row of its module's table.
///
/// The expression has five fields (minute, hour, day of the month, month, day of the week) and is read by the compiler. It
/// is by the clocks of the [`zone`](Self::zone), which is UTC by default. Where clocks are put forward, a run that is left
/// out comes when they have been; where they are put back it comes once, but for expressions for every hour. The zones are
/// those of the binary, whatever the machine has.
///
/// The jobs do the declared work of the system of their kind, in a tenant; a kind that declares none has no schedule.
/// [`Job::scheduled_at`] tells a job which run it is.
///
/// ```
/// use erp_core::jobs::{JobKind, MissedRuns, Schedule};
/// use erp_core::module::Module;
///
/// erp_core::system_work! {
///     /// What billing does as the system.
///     SYSTEM {
///         CLOSING = "billing-close": "Closes the days of all tenants, at night when nobody is there.";
///     }
/// }
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Close {
///     days: u32,
/// }
///
/// static CLOSE: JobKind<Close> =
///     JobKind::<Close>::new("billing.close", "Closes days.", |_, _| Box::pin(async { Ok(()) })).system(&CLOSING);
///
/// static NIGHTLY: Schedule =
///     Schedule::for_each_tenant("billing.nightly", "Closes yesterday.", "30 2 * * *", &CLOSE, &Close { days: 1 })
///         .zone("Europe/Zurich")
///         .missed(MissedRuns::All { at_most: 7 });
///
/// static BILLING: Module =
///     Module { name: "billing", jobs: &[&CLOSE], schedules: &[&NIGHTLY], system: SYSTEM, ..Module::BARE };
/// ```
///
/// An expression that cannot be read does not compile:
///
/// ```compile_fail,E0080
/// # use erp_core::jobs::{JobKind, Schedule};
/// # static CLOSE: JobKind<()> = JobKind::new("billing.close", "Closes.", |_, _| Box::pin(async { Ok(()) }));
/// static NIGHTLY: Schedule = Schedule::for_platform("billing.nightly", "Closes.", "30 25 * * *", &CLOSE, &());
/// ```
pub struct Schedule {
    /// `module.what_for`, unique in the product.
    pub name: &'static str,
    /// A sentence on it, for the reference.
    pub about: &'static str,
    /// When, as it was written.
    pub expression: &'static str,
    /// By the clocks of which zone of the IANA database.
    pub zone: &'static str,
    /// For whom a run enqueues jobs.
    pub scope: ScheduleScope,
    /// What becomes of runs whose time has passed while no worker was there.
    pub missed: MissedRuns,
    cron: Cron,
    kind: &'static dyn AnyJobKind,
    args: &'static dyn ConstantArgs,
}

/// For whom a run of a schedule enqueues jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleScope {
    /// One job in each active tenant.
    EachTenant,
    /// One job in the tenant `erp-platform`, which is nobody's.
    Platform,
}

/// What becomes of the runs of a schedule that were missed: their time passed more than a minute ago, and no worker was
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedRuns {
    /// The last of them comes late. The default: for work that looks at all that there is to do.
    Once,
    /// Each comes late, but for all save the last `at_most`: for work of which each run has a share of its own.
    All {
        /// How many, from 1.
        at_most: u16,
    },
    /// None comes: for what is of no use later.
    Skipped,
}

/// The arguments of all runs, whatever their type.
trait ConstantArgs: Sync {
    fn value(&self) -> serde_json::Result<Value>;
}

impl<A: Serialize + Sync> ConstantArgs for A {
    fn value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }
}

impl Schedule {
    /// Each run is one job in each active tenant. What cannot be read of the expression is said by the compiler.
    pub const fn for_each_tenant<A: Serialize + DeserializeOwned + Sync>(
        name: &'static str,
        about: &'static str,
        expression: &'static str,
        kind: &'static JobKind<A>,
        args: &'static A,
    ) -> Self {
        Self::new(name, about, expression, kind, args, ScheduleScope::EachTenant)
    }

    /// Each run is one job of the platform itself, in the tenant `erp-platform`, which is nobody's.
    pub const fn for_platform<A: Serialize + DeserializeOwned + Sync>(
        name: &'static str,
        about: &'static str,
        expression: &'static str,
        kind: &'static JobKind<A>,
        args: &'static A,
    ) -> Self {
        Self::new(name, about, expression, kind, args, ScheduleScope::Platform)
    }

    #[expect(clippy::panic, reason = "in a constant it is an error of the compiler")]
    const fn new<A: Serialize + DeserializeOwned + Sync>(
        name: &'static str,
        about: &'static str,
        expression: &'static str,
        kind: &'static JobKind<A>,
        args: &'static A,
        scope: ScheduleScope,
    ) -> Self {
        let cron = match Cron::read(expression) {
            Ok(cron) => cron,
            Err(why) => panic!("{}", why),
        };
        Self { name, about, expression, zone: "UTC", scope, missed: MissedRuns::Once, cron, kind, args }
    }

    /// By the clocks of this zone, such as `Europe/Zurich`. Default: UTC.
    pub const fn zone(self, zone: &'static str) -> Self {
        Self { zone, ..self }
    }

    /// What becomes of missed runs. Default: [`MissedRuns::Once`].
    pub const fn missed(self, missed: MissedRuns) -> Self {
        Self { missed, ..self }
    }

    /// The kind of its jobs.
    pub fn kind(&self) -> &'static JobFacts {
        self.kind.facts()
    }
}

impl Job {
    /// The run that it is, where a schedule has enqueued it: the time that the expression names. For the same run it is the
    /// same in each tenant, and in each attempt, however late that comes.
    pub fn scheduled_at(&self) -> Option<Timestamp> {
        let (_, run) = self.origin.strip_prefix(ORIGIN)?.split_once('@')?;
        run.parse().ok()
    }
}

/// Every schedule of every module, by name, ready to fire.
#[derive(Clone, Default)]
pub(crate) struct ScheduleTable(BTreeMap<&'static str, Planned>);

/// A schedule that has been checked.
#[derive(Clone)]
pub(crate) struct Planned {
    pub(crate) schedule: &'static Schedule,
    /// The arguments of its jobs.
    pub(crate) args: Value,
    /// The expression and its zone, as the database knows them.
    pub(crate) spec: String,
    timetable: Timetable,
}

/// What is to be done about a schedule whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DueRun {
    /// The run that fires, if one does.
    pub(crate) run: Option<Timestamp>,
    /// When the next one is due; that may have passed as well.
    pub(crate) next: Timestamp,
}

impl ScheduleTable {
    /// Those that the modules declare, each with its module's name.
    ///
    /// # Errors
    /// `Exit::Internal` for one that could not fire, with its name and what to write.
    pub(crate) fn new(
        schedules: impl Iterator<Item = (&'static str, &'static Schedule)>,
        jobs: &JobTable,
    ) -> Result<Self, StartError> {
        let mut table = BTreeMap::new();
        for (module, schedule) in schedules {
            let refused = |(what, fix): (String, &str)| {
                StartError::with_fix(Exit::Internal, format!("The schedule '{}' {what}", schedule.name), fix)
            };
            let planned = Planned::new(module, schedule, jobs).map_err(refused)?;
            if table.insert(schedule.name, planned).is_some() {
                return Err(refused(("has the name of another".to_owned(), "rename it in the code")));
            }
        }
        Ok(Self(table))
    }

    /// Each, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Planned> {
        self.0.values()
    }

    /// The one of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Planned> {
        self.0.get(name)
    }
}

impl Planned {
    /// Checks a schedule; what is refused is said with its fix.
    fn new(
        module: &str,
        schedule: &'static Schedule,
        jobs: &JobTable,
    ) -> Result<Self, (String, &'static str)> {
        let kind = schedule.kind();
        let of_module =
            schedule.name.split_once('.').is_some_and(|(owner, name)| owner == module && !name.is_empty());
        if !of_module || schedule.name.len() > LONGEST_NAME || schedule.name.contains('@') {
            return Err((
                format!("of '{module}' is not named after its module"),
                "call it `module.what_for`",
            ));
        }
        if jobs.get(kind.name).is_none() {
            let what = format!("is for the kind '{}', which is in no module's row", kind.name);
            return Err((what, "add the kind there, as `jobs: &[&KIND]`"));
        }
        if kind.system.is_none() {
            let what = format!("would run '{}' with nobody's permissions", kind.name);
            return Err((what, "declare with `JobKind::system` which work of the system the kind does"));
        }
        if schedule.missed == (MissedRuns::All { at_most: 0 }) {
            return Err(("makes up for none of its missed runs".to_owned(), "write `MissedRuns::Skipped`"));
        }
        let unknown = |_| {
            let what =
                format!("is by the clocks of '{}', which is no zone of the IANA database", schedule.zone);
            (what, "write one such as Europe/Zurich or UTC")
        };
        let zone = TimeZoneDatabase::bundled().get(schedule.zone).map_err(unknown)?;
        let timetable = Timetable::new(schedule.cron, zone);
        if timetable.next(Timestamp::UNIX_EPOCH).is_none() {
            let what = format!("never fires: no date is '{}'", schedule.expression);
            return Err((what, "write days that the months have"));
        }
        let args = schedule.args.value().map_err(Error::internal);
        let args = args.and_then(|args| bounded(&args).map(|()| args));
        let args = args
            .map_err(|error| (format!("has arguments that no job can have: {error}"), "make them smaller"))?;
        let spec = format!("{} {}", schedule.expression, schedule.zone);
        Ok(Self { schedule, args, spec, timetable })
    }

    /// The first run after an instant. For an expression that has fired for ten years there is one.
    pub(crate) fn next(&self, after: Timestamp) -> Timestamp {
        self.timetable.next(after).unwrap_or(Timestamp::MAX)
    }

    /// What is to be done now that `next_at` has come. Where an operator has set that to another time than the expression's,
    /// there is a run at that time.
    pub(crate) fn due(&self, next_at: Timestamp, now: Timestamp) -> DueRun {
        let last =
            |until: Timestamp| self.timetable.last(until).filter(|run| *run > next_at).unwrap_or(next_at);
        let latest = last(now);
        match self.schedule.missed {
            MissedRuns::Once => DueRun { run: Some(latest), next: self.next(now) },
            MissedRuns::Skipped => {
                let in_time = now.duration_since(latest) < LATE;
                DueRun { run: in_time.then_some(latest), next: self.next(now) }
            }
            MissedRuns::All { at_most } => {
                let before = |run: &Timestamp| {
                    let earlier = run.checked_sub(SignedDuration::from_secs(1)).ok()?;
                    (*run > next_at).then(|| last(earlier))
                };
                let run = std::iter::successors(Some(latest), before).take(at_most.into()).last();
                let run = run.unwrap_or(latest);
                DueRun { run: Some(run), next: self.next(run) }
            }
        }
    }

    /// The name of a run: a job of it has it as its unique key.
    pub(crate) fn run_name(&self, run: Timestamp) -> String {
        format!("{}@{run}", self.schedule.name)
    }

    /// Where a job of a run comes from, as it tells itself.
    pub(crate) fn origin(&self, run: Timestamp) -> String {
        format!("{ORIGIN}{}", self.run_name(run))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "rows of a table last as long as the program, in a test too")]
mod tests {
    use super::*;
    use crate::db::SystemWork;

    static WORK: SystemWork = SystemWork { name: "tick", why: "It is a test's." };
    static TICK: JobKind<()> =
        JobKind::<()>::new("clock.tick", "Ticks.", |_, ()| Box::pin(async { Ok(()) })).system(&WORK);
    static NOBODYS: JobKind<()> = JobKind::new("clock.nobodys", "Ticks.", |_, ()| Box::pin(async { Ok(()) }));
    static UNLISTED: JobKind<()> =
        JobKind::<()>::new("clock.unlisted", "Ticks.", |_, ()| Box::pin(async { Ok(()) })).system(&WORK);
    static LARGE: JobKind<String> =
        JobKind::<String>::new("clock.large", "Ticks.", |_, _| Box::pin(async { Ok(()) })).system(&WORK);

    const DAILY: Schedule = Schedule::for_platform("clock.daily", "Ticks.", "0 2 * * *", &TICK, &());

    fn table(schedules: &[Schedule]) -> Result<ScheduleTable, StartError> {
        let kinds: [&'static dyn AnyJobKind; 3] = [&TICK, &NOBODYS, &LARGE];
        let schedules = schedules.iter().map(|schedule| {
            let Schedule { name, about, expression, zone, scope, missed, cron, kind, args } = *schedule;
            Schedule { name, about, expression, zone, scope, missed, cron, kind, args }
        });
        let leaked = schedules.map(|schedule| ("clock", &*Box::leak(Box::new(schedule))));
        ScheduleTable::new(leaked, &JobTable::new(kinds.into_iter()))
    }

    fn due(missed: MissedRuns, next_at: &str, now: &str) -> (Option<String>, String) {
        let table = table(&[DAILY.missed(missed)]).unwrap();
        let DueRun { run, next } =
            table.get("clock.daily").unwrap().due(next_at.parse().unwrap(), now.parse().unwrap());
        (run.map(|run| run.to_string()), next.to_string())
    }

    #[test]
    fn t_20_a_schedule_that_could_not_fire_is_refused_with_its_name_and_what_to_write() {
        let many: &'static String = Box::leak(Box::new("x".repeat(20_000)));
        let large = Schedule::for_platform("clock.large", "Ticks.", "0 2 * * *", &LARGE, many);
        let of = |kind: &'static JobKind<()>| {
            Schedule::for_platform("clock.daily", "Ticks.", "0 2 * * *", kind, &())
        };
        let named = |name| Schedule::for_platform(name, "Ticks.", "0 2 * * *", &TICK, &());
        let never = Schedule::for_platform("clock.never", "Ticks.", "0 0 31 2 *", &TICK, &());
        for (schedules, what) in [
            (
                &[DAILY.zone("Europe/Zürich")][..],
                "'clock.daily' is by the clocks of 'Europe/Zürich', which is no zone",
            ),
            (&[DAILY.zone("")], "is by the clocks of ''"),
            (&[never], "'clock.never' never fires: no date is '0 0 31 2 *'"),
            (&[of(&NOBODYS)], "would run 'clock.nobodys' with nobody's permissions"),
            (&[of(&UNLISTED)], "is for the kind 'clock.unlisted', which is in no module's row"),
            (&[named("other.daily")], "'other.daily' of 'clock' is not named after its module"),
            (&[named("clock")], "is not named after its module"),
            (&[DAILY, DAILY.zone("Europe/Zurich")], "'clock.daily' has the name of another"),
            (&[DAILY.missed(MissedRuns::All { at_most: 0 })], "makes up for none of its missed runs"),
            (&[large], "has arguments that no job can have"),
        ] {
            let Err(error) = table(schedules) else { panic!("taken: {what}") };
            let said = format!("{error:?}");
            assert!(said.contains(what), "{said}");
            assert_eq!(error.exit, Exit::Internal);
        }
        assert!(table(&[DAILY]).is_ok());
    }

    #[test]
    fn a_run_in_time_fires_whatever_becomes_of_missed_ones() {
        for missed in [MissedRuns::Once, MissedRuns::All { at_most: 3 }, MissedRuns::Skipped] {
            for now in ["2026-02-03T02:00:00Z", "2026-02-03T02:00:59.9Z"] {
                let (run, next) = due(missed, "2026-02-03T02:00:00Z", now);
                assert_eq!(run.as_deref(), Some("2026-02-03T02:00:00Z"), "{missed:?}");
                assert_eq!(next, "2026-02-04T02:00:00Z");
            }
        }
    }

    #[test]
    fn missed_runs_come_once_all_or_not_at_all() {
        let five_days = |missed| due(missed, "2026-02-03T02:00:00Z", "2026-02-07T12:00:00Z");
        let some = |run: &str, next: &str| (Some(run.to_owned()), next.to_owned());
        assert_eq!(five_days(MissedRuns::Once), some("2026-02-07T02:00:00Z", "2026-02-08T02:00:00Z"));
        assert_eq!(five_days(MissedRuns::Skipped), (None, "2026-02-08T02:00:00Z".to_owned()));
        let three = five_days(MissedRuns::All { at_most: 3 });
        assert_eq!(
            three,
            some("2026-02-05T02:00:00Z", "2026-02-06T02:00:00Z"),
            "the oldest of the last three"
        );
        let all = five_days(MissedRuns::All { at_most: 100 });
        assert_eq!(all, some("2026-02-03T02:00:00Z", "2026-02-04T02:00:00Z"), "one after the other");
        let (run, _) = due(MissedRuns::Skipped, "2026-02-03T02:00:00Z", "2026-02-07T02:00:10Z");
        assert_eq!(run.as_deref(), Some("2026-02-07T02:00:00Z"), "the last one is not missed yet");
    }

    #[test]
    fn a_run_that_somebody_has_asked_for_comes_at_that_time() {
        let (run, next) = due(MissedRuns::Once, "2026-02-03T09:30:00Z", "2026-02-03T09:30:00.5Z");
        assert_eq!((run.as_deref(), next.as_str()), (Some("2026-02-03T09:30:00Z"), "2026-02-04T02:00:00Z"));
        let (run, next) = due(MissedRuns::All { at_most: 5 }, "2026-02-03T09:30:00Z", "2026-02-04T12:00:00Z");
        assert_eq!((run.as_deref(), next.as_str()), (Some("2026-02-03T09:30:00Z"), "2026-02-04T02:00:00Z"));
    }

    #[test]
    fn a_job_of_a_run_tells_which_one_it_is_and_no_clients_id_does() {
        let table = table(&[DAILY]).unwrap();
        let run = "2026-02-03T02:00:00Z".parse().unwrap();
        let planned = table.get("clock.daily").unwrap();
        assert_eq!(planned.origin(run), "schedule:clock.daily@2026-02-03T02:00:00Z");
        assert_eq!(planned.run_name(run), "clock.daily@2026-02-03T02:00:00Z");
        assert_eq!(planned.spec, "0 2 * * * UTC");
    }
}
