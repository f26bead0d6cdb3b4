//! What is left of the log of a tenant that is erased: its leaves, and a signed statement that the bytes of its entries were removed.

use super::note::EntryRemoval;
use super::proof::SealedLog;
use super::sealer::Sealer;
use crate::error::{Error, Result};
use crate::from_row;
use crate::shared::TenantId;

const LOGS: &str =
    "select log, origin, first_seq, size, note from audit_logs where note is not null order by log";
const HEAD: &str = "select seq from audit_heads";
const REMOVE: &str =
    "insert into audit_prunings (log, first, last, note) values ($1, 1, $2, $3) on conflict do nothing";

struct ErasedHead {
    seq: i64,
}
from_row!(ErasedHead { seq });

impl Sealer {
    /// Seals what a tenant has, and signs that its entries are removed, before that is done. Said again, it changes nothing.
    ///
    /// # Errors
    /// As the database answers; `core.internal` while something of it cannot be sealed.
    pub async fn seal_for_erasure(&mut self, tenant: TenantId) -> Result<()> {
        self.seal_all().await?;
        let mut tx = self.begin().within(tenant).await?;
        let head: ErasedHead = tx.row(HEAD, &[]).await?;
        let logs: Vec<SealedLog> = tx.rows(LOGS, &[]).await?;
        let sealed = logs.last().map_or(0, |log| log.first_seq + log.size - 2);
        if sealed < head.seq {
            return Err(Error::internal("the audit log of a tenant that is erased is not sealed yet"));
        }
        for log in logs.iter().filter(|log| log.size > 1) {
            let last = log.size - 1;
            let why = "the tenant was erased".to_owned();
            let removal =
                EntryRemoval { origin: log.origin.clone(), first: 1, last: last.unsigned_abs(), why };
            let _: Vec<()> = tx.rows(REMOVE, &[&log.log, &last, &self.keys.sign_removal(&removal)]).await?;
        }
        tx.commit().await
    }
}
