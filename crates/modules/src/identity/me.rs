use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Actor, Caller, RequiredAction};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::shared::{OperatorId, TenantId, UserId};
use schemars::JsonSchema;
use serde::Serialize;

const READ: &str = "select m.user_id as id, m.email, m.name, p.tenant_id, t.slug, p.name as tenant_name \
     from memberships m join tenant_profiles p on p.tenant_id = m.tenant_id join tenants t on t.id = p.tenant_id \
     where m.user_id = $1 and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null and t.status = 'active'";

struct MembershipRow {
    id: UserId,
    email: String,
    name: String,
    tenant_id: TenantId,
    slug: String,
    tenant_name: String,
}
from_row!(MembershipRow { id, email, name, tenant_id, slug, tenant_name });

/// The answer of `GET /api/v1/me`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    user: Person,
    tenant: CurrentTenant,
    /// The operator who acts in the person's place, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<OperatorId>,
    /// What the session is for until it is done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_actions: Vec<RequiredAction>,
    #[schemars(example = ["owner"])]
    roles: Vec<String>,
    /// What the roles allow.
    #[schemars(example = ["catalog.item.read"])]
    permissions: Vec<&'static str>,
}

impl Me {
    pub(super) fn person(&self) -> &Person {
        &self.user
    }

    /// What the tenant is called.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant.name
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Person {
    id: UserId,
    #[schemars(example = &"owner@acme.example")]
    pub(super) email: String,
    #[schemars(example = &"Alice Owner")]
    pub(super) name: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
struct CurrentTenant {
    id: TenantId,
    #[schemars(example = &"acme")]
    slug: String,
    #[schemars(example = &"Acme Ltd")]
    name: String,
}

/// `GET /api/v1/me`: who the caller is, where, and what the caller may do there.
pub(super) async fn me(State(app): State<App>, caller: Caller) -> Result<Json<Me>> {
    profile(&app, &caller).await.map(Json)
}

/// The same for the page.
pub(super) async fn profile(app: &App, caller: &Caller) -> Result<Me> {
    let row: Option<MembershipRow> =
        app.db.tenant_read(caller).last().optional(READ, &[&caller.user()?]).await?;
    // The token outlived the membership, the person's account or the tenant.
    let row = row.ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
    let operator = match caller.actor() {
        Actor::Impersonator { operator, .. } => Some(operator),
        _ => None,
    };
    Ok(Me {
        operator,
        required_actions: caller.required().iter().collect(),
        user: Person { id: row.id, email: row.email, name: row.name },
        tenant: CurrentTenant { id: row.tenant_id, slug: row.slug, name: row.tenant_name },
        roles: caller.permissions().roles().to_vec(),
        permissions: caller.permissions().names(),
    })
}
