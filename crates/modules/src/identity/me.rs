use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Actor, Caller, RequiredAction};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::shared::{OperatorId, PrincipalId, TenantId, UserId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

const READ: &str = "select m.user_id as id, m.email, m.name, p.tenant_id, t.slug, p.name as tenant_name \
     from memberships m join tenant_profiles p on p.tenant_id = m.tenant_id join tenants t on t.id = p.tenant_id \
     where m.user_id = $1 and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null and t.status = 'active'";

/// Of a key: who is behind it is a member or a service account, which is not kept out, or else nobody.
const READ_KEY: &str = "select k.id, k.name, k.scopes, k.expires_at, m.user_id as person, m.email, m.name as person_name, \
       s.id as machine, s.name as machine_name, p.tenant_id, t.slug, p.name as tenant_name \
     from api_keys k join tenant_profiles p on p.tenant_id = k.tenant_id join tenants t on t.id = p.tenant_id \
     left join memberships m on m.tenant_id = k.tenant_id and m.user_id = k.principal_id \
       and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null \
     left join service_accounts s on s.tenant_id = k.tenant_id and s.id = k.principal_id and s.disabled_at is null \
     where k.id = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and t.status = 'active' \
       and (m.user_id is not null or s.id is not null)";

struct MembershipRow {
    id: UserId,
    email: String,
    name: String,
    tenant_id: TenantId,
    slug: String,
    tenant_name: String,
}
from_row!(MembershipRow { id, email, name, tenant_id, slug, tenant_name });

struct KeyRow {
    id: PrincipalId,
    name: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    person: Option<UserId>,
    email: Option<String>,
    person_name: Option<String>,
    machine: Option<PrincipalId>,
    machine_name: Option<String>,
    tenant_id: TenantId,
    slug: String,
    tenant_name: String,
}
from_row!(KeyRow {
    id,
    name,
    scopes,
    expires_at,
    person,
    email,
    person_name,
    machine,
    machine_name,
    tenant_id,
    slug,
    tenant_name
});

/// The answer of `GET /api/v1/me`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    /// The person: the caller, or whose the key is that the caller has. There is none behind a key of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Person>,
    /// The service account whose the key is that the caller has.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<CurrentMachine>,
    /// The API key, if the caller has come by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<CurrentKey>,
    tenant: CurrentTenant,
    /// The operator who acts in the person's place, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<OperatorId>,
    /// What the session is for until it is done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_actions: Vec<RequiredAction>,
    #[schemars(example = ["owner"])]
    roles: Vec<String>,
    /// What the roles allow; by a key, what of that lies within its scopes.
    #[schemars(example = ["catalog.item.read"])]
    permissions: Vec<&'static str>,
}

/// Who a person is that has signed in, for its page.
pub(super) struct PersonProfile {
    pub(super) person: Person,
    tenant: CurrentTenant,
}

impl PersonProfile {
    /// What the tenant is called.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant.name
    }
}

/// A machine that has come by a key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Machine")]
struct CurrentMachine {
    id: PrincipalId,
    #[schemars(example = &"Warehouse scanner")]
    name: String,
}

/// The key that the caller has.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OwnApiKey")]
struct CurrentKey {
    id: PrincipalId,
    #[schemars(example = &"Nightly export")]
    name: String,
    /// The permissions that it was made for.
    #[schemars(example = ["catalog.item.read"])]
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
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
    let (user, tenant, by_key) = match caller.actor() {
        Actor::Key(key) => {
            let (user, tenant, by_key) = of_key(&app, &caller, key).await?;
            (user, tenant, Some(by_key))
        }
        _ => {
            let PersonProfile { person, tenant } = profile(&app, &caller).await?;
            (Some(person), tenant, None)
        }
    };
    let (service_account, api_key) = by_key.map_or((None, None), |(machine, key)| (machine, Some(key)));
    let operator = match caller.actor() {
        Actor::Impersonator { operator, .. } => Some(operator),
        _ => None,
    };
    Ok(Json(Me {
        user,
        service_account,
        api_key,
        tenant,
        operator,
        required_actions: caller.required().iter().collect(),
        roles: caller.permissions().roles().to_vec(),
        permissions: caller.permissions().names(),
    }))
}

/// The same of a person, for its page.
pub(super) async fn profile(app: &App, caller: &Caller) -> Result<PersonProfile> {
    let row: Option<MembershipRow> =
        app.db.tenant_read(caller).last().optional(READ, &[&caller.user()?]).await?;
    let row = row.ok_or_else(outlived)?;
    Ok(PersonProfile {
        person: Person { id: row.id, email: row.email, name: row.name },
        tenant: CurrentTenant { id: row.tenant_id, slug: row.slug, name: row.tenant_name },
    })
}

type ByKey = (Option<CurrentMachine>, CurrentKey);

/// Whose a key is, and the key.
async fn of_key(
    app: &App,
    caller: &Caller,
    key: PrincipalId,
) -> Result<(Option<Person>, CurrentTenant, ByKey)> {
    let row: Option<KeyRow> = app.db.tenant_read(caller).last().optional(READ_KEY, &[&key]).await?;
    let row = row.ok_or_else(outlived)?;
    let person = row.person.map(|id| Person {
        id,
        email: row.email.unwrap_or_default(),
        name: row.person_name.unwrap_or_default(),
    });
    let machine = row.machine.map(|id| CurrentMachine { id, name: row.machine_name.unwrap_or_default() });
    let tenant = CurrentTenant { id: row.tenant_id, slug: row.slug, name: row.tenant_name };
    let key = CurrentKey { id: row.id, name: row.name, scopes: row.scopes, expires_at: row.expires_at };
    Ok((person, tenant, (machine, key)))
}

/// The credential has outlived the membership, the person's account or the tenant.
fn outlived() -> Error {
    Error::new(&codes::UNAUTHENTICATED)
}
