//! Roles by their names, as they are given to principals: for good, or with an end.

use erp_core::app::App;
use erp_core::auth::{Grants, OwnRole, Permissions, Role};
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::from_row;
use erp_core::shared::{Id, IdKind, List, PrincipalId, TenantId, Text};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a role is called: one of those that every tenant has, or of the tenant's own.
pub(super) type RoleName = Text<1, 100>;

/// A role of a tenant's own.
#[derive(Debug)]
pub(super) enum OwnRoleRow {}

impl IdKind for OwnRoleRow {
    const NAME: &'static str = "role";
}

/// The body of `PUT /api/v1/users/{id}/roles`: all that the principal is to have, within the giver's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRoles {
    /// Those that it has for good.
    #[schemars(example = ["member"])]
    roles: List<RoleName, 0, 20>,
    /// Those that end by themselves.
    #[serde(default)]
    expiring: Option<List<NewExpiringRole, 0, 20>>,
}

/// A role that is given for a time.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewExpiringRole {
    #[schemars(example = &"auditor")]
    role: RoleName,
    /// From then on it counts no more: on every instance within five seconds.
    #[schemars(example = &"2030-01-01T00:00:00Z")]
    expires_at: Timestamp,
}

/// A role that ends.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExpiringRole {
    #[schemars(example = &"auditor")]
    role: String,
    expires_at: Timestamp,
}

/// The columns `roles`, `expiring` and `expiries` of a principal `p`: what it holds for good, and what until when.
pub(super) const HELD_NAMES: &str = "array(select coalesce(g.built_in, r.name) from grants g \
       left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = p.tenant_id and g.principal_id = p.id and g.expires_at is null order by 1) as roles, \
     array(select coalesce(g.built_in, r.name) from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = p.tenant_id and g.principal_id = p.id and g.expires_at > now() order by g.expires_at, 1) as expiring, \
     array(select g.expires_at from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = p.tenant_id and g.principal_id = p.id and g.expires_at > now() \
       order by g.expires_at, coalesce(g.built_in, r.name)) as expiries";

/// Puts [`HELD_NAMES`] together.
pub(super) fn expiring(roles: Vec<String>, ends: Vec<Timestamp>) -> Vec<ExpiringRole> {
    roles.into_iter().zip(ends).map(|(role, expires_at)| ExpiringRole { role, expires_at }).collect()
}

/// A role that is asked for by its name, and where the body does so.
pub(super) struct WantedRole {
    pub(super) name: String,
    pub(super) until: Option<Timestamp>,
    pub(super) pointer: String,
}

/// The roles that a body names at `/roles`, for good.
pub(super) fn wanted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<WantedRole> {
    let named = |(at, name): (usize, &str)| WantedRole {
        name: name.to_owned(),
        until: None,
        pointer: format!("/roles/{at}"),
    };
    names.into_iter().enumerate().map(named).collect()
}

impl NewRoles {
    pub(super) fn wanted(&self) -> Vec<WantedRole> {
        let mut all = wanted(self.roles.iter().map(Text::as_str));
        let expiring = self.expiring.iter().flat_map(|roles| roles.iter()).enumerate();
        all.extend(expiring.map(|(at, role)| WantedRole {
            name: role.role.to_string(),
            until: Some(role.expires_at),
            pointer: format!("/expiring/{at}/role"),
        }));
        all
    }
}

/// A role that is there, with what it allows, and until when it is to be held.
pub(super) struct ResolvedRole {
    /// As it is called.
    pub(super) name: String,
    /// One of those that every tenant has.
    pub(super) built_in: Option<Role>,
    /// Or else of the tenant's own.
    own: Option<Id<OwnRoleRow>>,
    pub(super) permissions: Permissions,
    pub(super) until: Option<Timestamp>,
    pointer: String,
}

impl ResolvedRole {
    /// Where the body says until when.
    pub(super) fn end_pointer(&self) -> String {
        self.pointer.replace("/role", "/expiresAt")
    }
}

/// The tenant's own roles of these names, with what they allow.
const FIND: &str = "select r.id, r.name, \
     array(select p.permission from role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions \
     from roles r where r.tenant_id = $1 and lower(r.name) = any ($2)";

struct FoundRole {
    id: Id<OwnRoleRow>,
    name: String,
    permissions: Vec<String>,
}
from_row!(FoundRole { id, name, permissions });

