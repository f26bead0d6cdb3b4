//! Migrations outside a transaction: `create index concurrently`, `vacuum`, `alter type … add value`.
//!
//! Such a file begins with the line `-- outside a transaction`. Each of its statements ends with `;` at the end of a
//! line, and none has one within. They are executed one by one, so that a failure leaves the first ones done: each must
//! do no harm a second time (`if not exists`), since the next `db migrate` begins with the first statement again.

use tokio_postgres::Client;

use super::{Entry, LoginRoles, failed, record, refused, settings, unregistered};
use crate::lifecycle::{Exit, StartError};

/// The indexes that were left invalid by a concurrent build that did not come to its end, or is still going on.
const INVALID: &str = "select format('%I.%I', n.nspname, c.relname), c.relname::text
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where not i.indisvalid and c.relkind = 'i' and n.nspname !~ '^pg_'";

/// Applies the statements one by one, then notes the migration as applied.
///
/// # Errors
/// `Exit::Internal` when a statement fails, or an index that the file names is not valid afterwards.
pub(super) async fn apply(
    client: &Client,
    entry: &Entry,
    logins: &LoginRoles<'_>,
    unregistered: &[String],
) -> Result<(), StartError> {
    refuse_unrepeatable(entry)?;
    let ended = run(client, entry, logins, unregistered).await;
    let _ = client.batch_execute("reset row_security; reset app.actor; set lock_timeout = '10s'").await;
    ended
}

async fn run(
    client: &Client,
    entry: &Entry,
    logins: &LoginRoles<'_>,
    unregistered: &[String],
) -> Result<(), StartError> {
    let name = &entry.name;
    let said = |what: &str, error: &tokio_postgres::Error| {
        let why = error.as_db_error().map_or("the connection was lost", |db| db.message());
        format!("Migration {name} failed at '{what}' and can be run again: {why}")
    };
    let settings = settings(entry, logins, "set");
    // A concurrent build waits for transactions that are older than it, and blocks nobody meanwhile.
    let settings = format!("{settings}; set lock_timeout = 0");
    client.batch_execute(&settings).await.map_err(|error| failed(&said("set", &error), error))?;
    drop_remains(client, entry).await?;
    let text = entry.migration.text();
    for statement in statements(&text) {
        let first = statement.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
        client.batch_execute(statement).await.map_err(|error| refused(said(first, &error), error))?;
    }
    if let Some(index) = named(client, entry).await?.first() {
        return Err(StartError::with_fix(
            Exit::Internal,
            format!("Migration {name} left the index {index} invalid"),
            "see what holds it up or breaks it, such as rows that are not unique, and run 'erp-backend db migrate' again",
        ));
    }
    unregistered::refuse(client, entry, unregistered).await?;
    let record = format!("begin; {}; commit", record(entry));
    client.batch_execute(&record).await.map_err(|error| failed(&said("insert", &error), error))
}

/// An index that an earlier attempt has left invalid would be taken for the finished one by `if not exists`.
async fn drop_remains(client: &Client, entry: &Entry) -> Result<(), StartError> {
    for index in named(client, entry).await? {
        tracing::warn!(migration = entry.name, index, "Dropping an index that was left invalid");
        let drop = format!("drop index concurrently if exists {index}");
        let message = format!("The invalid index {index} cannot be dropped");
        client.batch_execute(&drop).await.map_err(|error| failed(&message, error))?;
    }
    Ok(())
}

/// The invalid indexes that the file names.
async fn named(client: &Client, entry: &Entry) -> Result<Vec<String>, StartError> {
    let rows = client.query_typed(INVALID, &[]).await;
    let rows = rows.map_err(|error| failed("The catalogue cannot be read", error))?;
    let text = entry.migration.text();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_named = |index: &str| words.contains(&index);
    Ok(rows.iter().filter(|row| is_named(row.get(1))).map(|row| row.get(0)).collect())
}

/// The statements of a file.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(";\n")
        .map(str::trim)
        .filter(|statement| statement.lines().any(|line| !line.trim().is_empty() && !line.starts_with("--")))
}

/// What is started again must not fail on what it has done already.
fn refuse_unrepeatable(entry: &Entry) -> Result<(), StartError> {
    let text = entry.migration.text().to_ascii_lowercase();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let bare = words.windows(3).any(|three| three[..2] == ["index", "concurrently"] && three[2] != "if");
    if !bare {
        return Ok(());
    }
    Err(StartError::with_fix(
        Exit::Internal,
        format!("Migration {} could not be run again after a failure", entry.name),
        "write 'create index concurrently if not exists …' or 'drop index concurrently if exists …'",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::schema::Migration;

    #[test]
    fn a_file_is_cut_where_a_line_ends_with_a_semicolon() {
        let text =
            "-- outside a transaction\n\n-- why; it is so\nvacuum;\ncreate index\n  on t (x);\n-- the end\n";
        let cut: Vec<&str> = statements(text).collect();
        assert_eq!(
            cut,
            ["-- outside a transaction\n\n-- why; it is so\nvacuum;", "create index\n  on t (x);"]
        );
    }

    #[test]
    fn an_index_that_cannot_be_started_again_is_refused() {
        let migration = |sql| {
            let migration = Migration { name: "0001_index", sql, after: &[], was: &[] };
            Entry { name: "index/0001_index".to_owned(), migration }
        };
        let refused =
            ["create index concurrently a on t (x);", "CREATE UNIQUE INDEX\nCONCURRENTLY a on t (x);"];
        for sql in refused {
            assert!(refuse_unrepeatable(&migration(sql)).is_err(), "{sql}");
        }
        let fine =
            ["create index concurrently if not exists a on t (x);", "drop index concurrently if exists a;"];
        for sql in fine {
            assert!(refuse_unrepeatable(&migration(sql)).is_ok(), "{sql}");
        }
    }
}
