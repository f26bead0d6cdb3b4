//! Erasure: a subject is forgotten, in every table that the register of personal data names
//! ([decision 0053](../../../../docs/decisions/0053-erasure.md)).
//!
//! An order is a row, and a job does it: it notes the order in the ledger outside the database, forgets the subject, and signs a receipt.
//! A tenant orders the erasure of its own subjects, such as a supplier; a person belongs to no tenant, and is forgotten everywhere when an
//! operator orders it. A restored backup does not know of orders that came later: [`REPLAY`] takes them from the ledger.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use erp_core::answer::{Answer, Outputs, Refusing};
use erp_core::audit::note::AuditKeys;
use erp_core::auth::Trace;
use erp_core::db::{AuditEntry, FromSql, System, TenantTx, Type};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path, Query};
use erp_core::jobs::{Job, JobKind, Schedule, enqueue_once, give_up};
use erp_core::resource::{Call, Listed, Page, Tagged};
use erp_core::shared::{Id, TenantId, UserId, Version};
use erp_core::stream::{Cell, CsvLine};
use erp_core::subjects::{missing, note_known};
use erp_core::{choice, from_row, input, list, record, sql};
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DataSubject, FORGET, codes};
use crate::identity::facade::people::{self, PersonMove};

choice! {
    /// Why somebody is forgotten (GDPR, article 17 (1)).
    pub ErasureReason {
        /// What it was kept for is over.
        NoLongerNeeded = "no-longer-needed",
        /// Nobody agrees to it any more.
        ConsentWithdrawn = "consent-withdrawn",
        /// Somebody has objected.
        Objection = "objection",
        /// It should never have been kept.
        Unlawful = "unlawful",
        /// A law wants it to be erased.
        Law = "law",
    }
}

/// What was done, by place and table.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct ErasedTables(Value);

impl<'a> FromSql<'a> for ErasedTables {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Value::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <Value as FromSql<'_>>::accepts(ty)
    }
}

impl Cell for ErasedTables {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(&self.0.to_string());
    }
}

record! {
    /// An order to forget somebody.
    pub Erasure in "erasures" as "erasure" {
        /// The order's.
        pub id: Id<Erasure>,
        /// Who is forgotten.
        pub subject: Id<DataSubject>,
        reason: ErasureReason,
        ordered_by: String,
        /// What was done, by table.
        pub report: Option<ErasedTables>,
        /// The same as a signed note, for those who ask.
        pub receipt: Option<String>,
        /// When it was.
        pub done_at: Option<Timestamp>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST.
    pub(super) NewErasure {
        /// Who is to be forgotten: the id of a supplier, say.
        subject: Id<DataSubject>,
        reason: ErasureReason,
    }
}

/// What a query can ask for.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ErasureQuery {
    /// Whether to change nothing, and tell what would be done.
    dry_run: Option<bool>,
}

list! {
    /// Orders, the latest first.
    pub(super) Erasures of Erasure from "erasures" sorted [-created_at]
}

/// What an erasure would do.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErasureOutlook {
    subject: Id<DataSubject>,
    /// By table.
    report: Value,
}

/// 202 with an order, or 200 with what it would do.
pub(super) enum OrderAnswer {
    Ordered(Box<Erasure>),
    Outlook(ErasureOutlook),
}

impl IntoResponse for OrderAnswer {
    fn into_response(self) -> Response {
        match self {
            Self::Ordered(erasure) => (StatusCode::ACCEPTED, Json(erasure)).into_response(),
            Self::Outlook(outlook) => Json(outlook).into_response(),
        }
    }
}

impl Answer for OrderAnswer {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<Erasure>(202).json::<ErasureOutlook>(200);
    }
}

/// Which order a job carries out.
#[derive(Serialize, Deserialize)]
pub(super) struct OrderedErasure {
    pub(super) erasure: Uuid,
    /// Whether it was done before, in a database that is no more.
    pub(super) again: bool,
}

pub(super) static ERASE: JobKind<OrderedErasure> = JobKind::<OrderedErasure>::new(
    "privacy.erase",
    "Forgets a subject in every table that holds something of it, notes that in the ledger, and signs a receipt.",
    |job, order| Box::pin(erase(job, order)),
)
.system(&FORGET)
.time_limit(Duration::from_secs(3600))
.attempts(50);

