//! Which failures of a transaction's first statement are tried again, and after what pause.
//!
//! Safe to repeat: what PostgreSQL has certainly rolled back (a serialisation failure, a deadlock, a plan that a
//! migration made stale), and a lost connection as long as no COMMIT can have gone through.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::wire;
use crate::error::{Error, codes};

/// Pauses before the second and the third try. A connection that the server closed while it was idle is replaced at
/// once; more patience belongs to the client, who is told when to come back.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// How long to wait before trying again; `None` when that is not safe, or was done often enough. `harmless` says
/// that nothing can have been committed.
pub(super) fn pause(error: &Error, harmless: bool, attempt: usize) -> Option<Duration> {
    let pause = PAUSES.get(attempt).copied()?;
    let cause = cause(error)?;
    let rolled_back = plan_is_stale(error)
        || cause.is_foreign()
        || cause.server().is_some_and(|server| {
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(&server.state)
        });
    (rolled_back || (harmless && cause.is_lost())).then_some(pause)
}

/// A migration changed what a prepared statement returns: "cached plan must not change result type".
pub(super) fn plan_is_stale(error: &Error) -> bool {
    let server = cause(error).and_then(wire::Error::server);
    server.is_some_and(|server| {
        server.state == SqlState::FEATURE_NOT_SUPPORTED && server.routine == "RevalidateCachedQuery"
    })
}

/// The session has ended, or nobody waited for the answer any longer: what had been sent may have been carried out.
pub(super) fn is_broken_off(error: &Error) -> bool {
    cause(error).map_or(error.code() == &codes::UNAVAILABLE, wire::Error::is_lost)
}

/// What `error` means in a transaction of `tenant_read`: there a refused change is the developer's mistake, whatever the
/// server takes.
pub(super) fn in_read(error: wire::Error) -> Error {
    let changes = |server: &wire::ServerError| server.state == SqlState::READ_ONLY_SQL_TRANSACTION;
    if !error.server().is_some_and(changes) {
        return Error::from(error);
    }
    Error::internal(format!("a statement in `tenant_read` changes data: use `tenant` for it ({error})"))
}

fn cause(error: &Error) -> Option<&wire::Error> {
    error.cause()?.downcast_ref()
}
