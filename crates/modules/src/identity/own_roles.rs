//! Roles of a tenant's own: made, changed and removed by those who have what they allow.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, Role};
use erp_core::db::{System, TenantTx};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::shared::{Id, Int, List, TenantId, Text};
use erp_core::{from_row, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::giver::Giver;
use super::made::Made;
use super::required::may_demand;
use super::roles::{OwnRoleRow, RoleName};
use super::{codes, step_up};

/// A role of the tenant's own.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantRole {
    id: Id<OwnRoleRow>,
    #[schemars(example = &"Storekeeper")]
    name: String,
    description: String,
    /// What it allows.
    #[schemars(example = ["identity.user.read"])]
    permissions: Vec<String>,
    /// What it names and no module declares any more: it allows nothing.
    undeclared: Vec<String>,
    /// Whether it demands a second factor in each session of those who hold it.
    second_factor: bool,
    /// How many members and service accounts hold it.
    holders: Int<0>,
    created_at: Timestamp,
}

/// A role that every tenant has. What it allows is said by the modules.
#[derive(Serialize, JsonSchema)]
pub(super) struct BuiltInRole {
    #[schemars(example = &"read-only")]
    name: &'static str,
    #[schemars(example = ["identity.user.read"])]
    permissions: Vec<&'static str>,
}

/// All roles that can be given.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AllRoles {
    built_in: Vec<BuiltInRole>,
    /// The tenant's own, in the order of their names.
    roles: Vec<TenantRole>,
}

/// The body of POST and PUT.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewTenantRole {
    /// Unique in the tenant, in any case, and not that of a role which every tenant has.
    #[schemars(example = &"Storekeeper")]
    name: RoleName,
    /// What it is for.
    #[serde(default)]
    description: Option<Text<0, 500>>,
    /// What it allows, by the names of `GET /api/v1/permissions`: within the caller's own.
    #[schemars(example = ["identity.user.read"])]
    permissions: List<Text<1, 200>, 0, 5000>,
    /// Whether people who hold it use a second factor in each session. Left out, a new role demands none, and one that is there stays as
    /// it is.
    #[schemars(example = false)]
    #[serde(default)]
    second_factor: Option<bool>,
}

/// One thing that a role can allow.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeclaredPermission {
    #[schemars(example = &"identity.user.read")]
    name: &'static str,
    /// What it allows.
    what: &'static str,
    /// The roles that every tenant has, and that allow it.
    #[schemars(example = ["owner"])]
    roles: Vec<&'static str>,
}

/// All permissions, module by module.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeclaredPermissions {
    permissions: Vec<DeclaredPermission>,
}

struct TenantRoleRow {
    id: Id<OwnRoleRow>,
    name: String,
    description: String,
    permissions: Vec<String>,
    second_factor: bool,
    holders: Int<0>,
    created_at: Timestamp,
}
from_row!(TenantRoleRow { id, name, description, permissions, second_factor, holders, created_at });

impl TenantRoleRow {
    fn shown(self, app: &App) -> TenantRole {
        let Self { id, name, description, permissions, second_factor, holders, created_at } = self;
        let (permissions, undeclared) = permissions.into_iter().partition(|name| is_declared(app, name));
        TenantRole { id, name, description, permissions, undeclared, second_factor, holders, created_at }
    }
}

struct LockedRole {
    name: String,
    permissions: Vec<String>,
    demands_factor: bool,
    in_use: bool,
}
from_row!(LockedRole { name, permissions, demands_factor, in_use });

const COLUMNS: &str = "select r.id, r.name, r.description, r.demands_factor as second_factor, r.created_at, \
       array(select p.permission from role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id order by 1) as permissions, \
       (select count(*) from grants g where g.tenant_id = r.tenant_id and g.role_id = r.id \
         and (g.expires_at is null or g.expires_at > now())) as holders \
     from roles r ";