pub(super) static REPLAY: JobKind<()> = JobKind::<()>::new(
    "privacy.replay",
    "Carries out again what the ledger of erasures has and this database has not: after a restore.",
    |job, ()| Box::pin(replay(job)),
)
.system(&FORGET)
.at_most(1);

pub(super) static EACH_MINUTE: Schedule = Schedule::for_platform(
    "privacy.replay",
    "Looks whether the ledger of erasures has some that this database has not carried out.",
    "* * * * *",
    &REPLAY,
    &(),
);

const READ_ONE: &str = sql!["select ", Erasure::COLUMNS, " from erasures where id = $1"];
const ORDER: &str = sql![
    "insert into erasures (id, subject, reason, ordered_by) values ($1, $2, $3, $4) \
     on conflict on constraint erasures_pkey do nothing returning ",
    Erasure::COLUMNS
];
const IS_MEMBER: &str = "select exists (select from memberships where user_id = $1) as holds";
const IS_HELD: &str = "select exists (select from app.subject_data($1, $2, true)) as holds";
const IS_TENANT: &str = "select exists (select from tenants where id = $1 and status <> 'erased') as holds";
const BEGIN: &str = "update erasures set addresses = coalesce(addresses, $2) where id = $1 and done_at is null \
     returning subject, reason, ordered_by, addresses";
const END: &str = "update erasures set done_at = now(), report = $2, receipt = $3, addresses = null where id = $1 returning id";
const ADDRESSES: &str = "select app.subject_addresses($1, $2) as addresses";
const SUBJECT: &str = "select subject from erasures where id = $1";
const FORGET_IT: &str = "select app.erase_subject($1, $2, $3, $4) as report";
/// Also those that it has left.
pub(super) const TENANTS: &str = "select m.tenant_id as id from memberships m join tenants t on t.id = m.tenant_id \
     where m.user_id = $1 and t.status not in ('erasing', 'erased') order by 1";

struct Holds {
    holds: bool,
}
from_row!(Holds { holds });

struct SubjectAddresses {
    addresses: Vec<String>,
}
from_row!(SubjectAddresses { addresses });

struct ErasedSubject {
    subject: Uuid,
}
from_row!(ErasedSubject { subject });

struct BegunOrder {
    subject: Uuid,
    reason: ErasureReason,
    ordered_by: String,
    addresses: Vec<String>,
}
from_row!(BegunOrder { subject, reason, ordered_by, addresses });

struct ForgottenRows {
    report: Value,
}
from_row!(ForgottenRows { report });

struct TenantOfSubject {
    id: TenantId,
}
from_row!(TenantOfSubject { id });

pub(super) async fn list(call: Call, page: Page<Erasures>) -> Result<Listed<Erasures>> {
    call.list(page).await
}

pub(super) async fn read(call: Call, Path(id): Path<Id<Erasure>>) -> Result<Tagged<Erasure>> {
    call.read(READ_ONE, id).await
}

/// `POST /api/v1/privacy/erasures`.
pub(super) async fn order(
    call: Call,
    system: System,
    Query(asked): Query<ErasureQuery>,
    Json(new): Json<NewErasure>,
) -> Result<OrderAnswer, Refusing<(codes::NO_SUBJECT_OF_TENANT, core::NOT_FOUND)>> {
    let tenant = call.caller.tenant();
    let subject = *new.subject.as_uuid();
    let mut tx = system.on_behalf(&call.caller).within(tenant).await?;
    let addresses = refuse_strangers(&mut tx, subject).await?;
    if asked.dry_run.unwrap_or_default() {
        let report = forget(&mut tx, (subject, &addresses), true, true).await?;
        tx.rollback();
        return Ok(OrderAnswer::Outlook(ErasureOutlook { subject: new.subject, report }));
    }
    let by = call.caller.actor().to_string();
    let id: Id<Erasure> = call.new_id();
    let erasure =
        enqueue(&mut tx, call.caller.trace(), &call.app, (tenant, id), (subject, new.reason, &by)).await?;
    tx.commit().await?;
    Ok(OrderAnswer::Ordered(Box::new(erasure.ok_or_else(|| Error::internal("a new id is taken"))?)))
}

