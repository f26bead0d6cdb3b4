//! What a statement may be, and what it does to which table: for metrics and the query log.

use crate::error::Error as Refusal;

/// What a statement begins with. Others end the transaction, or leave something in the session for the next tenant: a
/// cursor WITH HOLD, LISTEN, a setting.
const VERBS: [&str; 7] = ["select", "insert", "update", "delete", "with", "merge", "values"];
/// What no statement calls: it would change the tenant, or keep a lock beyond the transaction.
const CALLS: [&str; 2] = ["set_config", "advisory_lock"];

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

/// The verb and the first table of a statement: `("select", "items")`.
///
/// Read from the text, which is ours: statements are `&'static str`.
pub(super) fn describe(sql: &'static str) -> (&'static str, &'static str) {
    let operation = match sql.trim_start().get(..6).map(str::to_ascii_lowercase).as_deref() {
        Some("select") => "select",
        Some("insert") => "insert",
        Some("update") => "update",
        Some("delete") => "delete",
        _ => "other",
    };
    (operation, table(sql).unwrap_or("none"))
}

fn table(sql: &'static str) -> Option<&'static str> {
    let mut words = sql.split_ascii_whitespace();
    words.find(|word| ["from", "into", "update"].iter().any(|key| word.eq_ignore_ascii_case(key)))?;
    let word = words.next()?;
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(word.len());
    word.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn statements_are_described_by_verb_and_table() {
        assert_eq!(describe("select a, b from items where id = $1"), ("select", "items"));
        assert_eq!(describe("\n  INSERT INTO items(sku) values ($1)"), ("insert", "items"));
        assert_eq!(describe("update items set sku = $1"), ("update", "items"));
        assert_eq!(describe("delete from items where id = $1"), ("delete", "items"));
        assert_eq!(describe("select 1"), ("select", "none"));
    }
}
