//! What a session must be for our promises to hold: asked for when it is opened, and compared with what it then is.
//!
//! A pooler may drop what a session asks for, and an operator may have given the database or the role defaults that turn
//! writes off or isolation up. Both look well until a statement fails, so that every session is asked once, before its
//! first use.

use std::fmt;
use std::time::Duration;

use erp_postgres::{Cause, Inspection};
use tokio_postgres::config::TargetSessionAttrs;

/// One row: the values of the settings named in `$1`, a line each.
pub(in crate::db) const QUESTION: &str = "select array_to_string(array(select coalesce(current_setting(name, true), '') \
    from unnest(string_to_array($1::text, ' ')) with ordinality as asked (name, number) order by number), e'\\n')";

/// What shows that a session got what it asked for, whatever the server's own defaults are.
const MARK: (&str, &str) = ("erp.session", "own");
/// How long a session of ours may stay inside a transaction and say nothing.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);
/// What must be so in each session, behind a pooler too; whose default may be another is set where that can be done.
const ALWAYS: [(&str, &str); 4] = [
    (READ_ONLY, "off"),
    ("default_transaction_isolation", "read committed"),
    ("row_security", "on"),
    ("session_replication_role", "origin"),
];
const READ_ONLY: &str = "default_transaction_read_only";
const READ_ONLY_NOW: &str = "transaction_read_only";

/// What is expected of each session that a [`Connection`](crate::db::Connection) opens.
#[derive(Debug, Clone)]
pub(in crate::db) struct Expected {
    settings: Vec<(&'static str, String)>,
    target: TargetSessionAttrs,
}

/// Whether a session takes writes. One that takes none still serves reads.
///
/// `default_transaction_read_only` is not switched off for our sessions: clouds turn it on before the disk is full, and
/// operators while they move a database. Who means it so must be able to rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    Taken,
    /// `default_transaction_read_only` is on.
    OffByDefault,
    /// The server is a standby.
    Standby,
}

/// How a session differs from what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deviation {
    /// What it asked for did not reach the server.
    Dropped,
    /// Transactions are read-only unless they say otherwise.
    ReadOnly,
    /// The server is not one that `target_session_attrs` asks for.
    Target {
        /// Whether it is read-only.
        read_only: bool,
    },
    /// This setting has another value than the one it must have.
    Other {
        /// Its name.
        name: &'static str,
        /// The value that it has.
        found: String,
        /// The value that it must have.
        wanted: String,
    },
}

impl Expected {
    pub(in crate::db) fn new(target: TargetSessionAttrs) -> Self {
        let settings = ALWAYS.map(|(name, value)| (name, value.to_owned())).into();
        Self { settings, target }
    }

    /// Also asks for these bounds; returns the start-up options that do.
    pub(in crate::db) fn bounded(&mut self, statement_timeout: Duration) -> String {
        let asked = [
            (MARK.0, MARK.1.to_owned(), MARK.1.to_owned()),
            ("statement_timeout", statement_timeout.as_millis().to_string(), shown(statement_timeout)),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION.as_millis().to_string(),
                shown(IDLE_IN_TRANSACTION),
            ),
            ("TimeZone", "UTC".to_owned(), "UTC".to_owned()),
            ("search_path", "public".to_owned(), "public".to_owned()),
            ("default_transaction_isolation", "read\\ committed".to_owned(), "read committed".to_owned()),
            ("row_security", "on".to_owned(), "on".to_owned()),
        ];
        let options: Vec<String> =
            asked.iter().map(|(name, value, _)| format!("-c {name}={value}")).collect();
        for (name, _, shown) in asked {
            if !self.settings.iter().any(|(known, _)| *known == name) {
                self.settings.push((name, shown));
            }
        }
        options.join(" ")
    }

    /// The value of `$1`.
    pub(in crate::db) fn names(&self) -> String {
        let names = self.settings.iter().map(|(name, _)| *name).chain([READ_ONLY_NOW]);
        names.collect::<Vec<_>>().join(" ")
    }

    /// Compares the answer to [`QUESTION`].
    ///
    /// # Errors
    /// The deviation that explains the others.
    pub(in crate::db) fn judge(&self, answer: &str) -> Result<Writes, Deviation> {
        let mut found = answer.split('\n');
        let mut deviations = Vec::new();
        let mut off = false;
        for (name, wanted) in &self.settings {
            let found = found.next().unwrap_or_default();
            match *name {
                READ_ONLY => off = found != wanted,
                _ if found == wanted => {}
                name if name == MARK.0 => deviations.push(Deviation::Dropped),
                name => deviations.push(Deviation::Other {
                    name,
                    found: found.to_owned(),
                    wanted: wanted.clone(),
                }),
            }
        }
        let read_only = found.next() == Some("on");
        let first = deviations.iter().position(|deviation| *deviation == Deviation::Dropped).unwrap_or(0);
        if !deviations.is_empty() {
            return Err(deviations.swap_remove(first));
        }
        match self.target {
            TargetSessionAttrs::ReadWrite if read_only => Err(Deviation::Target { read_only }),
            TargetSessionAttrs::ReadOnly if !read_only => Err(Deviation::Target { read_only }),
            TargetSessionAttrs::ReadOnly => Ok(Writes::Standby),
            _ if off => Ok(Writes::OffByDefault),
            _ if read_only => Ok(Writes::Standby),
            _ => Ok(Writes::Taken),
        }
    }
}

