use uuid::Uuid;

use crate::shared::TenantId;

/// Where a ciphertext belongs, beside its tenant, which the key knows: it opens there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealPlace<'a> {
    /// The table, without the schema where that is `public`.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// The row's id.
    pub row: Uuid,
}

impl SealPlace<'_> {
    /// What is authenticated beside the text. Each part says how long it is, so that no two places are the same bytes.
    pub(super) fn bytes(&self, tenant: TenantId) -> Vec<u8> {
        parts(&[
            b"erp column",
            tenant.as_uuid().as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.row.as_bytes(),
        ])
    }
}

/// The parts, each behind its length.
pub(super) fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len() + 4).sum();
    let mut all = Vec::with_capacity(length);
    for part in parts {
        all.extend_from_slice(&(part.len() as u32).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}
