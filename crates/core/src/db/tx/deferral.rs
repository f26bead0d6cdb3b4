//! A change whose COMMIT waits until what must be committed along with it is known.
//!
//! An answer that is to be replayed must be stored with the change that it answers, or neither. But the answer is made
//! after the handler has committed. So for such a request `commit` and `last()` send everything but COMMIT, and leave the
//! transaction here; [`Deferral::commit`] adds one statement and sends the rest.
//!
//! A later change of the same request goes on in the transaction that waits, and so does a later read, which then sees
//! what was changed. A later change that is dropped takes the earlier ones with it: the request is then a fault.

use std::pin::pin;
use std::sync::atomic::Ordering;

use super::exchange::Tx;
use crate::auth::Caller;
use crate::db::{Db, Params};
use crate::error::Result;

/// The right to commit what a request has changed. Dropped, the change is rolled back.
#[must_use = "dropped, what the request has changed is rolled back"]
pub struct Deferral {
    db: Db,
    number: u64,
}

impl Db {
    /// Begins to defer the change of one request.
    pub fn defer(&self) -> Deferral {
        let deferrals = self.deferrals();
        let number = deferrals.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        deferrals.begin(number);
        Deferral { db: self.clone(), number }
    }

    /// Whether the caller has changed something that waits for the end of its request, or of its job's step.
    pub(crate) fn has_change_waiting(&self, caller: &Caller) -> bool {
        caller.deferral().is_some_and(|number| self.deferrals().is_waiting(number))
    }
}

impl Deferral {
    /// The same caller, whose change waits for [`Deferral::commit`].
    pub fn of(&self, caller: &Caller) -> Caller {
        caller.deferred(self.number)
    }

    /// Runs `sql` in the transaction that waits, and commits it: one round trip. `false` when there was no change.
    ///
    /// # Errors
    /// As the database answers; `core.outcome_unknown` when the connection was lost with COMMIT under way.
    pub async fn commit(self, sql: &'static str, params: Params<'_>) -> Result<bool> {
        self.commit_part(sql, params).await
    }

    /// The same for what was changed so far: later changes wait for the next part, or for the end.
    ///
    /// # Errors
    /// As [`Deferral::commit`].
    pub(crate) async fn commit_part(&self, sql: &'static str, params: Params<'_>) -> Result<bool> {
        let Some(parked) = self.db.deferrals().take(self.number)? else { return Ok(false) };
        let mut tx = Tx::resume(&self.db, parked);
        pin!(tx.run(sql, params, true)).await?;
        Ok(true)
    }

    /// Rolls back what was changed since the last part.
    ///
    /// # Errors
    /// As [`Deferral::commit`], where a later change took the earlier ones with it: they are rolled back, too.
    pub(crate) fn drop_part(&self) -> Result<()> {
        self.db.deferrals().take(self.number).map(drop)
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        let over = self.db.deferrals().end(self.number);
        drop(over); // outside the lock: its guard rolls back
    }
}
