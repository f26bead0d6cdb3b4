//! The features that are on for the caller's tenant, as the page of a client asks.

use erp_core::auth::{Caller, FlagReason};
use erp_core::extract::Json;
use schemars::JsonSchema;
use serde::Serialize;

/// A feature, and whether it is on for the tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantFlag {
    #[schemars(example = &"catalog.import")]
    name: &'static str,
    /// What is different where it is on.
    about: &'static str,
    is_on: bool,
    /// What has decided that.
    reason: FlagReason,
}

/// All features, module by module.
#[derive(Serialize, JsonSchema)]
pub(super) struct TenantFlags {
    flags: Vec<TenantFlag>,
}

/// `GET /api/v1/flags`.
pub(super) async fn list(caller: Caller) -> Json<TenantFlags> {
    let flags = caller.entitlements().flags().map(|(flag, state)| TenantFlag {
        name: flag.name,
        about: flag.about,
        is_on: state.is_on,
        reason: state.reason,
    });
    Json(TenantFlags { flags: flags.collect() })
}
