//! Why a principal may do something or may not, and who all may: answered from what the next request of theirs would be.

use std::collections::HashMap;

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{Caller, Permission, PermissionTable, Role};
use erp_core::db::{SystemWork, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Query};
use erp_core::from_row;
use erp_core::shared::{Id, IdKind, PrincipalId, TenantId, Text};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EXPLAIN;

/// The work that an operator's session is opened for.
pub static WORK: &SystemWork = &EXPLAIN;

/// A grant of a role to a principal.
#[derive(Debug)]
pub enum GrantRow {}

impl IdKind for GrantRow {
    const NAME: &'static str = "grant";
}

/// A person, a service account or a key.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct KnownPrincipal {
    /// Its id.
    pub id: PrincipalId,
    /// `person`, `service-account` or `key`.
    #[schemars(example = &"person")]
    pub kind: String,
    /// What it is called.
    #[schemars(example = &"Ada Lovelace")]
    pub name: String,
    /// A person's address.
    #[schemars(example = &"ada@example.com")]
    pub email: Option<String>,
    /// Whose key it is.
    pub holder: Option<PrincipalId>,
}

/// Why something is allowed, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessReason {
    /// A role that is held allows it.
    Granted,
    /// No role that is held allows it.
    NotGranted,
    /// The key's owner may, and the key is not good for it.
    BeyondScopes,
    /// No module declares the permission.
    Undeclared,
    /// It is no member any more, or was ended.
    Removed,
    /// An administrator keeps it out.
    Deactivated,
    /// An operator keeps it out.
    Disabled,
    /// The key was revoked.
    Revoked,
    /// The key's time is over.
    Expired,
    /// The key's owner is kept out.
    OwnerKeptOut,
    /// The tenant is suspended or closed.
    TenantNotActive,
}

/// A role that a principal, or the owner of a key, holds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantPath {
    /// The grant.
    pub grant: Id<GrantRow>,
    /// The role.
    #[schemars(example = &"member")]
    pub role: String,
    /// Whether the role allows what was asked for; `true` where nothing was.
    pub allows: bool,
    /// Since when it is held.
    pub granted_at: Timestamp,
    /// Who gave it, where that is known.
    pub granted_by: Option<PrincipalId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it has ended.
    pub ended: bool,
}

/// Why a principal may do something, or may not.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// Who.
    pub principal: KnownPrincipal,
    /// What.
    #[schemars(example = &"catalog.item.write")]
    pub permission: String,
    /// Whether.
    pub allowed: bool,
    /// Why.
    pub because: AccessReason,
    /// The roles that are held, those that allow it first.
    pub grants: Vec<GrantPath>,
}

/// A principal that has access, by these roles.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AccessHolder {
    /// Who.
    pub principal: KnownPrincipal,
    /// By what.
    pub grants: Vec<GrantPath>,
}

/// Who has access.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AccessHolders {
    /// People, service accounts and keys, in the order of their names.
    pub principals: Vec<AccessHolder>,
}

/// The query of `GET /api/v1/access/explain`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// An id, or a member's address.
    principal: Text<1, 254>,
    /// The name of a permission.
    permission: Text<1, 200>,
}

/// The query of `GET /api/v1/access/who`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoQuery {
    /// The name of a permission: those who have it.
    #[serde(default)]
    permission: Option<Text<1, 200>>,
    /// The name of a role: those who hold it.
    #[serde(default)]
    role: Option<Text<1, 100>>,
}

struct PrincipalFacts {
    id: PrincipalId,
    kind: String,
    name: String,
    email: Option<String>,
    holder: Option<PrincipalId>,
    scopes: Option<Vec<String>>,
    standing: String,
    tenant_active: bool,
}
from_row!(PrincipalFacts { id, kind, name, email, holder, scopes, standing, tenant_active });

struct GrantFacts {
    id: Id<GrantRow>,
    principal_id: PrincipalId,
    built_in: Option<String>,
    name: Option<String>,
    granted_at: Timestamp,
    granted_by: Option<PrincipalId>,
    expires_at: Option<Timestamp>,
    ended: bool,
    names_it: bool,
}
from_row!(GrantFacts {
    id,
    principal_id,
    built_in,
    name,
    granted_at,
    granted_by,
    expires_at,
    ended,
    names_it
});

