//! Tables that a migration makes and hands to no constructor. Nobody but the owner could reach one, and a module would
//! learn so from a refusal at its first use.

use tokio_postgres::Client;

use super::{Entry, failed};
use crate::lifecycle::{Exit, StartError};

/// The owner's tables that are in no registry, without partitions and what belongs to an extension.
const UNREGISTERED: &str = "select format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
      and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
      and c.relowner = (select r.oid from pg_catalog.pg_roles r where r.rolname = current_user)
      and not exists (select from app.relations r where r.relation = format('%I.%I', n.nspname, c.relname))
      and not exists (select from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    order by 1";

/// The tables that are registered nowhere, with their schema. None where there is no registry yet.
///
/// # Errors
/// As the database answers.
pub(super) async fn all(client: &Client) -> Result<Vec<String>, StartError> {
    let asked = async {
        let exists = client.query_typed("select to_regclass('app.relations') is not null", &[]).await?;
        if !exists.first().map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(Vec::new());
        }
        let rows = client.query_typed(UNREGISTERED, &[]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    };
    asked.await.map_err(|error| failed("The registry of tables cannot be read", error))
}

/// Refuses a migration that has left such a table, before it is committed where it has a transaction. `before` were
/// there when it began: these are the proof's to find.
///
/// # Errors
/// `Exit::Internal`, with the table and the line to write.
pub(super) async fn refuse(client: &Client, entry: &Entry, before: &[String]) -> Result<(), StartError> {
    match all(client).await?.into_iter().find(|table| !before.contains(table)) {
        None => Ok(()),
        Some(table) => {
            let what = format!("Migration {} makes the table {table} and registers it nowhere", entry.name);
            Err(StartError::with_fix(Exit::Internal, what, line(&table)))
        }
    }
}

/// What to write below a table that nobody registered.
fn line(table: &str) -> String {
    let bare = table.rsplit('.').next().unwrap_or(table);
    let word = bare.strip_suffix('s').unwrap_or(bare);
    format!(
        "write below it select app.tenant_table('{table}', audit_as => '{word}'), or app.shared_table for what all \
         tenants read, or app.private_table for what only the owner touches"
    )
}
