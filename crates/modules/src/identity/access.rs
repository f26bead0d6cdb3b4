//! What an operator sees of a tenant's access from a terminal, gives and takes away: its keys, its roles and who holds them, its reviews.
//! For the tenant that has lost its only owner, and for the key that was found in public. Each change stands in the tenant's audit log,
//! with the reason.

use erp_core::auth::Role;
use erp_core::db::{AuditEntry, SystemWork, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::from_row;
use erp_core::shared::{Id, PrincipalId, TenantId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::keys::REVOKE;
use super::roles::OwnRoleRow;
use super::{ACCESS, giver, members};

/// The work that an operator's session is opened for.
pub static WORK: &SystemWork = &ACCESS;

/// A key that was not revoked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedKey {
    /// Its id.
    pub id: PrincipalId,
    /// What it is called.
    pub name: String,
    /// What its member or service account is called.
    pub holder: String,
    /// The permissions that it is good for.
    pub scopes: Vec<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}
from_row!(ListedKey { id, name, holder, scopes, last_used_at, expires_at });

/// A role of a tenant's, with what its own allow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRole {
    /// What it is called.
    pub name: String,
    /// Whether every tenant has it.
    pub built_in: bool,
    /// What it is for.
    pub description: String,
    /// What one of the tenant's own allows.
    pub permissions: Vec<String>,
    /// How many hold it now.
    pub holders: i64,
}
from_row!(ListedRole { name, built_in, description, permissions, holders });

/// A review of access, and how far it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedReview {
    /// What it is called.
    pub name: String,
    /// When it ends what nobody has confirmed.
    pub due_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// How many roles of principals it is about.
    pub items: i64,
    /// Of how many nothing is decided yet.
    pub undecided: i64,
}
from_row!(ListedReview { name, due_at, closed_at, items, undecided });

/// A role, and whom it is given to or taken from.
#[derive(Debug, Clone)]
pub struct NamedGrant {
    /// A member's address or id, or a service account's id.
    pub principal: String,
    /// What the role is called.
    pub role: String,
}

const KEYS: &str = "select k.id, k.name, coalesce(m.email, s.name, k.principal_id::text) as holder, k.scopes, k.last_used_at, k.expires_at \
     from api_keys k left join memberships m on m.tenant_id = k.tenant_id and m.user_id = k.principal_id \
     left join service_accounts s on s.tenant_id = k.tenant_id and s.id = k.principal_id \
     where k.tenant_id = $1 and k.revoked_at is null order by k.created_at desc, k.id";
const ROLES: &str = "select r.name, r.built_in, r.description, r.permissions, \
       (select count(*) from grants g where g.tenant_id = $1 and (g.role_id = r.id or g.built_in = r.name and r.built_in) \
         and (g.expires_at is null or g.expires_at > now())) as holders \
     from (select null::uuid as id, b.name, true as built_in, '' as description, '{}'::text[] as permissions, b.place \
         from unnest($2::text[]) with ordinality b (name, place) \
       union all select r.id, r.name, false, r.description, array(select p.permission from role_permissions p \
         where p.tenant_id = r.tenant_id and p.role_id = r.id order by 1), 1000 from roles r where r.tenant_id = $1) r \
     order by r.place, lower(r.name)";
const PRINCIPAL: &str = "select m.user_id as id from memberships m where m.tenant_id = $1 and m.ended_at is null \
       and (m.user_id = $2 or m.email = $3) \
     union all select s.id from service_accounts s where s.tenant_id = $1 and s.id = $2 and s.disabled_at is null";
const ROLE: &str = "select id from roles where tenant_id = $1 and lower(name) = $2";
const GIVE: &str = "insert into grants (id, principal_id, built_in, role_id, expires_at) \
     values (gen_random_uuid(), $1, $2, $3, $4) on conflict do nothing returning principal_id as id";
const TAKE: &str = "delete from grants where tenant_id = $1 and principal_id = $2 \
       and (built_in = $3 or role_id = $4) returning principal_id as id";
const REVIEWS: &str = "select r.name, r.due_at, r.closed_at, count(i.id) as items, \
       count(i.id) filter (where i.decision is null and i.ended_at is null) as undecided \
     from access_reviews r left join access_review_items i on i.tenant_id = r.tenant_id and i.review_id = r.id \
     where r.tenant_id = $1 group by r.tenant_id, r.id, r.name, r.due_at, r.closed_at order by r.due_at desc";

