//! Reviews of access: who holds which role and since when, what is decided of each, and the end of what nobody has confirmed.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::choice;
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::jobs::{Job, JobKind, JobOptions};
use erp_core::resource::Call;
use erp_core::shared::{Id, IdKind, Int, PrincipalId, TenantId, Text};
use erp_core::{from_row, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::made::Made;
use super::review_campaigns::{self, ReviewMail};
use super::{REVIEWS, giver};

/// A review.
#[derive(Debug)]
pub(super) enum AccessReviewRow {}

impl IdKind for AccessReviewRow {
    const NAME: &'static str = "access review";
}

/// What it is about.
#[derive(Debug)]
pub(super) enum ReviewItemRow {}

impl IdKind for ReviewItemRow {
    const NAME: &'static str = "access review item";
}

choice! {
    /// What is decided of a role that somebody holds.
    pub(super) ReviewDecision { Keep = "keep", Revoke = "revoke" }
}

/// A review, and how far it is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessReview {
    id: Id<AccessReviewRow>,
    #[schemars(example = &"Fourth quarter")]
    name: String,
    /// Nobody, where it has begun by itself.
    created_by: Option<PrincipalId>,
    created_at: Timestamp,
    /// When what nobody has confirmed ends.
    due_at: Timestamp,
    closed_at: Option<Timestamp>,
    /// How many roles of principals it is about.
    items: Int<0>,
    undecided: Int<0>,
    /// How many it has ended.
    ended: Int<0>,
}
from_row!(AccessReview { id, name, created_by, created_at, due_at, closed_at, items, undecided, ended });

/// All reviews, the newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct AccessReviews {
    reviews: Vec<AccessReview>,
}

impl AccessReview {
    pub(super) fn id(&self) -> Id<AccessReviewRow> {
        self.id
    }

    /// Whether it is open, and something is undecided.
    pub(super) fn wants_decisions(&self) -> bool {
        self.closed_at.is_none() && self.undecided.get() > 0
    }

    /// What its reviewers are told.
    pub(super) fn mail(&self, tenant: String) -> ReviewMail {
        ReviewMail::new(tenant, &self.name, self.undecided.get(), self.due_at)
    }
}

/// A role that a principal held when the review began.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReviewItem {
    id: Id<ReviewItemRow>,
    principal: PrincipalId,
    /// What it is called.
    #[schemars(example = &"Ada Lovelace")]
    name: String,
    #[schemars(example = &"member")]
    role: String,
    granted_at: Timestamp,
    granted_by: Option<PrincipalId>,
    expires_at: Option<Timestamp>,
    decision: Option<ReviewDecision>,
    decided_by: Option<PrincipalId>,
    decided_at: Option<Timestamp>,
    /// When the review has ended it.
    ended_at: Option<Timestamp>,
}
from_row!(ReviewItem {
    id,
    principal,
    name,
    role,
    granted_at,
    granted_by,
    expires_at,
    decision,
    decided_by,
    decided_at,
    ended_at
});

/// A review with all that it is about.
#[derive(Serialize, JsonSchema)]
pub(super) struct WholeReview {
    review: AccessReview,
    items: Vec<ReviewItem>,
}

/// The body of `POST /api/v1/access/reviews`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewAccessReview {
    #[schemars(example = &"Fourth quarter")]
    name: Text<1, 200>,
    /// When it closes by itself, at the latest.
    #[schemars(example = &"2030-01-01T00:00:00Z")]
    due_at: Timestamp,
}

/// The body of `PUT /api/v1/access/reviews/{id}/items/{item}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDecision {
    #[schemars(example = &"keep")]
    decision: ReviewDecision,
}

/// Closes a review at its time.
pub(super) static CLOSE: JobKind<CloseReview> = JobKind::<CloseReview>::new(
    "identity.close_review",
    "Ends what nobody has confirmed in a review of access, once its time has come.",
    |job, args| Box::pin(close_in_time(job, args)),
)
.system(&REVIEWS);

/// Which one.
#[derive(Serialize, Deserialize)]
pub(super) struct CloseReview {
    tenant: TenantId,
    review: Id<AccessReviewRow>,
}

const COLUMNS: &str = "select v.id, v.name, v.created_by, v.created_at, v.due_at, v.closed_at, count(i.id) as items, \
       count(i.id) filter (where i.decision is null) as undecided, count(i.ended_at) as ended \
     from access_reviews v left join access_review_items i on i.tenant_id = v.tenant_id and i.review_id = v.id ";