async fn enqueue(
    tx: &mut TenantTx<'_>,
    trace: &Trace,
    app: &erp_core::app::App,
    (tenant, id): (TenantId, Id<Erasure>),
    (subject, reason, by): (Uuid, ErasureReason, &str),
) -> Result<Option<Erasure>> {
    let erasure: Option<Erasure> = tx.optional(ORDER, &[&id, &subject, &reason, &by]).await?;
    let order = OrderedErasure { erasure: *id.as_uuid(), again: false };
    let terms = (app.clock.as_ref(), app.rng.as_ref());
    enqueue_once(tx, trace, &ERASE, (tenant, id.to_string()), &order, terms).await?;
    Ok(erasure)
}

/// Refuses a member, who is no tenant's to forget, and somebody of whom nothing is held here. The addresses of the subject.
pub(super) async fn refuse_strangers(tx: &mut TenantTx<'_>, subject: Uuid) -> Result<Vec<String>> {
    let member: Holds = tx.row(IS_MEMBER, &[&subject]).await?;
    if member.holds {
        return Err(Error::new(&codes::NO_SUBJECT_OF_TENANT));
    }
    let addresses = addresses_of(tx, subject, true).await?;
    let held: Holds = tx.row(IS_HELD, &[&subject.to_string(), &addresses]).await?;
    if held.holds { Ok(addresses) } else { Err(Error::new(&core::NOT_FOUND)) }
}

pub(super) async fn addresses_of(
    tx: &mut TenantTx<'_>,
    subject: Uuid,
    of_tenants: bool,
) -> Result<Vec<String>> {
    let found: SubjectAddresses = tx.row(ADDRESSES, &[&subject.to_string(), &of_tenants]).await?;
    Ok(found.addresses)
}

/// What was forgotten, or would be, in the tenant of the transaction or in the platform's own tables.
pub(super) async fn forget(
    tx: &mut TenantTx<'_>,
    (subject, addresses): (Uuid, &[String]),
    of_tenants: bool,
    dry: bool,
) -> Result<Value> {
    let done: ForgottenRows =
        tx.row(FORGET_IT, &[&subject.to_string(), &addresses, &of_tenants, &dry]).await?;
    Ok(done.report)
}

/// Carries out an order. After a crash it begins anew: what was forgotten before is not in the receipt then.
async fn erase(job: &Job, OrderedErasure { erasure, again }: OrderedErasure) -> Result<()> {
    let (system, trace, tenant) = (job.system()?, job.call.caller.trace(), job.call.caller.tenant());
    let Some(order) = begin(system, trace, (tenant, erasure), again).await? else { return Ok(()) };
    let keys = AuditKeys::of(&job.call.app.config).map_err(Error::internal)?;
    let keys =
        keys.ok_or_else(|| Error::internal("AUDIT_SIGNING_KEY is not set, and an erasure is signed"))?;
    let mut reports = Vec::new();
    if tenant == TenantId::PLATFORM {
        let mut tx = system.begin(trace).within(tenant).await?;
        let account = forget(&mut tx, (order.subject, &order.addresses), false, true).await?;
        tx.rollback();
        reports.push(("platform".to_owned(), account));
        keep_out(system, trace, (erasure, order.subject)).await?;
    }
    let note = keys.sign_statement(&statement("ordered", (tenant, erasure), &order, &[]));
    job.call.app.files.add_to_ledger(erasure, &note).await?;
    if tenant == TenantId::PLATFORM {
        forget_in_tenants(system, trace, (erasure, &order), &mut reports).await?;
    }
    let mut tx = system.begin(trace).within(tenant).await?;
    if tenant == TenantId::PLATFORM {
        forget(&mut tx, (order.subject, &order.addresses), false, false).await?; // what the account left
    }
    let report = forget(&mut tx, (order.subject, &order.addresses), true, false).await?;
    reports.push((tenant.to_string(), report));
    end(tx, (tenant, erasure), &order, (&reports, &keys)).await?;
    job.result(&json!({ "erasure": erasure }))
}

