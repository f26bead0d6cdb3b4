//! What a tenant has from its first day: a plan, and settings that an operator makes for it.

use std::collections::BTreeMap;

use erp_core::auth::EntitlementTable;
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result, Violation, codes as core};
use serde_json::Value;

use super::provision::{GIVE_PLAN, HAS_PLAN};
use super::settings::SET;

/// Gives the tenant of a transaction a plan, and values to settings by their names, beside what it has.
///
/// # Errors
/// `core.invalid` at `/plan` where there is no such plan, and at `/settings/…` for a setting that no module declares or a value that it does
/// not take.
pub async fn equip(
    table: &EntitlementTable,
    tx: &mut TenantTx<'_>,
    (plan, settings): (Option<&str>, &BTreeMap<String, Value>),
) -> Result<()> {
    let invalid = |pointer: String, code, what: String| {
        Error::new(&core::INVALID).violation(Violation::new(pointer, code, what))
    };
    for (name, value) in settings {
        let pointer = format!("/settings/{name}");
        let setting = table.settings().find(|setting| setting.facts().name == name);
        let unknown = || invalid(pointer.clone(), "unknown", "There is no such setting.".to_owned());
        let setting = setting.ok_or_else(unknown)?;
        let value =
            setting.read(value).map_err(|wrong| invalid(pointer, "invalid", format!("It {wrong}.")))?;
        let _: Vec<()> = tx.rows(SET, &[&setting.facts().name, &value.shown]).await?;
    }
    let Some(plan) = plan else { return Ok(()) };
    let known: Option<()> = tx.optional(HAS_PLAN, &[&plan]).await?;
    known.ok_or_else(|| invalid("/plan".to_owned(), "unknown", "There is no such plan.".to_owned()))?;
    tx.rows::<()>(GIVE_PLAN, &[&plan]).await.map(drop)
}