const LIST: &str = sql![COLUMNS, "group by v.tenant_id, v.id order by v.created_at desc, v.id limit 200"];
const READ: &str = sql![COLUMNS, "where v.tenant_id = $1 and v.id = $2 group by v.tenant_id, v.id"];
const ITEMS: &str = "select i.id, i.principal_id as principal, coalesce(m.name, s.name, '') as name, i.role, i.granted_at, \
       i.granted_by, i.expires_at, i.decision, i.decided_by, i.decided_at, i.ended_at \
     from access_review_items i \
     left join memberships m on m.tenant_id = i.tenant_id and m.user_id = i.principal_id \
     left join service_accounts s on s.tenant_id = i.tenant_id and s.id = i.principal_id \
     where i.review_id = $1 order by 3, i.role, i.id";
const ADD: &str = "insert into access_reviews (id, name, created_by, due_at) values ($1, $2, $3, $4)";
/// All that counts at this moment.
const GATHER: &str = "insert into access_review_items (id, review_id, grant_id, principal_id, role, is_owner, granted_at, granted_by, \
       expires_at) \
     select gen_random_uuid(), $2, g.id, g.principal_id, coalesce(g.built_in, r.name), g.built_in is not distinct from 'owner', \
       g.granted_at, g.granted_by, g.expires_at \
     from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
     where g.tenant_id = $1 and (g.expires_at is null or g.expires_at > now())";
const DECIDE: &str = "update access_review_items i set decision = $4, decided_by = $5, decided_at = now() \
     from access_reviews v where i.tenant_id = $1 and i.review_id = $2 and i.id = $3 \
       and v.tenant_id = i.tenant_id and v.id = i.review_id and v.closed_at is null and i.principal_id <> $5 \
     returning i.id";
const LOOK: &str = "select v.closed_at is not null as closed from access_review_items i \
     join access_reviews v on v.tenant_id = i.tenant_id and v.id = i.review_id \
     where i.tenant_id = $1 and i.review_id = $2 and i.id = $3";
const END_REVIEW: &str = "update access_reviews set closed_at = now() where tenant_id = $1 and id = $2 and closed_at is null returning id";
/// Whether an active owner for good is left, once all that nobody has confirmed has ended.
const OWNER_IS_LEFT: &str = "select exists (select from grants g join memberships m on m.tenant_id = g.tenant_id and m.user_id = g.principal_id \
     where g.tenant_id = $1 and g.built_in = 'owner' and g.expires_at is null and m.ended_at is null \
       and m.deactivated_at is null and m.disabled_at is null \
       and not exists (select from access_review_items i where i.tenant_id = g.tenant_id and i.review_id = $2 \
         and i.grant_id = g.id and i.decision is distinct from 'keep')) as is_left";
const END_GRANTS: &str = "with gone as (delete from grants g using access_review_items i \
       where i.tenant_id = $1 and i.review_id = $2 and i.decision is distinct from 'keep' and (not i.is_owner or $3) \
         and g.tenant_id = i.tenant_id and g.id = i.grant_id returning g.id) \
     update access_review_items i set ended_at = now() from gone \
     where i.tenant_id = $1 and i.review_id = $2 and i.grant_id = gone.id returning i.id";

struct ItemStanding {
    closed: bool,
}
from_row!(ItemStanding { closed });

struct OwnerIsLeft {
    is_left: bool,
}
from_row!(OwnerIsLeft { is_left });

/// `GET /api/v1/access/reviews`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<AccessReviews>> {
    Ok(Json(AccessReviews { reviews: app.db.tenant_read(&caller).last().rows(LIST, &[]).await? }))
}

/// `GET /api/v1/access/reviews/{id}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Id<AccessReviewRow>>,
) -> Result<Json<WholeReview>> {
    let mut tx = app.db.tenant_read(&caller);
    let review: Option<AccessReview> = tx.optional(READ, &[&caller.tenant(), &id]).await?;
    let review = review.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    Ok(Json(WholeReview { review, items: tx.last().rows(ITEMS, &[&id]).await? }))
}

/// `POST /api/v1/access/reviews`: all roles that are held now.
pub(super) async fn begin(
    call: Call,
    system: System,
    Json(new): Json<NewAccessReview>,
) -> Result<Made<AccessReview>> {
    let (caller, tenant) = (&call.caller, call.caller.tenant());
    let by = caller.actor().principal().ok_or_else(|| Error::new(&core::FORBIDDEN))?;
    let mut tx = system.on_behalf(caller).within(tenant).await?;
    let now = giver::wait(&mut tx, tenant).await?;
    if new.due_at <= now {
        let past = Violation::new("/dueAt", "past", "This time is over.");
        return Err(Error::new(&core::INVALID).violation(past));
    }
    let made = begun(&call, &mut tx, (&new.name, Some(by)), (now, new.due_at)).await?;
    tx.commit().await?;
    Made::at(format!("/api/v1/access/reviews/{}", made.id), made)
}

