use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Job;
use crate::db::SystemWork;
use crate::error::{Error, Result};

/// What a kind of job does with one job: `|job, args| Box::pin(remind(job, args))`.
pub type JobRun<A> = for<'a> fn(&'a Job, A) -> BoxFuture<'a, Result<()>>;

/// One kind of job: a row of its module's table, with arguments of the type `A`.
///
/// ```
/// use std::time::Duration;
/// use erp_core::error::Result;
/// use erp_core::jobs::{Job, JobKind};
/// use erp_core::module::Module;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Reminder {
///     invoice: String,
/// }
///
/// static REMIND: JobKind<Reminder> =
///     JobKind::new("billing.remind", "Reminds a customer of an invoice.", |job, args| Box::pin(remind(job, args)))
///         .attempts(5)
///         .time_limit(Duration::from_secs(20));
///
/// static BILLING: Module = Module { name: "billing", jobs: &[&REMIND], ..Module::BARE };
///
/// async fn remind(job: &Job, reminder: Reminder) -> Result<()> {
///     let mut tx = job.call.tenant();
///     // what it changes is committed with the job, or not at all
///     tx.commit().await
/// }
/// ```
pub struct JobKind<A: 'static> {
    facts: JobFacts,
    run: JobRun<A>,
    args: PhantomData<fn(A)>,
}

/// What the table says of a kind of job, whatever its arguments are.
#[derive(Debug, Clone, Copy)]
pub struct JobFacts {
    /// `module.what_it_does`, and `@2` where the arguments have another form than before: an older process leaves those
    /// alone, as it does every kind that it does not know.
    pub name: &'static str,
    /// A sentence on what it does, for the reference.
    pub about: &'static str,
    /// How often it is tried in all. Default: 12, over some three hours.
    pub attempts: u16,
    /// How long one attempt may take. Default: 5 minutes.
    pub time_limit: Duration,
    /// 0 before 1 before 2, among the jobs of one tenant. Default: 1.
    pub priority: u8,
    /// How many may run at a time in one tenant, in all processes together. Default: as many as there are slots.
    pub at_most: Option<u16>,
    /// Whether it runs on threads of its own, since it computes or blocks. Default: no.
    pub threads: bool,
    /// The work that it does as the system, if it does not do it for its principal.
    pub system: Option<&'static SystemWork>,
}

impl<A> JobKind<A> {
    /// A kind with the defaults of [`JobFacts`]. `name` is `module.what_it_does`.
    pub const fn new(name: &'static str, about: &'static str, run: JobRun<A>) -> Self {
        let facts = JobFacts {
            name,
            about,
            attempts: 12,
            time_limit: Duration::from_secs(300),
            priority: 1,
            at_most: None,
            threads: false,
            system: None,
        };
        Self { facts, run, args: PhantomData }
    }

    /// See [`JobFacts::attempts`].
    pub const fn attempts(self, attempts: u16) -> Self {
        Self { facts: JobFacts { attempts, ..self.facts }, ..self }
    }

    /// See [`JobFacts::time_limit`].
    pub const fn time_limit(self, time_limit: Duration) -> Self {
        Self { facts: JobFacts { time_limit, ..self.facts }, ..self }
    }

    /// Before the other jobs of its tenant: for what somebody waits for.
    pub const fn urgent(self) -> Self {
        Self { facts: JobFacts { priority: 0, ..self.facts }, ..self }
    }

    /// After the other jobs of its tenant: for what may wait.
    pub const fn unhurried(self) -> Self {
        Self { facts: JobFacts { priority: 2, ..self.facts }, ..self }
    }

    /// See [`JobFacts::at_most`].
    pub const fn at_most(self, most: u16) -> Self {
        Self { facts: JobFacts { at_most: Some(most), ..self.facts }, ..self }
    }

    /// See [`JobFacts::threads`].
    pub const fn on_threads(self) -> Self {
        Self { facts: JobFacts { threads: true, ..self.facts }, ..self }
    }

    /// It runs as the system, by [`Job::system`], and not with anybody's permissions. `work` is declared in the module's
    /// table.
    pub const fn system(self, work: &'static SystemWork) -> Self {
        Self { facts: JobFacts { system: Some(work), ..self.facts }, ..self }
    }
}

/// A kind of job, whatever the type of its arguments.
pub trait AnyJobKind: Sync {
    /// What the table says of it.
    fn facts(&self) -> &JobFacts;

    /// Reads the arguments and begins to run.
    ///
    /// # Errors
    /// `jobs.given_up` for arguments that cannot be read.
    fn run<'a>(&self, job: &'a Job, args: Value) -> Result<BoxFuture<'a, Result<()>>>;
}

impl<A: Serialize + DeserializeOwned + 'static> AnyJobKind for JobKind<A> {
    fn facts(&self) -> &JobFacts {
        &self.facts
    }

    fn run<'a>(&self, job: &'a Job, args: Value) -> Result<BoxFuture<'a, Result<()>>> {
        let args = serde_json::from_value(args).map_err(|error| {
            let what = format!("The arguments cannot be read as those of {}.", self.facts.name);
            Error::new(&super::job_codes::GIVEN_UP).detail(what).because(error)
        })?;
        Ok((self.run)(job, args))
    }
}

/// Every kind of job of every module, by name.
#[derive(Clone, Default)]
pub struct JobTable(BTreeMap<&'static str, &'static dyn AnyJobKind>);

impl JobTable {
    /// Those that the modules declare.
    pub fn new(kinds: impl Iterator<Item = &'static dyn AnyJobKind>) -> Self {
        Self(kinds.map(|kind| (kind.facts().name, kind)).collect())
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<&'static dyn AnyJobKind> {
        self.0.get(name).copied()
    }

    /// What the table says of each, in the order of their names.
    pub fn facts(&self) -> impl Iterator<Item = &'static JobFacts> {
        self.0.values().map(|kind| kind.facts())
    }
}
