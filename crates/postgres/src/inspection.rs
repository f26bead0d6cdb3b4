//! What a session is asked before it is used.

use super::Cause;

/// A look at each session before its first use: a pooler may have dropped a setting that the session asked for, and a
/// role may bring one of its own. A session that fails it is closed, and opening it fails with
/// [`WireError::Unfit`](crate::WireError::Unfit).
pub trait Inspection: Send + Sync {
    /// A statement that returns one row, and its parameters, all of them texts.
    fn question(&self) -> (&'static str, Vec<String>);

    /// Judges the values of that row as texts; NULL is an empty one.
    ///
    /// # Errors
    /// How the session differs from what it must be: goes on after "the database".
    fn judge(&self, answer: &[String]) -> Result<(), Cause>;
}
