//! Legal holds: what they cover stays in the audit log, whatever the retention says.

use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::resource::{Call, Created, Listed, Page, Tagged};
use erp_core::shared::{Id, Text, Version};
use erp_core::{input, list, record, sql};
use jiff::Timestamp;

record! {
    /// A legal hold on rows of the audit log.
    pub(super) AuditHold in "audit_holds" as "audit_hold" {
        id: Id<AuditHold>,
        /// Why, such as a case number.
        #[schemars(example = &"Case 2027-114")]
        reason: String,
        /// Rows of this kind of thing are held.
        #[schemars(example = &"purchase_order")]
        resource: Option<String>,
        /// Of this one only.
        resource_id: Option<String>,
        /// Rows are held that somebody has caused, or that concern or name him.
        subject: Option<String>,
        created_at: Timestamp,
        /// Since when it holds nothing any more.
        released_at: Option<Timestamp>,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST: a resource, a subject or both.
    pub(super) NewAuditHold {
        /// Why, such as a case number.
        #[schemars(example = &"Case 2027-114")]
        reason: Text<1, 1000>,
        /// Hold rows of this kind of thing.
        #[schemars(example = &"purchase_order")]
        resource: Option<Text<1, 200>>,
        /// Of this one only.
        resource_id: Option<Text<1, 400>>,
        /// Hold rows that somebody has caused, or that concern or name him: his id.
        subject: Option<Text<1, 400>>,
    }
}

list! {
    /// Legal holds, the newest first.
    pub(super) AuditHolds of AuditHold from "audit_holds" sorted [-created_at]
}

const CREATE: &str = sql![
    "insert into audit_holds (id, ",
    NewAuditHold::COLUMNS,
    ") values ($1, ",
    NewAuditHold::VALUES,
    ") returning ",
    AuditHold::COLUMNS
];
const RELEASE: &str = sql![
    "update audit_holds set released_at = coalesce(released_at, now()) where id = $1 returning ",
    AuditHold::COLUMNS
];

pub(super) async fn list(call: Call, page: Page<AuditHolds>) -> Result<Listed<AuditHolds>> {
    call.list(page).await
}

/// Holds rows from now on.
pub(super) async fn create(call: Call, Json(new): Json<NewAuditHold>) -> Result<Created<AuditHold>> {
    let missing = match (&new.resource, &new.resource_id, &new.subject) {
        (None, Some(_), _) => Some("/resource"),
        (None, None, None) => Some("/subject"),
        _ => None,
    };
    if let Some(pointer) = missing {
        let detail = "A hold names a resource, a subject or both, and the id of a resource with its kind.";
        return Err(Error::new(&core::INVALID).violation(Violation::new(
            pointer,
            "missing",
            detail.to_owned(),
        )));
    }
    call.create(CREATE, &new.values()).await
}

/// Ends a hold; one that has ended stays as it is.
pub(super) async fn release(call: Call, Path(id): Path<Id<AuditHold>>) -> Result<Tagged<AuditHold>> {
    let released = call.tenant().action("audit_hold.released").last().optional(RELEASE, &[&id]).await?;
    released.map(Tagged).ok_or_else(|| Error::new(&core::NOT_FOUND))
}
