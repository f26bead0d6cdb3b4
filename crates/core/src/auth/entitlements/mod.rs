//! What a tenant has: its plan, the features that are on for it, and its settings. Modules declare them; the rows of a tenant say
//! how they are; and a caller carries the outcome, as it was read at most five seconds ago, so that asking costs no statement and
//! is the same from the beginning of a request to its end.

mod flag;
mod known;
mod meter;
mod setting;
mod values;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::numbered::Numbered;
use crate::config::Features;
use crate::shared::TenantId;
use crate::shares::LoadLimits;

pub use flag::{Flag, FlagReason, FlagState, StoredRollout};
pub use known::KnownEntitlements;
pub use meter::{Counting, Meter};
pub use setting::{AnyTenantSetting, ReadSetting, SettingBounds, TenantSetting, TenantSettingFacts};
pub use values::{MonthDay, Networks, SettingValue, ZoneName};

/// What modules declare that tenants have.
#[derive(Default)]
pub struct EntitlementTable {
    settings: Numbered<dyn AnyTenantSetting>,
    flags: Numbered<Flag>,
    meters: Numbered<Meter>,
    features: Features,
}

/// What the rows of a tenant say.
#[derive(Debug, Clone, Default)]
pub struct StoredEntitlements {
    /// Its plan, if it has one.
    pub plan: Option<TenantPlan>,
    /// Its settings, by name.
    pub settings: BTreeMap<String, Value>,
    /// The flags that are on or off for it alone, by name.
    pub flags: BTreeMap<String, bool>,
    /// The flags that are on for a part of all tenants, by name.
    pub rollouts: BTreeMap<String, StoredRollout>,
}

/// What a tenant pays for. What it does not say is as the settings of the deployment have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantPlan {
    /// Its name.
    pub name: String,
    /// The requests in a window that each of the tenant's principals has, instead of `RATE_LIMIT_MAX`.
    pub rate_limit_max: Option<u32>,
    /// How many connections to the database the tenant holds of one process, instead of `DATABASE_TENANT_MAX_CONNECTIONS`.
    pub connections: Option<u32>,
    /// How much the tenant may use, by the names of meters. Of what it does not name, as much as it likes.
    pub quotas: BTreeMap<String, i64>,
    /// How much the tenant may ask of one process.
    pub load: LoadLimits,
}

/// What a tenant has. Cheap to clone. That of nobody, whose tenant was not asked, is what the modules declare.
#[derive(Clone, Default)]
pub struct Entitlements(Option<Arc<ResolvedEntitlements>>);

struct ResolvedEntitlements {
    table: Arc<EntitlementTable>,
    plan: Option<TenantPlan>,
    flags: Box<[FlagState]>,
    settings: Box<[Arc<dyn Any + Send + Sync>]>,
    quotas: Box<[Option<i64>]>,
    /// The quotas of rows, as transactions bring them along: an object by the names of meters.
    row_quotas: Option<Arc<str>>,
}

impl EntitlementTable {
    /// Numbers what is declared. `features` are the switches of the deployment.
    pub fn new(
        settings: impl IntoIterator<Item = &'static dyn AnyTenantSetting>,
        flags: impl IntoIterator<Item = &'static Flag>,
        meters: impl IntoIterator<Item = &'static Meter>,
        features: Features,
    ) -> Self {
        let (settings, flags, meters) =
            (Numbered::new(settings), Numbered::new(flags), Numbered::new(meters));
        Self { settings, flags, meters, features }
    }

    /// The settings that tenants have, in the order of the modules.
    pub fn settings(&self) -> impl Iterator<Item = &'static dyn AnyTenantSetting> {
        self.settings.iter()
    }

    /// The flags, in the order of the modules.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter()
    }

    /// What is counted of tenants, in the order of the modules.
    pub fn meters(&self) -> impl Iterator<Item = &'static Meter> {
        self.meters.iter()
    }

    /// The deployment's switches.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What a tenant has, by its rows. A value that its setting cannot read, such as one of a newer version, counts as none.
    pub fn resolve(self: &Arc<Self>, tenant: TenantId, stored: StoredEntitlements) -> Entitlements {
        let flags = self.flags.iter().map(|flag| flag.state(tenant, &stored, &self.features)).collect();
        let read = |setting: &'static dyn AnyTenantSetting| {
            let value = stored.settings.get(setting.facts().name);
            value.and_then(|value| setting.read(value).ok()).unwrap_or_else(|| setting.default()).value
        };
        let settings = self.settings.iter().map(read).collect();
        let plan = stored.plan;
        let quota = |meter: &'static Meter| plan.as_ref()?.quotas.get(meter.name).copied();
        let quotas = self.meters.iter().map(quota).collect();
        let of_rows = self.meters.iter().filter(|meter| meter.table().is_some());
        let of_rows: BTreeMap<&str, i64> =
            of_rows.filter_map(|meter| Some((meter.name, quota(meter)?))).collect();
        let row_quotas = serde_json::to_string(&of_rows).ok().filter(|_| !of_rows.is_empty()).map(Arc::from);
        let table = Arc::clone(self);
        let resolved = ResolvedEntitlements { table, plan, flags, settings, quotas, row_quotas };
        Entitlements(Some(Arc::new(resolved)))
    }
}

