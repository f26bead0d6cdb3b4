//! Consent: what people are asked to agree to, in versions, and who has agreed to it, or withdrawn it. Each is a row that stays, with
//! an entry in the audit log. Modules ask [`consented`].

use erp_core::answer::Refusing;
use erp_core::db::TenantTx;
use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::resource::{Call, Created, Listed, Page, Tagged};
use erp_core::shared::{Id, Int, LARGEST_EXACT, PrincipalId, Text, Version};
use erp_core::{from_row, input, list, record, sql};
use jiff::Timestamp;

use super::codes;

// The purpose of the examples.
const NAME: &str = "newsletter";
const WORDS: &str =
    "We write to you once a month about what is new. You can withdraw your consent at any time.";
const SUBJECT: &str = "customer-4711";
const EVIDENCE: &str = "Form on the web page, confirmed by mail";

record! {
    /// A version of what people are asked to agree to.
    pub(super) ConsentPurpose in "consent_purposes" as "consent_purpose" {
        id: Id<ConsentPurpose>,
        #[schemars(example = NAME)]
        name: String,
        /// The number of the version, from 1.
        #[schemars(range(min = 1, max = LARGEST_EXACT))]
        revision: i64,
        /// What people have read.
        #[schemars(example = WORDS)]
        text: String,
        /// Whether who has agreed to an earlier version is to be asked again.
        asks_anew: bool,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST: the first version of a purpose, or the next one.
    pub(super) NewConsentPurpose {
        /// A lower-case word.
        #[schemars(example = NAME)]
        name: Text<1, 100>,
        /// What people will read.
        #[schemars(example = WORDS)]
        text: Text<1, 4000>,
        /// Whether who has agreed to an earlier version is to be asked again.
        asks_anew: bool,
    }
}

input! {
    /// What the list of purposes can be narrowed to.
    pub(super) PurposeSearch {
        name: Option<Text<1, 100>>,
    }
}

list! {
    /// Versions of purposes, the newest first.
    pub(super) ConsentPurposes of ConsentPurpose by PurposeSearch from "consent_purposes" sorted [-created_at]
}

record! {
    /// That somebody has agreed to something, or withdrawn that.
    pub(super) Consent in "consents" as "consent" {
        id: Id<Consent>,
        /// The id of somebody, here or in another system.
        #[schemars(example = SUBJECT)]
        subject: String,
        #[schemars(example = NAME)]
        purpose: String,
        /// The version of the purpose that was shown.
        #[schemars(range(min = 1, max = LARGEST_EXACT))]
        revision: i64,
        /// Whether it is given; else it is withdrawn.
        given: bool,
        /// How that is known.
        #[schemars(example = EVIDENCE)]
        evidence: String,
        /// Who has recorded it.
        recorded_by: Option<PrincipalId>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST.
    pub(super) NewConsent {
        /// The id of somebody, here or in another system: no name and no address.
        #[schemars(example = SUBJECT)]
        subject: Text<1, 200>,
        #[schemars(example = NAME)]
        purpose: Text<1, 100>,
        /// The version of the purpose that was shown.
        revision: Int<1, LARGEST_EXACT>,
        /// Whether it is given; else it is withdrawn.
        given: bool,
        /// How that is known.
        #[schemars(example = EVIDENCE)]
        evidence: Text<1, 1000>,
    }
}

input! {
    /// What the history can be narrowed to.
    pub(super) ConsentSearch {
        subject: Option<Text<1, 200>>,
        purpose: Option<Text<1, 100>>,
    }
}

list! {
    /// What people have agreed to and withdrawn, the latest first.
    pub(super) Consents of Consent by ConsentSearch from "consents" sorted [-created_at]
}

const READ_PURPOSE: &str = sql!["select ", ConsentPurpose::COLUMNS, " from consent_purposes where id = $1"];
const ADD_PURPOSE: &str = sql![
    "insert into consent_purposes (id, ",
    NewConsentPurpose::COLUMNS,
    ", revision) select ",
    "$1, $2, $3, $4, coalesce(max(p.revision), 0) + 1 from consent_purposes p where p.name = $2 returning ",
    ConsentPurpose::COLUMNS
];
const READ_ONE: &str = sql!["select ", Consent::COLUMNS, " from consents where id = $1"];
const ADD: &str = sql![
    "insert into consents (id, ",
    NewConsent::COLUMNS,
    ", recorded_by) values ($1, ",
    NewConsent::VALUES,
    ", $7) returning ",
    Consent::COLUMNS
];
/// The latest word counts, where no version has come since that asks anew.
const CONSENTED: &str = "select coalesce((select c.given and c.revision >= coalesce((select max(p.revision) from consent_purposes p \
       where p.name = c.purpose and p.asks_anew), 0) \
     from consents c where c.subject = $1 and c.purpose = $2 order by c.created_at desc, c.id desc limit 1), false) as consented";

struct Consented {
    consented: bool,
}
from_row!(Consented { consented });

/// Whether somebody has agreed to a purpose: whether the latest that is known is that it was given, for a version since which none
/// has come that asks anew.
///
/// # Errors
/// As the database answers.
pub async fn consented(tx: &mut TenantTx<'_>, subject: &str, purpose: &str) -> Result<bool> {
    let Consented { consented } = tx.row(CONSENTED, &[&subject, &purpose]).await?;
    Ok(consented)
}

pub(super) async fn list_purposes(
    call: Call,
    page: Page<ConsentPurposes>,
) -> Result<Listed<ConsentPurposes>> {
    call.list(page).await
}

pub(super) async fn read_purpose(
    call: Call,
    Path(id): Path<Id<ConsentPurpose>>,
) -> Result<Tagged<ConsentPurpose>> {
    call.read(READ_PURPOSE, id).await
}

pub(super) async fn add_purpose(
    call: Call,
    Json(new): Json<NewConsentPurpose>,
) -> Result<Created<ConsentPurpose>, Refusing<codes::PURPOSE_TAKEN>> {
    Ok(call.create(ADD_PURPOSE, &new.values()).await?)
}

pub(super) async fn list(call: Call, page: Page<Consents>) -> Result<Listed<Consents>> {
    call.list(page).await
}

pub(super) async fn read(call: Call, Path(id): Path<Id<Consent>>) -> Result<Tagged<Consent>> {
    call.read(READ_ONE, id).await
}

pub(super) async fn record(
    call: Call,
    Json(new): Json<NewConsent>,
) -> Result<Created<Consent>, Refusing<codes::NO_PURPOSE>> {
    let id: Id<Consent> = call.new_id();
    let by = call.caller.actor().principal();
    let NewConsent { subject, purpose, revision, given, evidence } = new;
    let tx = call.tenant().last();
    let consent = tx.row(ADD, &[&id, &subject, &purpose, &revision, &given, &evidence, &by]).await?;
    Ok(call.created(consent)?)
}