const LIST: &str = sql![COLUMNS, "order by lower(r.name) limit 1000"];
const READ: &str = sql![COLUMNS, "where r.tenant_id = $1 and r.id = $2"];
const LOCK: &str = "select r.name, r.demands_factor, \
       array(select p.permission from role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions, \
       exists (select from grants g where g.tenant_id = r.tenant_id and g.role_id = r.id \
         and (g.expires_at is null or g.expires_at > now())) \
       or exists (select from invitations i where i.tenant_id = r.tenant_id and i.ended_at is null and i.expires_at > now() \
         and r.name = any (i.roles)) as in_use \
     from roles r where r.tenant_id = $1 and r.id = $2 for update";
const ADD: &str = "insert into roles (id, name, description, demands_factor) values ($1, $2, coalesce($3, ''), coalesce($4, false))";
const ADD_FIRST: &str = sql![ADD, " on conflict (tenant_id, lower(name)) do nothing returning id"];
const ALLOW: &str = "insert into role_permissions (role_id, permission) select $1::uuid, unnest($2::text[]) on conflict do nothing";
const CHANGE: &str = "update roles set name = $3, description = coalesce($4, ''), demands_factor = coalesce($5, demands_factor) \
     where tenant_id = $1 and id = $2";
const DISALLOW: &str =
    "delete from role_permissions where tenant_id = $1 and role_id = $2 and permission <> all ($3::text[])";
/// An open invitation gives the role that was meant, whatever it is called when somebody accepts.
const RENAME: &str = "update invitations set roles = array_replace(roles, $2, $3) \
     where tenant_id = $1 and ended_at is null and $2 = any (roles)";
const REMOVE: &str = "delete from roles where tenant_id = $1 and id = $2";

/// `GET /api/v1/permissions`.
pub(super) async fn permissions(State(app): State<App>) -> Json<DeclaredPermissions> {
    let permissions = app.permissions.iter().map(|permission| {
        let roles = Role::ALL.into_iter().filter(|role| role.has(permission)).map(Role::as_str).collect();
        DeclaredPermission { name: permission.name, what: permission.what, roles }
    });
    Json(DeclaredPermissions { permissions: permissions.collect() })
}

/// `GET /api/v1/roles`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<AllRoles>> {
    let rows: Vec<TenantRoleRow> = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    let built_in = Role::ALL.into_iter().map(|role| {
        let allowed = app.permissions.iter().filter(|permission| role.has(permission));
        BuiltInRole { name: role.as_str(), permissions: allowed.map(|permission| permission.name).collect() }
    });
    let roles = rows.into_iter().map(|row| row.shown(&app)).collect();
    Ok(Json(AllRoles { built_in: built_in.collect(), roles }))
}

/// `GET /api/v1/roles/{id}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Id<OwnRoleRow>>,
) -> Result<Json<TenantRole>> {
    let tx = app.db.tenant_read(&caller).last();
    let found: Option<TenantRoleRow> = tx.optional(READ, &[&caller.tenant(), &id]).await?;
    found.map(|row| Json(row.shown(&app))).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// `POST /api/v1/roles`.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(new): Json<NewTenantRole>,
) -> Result<
    Made<TenantRole>,
    Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN, codes::ROLE_TAKEN, codes::FACTOR_NOT_USED)>,
> {
    let tenant = caller.tenant();
    let allowed = declared(&app, &new.permissions, &[])?;
    step_up::require(&app, &caller, &system).await?;
    if new.second_factor == Some(true) {
        may_demand(&caller)?;
    }
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    Giver::hold(&app, &mut tx, &caller).await?.may_shape(allowed.clone())?;
    let id: Id<OwnRoleRow> = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let _: Vec<()> = tx.rows(ADD, &[&id, &new.name, &new.description, &new.second_factor]).await?;
    let _: Vec<()> = tx.rows(ALLOW, &[&id, &allowed]).await?;
    let row: TenantRoleRow = tx.row(READ, &[&tenant, &id]).await?;
    tx.commit().await?;
    Ok(Made::at(format!("/api/v1/roles/{id}"), row.shown(&app))?)
}

