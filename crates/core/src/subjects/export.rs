//! Everything that is held of a subject, as JSON lines: what is encrypted is opened, and what somebody signs in with is left out. The
//! last line is a manifest with the number of rows and the SHA-256 of the lines of each table.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Trace;
use crate::crypto::{Keyring, SealPlace};
use crate::db::{RowStream, System, TenantTx};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::shared::{TenantId, hex};

const ADDRESSES: &str = "select app.subject_addresses($1, true) as addresses";
const ROWS: &str = "select relation, data, sealed, key from app.subject_data($1, $2, true)";

struct AddressesOfSubject {
    addresses: Vec<String>,
}
from_row!(AddressesOfSubject { addresses });

struct SubjectRow {
    relation: String,
    data: String,
    sealed: Option<String>,
    key: Option<Uuid>,
}
from_row!(SubjectRow { relation, data, sealed, key });

/// What the manifest says of one table.
struct ExportedTable {
    rows: u64,
    sum: Context,
}

/// An export under way.
struct SubjectExport {
    subject: Uuid,
    rows: RowStream<SubjectRow>,
    ring: Keyring,
    tables: BTreeMap<String, ExportedTable>,
    is_over: bool,
}

/// What a tenant holds of a subject, line by line: a few rows are in memory at a time.
///
/// # Errors
/// As the database answers; `core.unreadable` out of the stream for something that does not open.
pub async fn export_subject(
    app: &App,
    system: &System,
    trace: &Trace,
    (tenant, subject): (TenantId, Uuid),
) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
    let ring = app.keys.of(tenant).await?;
    let id = subject.to_string();
    let mut tx: TenantTx<'_> = system.begin(trace).within(tenant).await?;
    let found: AddressesOfSubject = tx.row(ADDRESSES, &[&id]).await?;
    tx.commit().await?;
    let rows = system.read_within(tenant).stream(ROWS, &[&id, &found.addresses]).await?;
    let export = SubjectExport { subject, rows, ring, tables: BTreeMap::new(), is_over: false };
    Ok(unfold(export, |mut export| async move {
        if export.is_over {
            return None;
        }
        let line = match export.rows.next().await {
            Some(row) => row.and_then(|row| export.line(row)),
            None => {
                export.is_over = true;
                Ok(export.manifest())
            }
        };
        export.is_over |= line.is_err();
        Some((line.map(Bytes::from), export))
    }))
}

impl SubjectExport {
    fn line(&mut self, row: SubjectRow) -> Result<String> {
        let mut data: Value = serde_json::from_str(&row.data).map_err(Error::internal)?;
        if let (Some(sealed), Some(key)) = (&row.sealed, row.key) {
            self.open(&row.relation, key, sealed, &mut data)?;
        }
        let line = format!("{}\n", json!({ "table": row.relation, "row": data }));
        let table = self.tables.entry(row.relation);
        let table = table.or_insert_with(|| ExportedTable { rows: 0, sum: Context::new(&SHA256) });
        table.rows += 1;
        table.sum.update(line.as_bytes());
        Ok(line)
    }

    /// Puts what they say in the place of ciphertexts. `sealed` has the encrypted columns, and what each is known as.
    fn open(&self, relation: &str, row: Uuid, sealed: &str, data: &mut Value) -> Result<()> {
        let sealed: BTreeMap<String, String> = serde_json::from_str(sealed).map_err(Error::internal)?;
        let table = relation.strip_prefix("public.").unwrap_or(relation);
        for (column, known_as) in sealed {
            let Some(text) = data[&column].as_str() else { continue };
            let opened = self.ring.open(&SealPlace { table, column: &known_as, row }, text);
            let opened = opened.map_err(|fault| Error::new(&codes::UNREADABLE).because(fault))?;
            data[&column] = Value::from(String::from_utf8_lossy(&opened).into_owned());
        }
        Ok(())
    }

    fn manifest(&mut self) -> String {
        let told = |(name, ExportedTable { rows, sum }): (String, ExportedTable)| json!({ "table": name, "rows": rows, "sha256": hex(sum.finish().as_ref()) });
        let tables: Vec<Value> = std::mem::take(&mut self.tables).into_iter().map(told).collect();
        format!("{}\n", json!({ "manifest": { "subject": self.subject, "tables": tables } }))
    }
}
