//! Which failures of a transaction's first statement are tried again, and after what pause.
//!
//! Safe to repeat: what PostgreSQL has certainly rolled back (a serialisation failure, a deadlock, a plan that a
//! migration made stale), and a lost connection as long as no COMMIT can have gone through.

use std::time::Duration;

use erp_postgres::SqlState;

use crate::error::{Error, codes};

/// Pauses before the second and the third try. A connection that the server closed while it was idle is replaced at
/// once; more patience belongs to the client, who is told when to come back.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// How long to wait before trying again; `None` when that is not safe, or was done often enough. `harmless` says
/// that nothing can have been committed.
pub(in crate::db) fn pause(error: &Error, harmless: bool, attempt: usize) -> Option<Duration> {
    let pause = PAUSES.get(attempt).copied()?;
    let cause = cause(error)?;
    let rolled_back = plan_is_stale(error)
        || cause.is_foreign()
        || cause.server().is_some_and(|server| {
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(&server.state)
        });
    // What returned too much would do so again.
    let lost = cause.is_lost() && !matches!(cause, erp_postgres::WireError::TooLarge { .. });
    (rolled_back || (harmless && lost)).then_some(pause)
}

/// A migration changed what a prepared statement returns: "cached plan must not change result type".
pub(in crate::db) fn plan_is_stale(error: &Error) -> bool {
    let server = cause(error).and_then(erp_postgres::WireError::server);
    server.is_some_and(|server| {
        server.state == SqlState::FEATURE_NOT_SUPPORTED && server.routine == "RevalidateCachedQuery"
    })
}

/// The session has ended, or nobody waited for the answer any longer: what had been sent may have been carried out.
pub(in crate::db) fn is_broken_off(error: &Error) -> bool {
    cause(error).map_or(error.code() == &codes::UNAVAILABLE, erp_postgres::WireError::is_lost)
}

/// What `error` means in a transaction of `tenant_read`: there a refused change is the developer's mistake, whatever the
/// server takes.
pub(in crate::db) fn in_read(error: erp_postgres::WireError) -> Error {
    let changes = |server: &erp_postgres::ServerError| server.state == SqlState::READ_ONLY_SQL_TRANSACTION;
    if !error.server().is_some_and(changes) {
        return Error::from(error);
    }
    Error::internal(format!("a statement in `tenant_read` changes data: use `tenant` for it ({error})"))
}

fn cause(error: &Error) -> Option<&erp_postgres::WireError> {
    error.cause()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use erp_postgres::{ServerError, WireError as Failure};

    use super::*;

    /// What the server says.
    fn says(fields: &str) -> Error {
        let fields = [fields, "\0"].concat();
        let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        let message = [b"E", &length[..], fields.as_bytes()].concat();
        Error::from(Failure::Server(Box::new(ServerError::parse(&message).unwrap())))
    }

    fn error(severity: &str, state: &str) -> String {
        format!("S{severity}\0V{severity}\0C{state}\0Mwhat happened\0nnumbers_key\0")
    }

    /// The statement of this name is another's, with other parameters.
    fn mismatched() -> String {
        "SERROR\0VERROR\0C08P01\0Mbind message\0Rexec_bind_message\0".to_owned()
    }

    #[test]
    fn s_05_only_what_leaves_the_session_open_tells_that_nothing_was_committed() {
        let of_a_pooler =
            |severity: &str, state: &str| format!("S{severity}\0C{state}\0Mserver conn crashed?\0");
        for (said, known, repeated) in [
            // PostgreSQL refuses, and rolls back.
            (error("ERROR", "23505"), true, false),
            (error("ERROR", "40001"), true, true),
            (error("ERROR", "57014"), true, false),
            (error("ERROR", "53100"), true, false),
            (error("ERROR", "XX000"), true, false),
            (error("ERROR", "26000"), true, true),
            (mismatched(), true, true),
            // The session ends, for whatever reason.
            (error("FATAL", "57P01"), false, false),
            (error("FATAL", "57P05"), false, false),
            (error("FATAL", "25P04"), false, false),
            (error("FATAL", "XX000"), false, false),
            (error("PANIC", "58030"), false, false),
            // Somebody between has lost the server, or does not know.
            (error("ERROR", "08P01"), false, false),
            (error("ERROR", "08006"), false, false),
            (error("ERROR", "08007"), false, false),
            (error("ERROR", "40003"), false, false),
            (of_a_pooler("FATAL", "08P01"), false, false),
            (of_a_pooler("FATAL", "58000"), false, false),
            (of_a_pooler("ERROR", "57P01"), false, false),
        ] {
            let error = says(&said);
            assert_eq!(is_broken_off(&error), !known, "{said}");
            assert_eq!(pause(&error, false, 0).is_some(), repeated, "{said}");
            assert_eq!(pause(&error, true, 0).is_some(), repeated || !known, "a read: {said}");
        }
    }

    #[test]
    fn what_returned_too_much_is_not_asked_again_and_may_have_been_committed() {
        let limits = erp_postgres::MemoryLimits::default();
        let error =
            || Error::from(Failure::TooLarge { what: erp_postgres::Excess::Answer, limit: limits.answer });
        assert_eq!(pause(&error(), true, 0), None);
        assert!(is_broken_off(&error()));
        assert_eq!(error().code(), &codes::INTERNAL, "it is the statement's fault, not the server's");
    }
}
