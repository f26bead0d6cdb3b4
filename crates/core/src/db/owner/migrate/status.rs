//! Which migrations are applied, and what of that is refused.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use tokio_postgres::{Client, Row};

use crate::db::schema::{Entry, Schema, place};
use crate::lifecycle::{Exit, StartError};

/// What has become of one migration in one database.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its full name, such as `catalog/0001_items`.
    pub name: String,
    /// What has become of it.
    pub state: State,
    /// The former name under which alone it was applied; `db migrate` carries it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// When it was applied, UTC.
    pub applied_at: Option<jiff::Timestamp>,
}

/// What has become of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Applied as this binary has it.
    Applied,
    /// To be applied.
    Pending,
    /// The file differs from what was applied.
    Changed,
    /// To be applied, although a later one of its module is.
    Late,
    /// Not in this binary, whose module has another migration of that number.
    Replaced,
    /// Not in this binary, whose module has fewer: a newer version has applied it.
    Ahead,
    /// Not in this binary, which has no module of that name: a newer version's, or one that was removed.
    Unclaimed,
}

/// A row of `app.migrations`.
struct Applied {
    name: String,
    checksum: String,
    at: jiff::Timestamp,
}

impl Status {
    /// Whether nothing is to be done about it.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Applied | State::Ahead | State::Unclaimed)
    }

    /// Of an entry of this binary, with the rows under its names: its own first.
    fn of(entry: &Entry, applied: &[Applied]) -> Self {
        let own = applied.iter().find(|row| row.name == entry.name);
        let former = || applied.iter().find(|row| entry.is_called(&row.name));
        let found = own.or_else(former);
        let state = match found {
            None => State::Pending,
            Some(row) if entry.migration.is(&row.checksum) => State::Applied,
            Some(_) => State::Changed,
        };
        let was = found.filter(|row| row.name != entry.name).map(|row| row.name.clone());
        Self { name: entry.name.clone(), state, was, applied_at: found.map(|row| row.at) }
    }

    /// Of a row that none of this binary's migrations claims.
    fn of_unknown(row: &Applied, schema: &Schema) -> Self {
        let taken = |own: (&str, &str)| schema.migrations().iter().any(|entry| entry.place() == own);
        let state = match place(&row.name) {
            Some(own) if taken(own) => State::Replaced,
            Some((namespace, _)) if schema.has_namespace(namespace) => State::Ahead,
            _ => State::Unclaimed,
        };
        Self { name: row.name.clone(), state, was: None, applied_at: Some(row.at) }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Changed => "changed",
            Self::Late => "late",
            Self::Replaced => "replaced",
            Self::Ahead => "ahead",
            Self::Unclaimed => "unclaimed",
        })
    }
}

/// The state of every migration of this binary in order, then of those that the database has beside them. Works as the
/// runtime role too.
///
/// # Errors
/// As the database answers; a database without the table has everything pending.
pub(in crate::db) async fn status(
    client: &Client,
    schema: &Schema,
) -> Result<Vec<Status>, tokio_postgres::Error> {
    let applied = applied(client).await?;
    let mut all: Vec<Status> = schema.migrations().iter().map(|entry| Status::of(entry, &applied)).collect();
    mark_late(&mut all);
    let unknown = applied.iter().filter(|row| !schema.knows(&row.name));
    all.extend(unknown.map(|row| Status::of_unknown(row, schema)));
    Ok(all)
}

async fn applied(client: &Client) -> Result<Vec<Applied>, tokio_postgres::Error> {
    let exists = client.query_typed("select to_regclass('app.migrations') is not null", &[]).await?;
    if !exists.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(Vec::new());
    }
    let sql = "select name, checksum, applied_at from app.migrations order by name collate \"C\"";
    let rows = client.query_typed(sql, &[]).await?;
    let row =
        |row: &Row| Ok(Applied { name: row.try_get(0)?, checksum: row.try_get(1)?, at: row.try_get(2)? });
    rows.iter().map(row).collect()
}

/// Within a namespace the order is that of the numbers.
fn mark_late(all: &mut [Status]) {
    let mut begun: HashSet<String> = HashSet::new();
    for row in all.iter_mut().rev() {
        let Some((namespace, _)) = place(&row.name) else { continue };
        if row.state != State::Pending {
            begun.insert(namespace.to_owned());
        } else if begun.contains(namespace) {
            row.state = State::Late;
        }
    }
}

/// Refuses a database whose schema is not what this binary's migrations say: nobody knows what it is.
///
/// # Errors
/// `Exit::Internal`, with the migration's name and the mend.
pub fn refuse_changed(status: &[Status]) -> Result<(), StartError> {
    for row in status {
        let (what, fix) = match row.state {
            State::Changed => {
                let was = row.was.as_ref().map(|was| format!(" as {was}")).unwrap_or_default();
                ("was changed after it was applied".to_owned() + &was, RESTORE.to_owned())
            }
            State::Late => {
                let fix = "give it the next number, behind those that are released";
                ("is not applied, and a later one of its module is".to_owned(), fix.to_owned())
            }
            State::Replaced => {
                let fix = format!("restore it, or write was [\"{}\"] behind what it is called now", row.name);
                ("was applied, and this binary has another one of that number".to_owned(), fix)
            }
            _ => continue,
        };
        return Err(StartError::with_fix(Exit::Internal, format!("Migration {} {what}", row.name), fix));
    }
    Ok(())
}

const RESTORE: &str = "restore the file and put the change into a new migration";

/// Refuses to apply anything beside a migration of the one list in which all of them once stood, unless one of this
/// binary's says that it was it: it would be applied again under its new name.
///
/// # Errors
/// `Exit::Internal`, with the name and what to write.
pub(super) fn refuse_unclaimed(status: &[Status]) -> Result<(), StartError> {
    let is_of_the_list = |row: &&Status| row.state == State::Unclaimed && !row.name.contains('/');
    let Some(Status { name, .. }) = status.iter().find(is_of_the_list) else { return Ok(()) };
    if pending(status).is_empty() {
        return Ok(());
    }
    let what = format!(
        "Migration {name} was applied when all migrations stood in one list, and no module says what it is called now"
    );
    let fix = format!(
        "write was [\"{name}\"] behind its name in the module's list; if its module is gone for good, delete its row \
         from app.migrations"
    );
    Err(StartError::with_fix(Exit::Internal, what, fix))
}

/// Warns of what no module of this binary claims: it is a newer version's, or its module was removed. Its tables stay,
/// and the isolation proof asks the catalogue about them.
pub fn tell_unclaimed(status: &[Status]) {
    for Status { name, .. } in status.iter().filter(|row| row.state == State::Unclaimed) {
        tracing::warn!(migration = name, "A migration was applied that no module of this binary claims");
    }
}

/// Full names of what is not applied yet, in order. A schema ahead of the binary is fine: rolling deploys have one.
pub fn pending(status: &[Status]) -> Vec<&str> {
    status.iter().filter(|row| row.state == State::Pending).map(|row| row.name.as_str()).collect()
}

/// Full names of what was applied under a former name only.
pub fn to_carry_over(status: &[Status]) -> Vec<&str> {
    status.iter().filter(|row| row.was.is_some()).map(|row| row.name.as_str()).collect()
}