impl Inspection for Expected {
    fn question(&self) -> (&'static str, Vec<String>) {
        (QUESTION, vec![self.names()])
    }

    fn judge(&self, answer: &[String]) -> Result<(), Cause> {
        let answer = answer.first().map(String::as_str).unwrap_or_default();
        Ok(self.judge(answer).map(drop)?)
    }
}

impl Deviation {
    /// What to do about it, for the role `whom` in `database`.
    pub(in crate::db) fn fix(&self, whom: &str, database: &str) -> String {
        match self {
            Self::Dropped => "behind a pooler set DATABASE_PREPARED_STATEMENTS=off".to_owned(),
            Self::ReadOnly => format!(
                "where that is not meant: alter database {database} reset {READ_ONLY}; alter role {whom} reset \
                 {READ_ONLY}; and look at postgresql.conf"
            ),
            Self::Target { .. } => {
                "wait for the failover, or correct target_session_attrs in the URL".to_owned()
            }
            Self::Other { name, .. } => {
                format!(
                    "alter database {database} reset {name}; alter role {whom} reset {name}; and look at postgresql.conf"
                )
            }
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("drops the settings of a session: a pooler stands between"),
            Self::ReadOnly => write!(f, "gives sessions that take no writes ({READ_ONLY} is on)"),
            Self::Target { read_only: true } => {
                f.write_str("is read-only, and target_session_attrs asks for writes")
            }
            Self::Target { read_only: false } => {
                f.write_str("takes writes, and target_session_attrs asks for none")
            }
            Self::Other { name, found, wanted } => {
                write!(f, "gives sessions whose {name} is '{found}' and must be '{wanted}'")
            }
        }
    }
}

impl std::error::Error for Deviation {}

/// A time as PostgreSQL shows it: in the largest unit that divides it.
fn shown(time: Duration) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
    let time = time.as_millis();
    let unit = units.into_iter().find(|(length, _)| time > 0 && time.is_multiple_of(*length));
    unit.map_or_else(|| "0".to_owned(), |(length, name)| format!("{}{name}", time / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(target: TargetSessionAttrs) -> Expected {
        let mut expected = Expected::new(target);
        expected.bounded(Duration::from_millis(90_000));
        expected
    }

    fn answer(change: impl Fn(&str) -> Option<&'static str>) -> String {
        let expected = expected(TargetSessionAttrs::Any);
        let settings = expected.settings.iter().map(|(name, value)| (*name, value.clone()));
        let all = settings.chain([(READ_ONLY_NOW, "off".to_owned())]);
        all.map(|(name, value)| change(name).map_or(value, str::to_owned)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn times_are_compared_as_postgresql_shows_them() {
        for (time, text) in
            [(700, "700ms"), (30_000, "30s"), (60_000, "1min"), (90_000, "90s"), (86_400_000, "1d")]
        {
            assert_eq!(shown(Duration::from_millis(time)), text);
        }
    }

    #[test]
    fn a_session_that_is_not_as_asked_for_is_told_by_what_explains_it() {
        let judged =
            |target, change: &dyn Fn(&str) -> Option<&'static str>| expected(target).judge(&answer(change));
        let any = TargetSessionAttrs::Any;
        assert_eq!(judged(any, &|_| None), Ok(Writes::Taken));
        assert_eq!(judged(any, &|name| (name == READ_ONLY_NOW).then_some("on")), Ok(Writes::Standby));
        assert_eq!(judged(any, &|name| (name == READ_ONLY).then_some("on")), Ok(Writes::OffByDefault));
        let dropped = |name: &str| match name {
            "statement_timeout" => Some("0"),
            name if name == MARK.0 => Some(""),
            _ => None,
        };
        assert_eq!(judged(any, &dropped), Err(Deviation::Dropped), "it explains the timeout");
        let other = judged(any, &|name| (name == "default_transaction_isolation").then_some("serializable"));
        assert!(
            matches!(other, Err(Deviation::Other { name: "default_transaction_isolation", .. })),
            "{other:?}"
        );
        let on = |name: &str| name.ends_with("transaction_read_only").then_some("on");
        assert_eq!(judged(TargetSessionAttrs::ReadOnly, &on), Ok(Writes::Standby));
        let target = judged(TargetSessionAttrs::ReadOnly, &|_| None);
        assert_eq!(target, Err(Deviation::Target { read_only: false }));
    }
}
