//! Roles by their names, and the rule that nobody gives more than he has.

use erp_core::app::App;
use erp_core::auth::{Caller, Grants, OwnRole, Permissions, Role};
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::from_row;
use erp_core::shared::{Id, IdKind, List, PrincipalId, TenantId, Text};

use super::{OWN, codes};

/// What roles are called in bodies: names of those that every tenant has, or of the tenant's own.
pub(super) type RoleNames = List<Text<1, 100>, 1, 20>;

/// A role of a tenant's own.
#[derive(Debug)]
pub(super) enum OwnRoleRow {}

impl IdKind for OwnRoleRow {
    const NAME: &'static str = "role";
}

/// Roles that are there, with what they allow.
pub(super) struct ResolvedRoles {
    pub(super) built_in: Vec<Role>,
    pub(super) own: Vec<Id<OwnRoleRow>>,
    pub(super) permissions: Permissions,
}

/// The tenant's own roles of these names, with what they allow.
const FIND: &str = "select r.id, r.name, \
     array(select p.permission from role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions \
     from roles r where r.tenant_id = $1 and lower(r.name) = any ($2)";

/// A role that a principal holds: the columns of [`HELD`].
pub(super) struct HeldRole {
    built_in: Option<String>,
    name: Option<String>,
    permissions: Vec<String>,
}
from_row!(HeldRole { built_in, name, permissions });

/// What is read of grants `g` and the tenant's own roles `r`.
pub(super) const HELD: &str = "g.built_in, r.name, \
     array(select p.permission from role_permissions p where p.tenant_id = g.tenant_id and p.role_id = g.role_id) as permissions";

struct FoundRole {
    id: Id<OwnRoleRow>,
    name: String,
    permissions: Vec<String>,
}
from_row!(FoundRole { id, name, permissions });

/// The roles of these names.
///
/// # Errors
/// `core.invalid` for a name that no role has, at its place in `/roles`.
pub(super) async fn resolve(
    app: &App,
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    names: &[impl AsRef<str>],
) -> Result<ResolvedRoles> {
    let folded: Vec<String> = names.iter().map(|name| name.as_ref().to_lowercase()).collect();
    let found: Vec<FoundRole> = tx.rows(FIND, &[&tenant, &folded]).await?;
    let (mut built_in, mut own, mut grants) = (Vec::new(), Vec::new(), Grants::default());
    for (at, name) in folded.iter().enumerate() {
        if let Ok(role) = name.parse::<Role>() {
            built_in.push(role);
        } else if let Some(role) = found.iter().find(|role| role.name.to_lowercase() == *name) {
            own.push(role.id);
            grants.own.push(OwnRole { name: role.name.clone(), permissions: role.permissions.clone() });
        } else {
            let unknown = Violation::new(format!("/roles/{at}"), "unknown", "There is no such role.");
            return Err(Error::new(&core::INVALID).violation(unknown));
        }
    }
    built_in.dedup();
    own.sort();
    own.dedup();
    grants.built_in.clone_from(&built_in);
    Ok(ResolvedRoles { built_in, own, permissions: app.permissions.resolve(&grants) })
}

/// Refuses a giver who has less than what is given, or than what a member has who is to be changed. Owners give what there is, and are
/// made and unmade by owners.
///
/// # Errors
/// `identity.more_than_own`.
pub(super) fn within_own(giver: &Caller, roles: &[Role], permissions: &Permissions) -> Result<()> {
    let is_below = !roles.contains(&Role::Owner) && giver.permissions().include(permissions);
    if is_below || giver.may(&OWN) {
        return Ok(());
    }
    Err(Error::new(&codes::MORE_THAN_OWN))
}

/// Refuses a giver who has less than a principal that is to be changed: each row is a role that it holds, or none.
///
/// # Errors
/// As [`within_own`].
pub(super) fn holder_within_own(app: &App, giver: &Caller, held: Vec<HeldRole>) -> Result<()> {
    let mut grants = Grants::default();
    for HeldRole { built_in, name, permissions } in held {
        grants.built_in.extend(built_in.and_then(|role| role.parse::<Role>().ok()));
        grants.own.extend(name.map(|name| OwnRole { name, permissions }));
    }
    within_own(giver, &grants.built_in, &app.permissions.resolve(&grants))
}

const GRANT: &str = "insert into grants (id, principal_id, built_in, role_id) \
     select gen_random_uuid(), $1::uuid, b, null::uuid from unnest($2::text[]) b union all select gen_random_uuid(), $1, null, r from unnest($3::uuid[]) r \
     on conflict do nothing";
const TAKE_BACK: &str = "delete from grants where tenant_id = $1 and principal_id = $2 \
     and not (coalesce(built_in = any ($3), false) or coalesce(role_id = any ($4), false))";

/// Gives a principal these roles, beside those that it has.
pub(super) async fn grant(
    tx: &mut TenantTx<'_>,
    principal: PrincipalId,
    roles: &ResolvedRoles,
) -> Result<()> {
    let built_in: Vec<&str> = roles.built_in.iter().map(|role| role.as_str()).collect();
    let _: Vec<()> = tx.rows(GRANT, &[&principal, &built_in, &roles.own]).await?;
    Ok(())
}

/// Gives a principal these roles and takes back all others.
pub(super) async fn replace(
    tx: &mut TenantTx<'_>,
    (tenant, principal): (TenantId, PrincipalId),
    roles: &ResolvedRoles,
) -> Result<()> {
    let built_in: Vec<&str> = roles.built_in.iter().map(|role| role.as_str()).collect();
    let _: Vec<()> = tx.rows(TAKE_BACK, &[&tenant, &principal, &built_in, &roles.own]).await?;
    grant(tx, principal, roles).await
}
