//! Jobs: work that is done later, in the tenant of who enqueued it and with the permissions that they have then.
//!
//! A module declares a [`JobKind`] and lists it in its row; `tx.enqueue(&KIND, &args)` adds a job to a transaction, which
//! commits or vanishes with it. The workers in `worker` run it. What a job changes in the database happens exactly once:
//! its changes are committed together with its completion, by the attempt that still holds the job. What it does
//! elsewhere, such as sending a mail, may happen again after a crash.

mod backoff;
mod codes;
mod cron;
mod enqueue;
mod job;
mod kind;
mod schedule;
mod steer;

pub(crate) use backoff::backoff;
pub use backoff::jittered;
pub use codes::{JOB_ERRORS, job_codes};
pub use enqueue::{JobOptions, enqueue_once};
pub(crate) use enqueue::{job_of_system, system_job};
pub(crate) use job::JobTold;
pub use job::{Job, JobId, JobProgress, JobRow, give_up};
pub use kind::{AnyJobKind, JobFacts, JobKind, JobRun, JobTable};
pub use schedule::{MissedRuns, Schedule, ScheduleScope};
pub(crate) use schedule::{Planned, ScheduleTable};
pub(crate) use steer::ALL_JOBS;
pub use steer::{JOBS, JobState, SteeredJob, cancel, discard, hasten, retry};
