//! The supplier's quote of an order: a file that belongs to it.

use erp_core::answer::NoContent;
use erp_core::error::{Error, Result, codes};
use erp_core::extract::{Path, Upload};
use erp_core::files::{FileId, FileKind, Media};
use erp_core::from_row;
use erp_core::resource::{ByteRange, Call, Download};
use erp_core::shared::Id;

use super::Order;

/// What the supplier has offered.
pub(super) static QUOTE: FileKind =
    FileKind::new("purchasing.quote", "What a supplier has offered for an order.").types(&[
        &Media::PDF,
        &Media::PNG,
        &Media::JPEG,
    ]);

const SET: &str = "update purchase_orders set quote_id = $2 where id = $1 returning quote_id";
const READ: &str = "select quote_id from purchase_orders where id = $1 and quote_id is not null";

struct QuoteOf {
    quote_id: FileId,
}
from_row!(QuoteOf { quote_id });

/// Takes the place of the one before, which goes with it.
pub(super) async fn set(call: Call, Path(id): Path<Id<Order>>, upload: Upload) -> Result<NoContent> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let file = call.keep_file(&mut tx, draft).await?;
    match tx.optional::<QuoteOf>(SET, &[&id, &file.id]).await? {
        Some(_) => tx.commit().await.map(|()| NoContent),
        None => {
            tx.rollback();
            Err(Error::new(&codes::NOT_FOUND))
        }
    }
}

pub(super) async fn read(call: Call, Path(id): Path<Id<Order>>, range: ByteRange) -> Result<Download> {
    let found: Option<QuoteOf> = call.tenant_read().last().optional(READ, &[&id]).await?;
    let QuoteOf { quote_id } = found.ok_or_else(|| Error::new(&codes::NOT_FOUND))?;
    let file = call.file(&QUOTE, quote_id).await?;
    call.download(&file, &range).await
}