/// A review that has begun in a transaction, with what is to come of it by the clock.
pub(super) async fn begun(
    call: &Call,
    tx: &mut TenantTx<'_>,
    (name, by): (&Text<1, 200>, Option<PrincipalId>),
    (now, due): (Timestamp, Timestamp),
) -> Result<AccessReview> {
    let (tenant, id): (_, Id<AccessReviewRow>) = (call.caller.tenant(), call.new_id());
    let _: Vec<()> = tx.rows(ADD, &[&id, name, &by, &due]).await?;
    let _: Vec<()> = tx.rows(GATHER, &[&tenant, &id]).await?;
    let made: AccessReview = tx.row(READ, &[&tenant, &id]).await?;
    let args = CloseReview { tenant, review: id };
    call.enqueue_with(tx, &CLOSE, &args, JobOptions::default().at(due))?;
    review_campaigns::plan(call, tx, (tenant, id), (now, due))?;
    Ok(made)
}

/// A review, if it is there.
pub(super) async fn find(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    id: Id<AccessReviewRow>,
) -> Result<Option<AccessReview>> {
    tx.optional(READ, &[&tenant, &id]).await
}

/// `PUT /api/v1/access/reviews/{id}/items/{item}`: by a person, and not of a role of its own.
pub(super) async fn decide(
    caller: Caller,
    system: System,
    Path((review, item)): Path<(Id<AccessReviewRow>, Id<ReviewItemRow>)>,
    Json(new): Json<NewDecision>,
) -> Result<NoContent, Refusing<(core::SEPARATION_OF_DUTIES, core::WRONG_STATE)>> {
    let tenant = caller.tenant();
    let person: PrincipalId = caller.user()?.into();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let decided: Option<()> = tx.optional(DECIDE, &[&tenant, &review, &item, &new.decision, &person]).await?;
    if decided.is_some() {
        tx.commit().await?;
        return Ok(NoContent);
    }
    let standing: Option<ItemStanding> = tx.optional(LOOK, &[&tenant, &review, &item]).await?;
    Err(match standing {
        None => Error::new(&core::NOT_FOUND),
        Some(ItemStanding { closed: true }) => is_closed(),
        Some(ItemStanding { closed: false }) => {
            Error::new(&core::SEPARATION_OF_DUTIES).detail("Nobody confirms a role of his own.")
        }
    }
    .into())
}

/// `POST /api/v1/access/reviews/{id}/close`: before its time.
pub(super) async fn close_now(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<Id<AccessReviewRow>>,
) -> Result<Json<AccessReview>, Refusing<core::WRONG_STATE>> {
    let tenant = caller.tenant();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let before: Option<AccessReview> = tx.optional(READ, &[&tenant, &id]).await?;
    if before.is_none() {
        return Err(Error::new(&core::NOT_FOUND).into());
    }
    if !close(&mut tx, tenant, id).await? {
        return Err(is_closed().into());
    }
    let closed: AccessReview = tx.row(READ, &[&tenant, &id]).await?;
    tx.commit().await?;
    app.known_permissions.forget_all(tenant);
    Ok(Json(closed))
}

/// Once: it may have been closed before its time.
async fn close_in_time(job: &Job, CloseReview { tenant, review }: CloseReview) -> Result<()> {
    let mut tx = job.system()?.begin(job.call.caller.trace()).within(tenant).await?;
    if !close(&mut tx, tenant, review).await? {
        tx.rollback();
        return Ok(());
    }
    tx.commit().await?;
    job.call.app.known_permissions.forget_all(tenant);
    Ok(())
}

/// Ends what nobody has confirmed, unless the review is closed already. Where no owner would be left, owners stay.
async fn close(tx: &mut TenantTx<'_>, tenant: TenantId, review: Id<AccessReviewRow>) -> Result<bool> {
    giver::wait(tx, tenant).await?;
    let open: Option<()> = tx.optional(END_REVIEW, &[&tenant, &review]).await?;
    if open.is_none() {
        return Ok(false);
    }
    let OwnerIsLeft { is_left } = tx.row(OWNER_IS_LEFT, &[&tenant, &review]).await?;
    let ended: Vec<()> = tx.rows(END_GRANTS, &[&tenant, &review, &is_left]).await?;
    tx.audit(&AuditEntry {
        action: "identity.access_reviewed",
        resource: "access_review",
        resource_id: Some(review.to_string()),
        outcome: "success",
        details: json!({ "ended": ended.len(), "ownersStay": !is_left }),
    })?;
    Ok(true)
}

fn is_closed() -> Error {
    Error::new(&core::WRONG_STATE).detail("The review is closed.")
}