/// Forgets a person in each of the tenants that it belongs to, or did.
async fn forget_in_tenants(
    system: &System,
    trace: &Trace,
    (erasure, order): (Uuid, &BegunOrder),
    reports: &mut Vec<(String, Value)>,
) -> Result<()> {
    let tenants: Vec<TenantOfSubject> = system.begin(trace).last().rows(TENANTS, &[&order.subject]).await?;
    for TenantOfSubject { id } in tenants {
        let mut tx = system.begin(trace).within(id).await?;
        let mut addresses = addresses_of(&mut tx, order.subject, true).await?;
        addresses.extend_from_slice(&order.addresses);
        let report = forget(&mut tx, (order.subject, &addresses), true, false).await?;
        tx.audit(&told(order, erasure))?;
        tx.commit().await?;
        reports.push((id.to_string(), report));
    }
    Ok(())
}

/// The order, with the addresses of the subject; none where it is done.
async fn begin(
    system: &System,
    trace: &Trace,
    (tenant, erasure): (TenantId, Uuid),
    again: bool,
) -> Result<Option<BegunOrder>> {
    let mut tx = system.begin(trace).within(tenant).await?;
    let ErasedSubject { subject } = tx.row(SUBJECT, &[&erasure]).await?;
    let addresses = addresses_of(&mut tx, subject, tenant != TenantId::PLATFORM).await?;
    let order: Option<BegunOrder> = tx.optional(BEGIN, &[&erasure, &addresses]).await?;
    if !again {
        note_known(&mut tx, erasure).await?;
    }
    tx.commit().await?;
    Ok(order)
}

/// Ends a person's memberships and sessions, and takes its account: it is found first where that cannot be.
async fn keep_out(system: &System, trace: &Trace, (erasure, person): (Uuid, Uuid)) -> Result<()> {
    let why = format!("Erasure {erasure}");
    let person: UserId = person.to_string().parse().map_err(Error::internal)?;
    match people::steer(|| system.begin(trace), person, (PersonMove::Erase, &why)).await {
        Err(error) if error.code() == &core::NOT_FOUND => Ok(()), // in a database from before it came
        Err(error) if error.code().status < 500 => Err(give_up(error.to_string()).because(error)),
        other => other.map(drop),
    }
}

async fn end(
    mut tx: TenantTx<'_>,
    (tenant, erasure): (TenantId, Uuid),
    order: &BegunOrder,
    (reports, keys): (&[(String, Value)], &AuditKeys),
) -> Result<()> {
    let receipt = keys.sign_statement(&statement("erased", (tenant, erasure), order, reports));
    let report: Vec<Value> = reports.iter().map(|(at, report)| json!({ "at": at, "done": report })).collect();
    let _: ErasedId = tx.row(END, &[&erasure, &Value::from(report), &receipt]).await?;
    note_known(&mut tx, erasure).await?;
    tx.audit(&told(order, erasure))?;
    tx.commit().await
}

struct ErasedId {
    id: Uuid,
}
from_row!(ErasedId { id });

fn told(order: &BegunOrder, erasure: Uuid) -> AuditEntry {
    AuditEntry {
        action: "subject.erased",
        resource: "subject",
        resource_id: Some(order.subject.to_string()),
        outcome: "success",
        details: json!({ "erasure": erasure, "reason": order.reason }),
    }
}

/// The first line of what is signed of erasures.
const NAME: &str = "erp-backend/erasures";

/// What is signed: the order, and of a receipt what was done. It names nobody but by an id.
fn statement(
    what: &str,
    (tenant, erasure): (TenantId, Uuid),
    order: &BegunOrder,
    reports: &[(String, Value)],
) -> String {
    let BegunOrder { subject, reason, ordered_by, .. } = order;
    let mut text = format!(
        "{NAME}\n{what} {erasure}\ntenant {tenant}\nsubject {subject}\nreason {}\nordered by {ordered_by}\n",
        reason.as_str()
    );
    for (at, report) in reports {
        for table in report["tables"].as_array().into_iter().flatten() {
            let kept: Vec<&str> =
                table["kept"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let kept = if kept.is_empty() { String::new() } else { format!(" kept {}", kept.join(",")) };
            let name = table["table"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "{at} {name} deleted {} cleared {}{kept}\n",
                table["deleted"], table["cleared"]
            ));
        }
        text.push_str(&format!("{at} audit entries {}\n", report["audited"]));
        for law in report["laws"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(&format!("{at} kept by law: {law}\n"));
        }
    }
    text
}

