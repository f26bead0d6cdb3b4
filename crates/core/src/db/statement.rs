//! A statement's plan: prepared once a connection, or, behind a pooler, sent with its types each time. And what it does
//! to which table, for metrics and the query log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row, Statement};

use super::{Db, Params, ToSql};
use crate::error::Error as Refusal;

/// The types of each statement's parameters, as PostgreSQL inferred them.
pub(super) type ParameterTypes = RwLock<HashMap<&'static str, Arc<[Type]>>>;

/// A statement that can be sent without asking anything first.
pub(super) enum Plan<'p> {
    /// Prepared on this connection, under a name.
    Named(Statement, Params<'p>),
    /// Without a name: a pooler may run the next transaction on another connection (`DATABASE_PREPARED_STATEMENTS=off`).
    Unnamed(&'static str, Vec<(&'p (dyn ToSql + Sync), Type)>),
}

impl<'p> Plan<'p> {
    /// The plan of `statement`. Asks the server when it sees the statement for the first time; behind a pooler that
    /// must happen inside the transaction, so `preamble` is then sent, and taken.
    pub(super) async fn of(
        db: &Db,
        client: &ClientWrapper,
        preamble: &mut Option<&str>,
        statement: Option<(&'static str, Params<'p>)>,
    ) -> Result<Option<Self>, Error> {
        let Some((sql, params)) = statement else { return Ok(None) };
        let Some(known) = db.parameter_types() else {
            return Ok(Some(Self::Named(client.prepare_cached(sql).await?, params)));
        };
        let found = known.read().unwrap_or_else(PoisonError::into_inner).get(sql).map(Arc::clone);
        let types = match found {
            Some(types) => types,
            None => {
                if let Some(preamble) = preamble.take() {
                    client.batch_execute(preamble).await?;
                }
                let types: Arc<[Type]> = client.prepare(sql).await?.params().into();
                known.write().unwrap_or_else(PoisonError::into_inner).insert(sql, Arc::clone(&types));
                types
            }
        };
        Ok(Some(Self::Unnamed(sql, params.iter().copied().zip(types.iter().cloned()).collect())))
    }

    /// Sends the statement when first polled; a failure is noted in `refused`, before anything else is sent when it is the
    /// driver's own: a value that does not fit its parameter.
    pub(super) async fn run(&self, client: &ClientWrapper, refused: &AtomicBool) -> Result<Vec<Row>, Error> {
        let outcome = match self {
            Self::Named(statement, params) => client.query(statement, params).await,
            Self::Unnamed(sql, params) => client.query_typed(sql, params).await,
        };
        outcome.inspect_err(|_| refused.store(true, Ordering::Relaxed))
    }
}

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
