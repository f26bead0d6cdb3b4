//! A tenant's members, for those who run it: what they may do, whether they may come in, and their end.
//!
//! An administrator acts on the membership only: a person's address, password and factors are the person's own, since it may be a
//! member elsewhere.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, Meter};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::shared::{TenantId, UserId};
use erp_core::{from_row, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::giver::{Giver, HELD, HeldRole};
use super::roles::{self, ExpiringRole, HELD_NAMES, NewRoles};
use super::{codes, step_up};

/// A member of the tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    id: UserId,
    #[schemars(example = &"ada@example.com")]
    email: String,
    #[schemars(example = &"Ada Lovelace")]
    name: String,
    /// `active`, or `deactivated` by an administrator, or `disabled` by an operator.
    #[schemars(example = &"active")]
    status: String,
    /// Those that it holds for good.
    #[schemars(example = ["member"])]
    roles: Vec<String>,
    /// Those that end by themselves.
    expiring: Vec<ExpiringRole>,
    joined_at: Timestamp,
}

struct MemberRow {
    id: UserId,
    email: String,
    name: String,
    status: String,
    roles: Vec<String>,
    expiring: Vec<String>,
    expiries: Vec<Timestamp>,
    joined_at: Timestamp,
}
from_row!(MemberRow { id, email, name, status, roles, expiring, expiries, joined_at });

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let MemberRow { id, email, name, status, roles, expiring, expiries, joined_at } = row;
        Self { id, email, name, status, roles, expiring: roles::expiring(expiring, expiries), joined_at }
    }
}

/// The members, in the order of their addresses.
#[derive(Serialize, JsonSchema)]
pub(super) struct Members {
    users: Vec<Member>,
}

const COLUMNS: &str = "m.user_id as id, m.email, m.name, m.created_at as joined_at, \
     case when m.disabled_at is not null then 'disabled' when m.deactivated_at is not null then 'deactivated' else 'active' end \
       as status";
const FROM: &str = " from memberships m cross join lateral (select m.tenant_id, m.user_id as id) p where m.ended_at is null ";
const LIST: &str = sql!["select ", COLUMNS, ", ", HELD_NAMES, FROM, "order by m.email limit 1000"];
const READ: &str = sql!["select ", COLUMNS, ", ", HELD_NAMES, FROM, "and m.user_id = $1"];
const THEIRS: &str = sql![
    "select ",
    HELD,
    " from memberships m left join grants g on g.tenant_id = m.tenant_id and g.principal_id = m.user_id \
       and (g.expires_at is null or g.expires_at > now()) \
       left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where m.tenant_id = $1 and m.user_id = $2 and m.ended_at is null"
];
const OWNERS: &str = "select m.user_id as id from memberships m join grants g on g.tenant_id = m.tenant_id and g.principal_id = m.user_id \
     where m.tenant_id = $1 and g.built_in = 'owner' and g.expires_at is null and m.ended_at is null \
       and m.deactivated_at is null and m.disabled_at is null limit 1";
/// A plan can say how many there may be.
pub(super) static SEATS: Meter =
    Meter::rows("identity.members", "memberships", "seats", "Members who are not paused.");

const DEACTIVATE: &str = "update memberships set deactivated_at = coalesce(deactivated_at, now()) \
     where tenant_id = $1 and user_id = $2 and ended_at is null";
const REACTIVATE: &str =
    "update memberships set deactivated_at = null where tenant_id = $1 and user_id = $2 and ended_at is null";
const REMOVE: &str =
    "update memberships set ended_at = now() where tenant_id = $1 and user_id = $2 and ended_at is null";
const END_SESSIONS: &str = "update sessions set revoked_at = now(), reason = 'removed' \
     where tenant_id = $1 and principal_id = $2 and revoked_at is null";
const DROP_GRANTS: &str = "delete from grants where tenant_id = $1 and principal_id = $2";
/// A member who comes back finds no key of old times that is good.
const REVOKE_KEYS: &str = "update api_keys set revoked_at = now() \
     where tenant_id = $1 and principal_id = $2 and revoked_at is null";
const DROP_INVITATIONS: &str = "update invitations set ended_at = now() \
     where tenant_id = $1 and invited_by = $2 and ended_at is null";

/// What ends with a membership, and itself: statements of the tenant and the member.
pub(super) const ENDING: &[&str] = &[REMOVE, END_SESSIONS, REVOKE_KEYS, DROP_GRANTS, DROP_INVITATIONS];

/// `GET /api/v1/users`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Members>> {
    let rows: Vec<MemberRow> = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    Ok(Json(Members { users: rows.into_iter().map(Member::from).collect() }))
}