/// The roles that are asked for.
///
/// # Errors
/// `core.invalid` for a name that no role has, or that is there twice, at its place.
pub(super) async fn resolve(
    app: &App,
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    wanted: &[WantedRole],
) -> Result<Vec<ResolvedRole>> {
    let folded: Vec<String> = wanted.iter().map(|role| role.name.to_lowercase()).collect();
    let found: Vec<FoundRole> = tx.rows(FIND, &[&tenant, &folded]).await?;
    let mut resolved: Vec<ResolvedRole> = Vec::new();
    for (wanted, name) in wanted.iter().zip(&folded) {
        let invalid = |code, what| {
            Err(Error::new(&core::INVALID).violation(Violation::new(wanted.pointer.clone(), code, what)))
        };
        let role = match (name.parse::<Role>(), found.iter().find(|role| role.name.to_lowercase() == *name)) {
            (Ok(role), _) => of_the_house(app, role, wanted),
            (Err(_), Some(role)) => of_the_tenant(app, role, wanted),
            (Err(_), None) => return invalid("unknown", "There is no such role."),
        };
        if resolved.iter().any(|other| other.name == role.name) {
            return invalid("duplicate", "The role is named twice.");
        }
        resolved.push(role);
    }
    Ok(resolved)
}

fn of_the_house(app: &App, role: Role, wanted: &WantedRole) -> ResolvedRole {
    ResolvedRole {
        name: role.as_str().to_owned(),
        built_in: Some(role),
        own: None,
        permissions: app.permissions.resolve(&Grants { built_in: vec![role], ..Grants::default() }),
        until: wanted.until,
        pointer: wanted.pointer.clone(),
    }
}

fn of_the_tenant(app: &App, role: &FoundRole, wanted: &WantedRole) -> ResolvedRole {
    ResolvedRole {
        name: role.name.clone(),
        built_in: None,
        own: Some(role.id),
        permissions: named(app, role.permissions.clone()),
        until: wanted.until,
        pointer: wanted.pointer.clone(),
    }
}

/// The permissions of these names; those that no module declares are left out.
pub(super) fn named(app: &App, permissions: Vec<String>) -> Permissions {
    let role = OwnRole { name: String::new(), permissions };
    app.permissions.resolve(&Grants { own: vec![role], ..Grants::default() })
}

const GRANT: &str = "insert into grants (id, principal_id, built_in, role_id, expires_at, granted_by) \
     select gen_random_uuid(), $1::uuid, w.built_in, w.role_id, w.expires_at, $5::uuid \
     from unnest($2::text[], $3::uuid[], $4::timestamptz[]) w (built_in, role_id, expires_at) on conflict do nothing";
/// What stays keeps its id, and who gave it and when.
const TAKE_BACK: &str = "delete from grants g where g.tenant_id = $1 and g.principal_id = $2 and not exists ( \
     select from unnest($3::text[], $4::uuid[], $5::timestamptz[]) w (built_in, role_id, expires_at) \
     where w.built_in is not distinct from g.built_in and w.role_id is not distinct from g.role_id \
       and w.expires_at is not distinct from g.expires_at)";

/// The columns of [`GRANT`] and [`TAKE_BACK`].
struct GrantColumns {
    built_in: Vec<Option<&'static str>>,
    own: Vec<Option<Id<OwnRoleRow>>>,
    until: Vec<Option<Timestamp>>,
}

impl GrantColumns {
    fn of(roles: &[ResolvedRole]) -> Self {
        Self {
            built_in: roles.iter().map(|role| role.built_in.map(Role::as_str)).collect(),
            own: roles.iter().map(|role| role.own).collect(),
            until: roles.iter().map(|role| role.until).collect(),
        }
    }
}

/// Gives a principal these roles, beside those that it has.
pub(super) async fn grant(
    tx: &mut TenantTx<'_>,
    (principal, giver): (PrincipalId, Option<PrincipalId>),
    roles: &[ResolvedRole],
) -> Result<()> {
    let GrantColumns { built_in, own, until } = GrantColumns::of(roles);
    tx.rows::<()>(GRANT, &[&principal, &built_in, &own, &until, &giver]).await.map(drop)
}

/// Gives a principal these roles and takes back all others.
pub(super) async fn replace(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (principal, giver): (PrincipalId, Option<PrincipalId>),
    roles: &[ResolvedRole],
) -> Result<()> {
    let GrantColumns { built_in, own, until } = GrantColumns::of(roles);
    let _: Vec<()> = tx.rows(TAKE_BACK, &[&tenant, &principal, &built_in, &own, &until]).await?;
    grant(tx, (principal, giver), roles).await
}
