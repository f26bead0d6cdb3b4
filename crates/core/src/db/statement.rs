//! What a statement may be.

use crate::error::Error as Refusal;

/// What a statement begins with. Others end the transaction, or leave something in the session for the next tenant: a
/// cursor WITH HOLD, LISTEN, a setting.
const VERBS: [&str; 7] = ["select", "insert", "update", "delete", "with", "merge", "values"];
/// What no statement calls: it would change the tenant, or keep a lock beyond the transaction.
const CALLS: [&str; 2] = ["set_config", "advisory_lock"];

/// The text of a statement: one that stands in the program, never one that is put together while it runs.
///
/// Values are the statement's parameters; parts that several statements share are joined by [`sql!`](crate::sql) when the
/// program is compiled.
#[diagnostic::on_unimplemented(
    message = "a statement is a constant, and `{Self}` is made at run time",
    label = "not a `&'static str`",
    note = "write the statement as a literal with `$1`, `$2`, … and give the values as its parameters",
    note = "parts that several statements share are joined at compile time: `sql![\"select \", Item::COLUMNS, \" from items\"]`",
    note = "docs/guides/add-a-module.md, \"Errors of the compiler\""
)]
pub trait Sql {
    /// The text.
    fn text(self) -> &'static str;
}

impl Sql for &'static str {
    fn text(self) -> &'static str {
        self
    }
}

/// Refuses a statement that would reach beyond its transaction (T-04).
///
/// The texts are the modules' own: this is for slips, and for text that got into a statement in spite of all.
pub(super) fn admit(sql: &'static str) -> Result<(), Refusal> {
    let text = sql.trim_ascii_start();
    let verb = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    if !VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb)) {
        return Err(Refusal::internal(format!("'{verb}' has no place at the beginning of a statement")));
    }
    let calls =
        |name: &str| sql.as_bytes().windows(name.len()).any(|w| w.eq_ignore_ascii_case(name.as_bytes()));
    match CALLS.into_iter().find(|name| calls(name)) {
        Some(name) => Err(Refusal::internal(format!("'{name}' has no place in a statement"))),
        None => Ok(()),
    }
}