/// `GET /api/v1/users/{id}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<UserId>,
) -> Result<Json<Member>> {
    let row: Option<MemberRow> = app.db.tenant_read(&caller).last().optional(READ, &[&id]).await?;
    row.map(|row| Json(row.into())).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// `PUT /api/v1/users/{id}/roles`.
pub(super) async fn give(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<UserId>,
    Json(new): Json<NewRoles>,
) -> Result<NoContent, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN, codes::LAST_OWNER)>> {
    let tenant = caller.tenant();
    step_up::require(&app, &caller, &system).await?;
    let (mut tx, giver) = begin(&app, &caller, &system, id).await?;
    let given = roles::resolve(&app, &mut tx, tenant, &new.wanted()).await?;
    giver.may_give(&given)?;
    roles::replace(&mut tx, tenant, (id.into(), giver.principal), &given).await?;
    finish(&app, tx, (tenant, id)).await?;
    Ok(NoContent)
}

/// `POST /api/v1/users/{id}/deactivate`: out until somebody lets the member in again.
pub(super) async fn deactivate(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<UserId>,
) -> Result<NoContent, Refusing<(codes::MORE_THAN_OWN, codes::LAST_OWNER)>> {
    let (mut tx, _) = begin(&app, &caller, &system, id).await?;
    end(&mut tx, (caller.tenant(), id), &[DEACTIVATE, END_SESSIONS]).await?;
    finish(&app, tx, (caller.tenant(), id)).await?;
    Ok(NoContent)
}

/// `POST /api/v1/users/{id}/reactivate`.
pub(super) async fn reactivate(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<UserId>,
) -> Result<NoContent, Refusing<(codes::MORE_THAN_OWN, core::OVER_QUOTA)>> {
    let (mut tx, _) = begin(&app, &caller, &system, id).await?;
    end(&mut tx, (caller.tenant(), id), &[REACTIVATE]).await?;
    tx.commit().await?;
    Ok(NoContent)
}

/// `DELETE /api/v1/users/{id}`: the membership ends, with its roles, its sessions, its keys and the invitations that it has given.
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<UserId>,
) -> Result<NoContent, Refusing<(codes::MORE_THAN_OWN, codes::LAST_OWNER)>> {
    let (mut tx, _) = begin(&app, &caller, &system, id).await?;
    end(&mut tx, (caller.tenant(), id), ENDING).await?;
    tx.audit(&AuditEntry {
        action: "identity.removed",
        resource: "user",
        resource_id: Some(id.to_string()),
        outcome: "success",
        details: json!(null),
    })?;
    finish(&app, tx, (caller.tenant(), id)).await?;
    Ok(NoContent)
}

/// A transaction on behalf of the caller, in which the tenant's owners stand still, once it is known that the member is there
/// and has nothing that the caller has not.
async fn begin<'a>(
    app: &'a App,
    caller: &Caller,
    system: &'a System,
    member: UserId,
) -> Result<(TenantTx<'a>, Giver<'a>)> {
    let tenant = caller.tenant();
    let mut tx = system.on_behalf(caller).within(tenant).await?;
    let giver = Giver::hold(app, &mut tx, caller).await?;
    let held: Vec<HeldRole> = tx.rows(THEIRS, &[&tenant, &member]).await?;
    if held.is_empty() {
        return Err(Error::new(&core::NOT_FOUND));
    }
    giver.may_change(held)?;
    Ok((tx, giver))
}

async fn end(
    tx: &mut TenantTx<'_>,
    (tenant, member): (TenantId, UserId),
    statements: &[&'static str],
) -> Result<()> {
    for statement in statements {
        let _: Vec<()> = tx.rows(*statement, &[&tenant, &member]).await?;
    }
    Ok(())
}

/// Commits, unless the tenant would have no owner.
async fn finish(app: &App, mut tx: TenantTx<'_>, (tenant, member): (TenantId, UserId)) -> Result<()> {
    refuse_without_owner(&mut tx, tenant).await?;
    tx.commit().await?;
    app.known_permissions.forget(tenant, member.into());
    Ok(())
}

/// Refuses what would leave the tenant without an owner.
///
/// # Errors
/// `identity.last_owner`.
pub(super) async fn refuse_without_owner(tx: &mut TenantTx<'_>, tenant: TenantId) -> Result<()> {
    let owner: Option<()> = tx.optional(OWNERS, &[&tenant]).await?;
    owner.ok_or_else(|| Error::new(&codes::LAST_OWNER))
}
