//! The tenants that a person belongs to, and the way from one to the other without signing in again.

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{Caller, Methods};
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::shared::{TenantId, Text};
use http::HeaderMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codes;
use super::login::{agent, folded};
use super::session::{self, Begin, Earlier, Tokens};

/// A tenant that the caller belongs to.
#[derive(Serialize, JsonSchema)]
pub(super) struct OwnTenant {
    pub(super) id: TenantId,
    #[schemars(example = &"acme")]
    pub(super) slug: String,
    /// Whether it is the one that the caller works in.
    pub(super) current: bool,
}

/// The answer of `GET /api/v1/auth/tenants`.
#[derive(Serialize, JsonSchema)]
pub(super) struct OwnTenants {
    tenants: Vec<OwnTenant>,
}

/// The body of `POST /api/v1/auth/switch`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    /// The slug of the tenant to go on in.
    #[schemars(example = &"globex")]
    pub(super) tenant: Text<1, 63>,
}

const OF_PERSON: &str = "select t.id, t.slug from memberships m join tenants t on t.id = m.tenant_id \
       join auth.people p on p.id = m.user_id \
     where m.user_id = $1 and m.ended_at is null and m.deactivated_at is null and t.status = 'active' and p.disabled_at is null \
     order by t.slug limit 1000";

const THIS: &str = "select auth_time, amr, expires_at from sessions where id = $1 and tenant_id = $2 and revoked_at is null \
     and expires_at > now()";

struct ThisSession {
    auth_time: Timestamp,
    amr: Vec<String>,
    expires_at: Timestamp,
}
from_row!(ThisSession { auth_time, amr, expires_at });

struct TenantOfPerson {
    id: TenantId,
    slug: String,
}
from_row!(TenantOfPerson { id, slug });

/// `GET /api/v1/auth/tenants`.
pub(super) async fn list(caller: Caller, system: System) -> Result<Json<OwnTenants>> {
    Ok(Json(OwnTenants { tenants: own(&caller, &system).await? }))
}

/// The same for the page.
pub(super) async fn own(caller: &Caller, system: &System) -> Result<Vec<OwnTenant>> {
    let tx = system.begin(caller.trace()).last();
    let rows: Vec<TenantOfPerson> = tx.rows(OF_PERSON, &[&caller.user()?]).await?;
    let own = |TenantOfPerson { id, slug }| OwnTenant { current: id == caller.tenant(), id, slug };
    Ok(rows.into_iter().map(own).collect())
}

/// `POST /api/v1/auth/switch`: a session of its own in the other tenant, in which its person has proven who it is when and how it did in
/// this one. This one goes on.
pub(super) async fn switch(
    State(app): State<App>,
    caller: Caller,
    system: System,
    headers: HeaderMap,
    Json(body): Json<Switch>,
) -> Result<Json<Tokens>, Refusing<(codes::STEP_UP_REQUIRED, core::NOT_FOUND)>> {
    let none = || {
        Error::new(&codes::STEP_UP_REQUIRED)
            .detail("The token is of no session: sign in to the other tenant.")
    };
    let session = caller.signed_in().ok_or_else(none)?.session;
    let slug = folded(body.tenant.as_str());
    let found = own(&caller, &system).await?.into_iter().find(|tenant| tenant.slug == slug);
    let tenant = found.ok_or_else(|| Error::new(&core::NOT_FOUND))?.id;
    let tx = system.begin(caller.trace()).within(caller.tenant()).await?.last();
    let this: Option<ThisSession> = tx.optional(THIS, &[&session, &caller.tenant()]).await?;
    let ThisSession { auth_time: proven, amr, expires_at } = this.ok_or_else(none)?;
    let methods = Methods::of_words(amr.iter().map(String::as_str));
    let (person, agent) = (caller.user()?, agent(&headers));
    let begin = Begin { tenant, person, methods, from: Some(Earlier { proven, expires_at }), agent };
    Ok(Json(session::begin(&app, &system, caller.trace(), begin).await?))
}
