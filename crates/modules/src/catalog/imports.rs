//! Items from a file.

use erp_core::answer::Refusing;
use erp_core::auth::Flag;
use erp_core::error::{Result, codes};
use erp_core::extract::{Query, Upload};
use erp_core::imports::{ImportBegun, ImportOptions};
use erp_core::resource::Call;
use erp_core::{import, sql};

use super::{Item, NewItem, WRITE};

/// So that an operator can stop the imports of a tenant which others have to wait for.
pub(super) static IMPORTS: Flag = Flag::on("catalog.import", "Items are imported from files.");

import! {
    /// Items from a file, by their sku.
    pub(super) IMPORT: NewItem as Item = "catalog.import_items",
        "Creates and changes items from a file, by their sku.", WRITE, UPSERT
}

const UPSERT: &str = sql![
    "insert into items as i (id, ",
    NewItem::COLUMNS,
    ") values ($1, ",
    NewItem::VALUES,
    ") on conflict (tenant_id, sku_folded) do ",
    NewItem::UPSERT,
    " returning xmax = 0 as created"
];

pub(super) async fn import(
    call: Call,
    Query(options): Query<ImportOptions>,
    upload: Upload,
) -> Result<ImportBegun, Refusing<codes::FEATURE_OFF>> {
    call.caller.require_on(&IMPORTS)?;
    Ok(call.import(&IMPORT, upload, options).await?)
}