impl Entitlements {
    /// The plan, if the tenant has one.
    pub fn plan(&self) -> Option<&TenantPlan> {
        self.0.as_ref()?.plan.as_ref()
    }

    /// How much the tenant may use; `None`: as much as it likes.
    pub fn quota(&self, meter: &'static Meter) -> Option<i64> {
        let resolved = self.0.as_ref()?;
        resolved.table.meters.number(meter).and_then(|number| resolved.quotas.get(number)).copied().flatten()
    }

    /// The quotas of rows, where there are any: an object by the names of meters.
    pub(crate) fn row_quotas(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.row_quotas.as_ref()
    }

    /// Whether a feature is on.
    pub fn is_on(&self, flag: &'static Flag) -> bool {
        self.state(flag).map_or(flag.default, |state| state.is_on)
    }

    /// Whether a feature is on, and why.
    fn state(&self, flag: &'static Flag) -> Option<FlagState> {
        let resolved = self.0.as_ref()?;
        resolved.table.flags.number(flag).and_then(|number| resolved.flags.get(number)).copied()
    }

    /// All features, and whether each is on, and why; in the order of the modules.
    pub fn flags(&self) -> impl Iterator<Item = (&'static Flag, FlagState)> {
        self.0.iter().flat_map(|resolved| resolved.table.flags.iter().zip(resolved.flags.iter().copied()))
    }

    /// The value of a setting.
    pub fn setting<T: SettingValue>(&self, setting: &'static TenantSetting<T>) -> T {
        let resolved = self.0.as_ref();
        let number = resolved.and_then(|resolved| resolved.table.settings.number(setting));
        let value = resolved.zip(number).and_then(|(resolved, number)| resolved.settings.get(number));
        value.and_then(|value| value.downcast_ref::<T>()).cloned().unwrap_or_else(|| setting.declared())
    }
}

/// Not its values, which are the tenant's.
impl std::fmt::Debug for Entitlements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entitlements")
            .field("plan", &self.plan().map(|plan| &plan.name))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::auth::{Permission, Role};
    use crate::shared::Currency;

    static CHANGE: Permission =
        Permission { name: "a.setting.change", what: "", roles: &[Role::Owner], owners_alone: false };
    static CURRENCY: TenantSetting<Currency> =
        TenantSetting::new("a.currency", "EUR", "What amounts are in.", &CHANGE);
    static LIST: Flag = Flag::off("a.new_list", "The new list.");
    static UNDECLARED: Flag = Flag::on("b.other", "Of a module that is not built in.");

    fn table() -> Arc<EntitlementTable> {
        let settings: [&'static dyn AnyTenantSetting; 1] = [&CURRENCY];
        Arc::new(EntitlementTable::new(settings, [&LIST], [], Features::default()))
    }

    fn tenant() -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(1))
    }

    #[test]
    fn what_a_tenant_has_not_set_is_as_it_is_declared() {
        let nothing = table().resolve(tenant(), StoredEntitlements::default());
        for entitlements in [nothing, Entitlements::default()] {
            assert_eq!(entitlements.setting(&CURRENCY).code(), "EUR");
            assert!(!entitlements.is_on(&LIST) && entitlements.is_on(&UNDECLARED));
            assert_eq!(entitlements.plan(), None);
        }
    }

    #[test]
    fn what_a_tenant_has_set_counts_and_what_cannot_be_read_does_not() {
        let set = |value| {
            let settings =
                BTreeMap::from([("a.currency".to_owned(), value), ("gone.x".to_owned(), json!(1))]);
            table().resolve(tenant(), StoredEntitlements { settings, ..StoredEntitlements::default() })
        };
        assert_eq!(set(json!("CHF")).setting(&CURRENCY).code(), "CHF");
        for unreadable in [json!("XYZ"), json!(7), Value::Null] {
            assert_eq!(set(unreadable).setting(&CURRENCY).code(), "EUR");
        }
    }
}