struct PrincipalOfName {
    id: PrincipalId,
}
from_row!(PrincipalOfName { id });

struct RoleOfName {
    id: Id<OwnRoleRow>,
}
from_row!(RoleOfName { id });

/// The keys of a tenant that were not revoked, the newest first.
///
/// # Errors
/// As the database answers.
pub async fn keys(tx: TenantTx<'_>, tenant: TenantId) -> Result<Vec<ListedKey>> {
    tx.last().rows(KEYS, &[&tenant]).await
}

/// Revokes a key, of anybody.
///
/// # Errors
/// `core.not_found`.
pub async fn revoke_key(
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (key, why): (PrincipalId, &str),
) -> Result<()> {
    let revoked: Option<PrincipalOfName> = tx.optional(REVOKE, &[&tenant, &key]).await?;
    revoked.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.audit(&entry("identity.key_revoked", ("api_key", key), json!({ "why": why })))?;
    tx.commit().await
}

/// The roles that there are in a tenant, those of every tenant first.
///
/// # Errors
/// As the database answers.
pub async fn roles(tx: TenantTx<'_>, tenant: TenantId) -> Result<Vec<ListedRole>> {
    let built_in: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    tx.last().rows(ROLES, &[&tenant, &built_in]).await
}

/// Gives somebody a role, for good or with an end.
///
/// # Errors
/// `core.not_found` where there is no such principal or role; `core.wrong_state` where it holds it already.
pub async fn give_role(
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (asked, until, why): (&NamedGrant, Option<Timestamp>, &str),
) -> Result<()> {
    let (principal, built_in, own) = found(&mut tx, tenant, asked).await?;
    let given: Option<PrincipalOfName> = tx.optional(GIVE, &[&principal, &built_in, &own, &until]).await?;
    given.ok_or_else(|| Error::new(&core::WRONG_STATE).detail("The role is held already."))?;
    let details = json!({ "role": asked.role, "until": until, "why": why });
    tx.audit(&entry("identity.role_given", ("principal", principal), details))?;
    tx.commit().await
}

/// Takes a role from somebody.
///
/// # Errors
/// `core.not_found` where there is no such principal or role; `core.wrong_state` where it does not hold it;
/// `identity.last_owner`.
pub async fn take_role(
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (asked, why): (&NamedGrant, &str),
) -> Result<()> {
    let (principal, built_in, own) = found(&mut tx, tenant, asked).await?;
    let taken: Option<PrincipalOfName> = tx.optional(TAKE, &[&tenant, &principal, &built_in, &own]).await?;
    taken.ok_or_else(|| Error::new(&core::WRONG_STATE).detail("The role is not held."))?;
    members::refuse_without_owner(&mut tx, tenant).await?;
    tx.audit(&entry(
        "identity.role_taken_back",
        ("principal", principal),
        json!({ "role": asked.role, "why": why }),
    ))?;
    tx.commit().await
}

/// The reviews of a tenant's access, the latest first.
///
/// # Errors
/// As the database answers.
pub async fn reviews(tx: TenantTx<'_>, tenant: TenantId) -> Result<Vec<ListedReview>> {
    tx.last().rows(REVIEWS, &[&tenant]).await
}

/// Waits for those who change rights in the tenant, and finds the principal and the role: one of every tenant's, or of its own.
async fn found(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    asked: &NamedGrant,
) -> Result<(PrincipalId, Option<&'static str>, Option<Id<OwnRoleRow>>)> {
    let none = |what: &str| Error::new(&core::NOT_FOUND).detail(what.to_owned());
    giver::wait(tx, tenant).await?;
    let id = asked.principal.parse::<PrincipalId>().ok();
    let email = asked.principal.to_lowercase();
    let principal: Option<PrincipalOfName> = tx.optional(PRINCIPAL, &[&tenant, &id, &email]).await?;
    let PrincipalOfName { id: principal } = principal.ok_or_else(|| none("There is no such principal."))?;
    let name = asked.role.to_lowercase();
    if let Ok(role) = name.parse::<Role>() {
        return Ok((principal, Some(role.as_str()), None));
    }
    let own: Option<RoleOfName> = tx.optional(ROLE, &[&tenant, &name]).await?;
    Ok((principal, None, Some(own.ok_or_else(|| none("There is no such role."))?.id)))
}

fn entry(action: &'static str, (resource, id): (&'static str, PrincipalId), details: Value) -> AuditEntry {
    AuditEntry { action, resource, resource_id: Some(id.to_string()), outcome: "success", details }
}
