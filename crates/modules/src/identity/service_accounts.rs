//! Service accounts: machines that hold roles as members do, and come in by keys.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::db::{System, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::shared::{Id, PrincipalId, TenantId, Text};
use erp_core::{from_row, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codes;
use super::made::Made;
use super::members::NewRoles;
use super::roles::{self, HELD, HeldRole};

/// A machine that acts in the tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceAccount {
    id: PrincipalId,
    #[schemars(example = &"Warehouse scanner")]
    name: String,
    description: String,
    #[schemars(example = ["read-only"])]
    roles: Vec<String>,
    created_at: Timestamp,
}
from_row!(ServiceAccount { id, name, description, roles, created_at });

/// The service accounts, in the order of their names.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceAccounts {
    service_accounts: Vec<ServiceAccount>,
}

/// The body of `POST /api/v1/service-accounts`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewServiceAccount {
    #[schemars(example = &"Warehouse scanner")]
    name: Text<1, 200>,
    /// What it is for.
    #[serde(default)]
    description: Option<Text<1, 500>>,
}

const LIST: &str = "select s.id, s.name, s.description, s.created_at, \
     array(select coalesce(g.built_in, r.name) from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = s.tenant_id and g.principal_id = s.id and (g.expires_at is null or g.expires_at > now()) \
       order by 1) as roles \
     from service_accounts s where s.disabled_at is null order by s.name, s.id limit 1000";
const ADD: &str = "with s as (insert into service_accounts (id, name, description) values ($1, $2, coalesce($3, '')) returning *) \
     select id, name, description, created_at, '{}'::text[] as roles from s";
/// Held until the end, so that of two who give it roles one comes after the other.
const HOLD: &str =
    "select id from service_accounts where tenant_id = $1 and id = $2 and disabled_at is null for update";
const THEIRS: &str = sql![
    "select ",
    HELD,
    " from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = $1 and g.principal_id = $2"
];
const DISABLE: &str = "update service_accounts set disabled_at = now() where tenant_id = $1 and id = $2";
const DROP_GRANTS: &str = "delete from grants where tenant_id = $1 and principal_id = $2";
const REVOKE_KEYS: &str = "update api_keys set revoked_at = now() \
     where tenant_id = $1 and principal_id = $2 and revoked_at is null returning id";

struct RevokedKey {
    id: PrincipalId,
}
from_row!(RevokedKey { id });

/// `GET /api/v1/service-accounts`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<ServiceAccounts>> {
    let service_accounts = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    Ok(Json(ServiceAccounts { service_accounts }))
}

/// `POST /api/v1/service-accounts`: it has no role yet.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(new): Json<NewServiceAccount>,
) -> Result<Made<ServiceAccount>> {
    let id: PrincipalId = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let made: ServiceAccount = tx.row(ADD, &[&id, &new.name, &new.description]).await?;
    tx.commit().await?;
    Made::at(format!("/api/v1/service-accounts/{id}"), made)
}

/// `PUT /api/v1/service-accounts/{id}/roles`.
pub(super) async fn give(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
    Json(new): Json<NewRoles>,
) -> Result<NoContent, Refusing<codes::MORE_THAN_OWN>> {
    let tenant = caller.tenant();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    hold(&app, &caller, &mut tx, id).await?;
    let given = roles::resolve(&app, &mut tx, tenant, &new.names()).await?;
    roles::within_own(&caller, &given.built_in, &given.permissions)?;
    roles::replace(&mut tx, (tenant, id), &given).await?;
    tx.commit().await?;
    Ok(NoContent)
}

/// `DELETE /api/v1/service-accounts/{id}`: its roles and its keys end with it.
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
) -> Result<NoContent, Refusing<codes::MORE_THAN_OWN>> {
    let tenant = caller.tenant();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    hold(&app, &caller, &mut tx, id).await?;
    let _: Vec<()> = tx.rows(DISABLE, &[&tenant, &id]).await?;
    let _: Vec<()> = tx.rows(DROP_GRANTS, &[&tenant, &id]).await?;
    let keys: Vec<RevokedKey> = tx.rows(REVOKE_KEYS, &[&tenant, &id]).await?;
    tx.commit().await?;
    for key in keys {
        app.known_permissions.forget(tenant, key.id);
    }
    Ok(NoContent)
}

/// Holds a service account that has nothing that the caller has not.
async fn hold(app: &App, caller: &Caller, tx: &mut TenantTx<'_>, id: PrincipalId) -> Result<()> {
    let tenant: TenantId = caller.tenant();
    let found: Option<()> = tx.optional(HOLD, &[&tenant, &id]).await?;
    if found.is_none() {
        return Err(Error::new(&core::NOT_FOUND));
    }
    let held: Vec<HeldRole> = tx.rows(THEIRS, &[&tenant, &id]).await?;
    roles::holder_within_own(app, caller, held)
}
