//! What a tenant has: its settings, the features that are on for it, its plan, and what it uses.

pub mod facade;
pub mod first_day;
mod flags;
pub mod operator;
pub(crate) mod provision;
mod settings;
pub mod usage;

use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};
use erp_core::module::{Access, Module, Operation, Routes, Tenancy};

/// The module of what tenants have.
pub static MODULE: Module = Module {
    name: "tenants",
    about: "What a tenant has: its settings, the features that are on for it, its plan, and what it uses.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    system: SYSTEM,
    system_verbs: &[("flag", &OPERATE), ("plan", &OPERATE), ("setting", &OPERATE), ("usage", &OPERATE)],
    tenancy: Some(&TENANCY),
    tenant_settings: &[
        &facade::LOCALE,
        &facade::TIME_ZONE,
        &facade::CURRENCY,
        &facade::FISCAL_YEAR_START,
        &facade::ALLOWED_NETWORKS,
    ],
    migrations: erp_core::migrations!["0001_entitlements", "0002_quotas", "0003_load"],
    samples: erp_core::samples!["tenant_settings", "tenant_flags", "tenant_plans"],
    personal: &[SETTINGS],
    ..Module::BARE
};

/// Of a tenant that is one person, its networks are where that person is.
const SETTINGS: PersonalData = PersonalData::new("public.tenant_settings", Whose::Nobody)
    .purpose("doing things as the tenant wants them, and letting in whom it lets in", LegalBasis::Contract)
    .kept("until the tenant sets something else, or is erased")
    .columns(&[PersonalColumn::new("value", Category::Device)])
    .impersonal(&[("name", "that of a setting")]);

erp_core::error_codes! {
    /// The codes of the module.
    pub ERRORS in codes {
        SHUTS_OUT = "tenants.shuts_out", 409, "One would shut oneself out";
            "By this value who sets it would be refused himself: the networks do not hold his address, say, or he has used no second factor.";
            "Do first what the detail names.";
    }
}

erp_core::permissions! {
    /// The permissions of the module.
    pub PERMISSIONS {
        READ_SETTINGS = "tenants.setting.read" to [Owner, Member, ReadOnly]: "See the tenant's settings.";
        CHANGE_SETTINGS = "tenants.setting.change" to [Owner]: "Change the tenant's settings.";
        READ_USAGE = "tenants.usage.read" to [Owner]: "See what the tenant uses, and what its plan has.";
        LIMIT_NETWORKS = "tenants.network.limit" to [Owner]: "Say which networks the tenant's requests may come from.";
    }
}

erp_core::system_work! {
    /// What the module does as the system.
    SYSTEM {
        ENTITLEMENTS = "entitlements": "Reads what a tenant has, its plan among it, which belongs to no tenant.";
        CHANGE = "tenant-settings": "Changes a tenant's settings on behalf of those who may.";
        OPERATE = "plans-and-flags": "Makes plans and gives them to tenants, switches features, takes settings back and tells what tenants use, as operators ask for it.";
    }
}

/// One row, whatever the tenant has.
const READ: &str = "select p.name as plan, p.rate_limit_max, p.connections, p.quotas, p.requests_at_once, p.database_ms, \
       (select jsonb_object_agg(s.name, s.value) from tenant_settings s where s.tenant_id = $1) as settings, \
       (select jsonb_object_agg(f.flag, f.is_on) from tenant_flags f where f.tenant_id = $1) as flags, \
       (select jsonb_object_agg(r.flag, jsonb_build_array(r.salt, r.basis_points)) from flag_rollouts r \
         where r.basis_points is not null) as rollouts \
     from (values (1)) one left join tenant_plans t on t.tenant_id = $1 left join plans p on p.name = t.plan";

/// How it is told what a tenant has.
static TENANCY: Tenancy =
    Tenancy { system: &ENTITLEMENTS, entitlements: READ, allowed_networks: &facade::ALLOWED_NETWORKS };

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/settings", Access::Permission(&READ_SETTINGS), settings::list)
        .doc(Operation::new("listSettings", "List the tenant's settings"))
        .get("/api/v1/settings/{name}", Access::Permission(&READ_SETTINGS), settings::read)
        .doc(Operation::new("readSetting", "Read a setting"))
        .put("/api/v1/settings/{name}", Access::Permission(&CHANGE_SETTINGS), settings::set)
        .system(&CHANGE)
        .doc(Operation::new("changeSetting", "Change a setting").about(
            "It counts within five seconds, on every instance. Some settings want a permission of their own.",
        ))
        .delete("/api/v1/settings/{name}", Access::Permission(&CHANGE_SETTINGS), settings::clear)
        .system(&CHANGE)
        .doc(Operation::new("clearSetting", "Let a setting be what it is by default"))
        .get("/api/v1/usage", Access::Permission(&READ_USAGE), usage::show)
        .doc(Operation::new("showUsage", "Show what the tenant uses, and what its plan has"))
        .get("/api/v1/flags", Access::SignedIn, flags::list)
        .doc(Operation::new(
            "listFlags",
            "List the features that are on for the tenant, and those that are off",
        ))
}