/// What a note of the ledger orders.
#[derive(Debug, PartialEq)]
struct LedgerOrder {
    erasure: Uuid,
    tenant: TenantId,
    subject: Uuid,
    reason: String,
    ordered_by: String,
}

fn read_statement(text: &str) -> Option<LedgerOrder> {
    let mut lines = text.lines();
    let mut next = |what: &str| lines.next()?.strip_prefix(what);
    next(NAME)?;
    Some(LedgerOrder {
        erasure: next("ordered ")?.parse().ok()?,
        tenant: next("tenant ")?.parse().ok()?,
        subject: next("subject ")?.parse().ok()?,
        reason: next("reason ")?.to_owned(),
        ordered_by: next("ordered by ")?.to_owned(),
    })
}

/// Orders again what the ledger has and this database does not know. A note that is not signed by us orders nothing, and keeps the
/// process unready.
async fn replay(job: &Job) -> Result<()> {
    let (system, trace, app) = (job.system()?, job.call.caller.trace(), &job.call.app);
    let unknown = missing(app, system, trace).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    let keys = AuditKeys::of(&app.config).map_err(Error::internal)?;
    let keys =
        keys.ok_or_else(|| Error::internal("AUDIT_SIGNING_KEY is not set, and the ledger is signed"))?;
    for erasure in unknown {
        let note = app.files.ledger_note(erasure).await?;
        let text = keys.open_statement(&note).map_err(|fault| {
            tracing::error!(%erasure, "A note of the ledger of erasures is not believed: {fault}");
            Error::internal(fault)
        })?;
        let order = read_statement(&text).filter(|order| order.erasure == erasure);
        let order = order.ok_or_else(|| Error::internal("a note of the ledger is of another erasure"))?;
        order_again(system, trace, app, &order).await?;
    }
    Ok(())
}

async fn order_again(
    system: &System,
    trace: &Trace,
    app: &erp_core::app::App,
    order: &LedgerOrder,
) -> Result<()> {
    let LedgerOrder { erasure, tenant, subject, reason, ordered_by } = order;
    let there: Option<Holds> = system.begin(trace).last().optional(IS_TENANT, &[tenant]).await?;
    if !there.is_some_and(|there| there.holds) {
        let mut tx = system.begin(trace).within(TenantId::PLATFORM).await?;
        note_known(&mut tx, *erasure).await?; // nothing of that tenant is here
        return tx.commit().await;
    }
    let mut tx = system.begin(trace).within(*tenant).await?;
    let _: Vec<Erasure> = tx.rows(ORDER, &[erasure, subject, reason, ordered_by]).await?;
    let again = OrderedErasure { erasure: *erasure, again: true };
    let terms = (app.clock.as_ref(), app.rng.as_ref());
    enqueue_once(&mut tx, trace, &ERASE, (*tenant, erasure.to_string()), &again, terms).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ordered_is_read_from_the_ledger_as_it_was_written() {
        let order = BegunOrder {
            subject: Uuid::from_u128(7),
            reason: ErasureReason::Law,
            ordered_by: "operator:x".to_owned(),
            addresses: vec!["ann@example.com".to_owned()],
        };
        let text = statement("ordered", (TenantId::PLATFORM, Uuid::from_u128(9)), &order, &[]);
        assert!(!text.contains("ann"), "{text}");
        let read = read_statement(&text).unwrap();
        assert_eq!(
            (read.erasure, read.subject, read.tenant),
            (Uuid::from_u128(9), order.subject, TenantId::PLATFORM)
        );
        assert_eq!(read_statement(&text.replace("ordered 0", "erased 0")), None, "a receipt is no order");
    }
}