/// All principals of a tenant, or one with the owner of its key.
const PRINCIPALS: &str = "select p.*, (select t.status = 'active' from tenants t where t.id = $1) as tenant_active from ( \
     select m.user_id as id, 'person' as kind, m.name, m.email, null::uuid as holder, null::text[] as scopes, \
       case when m.ended_at is not null then 'removed' when m.disabled_at is not null then 'disabled' \
         when m.deactivated_at is not null then 'deactivated' else 'active' end as standing \
     from memberships m where m.tenant_id = $1 \
     union all select s.id, 'service-account', s.name, null, null, null, \
       case when s.disabled_at is not null then 'removed' else 'active' end \
     from service_accounts s where s.tenant_id = $1 \
     union all select k.id, 'key', k.name, null, k.principal_id, k.scopes, \
       case when k.revoked_at is not null then 'revoked' when k.expires_at <= now() then 'expired' else 'active' end \
     from api_keys k where k.tenant_id = $1) p \
     where ($2::uuid is null and $3::text is null) or p.id = $2 or p.email = $3 \
       or p.id = (select k.principal_id from api_keys k where k.tenant_id = $1 and k.id = $2) \
     order by lower(p.name), p.id";
/// All grants of a tenant, or those of one principal; `names_it` of roles of the tenant's own.
const GRANTS: &str = "select g.id, g.principal_id, g.built_in, r.name, g.granted_at, g.granted_by, g.expires_at, \
       coalesce(g.expires_at <= now(), false) as ended, \
       exists (select from role_permissions p where p.tenant_id = g.tenant_id and p.role_id = g.role_id and p.permission = $3) as names_it \
     from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
     where g.tenant_id = $1 and ($2::uuid is null or g.principal_id = $2) order by g.granted_at, g.id";

