//! The terms of a tenant, which its people accept before they go on: where they stand and in which version is the tenant's to set.
//!
//! A new version is wanted of everybody within five seconds, and who has accepted which, and when, stays.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, TenantSetting};
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use erp_core::from_row;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SET_TERMS, codes};

/// The version that is in force.
pub(super) static VERSION: TenantSetting<String> = TenantSetting::new(
    "identity.terms_version",
    "",
    "The version of the tenant's terms that everybody accepts before going on; none while it is empty.",
    &SET_TERMS,
);

/// Where they can be read.
pub(super) static ADDRESS: TenantSetting<String> = TenantSetting::new(
    "identity.terms_url",
    "",
    "Where the tenant's terms can be read: a URL that begins with https://.",
    &SET_TERMS,
);

/// The answer of `GET /api/v1/auth/terms`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownTerms {
    /// The version that is in force; none: there are no terms.
    #[schemars(example = &"2026-11")]
    version: Option<String>,
    /// Where they can be read, if that is said.
    #[schemars(example = &"https://acme.example/terms")]
    url: Option<String>,
    /// When the caller has accepted this version.
    accepted_at: Option<Timestamp>,
}

/// The body of `POST /api/v1/auth/terms/accept`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptTerms {
    /// The one that the caller has been shown.
    #[schemars(example = &"2026-11")]
    pub(super) version: String,
}

const ACCEPTED: &str = "select accepted_at from terms_acceptances where user_id = $1 and terms_version = $2";
const ACCEPT: &str =
    "insert into terms_acceptances (user_id, terms_version) values ($1, $2) on conflict do nothing";

struct AcceptedTerms {
    accepted_at: Timestamp,
}
from_row!(AcceptedTerms { accepted_at });

/// `GET /api/v1/auth/terms`.
pub(super) async fn read(State(app): State<App>, caller: Caller) -> Result<Json<ShownTerms>> {
    let (version, url) = in_force(&caller);
    let tx = app.db.tenant_read(&caller).last();
    let accepted: Option<AcceptedTerms> = tx.optional(ACCEPTED, &[&caller.user()?, &version]).await?;
    Ok(Json(ShownTerms { version, url, accepted_at: accepted.map(|accepted| accepted.accepted_at) }))
}

/// The version that is in force for the caller, and where it can be read. A URL of another kind than a page shows is none.
pub(super) fn in_force(caller: &Caller) -> (Option<String>, Option<String>) {
    let version = Some(caller.setting(&VERSION)).filter(|version| !version.is_empty());
    (version, Some(caller.setting(&ADDRESS)).filter(|url| url.starts_with("https://")))
}

/// `POST /api/v1/auth/terms/accept`: the version that was shown, and no other.
pub(super) async fn accept(
    caller: Caller,
    system: System,
    Json(body): Json<AcceptTerms>,
) -> Result<NoContent, Refusing<codes::OTHER_TERMS>> {
    if in_force(&caller).0.as_deref() != Some(body.version.as_str()) {
        return Err(Error::new(&codes::OTHER_TERMS).into());
    }
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let _: Vec<()> = tx.rows(ACCEPT, &[&caller.user()?, &body.version]).await?;
    tx.commit().await?;
    Ok(NoContent)
}
