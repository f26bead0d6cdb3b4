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

use super::giver::{Giver, HELD, HeldRole};
use super::made::Made;
use super::roles::{self, ExpiringRole, HELD_NAMES, NewRoles};
use super::{codes, step_up};

/// A machine that acts in the tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceAccount {
    id: PrincipalId,
    #[schemars(example = &"Warehouse scanner")]
    name: String,
    description: String,
    /// Those that it holds for good.
    #[schemars(example = ["read-only"])]
    roles: Vec<String>,
    /// Those that end by themselves.
    expiring: Vec<ExpiringRole>,
    created_at: Timestamp,
}

struct ServiceAccountRow {
    id: PrincipalId,
    name: String,
    description: String,
    roles: Vec<String>,
    expiring: Vec<String>,
    expiries: Vec<Timestamp>,
    created_at: Timestamp,
}
from_row!(ServiceAccountRow { id, name, description, roles, expiring, expiries, created_at });

impl From<ServiceAccountRow> for ServiceAccount {
    fn from(row: ServiceAccountRow) -> Self {
        let ServiceAccountRow { id, name, description, roles, expiring, expiries, created_at } = row;
        Self { id, name, description, roles, expiring: roles::expiring(expiring, expiries), created_at }
    }
}

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

const LIST: &str = sql![
    "select p.id, p.name, p.description, p.created_at, ",
    HELD_NAMES,
    " from service_accounts p where p.disabled_at is null order by p.name, p.id limit 1000"
];
const ADD: &str = sql![
    "with p as (insert into service_accounts (id, name, description) values ($1, $2, coalesce($3, '')) returning *) \
     select p.id, p.name, p.description, p.created_at, ",
    HELD_NAMES,
    " from p"
];
/// Held until the end, so that of two who give it roles one comes after the other.
const HOLD: &str =
    "select id from service_accounts where tenant_id = $1 and id = $2 and disabled_at is null for update";
const THEIRS: &str = sql![
    "select ",
    HELD,
    " from grants g left join roles r on r.tenant_id = g.tenant_id and r.id = g.role_id \
       where g.tenant_id = $1 and g.principal_id = $2 and (g.expires_at is null or g.expires_at > now())"
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
    let rows: Vec<ServiceAccountRow> = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    Ok(Json(ServiceAccounts { service_accounts: rows.into_iter().map(ServiceAccount::from).collect() }))
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
    let made: ServiceAccountRow = tx.row(ADD, &[&id, &new.name, &new.description]).await?;
    tx.commit().await?;
    Made::at(format!("/api/v1/service-accounts/{id}"), made.into())
}

/// `PUT /api/v1/service-accounts/{id}/roles`.
pub(super) async fn give(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
    Json(new): Json<NewRoles>,
) -> Result<NoContent, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN)>> {
    let tenant = caller.tenant();
    step_up::require(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let giver = hold(&app, &caller, &mut tx, id).await?;
    let given = roles::resolve(&app, &mut tx, tenant, &new.wanted()).await?;
    giver.may_give(&given)?;
    roles::replace(&mut tx, tenant, (id, giver.principal), &given).await?;
    tx.commit().await?;
    app.known_permissions.forget(tenant, id);
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
async fn hold<'a>(
    app: &'a App,
    caller: &Caller,
    tx: &mut TenantTx<'_>,
    id: PrincipalId,
) -> Result<Giver<'a>> {
    let tenant: TenantId = caller.tenant();
    let giver = Giver::hold(app, tx, caller).await?;
    let found: Option<()> = tx.optional(HOLD, &[&tenant, &id]).await?;
    if found.is_none() {
        return Err(Error::new(&core::NOT_FOUND));
    }
    let held: Vec<HeldRole> = tx.rows(THEIRS, &[&tenant, &id]).await?;
    giver.may_change(held)?;
    Ok(giver)
}
