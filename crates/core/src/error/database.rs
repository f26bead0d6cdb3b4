//! What PostgreSQL's errors mean to a client: SQLSTATE classes, never its texts.

use std::time::Duration;

use erp_postgres::{ServerError, WireError};
use tokio_postgres::error::SqlState;

use super::{Error, ErrorCode, ExceededQuota, codes};

/// What `app.count_usage` (migration `core/0022_usage`) raises.
const OVER_QUOTA: &str = "UQ001";
/// How long a client is asked to wait while the database is away.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let state = error.code().cloned();
        let constraint = error.as_db_error().and_then(|db| db.constraint()).map(str::to_owned);
        let broken = error.is_closed()
            || std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
        Self::from_database(state.as_ref(), constraint, broken, error)
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        let server = error.server();
        let state = server.map(|server| server.state.clone());
        let constraint = server.and_then(|server| server.constraint.clone());
        let broken = error.is_broken() || error.is_opening();
        // A request cannot help what the server refuses a new session for; that it is full is told apart.
        let state = state.filter(|state| !error.is_opening() || state.code().starts_with("53"));
        let quota = server.filter(|server| server.state.code() == OVER_QUOTA).and_then(exceeded);
        let mapped = Self::from_database(state.as_ref(), constraint, broken, error);
        match quota {
            Some(quota) => mapped.beyond(quota),
            None => mapped,
        }
    }
}

/// What `app.count_usage` says of the quota that it has refused a row for.
fn exceeded(refusal: &ServerError) -> Option<ExceededQuota> {
    serde_json::from_str(refusal.detail()?).ok()
}

impl Error {
    /// What `cause` means to a client: by its SQLSTATE, or, where the server did not speak, by whether the connection
    /// is `broken`. The rest is a fault of ours, such as a value that does not fit its column.
    pub(crate) fn from_database(
        state: Option<&SqlState>,
        constraint: Option<String>,
        broken: bool,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let code = match state {
            Some(state) => with_state(state),
            None if broken => &codes::UNAVAILABLE,
            None => &codes::INTERNAL,
        };
        let mut mapped = Self::new(code).because(cause);
        mapped.0.constraint = constraint;
        if code.status == 503 { mapped.retry_after(DATABASE_RETRY) } else { mapped }
    }

    /// The database cannot be reached: 503 with `Retry-After`.
    pub fn unavailable() -> Self {
        Self::new(&codes::UNAVAILABLE).retry_after(DATABASE_RETRY)
    }

    /// The database was lost while a change was being committed: 503, and it may have been made.
    pub(crate) fn outcome_unknown() -> Self {
        Self::new(&codes::OUTCOME_UNKNOWN).retry_after(DATABASE_RETRY)
    }
}

/// See the manual's appendix A, "PostgreSQL Error Codes".
fn with_state(state: &SqlState) -> &'static ErrorCode {
    match state.code() {
        // Statement or lock timeout, or a cancel that we sent ourselves.
        "57014" | "55P03" => &codes::TIMEOUT,
        // Serialisation failure and deadlock: nothing happened, the same request may succeed.
        "40001" | "40P01" => &codes::OVERLOADED,
        // Too many connections, out of memory or of disk.
        state if state.starts_with("53") => &codes::OVERLOADED,
        // Connection failures, shutdown and start of the server.
        state if state.starts_with("08") || state.starts_with("57P") => &codes::UNAVAILABLE,
        // A standby (a failover), or one whose transactions are read-only by default.
        "25006" => &codes::READ_ONLY,
        // A session that is not the one in which a statement was prepared: a pooler's.
        "26000" | "42P05" => &codes::UNAVAILABLE,
        OVER_QUOTA => &codes::OVER_QUOTA,
        // A duplicate or a missing parent whose constraint the call did not name.
        "23505" | "23503" | "23P01" => &codes::CONFLICT,
        // A value that the types accept and the database does not: NUL in text, out of range, too long, a check.
        "22021" | "22003" | "22001" | "22P05" | "23514" => &codes::INVALID,
        _ => &codes::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_tells_the_client_nothing() {
        assert_eq!(with_state(&SqlState::UNDEFINED_TABLE), &codes::INTERNAL);
        assert_eq!(with_state(&SqlState::INSUFFICIENT_PRIVILEGE), &codes::INTERNAL);
    }

    #[test]
    fn s_04_a_server_that_takes_no_changes_is_not_one_that_cannot_be_reached() {
        assert_eq!(with_state(&SqlState::READ_ONLY_SQL_TRANSACTION), &codes::READ_ONLY);
    }

    #[test]
    fn s_04_faults_of_the_server_are_503() {
        for state in [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::CONNECTION_EXCEPTION,
        ] {
            assert_eq!(with_state(&state).status, 503, "{}", state.code());
        }
    }
}
