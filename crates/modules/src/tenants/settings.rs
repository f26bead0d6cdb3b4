//! A tenant's settings: read by its members, changed by those who may.

use std::collections::BTreeMap;

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{AnyTenantSetting, Caller};
use erp_core::db::System;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::from_row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codes;

/// A setting, as it is for the tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownSetting {
    #[schemars(example = &"tenants.currency")]
    name: &'static str,
    /// What it is for.
    about: &'static str,
    /// What its values are.
    #[schemars(example = &"a currency, by its code of ISO 4217")]
    kind: &'static str,
    /// The values that there are; empty where there are too many to list.
    one_of: &'static [&'static str],
    #[schemars(example = &"CHF")]
    value: Value,
    /// Whether the tenant has set it; otherwise it is what it is by default.
    is_set: bool,
    /// Whether the caller may change it.
    may_change: bool,
}

/// All settings, module by module.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownSettings {
    settings: Vec<ShownSetting>,
}

/// The body of PUT.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSetting {
    /// Of the type that the setting has.
    #[schemars(example = &"CHF")]
    value: Value,
}

const LIST: &str = "select name, value from tenant_settings";
const FIND: &str = "select name, value from tenant_settings where name = $1";
pub(super) const SET: &str = "insert into tenant_settings (name, value) values ($1, $2) \
     on conflict (tenant_id, name) do update set value = excluded.value";
const CLEAR: &str = "delete from tenant_settings where tenant_id = $1 and name = $2";

struct StoredSetting {
    name: String,
    value: Value,
}
from_row!(StoredSetting { name, value });

/// `GET /api/v1/settings`: as they are now, and not as they were remembered.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<ShownSettings>> {
    let rows: Vec<StoredSetting> = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    let stored: BTreeMap<_, _> = rows.into_iter().map(|row| (row.name, row.value)).collect();
    let settings = app.entitlements.table().settings();
    let settings =
        settings.map(|setting| shown(setting, stored.get(setting.facts().name), &caller)).collect();
    Ok(Json(ShownSettings { settings }))
}

/// `GET /api/v1/settings/{name}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ShownSetting>> {
    let setting = declared(&app, &name)?;
    let stored: Option<StoredSetting> =
        app.db.tenant_read(&caller).last().optional(FIND, &[&setting.facts().name]).await?;
    Ok(Json(shown(setting, stored.as_ref().map(|stored| &stored.value), &caller)))
}

/// `PUT /api/v1/settings/{name}`.
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(name): Path<String>,
    Json(new): Json<NewSetting>,
) -> Result<Json<ShownSetting>, Refusing<codes::SHUTS_OUT>> {
    let setting = declared(&app, &name)?;
    caller.require(setting.facts().changed_by)?;
    let value = setting.read(&new.value).map_err(|wrong| {
        let violation = Violation::new("/value", "invalid", format!("It {wrong}."));
        Error::new(&core::INVALID).violation(violation)
    })?;
    setting.keeps_in(&caller, &value).map_err(|why| Error::new(&codes::SHUTS_OUT).detail(why))?;
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let _: Vec<()> = tx.rows(SET, &[&setting.facts().name, &value.shown]).await?;
    tx.commit().await?;
    app.entitlements.forget(caller.tenant());
    Ok(Json(shown(setting, Some(&value.shown), &caller)))
}

/// `DELETE /api/v1/settings/{name}`.
pub(super) async fn clear(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(name): Path<String>,
) -> Result<NoContent> {
    let setting = declared(&app, &name)?;
    caller.require(setting.facts().changed_by)?;
    let mut tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let _: Vec<()> = tx.rows(CLEAR, &[&caller.tenant(), &setting.facts().name]).await?;
    tx.commit().await?;
    app.entitlements.forget(caller.tenant());
    Ok(NoContent)
}

/// The setting of this name.
fn declared(app: &App, name: &str) -> Result<&'static dyn AnyTenantSetting> {
    let mut settings = app.entitlements.table().settings();
    let found = settings.find(|setting| setting.facts().name == name);
    found.ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// A stored value that cannot be read, such as one of a newer version, counts as none.
fn shown(setting: &'static dyn AnyTenantSetting, stored: Option<&Value>, caller: &Caller) -> ShownSetting {
    let facts = setting.facts();
    let set = stored.and_then(|value| setting.read(value).ok());
    ShownSetting {
        name: facts.name,
        about: facts.about,
        kind: facts.kind,
        one_of: facts.bounds.one_of,
        is_set: set.is_some(),
        value: set.unwrap_or_else(|| setting.default()).shown,
        may_change: caller.may(facts.changed_by),
    }
}