/// Gives a tenant that is being made roles of its own. One that is there already stays as it is.
///
/// # Errors
/// `core.invalid` for a permission that no module declares, at its place.
pub(crate) async fn add_first(app: &App, tx: &mut TenantTx<'_>, roles: &[NewTenantRole]) -> Result<()> {
    for (at, new) in roles.iter().enumerate() {
        let allowed = declared(app, &new.permissions, &[]).map_err(|error| {
            let below = |violation: &Violation| Violation {
                pointer: format!("/roles/{at}{}", violation.pointer),
                ..violation.clone()
            };
            error.violations().iter().map(below).fold(Error::new(error.code()), Error::violation)
        })?;
        let id: Id<OwnRoleRow> = Id::new(app.clock.as_ref(), app.rng.as_ref());
        let added: Option<()> =
            tx.optional(ADD_FIRST, &[&id, &new.name, &new.description, &new.second_factor]).await?;
        if added.is_some() {
            let _: Vec<()> = tx.rows(ALLOW, &[&id, &allowed]).await?;
        }
    }
    Ok(())
}

/// `PUT /api/v1/roles/{id}`: what it allows from now on, to all who hold it.
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<Id<OwnRoleRow>>,
    Json(new): Json<NewTenantRole>,
) -> Result<
    Json<TenantRole>,
    Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN, codes::ROLE_TAKEN, codes::FACTOR_NOT_USED)>,
> {
    let tenant = caller.tenant();
    step_up::require(&app, &caller, &system).await?;
    let (mut tx, giver, before) = hold(&app, &caller, &system, id).await?;
    if new.second_factor == Some(true) && !before.demands_factor {
        may_demand(&caller)?;
    }
    let allowed = declared(&app, &new.permissions, &before.permissions)?;
    giver.may_shape(allowed.clone())?;
    let _: Vec<()> =
        tx.rows(CHANGE, &[&tenant, &id, &new.name, &new.description, &new.second_factor]).await?;
    let _: Vec<()> = tx.rows(DISALLOW, &[&tenant, &id, &allowed]).await?;
    let _: Vec<()> = tx.rows(ALLOW, &[&id, &allowed]).await?;
    if before.name != new.name.as_str() {
        let _: Vec<()> = tx.rows(RENAME, &[&tenant, &before.name, &new.name]).await?;
    }
    let row: TenantRoleRow = tx.row(READ, &[&tenant, &id]).await?;
    tx.commit().await?;
    app.known_permissions.forget_all(tenant);
    Ok(Json(row.shown(&app)))
}

/// `DELETE /api/v1/roles/{id}`, of one that nobody holds and no open invitation names.
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<Id<OwnRoleRow>>,
) -> Result<NoContent, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN, codes::ROLE_IN_USE)>> {
    step_up::require(&app, &caller, &system).await?;
    let (mut tx, _, before) = hold(&app, &caller, &system, id).await?;
    if before.in_use {
        return Err(Error::new(&codes::ROLE_IN_USE).into());
    }
    let _: Vec<()> = tx.rows(REMOVE, &[&caller.tenant(), &id]).await?;
    tx.commit().await?;
    Ok(NoContent)
}

/// A transaction on behalf of the caller that holds a role which allows nothing that the caller may not.
async fn hold<'a>(
    app: &'a App,
    caller: &Caller,
    system: &'a System,
    id: Id<OwnRoleRow>,
) -> Result<(TenantTx<'a>, Giver<'a>, LockedRole)> {
    let tenant: TenantId = caller.tenant();
    let mut tx = system.on_behalf(caller).within(tenant).await?;
    let giver = Giver::hold(app, &mut tx, caller).await?;
    let found: Option<LockedRole> = tx.optional(LOCK, &[&tenant, &id]).await?;
    let found = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    giver.may_shape(found.permissions.clone())?;
    Ok((tx, giver, found))
}

/// The permissions that a body names: those that there are, and those that the role names already, whatever has become of them.
fn declared(app: &App, wanted: &[Text<1, 200>], kept: &[String]) -> Result<Vec<String>> {
    let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let unknown = names.iter().position(|name| !is_declared(app, name) && !kept.contains(name));
    if let Some(at) = unknown {
        let violation =
            Violation::new(format!("/permissions/{at}"), "unknown", "There is no such permission.");
        return Err(Error::new(&core::INVALID).violation(violation));
    }
    Ok(names)
}

fn is_declared(app: &App, name: &str) -> bool {
    app.permissions.find(name).is_some()
}
