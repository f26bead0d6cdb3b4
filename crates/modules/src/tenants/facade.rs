//! The settings that every tenant has, for other modules: `caller.setting(&CURRENCY)`; and what operators give a tenant.

use erp_core::auth::{MonthDay, Networks, TenantSetting, ZoneName};
use erp_core::mail::Locale;
use erp_core::shared::Currency;

pub(crate) use super::first_day::equip;
pub(crate) use super::provision;
use super::{CHANGE_SETTINGS, LIMIT_NETWORKS};

/// The language and country that the tenant works in.
pub static LOCALE: TenantSetting<Locale> =
    TenantSetting::new("tenants.locale", "en", "The language that the tenant works in.", &CHANGE_SETTINGS);

/// The time zone in which its days begin.
pub static TIME_ZONE: TenantSetting<ZoneName> = TenantSetting::new(
    "tenants.time_zone",
    "UTC",
    "The time zone in which the tenant's days begin.",
    &CHANGE_SETTINGS,
);

/// What its amounts are in, unless a document says otherwise.
pub static CURRENCY: TenantSetting<Currency> = TenantSetting::new(
    "tenants.currency",
    "EUR",
    "The currency of the tenant's amounts, unless a document says otherwise.",
    &CHANGE_SETTINGS,
);

/// The first day of its fiscal year.
pub static FISCAL_YEAR_START: TenantSetting<MonthDay> = TenantSetting::new(
    "tenants.fiscal_year_start",
    "01-01",
    "The first day of the tenant's fiscal year.",
    &CHANGE_SETTINGS,
);

/// Where its requests come from.
pub static ALLOWED_NETWORKS: TenantSetting<Networks> = TenantSetting::new(
    "tenants.allowed_networks",
    "",
    "The networks that the tenant's requests come from; others are refused.",
    &LIMIT_NETWORKS,
)
.keeps_in(|caller, networks| match caller.trace().client_ip {
    Some(address) if !networks.admit(address) => Err(format!("The request comes from {address}.")),
    _ => Ok(()),
});
