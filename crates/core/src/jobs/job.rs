use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::enqueue::bounded;
use super::job_codes;
use crate::db::{Deferral, FromSql, System, TenantTx, Type};
use crate::error::{Error, Result};
use crate::resource::Call;
use crate::shared::{Id, IdKind};
use crate::stream::{Cell, CsvLine};

/// The id of a job.
pub type JobId = Id<JobRow>;

/// See [`JobId`].
#[derive(Debug)]
pub enum JobRow {}

impl IdKind for JobRow {
    const NAME: &'static str = "job";
}

/// Lets a job come again later, in the transaction that has its effects.
const PUT_OFF: &str = "select app.put_off_job($1, $2, $3, $4)";
const KEEP: &str = "select app.keep_job_state($1, $2, $3, $4)";

/// A job that runs: what its handler is given.
///
/// Its [`call`](Self::call) is what a request's handler has, with the permissions of who enqueued it as they are now.
/// What it commits waits until the handler ends, and is then committed together with the job's completion. So a handler
/// that fails has changed nothing, and one that takes long over what it does in the database keeps a connection all the
/// while: such work is done in [steps](Self::keep).
pub struct Job {
    /// The app, and on whose behalf.
    pub call: Call,
    pub(crate) id: JobId,
    pub(crate) attempt: i16,
    /// How many attempts its kind has, in a row in which none gets any further.
    pub(crate) most: i16,
    pub(crate) enqueued_at: Timestamp,
    /// The correlation id of who enqueued it, or the run of a schedule.
    pub(crate) origin: String,
    pub(crate) system: Option<System>,
    pub(crate) deferral: Deferral,
    pub(crate) told: Mutex<JobTold>,
}

/// What a handler has told of its job.
#[derive(Debug, Default)]
pub(crate) struct JobTold {
    pub(crate) state: Option<Value>,
    pub(crate) progress: Option<JobProgress>,
    pub(crate) result: Option<Value>,
    pub(crate) put_off: Option<Duration>,
}

/// How far a job is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobProgress {
    /// How much is done.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub done: u64,
    /// Of how much, where that is known.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub of: Option<u64>,
}

impl<'a> FromSql<'a> for JobProgress {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(serde_json::from_value(Value::from_sql(ty, raw)?)?)
    }

    fn accepts(ty: &Type) -> bool {
        <Value as FromSql<'_>>::accepts(ty)
    }
}

impl Cell for JobProgress {
    const NAMES: &'static [&'static str] = &[".done", ".of"];

    fn write(&self, line: &mut CsvLine<'_>) {
        line.value(self.done);
        match self.of {
            Some(of) => line.value(of),
            None => line.text(""),
        };
    }
}

impl Job {
    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u16 {
        self.attempt.unsigned_abs()
    }

    /// When it was enqueued.
    pub fn enqueued_at(&self) -> Timestamp {
        self.enqueued_at
    }

    /// The right to do the work of the system that its kind declares.
    ///
    /// # Errors
    /// `core.internal` where the kind declares none.
    pub fn system(&self) -> Result<&System> {
        self.system.as_ref().ok_or_else(|| Error::internal("the job's kind declares no work of the system"))
    }

    /// What the last step kept, in this attempt or an earlier one.
    ///
    /// # Errors
    /// `jobs.given_up` where it cannot be read as an `S`.
    pub fn kept<S: DeserializeOwned>(&self) -> Result<Option<S>> {
        let kept = self.told().state.clone();
        let unreadable =
            |error| Error::new(&job_codes::GIVEN_UP).detail("Its state cannot be read.").because(error);
        kept.map(serde_json::from_value).transpose().map_err(unreadable)
    }

    /// Ends a step: commits what was changed so far, and keeps `state` with it for an attempt that goes on from here, which
    /// has all attempts before it again.
    ///
    /// # Errors
    /// As the database answers; `core.unavailable` where another attempt has taken the job over. The step's changes were
    /// not committed then.
    pub async fn keep<S: Serialize>(&self, state: &S) -> Result<()> {
        let state = bounded_state(state)?;
        let (id, attempt) = (*self.id.as_uuid(), self.attempt);
        if !self.deferral.commit_part(KEEP, &[&id, &attempt, &state, &self.most]).await? {
            let tx = self.call.tenant().undeferred();
            let _: Vec<()> = tx.last().rows(KEEP, &[&id, &attempt, &state, &self.most]).await?;
        }
        self.told().state = Some(state);
        Ok(())
    }

    /// The same for what `tx` has changed, which commits by itself.
    ///
    /// # Errors
    /// As [`Job::keep`].
    pub(crate) async fn keep_in<S: Serialize>(&self, tx: TenantTx<'_>, state: &S) -> Result<()> {
        let state = bounded_state(state)?;
        let id = *self.id.as_uuid();
        let _: Vec<()> = tx.last().rows(KEEP, &[&id, &self.attempt, &state, &self.most]).await?;
        self.told().state = Some(state);
        Ok(())
    }

    /// Tells how far it is. It is written once a second.
    pub fn progress(&self, done: u64, of: Option<u64>) {
        self.told().progress = Some(JobProgress { done, of });
    }

    /// Lets the job come again after `time`, in place of ending, once its handler returns without an error: what was changed
    /// is committed, the job keeps its id and its unique key, and has all its attempts before it again. For work that waits
    /// for something, and for work that has no end and lets others have a turn.
    pub fn put_off(&self, time: Duration) {
        self.told().put_off = Some(time);
    }

    /// Commits what was changed, and lets the job come again after `time`.
    pub(crate) async fn comes_again(&self, time: Duration) -> Result<()> {
        let (id, attempt, seconds, most) = (*self.id.as_uuid(), self.attempt, time.as_secs_f64(), self.most);
        if !self.deferral.commit_part(PUT_OFF, &[&id, &attempt, &seconds, &most]).await? {
            let tx = self.call.tenant().undeferred();
            let _: Vec<()> = tx.last().rows(PUT_OFF, &[&id, &attempt, &seconds, &most]).await?;
        }
        Ok(())
    }

    /// What it results in, for those who ask for the job. At most 16 KiB of JSON.
    ///
    /// # Errors
    /// `jobs.arguments_too_large`.
    pub fn result<R: Serialize>(&self, result: &R) -> Result<()> {
        let result = serde_json::to_value(result).map_err(Error::internal)?;
        bounded(&result)?;
        self.told().result = Some(result);
        Ok(())
    }

    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, JobTold> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bounded_state<S: Serialize>(state: &S) -> Result<Value> {
    let state = serde_json::to_value(state).map_err(Error::internal)?;
    bounded(&state)?;
    Ok(state)
}

/// Says that a job can never succeed: it is not tried again, whatever its kind says.
pub fn give_up(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(&job_codes::GIVEN_UP).detail(reason)
}