/// `GET /api/v1/access/explain`.
pub(super) async fn explain_one(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<Explanation>, Refusing<core::NOT_FOUND>> {
    let tx = app.db.tenant_read(&caller);
    let asked = (query.principal.as_str(), query.permission.as_str());
    let found = explain(&app.permissions, tx, caller.tenant(), asked).await?;
    Ok(Json(found.ok_or_else(|| Error::new(&core::NOT_FOUND))?))
}

/// `GET /api/v1/access/who`.
pub(super) async fn who_may(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<WhoQuery>,
) -> Result<Json<AccessHolders>> {
    let (permission, role) = (query.permission.as_ref(), query.role.as_ref());
    let asked = (permission.map(Text::as_str), role.map(Text::as_str));
    let tx = app.db.tenant_read(&caller);
    Ok(Json(who(&app.permissions, tx, caller.tenant(), asked).await?))
}

/// Why a principal, named by its id or a member's address, may do something or may not; `None` where there is no such principal.
///
/// # Errors
/// As the database answers.
pub async fn explain(
    table: &PermissionTable,
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (principal, permission): (&str, &str),
) -> Result<Option<Explanation>> {
    let id = principal.parse::<PrincipalId>().ok();
    let email = if id.is_none() { Some(principal.to_lowercase()) } else { None };
    let found: Vec<PrincipalFacts> = tx.rows(PRINCIPALS, &[&tenant, &id, &email]).await?;
    let asked = |facts: &&PrincipalFacts| Some(facts.id) == id || facts.email == email && email.is_some();
    let Some(facts) = found.iter().find(asked) else { return Ok(None) };
    let owner = facts.holder.and_then(|owner| found.iter().find(|other| other.id == owner));
    let holder = facts.holder.unwrap_or(facts.id);
    let grants: Vec<GrantFacts> = tx.last().rows(GRANTS, &[&tenant, &Some(holder), &permission]).await?;
    let grants: Vec<&GrantFacts> = grants.iter().collect();
    Ok(Some(judged(facts, owner, &grants, (permission, table.find(permission)))))
}

/// Who has a permission, holds a role, or has any access at all.
///
/// # Errors
/// As the database answers.
pub async fn who(
    table: &PermissionTable,
    mut tx: TenantTx<'_>,
    tenant: TenantId,
    (permission, role): (Option<&str>, Option<&str>),
) -> Result<AccessHolders> {
    let all: (Option<PrincipalId>, Option<String>) = (None, None);
    let found: Vec<PrincipalFacts> = tx.rows(PRINCIPALS, &[&tenant, &all.0, &all.1]).await?;
    let name = permission.unwrap_or_default();
    let grants: Vec<GrantFacts> = tx.last().rows(GRANTS, &[&tenant, &all.0, &name]).await?;
    let by_id: HashMap<PrincipalId, &PrincipalFacts> = found.iter().map(|facts| (facts.id, facts)).collect();
    let mut held: HashMap<PrincipalId, Vec<&GrantFacts>> = HashMap::new();
    for grant in &grants {
        held.entry(grant.principal_id).or_default().push(grant);
    }
    let holder = |facts: &PrincipalFacts| {
        let owner = facts.holder.and_then(|owner| by_id.get(&owner)).copied();
        let theirs = held.get(&facts.holder.unwrap_or(facts.id)).map(Vec::as_slice).unwrap_or_default();
        let judged = judged(facts, owner, theirs, (name, table.find(name)));
        let has_access = match permission {
            Some(_) => judged.allowed,
            None => kept_out(facts, owner).is_none(),
        };
        let holder =
            AccessHolder { principal: judged.principal, grants: counting(judged.grants, permission, role) };
        (has_access && !holder.grants.is_empty()).then_some(holder)
    };
    Ok(AccessHolders { principals: found.iter().filter_map(holder).collect() })
}

/// The grants that count for what was asked.
fn counting(mut grants: Vec<GrantPath>, permission: Option<&str>, role: Option<&str>) -> Vec<GrantPath> {
    grants.iter_mut().for_each(|grant| grant.allows |= permission.is_none());
    let of_role =
        |grant: &GrantPath| role.is_none_or(|role| grant.role.to_lowercase() == role.to_lowercase());
    grants.retain(|grant| !grant.ended && grant.allows && of_role(grant));
    grants
}

/// Why nobody asks whether a principal has roles.
fn kept_out(facts: &PrincipalFacts, owner: Option<&PrincipalFacts>) -> Option<AccessReason> {
    let owner_is_out = facts.holder.is_some() && owner.is_none_or(|owner| owner.standing != "active");
    match facts.standing.as_str() {
        _ if !facts.tenant_active => Some(AccessReason::TenantNotActive),
        "removed" => Some(AccessReason::Removed),
        "deactivated" => Some(AccessReason::Deactivated),
        "disabled" => Some(AccessReason::Disabled),
        "revoked" => Some(AccessReason::Revoked),
        "expired" => Some(AccessReason::Expired),
        _ if owner_is_out => Some(AccessReason::OwnerKeptOut),
        _ => None,
    }
}

fn judged(
    facts: &PrincipalFacts,
    owner: Option<&PrincipalFacts>,
    grants: &[&GrantFacts],
    (name, permission): (&str, Option<&'static Permission>),
) -> Explanation {
    let mut paths: Vec<GrantPath> = grants.iter().map(|grant| path(grant, permission)).collect();
    paths.sort_by_key(|path| (!path.allows, path.ended));
    let granted = paths.iter().any(|path| path.allows && !path.ended);
    let in_scope = facts.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope == name));
    let because = match kept_out(facts, owner) {
        Some(reason) => reason,
        None if permission.is_none() => AccessReason::Undeclared,
        None if !granted => AccessReason::NotGranted,
        None if !in_scope => AccessReason::BeyondScopes,
        None => AccessReason::Granted,
    };
    let PrincipalFacts { id, kind, name: called, email, holder, .. } = facts;
    let principal = KnownPrincipal {
        id: *id,
        kind: kind.clone(),
        name: called.clone(),
        email: email.clone(),
        holder: *holder,
    };
    let allowed = because == AccessReason::Granted;
    Explanation { principal, permission: name.to_owned(), allowed, because, grants: paths }
}

fn path(grant: &GrantFacts, permission: Option<&'static Permission>) -> GrantPath {
    let built_in = grant.built_in.as_deref().and_then(|role| role.parse::<Role>().ok());
    let allows = match built_in {
        Some(role) => permission.is_some_and(|permission| role.has(permission)),
        None => grant.names_it && permission.is_some(),
    };
    let role = grant.built_in.as_ref().or(grant.name.as_ref()).cloned().unwrap_or_default();
    let GrantFacts { id, granted_at, granted_by, expires_at, ended, .. } = *grant;
    GrantPath { grant: id, role, allows, granted_at, granted_by, expires_at, ended }
}
