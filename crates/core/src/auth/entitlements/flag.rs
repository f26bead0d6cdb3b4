//! Features that are on for some tenants and off for others, and the order in which it is decided.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::StoredEntitlements;
use crate::config::{Features, Rollout};
use crate::shared::TenantId;

/// A whole, of which rollouts are parts.
const WHOLE: u32 = 10_000;

/// A feature that is on or off for a tenant: a row of [`Module::flags`](crate::module::Module::flags).
#[derive(Debug)]
pub struct Flag {
    /// `module.word`; the switch of a deployment is `FEATURE_MODULE_WORD`.
    pub name: &'static str,
    /// What is different where it is on.
    pub about: &'static str,
    /// Whether it is on where nobody has said anything.
    pub default: bool,
}

/// Whether a feature is on for a tenant, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagState {
    /// Whether it is on.
    pub is_on: bool,
    /// What has decided.
    pub reason: FlagReason,
}

/// What has decided whether a feature is on: the first of these that says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlagReason {
    /// It was set for this tenant.
    Tenant,
    /// It is on for a part of all tenants, and this one is or is not among them.
    Rollout,
    /// The deployment's `FEATURE_…` says so.
    Deployment,
    /// Its module says so.
    Default,
}

impl FlagReason {
    /// As it is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Rollout => "rollout",
            Self::Deployment => "deployment",
            Self::Default => "default",
        }
    }
}

/// The part of all tenants for which a feature is on. The salt stays as long as the feature does, so that a tenant that
/// has it at 10 % has it at 20 %.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRollout {
    /// What the feature's tenants are drawn by.
    pub salt: String,
    /// How many of 10,000 tenants have it.
    pub basis_points: u32,
}

impl Flag {
    /// One that is off where nobody has said anything.
    pub const fn off(name: &'static str, about: &'static str) -> Self {
        Self { name, about, default: false }
    }

    /// One that is on where nobody has said anything.
    pub const fn on(name: &'static str, about: &'static str) -> Self {
        Self { name, about, default: true }
    }

    /// The switch of a deployment: `FEATURE_CATALOG_NEW_LIST` of `catalog.new_list`.
    pub fn switch(&self) -> String {
        format!("FEATURE_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// Whether it is on for a tenant: by the tenant's own row, else by the rollout, else by the deployment's switch, else as it is
    /// declared.
    pub fn state(&self, tenant: TenantId, stored: &StoredEntitlements, features: &Features) -> FlagState {
        let state = |is_on, reason| FlagState { is_on, reason };
        if let Some(is_on) = stored.flags.get(self.name) {
            return state(*is_on, FlagReason::Tenant);
        }
        if let Some(StoredRollout { salt, basis_points }) = stored.rollouts.get(self.name) {
            return state(draw(salt, tenant) < *basis_points, FlagReason::Rollout);
        }
        match features.find(&self.name.replace('.', "_")) {
            Some(Rollout::On) => state(true, FlagReason::Deployment),
            Some(Rollout::Off) => state(false, FlagReason::Deployment),
            Some(Rollout::Percent(percent)) => {
                state(draw(self.name, tenant) < u32::from(percent) * 100, FlagReason::Deployment)
            }
            None => state(self.default, FlagReason::Default),
        }
    }
}

/// A tenant's number of 10,000: the same on every instance and at every time, and another one for each salt.
fn draw(salt: &str, tenant: TenantId) -> u32 {
    let mut input = salt.as_bytes().to_vec();
    input.extend_from_slice(tenant.as_uuid().as_bytes());
    let hash = digest(&SHA256, &input);
    let first = hash.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(first % u64::from(WHOLE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    static NEW_LIST: Flag = Flag::off("catalog.new_list", "The new list.");

    fn tenants() -> impl Iterator<Item = TenantId> {
        (0..10_000_u128).map(|number| TenantId::from_uuid(Uuid::from_u128(number * 7_919 + 3)))
    }

    fn at(basis_points: u32) -> StoredEntitlements {
        let rollout = StoredRollout { salt: "of the test".to_owned(), basis_points };
        let rollouts = BTreeMap::from([(NEW_LIST.name.to_owned(), rollout)]);
        StoredEntitlements { rollouts, ..StoredEntitlements::default() }
    }

    fn is_on(tenant: TenantId, stored: &StoredEntitlements) -> bool {
        NEW_LIST.state(tenant, stored, &Features::default()).is_on
    }

    #[test]
    fn who_has_a_feature_at_a_part_has_it_at_every_larger_one() {
        let parts = [0, 1, 1000, 2000, 5000, 9999, 10_000].map(at);
        let mut counts = [0; 7];
        for tenant in tenants() {
            let on: Vec<bool> = parts.iter().map(|stored| is_on(tenant, stored)).collect();
            assert!(on.is_sorted(), "{tenant}: {on:?}");
            counts.iter_mut().zip(on).for_each(|(count, is_on)| *count += u32::from(is_on));
        }
        assert_eq!((counts[0], counts[6]), (0, 10_000), "nobody, and everybody");
        assert!((900..1100).contains(&counts[2]) && (4800..5200).contains(&counts[4]), "{counts:?}");
    }

    #[test]
    fn a_tenants_number_is_the_same_in_every_version_and_another_for_each_salt() {
        let tenant = TenantId::from_uuid(Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91));
        // Of `printf 'salt' | cat - <16 bytes> | sha256sum`: who has a feature must not change with a release.
        assert_eq!(draw("salt", tenant), 3204);
        let same = tenants().filter(|tenant| draw("a", *tenant) / 5000 == draw("b", *tenant) / 5000).count();
        assert!(
            (4700..5300).contains(&same),
            "{same} of 10,000: a tenant that is early in one is no more likely early in another"
        );
    }

    #[test]
    fn a_tenants_own_word_is_before_the_rollouts_and_that_before_the_deployments() {
        let tenant = tenants().next().unwrap();
        let mut stored = at(10_000);
        let mut features = Features::default();
        assert!(features.add("CATALOG_NEW_LIST", "off"));
        let reason = |stored: &StoredEntitlements, features: &Features| {
            let FlagState { is_on, reason } = NEW_LIST.state(tenant, stored, features);
            (is_on, reason)
        };
        assert_eq!(reason(&stored, &features), (true, FlagReason::Rollout));
        stored.flags.insert(NEW_LIST.name.to_owned(), false);
        assert_eq!(reason(&stored, &features), (false, FlagReason::Tenant));
        let nothing = StoredEntitlements::default();
        assert_eq!(reason(&nothing, &features), (false, FlagReason::Deployment));
        assert_eq!(reason(&nothing, &Features::default()), (false, FlagReason::Default));
        let mut all = Features::default();
        assert!(all.add("catalog_new_list", "100%"));
        assert_eq!(reason(&nothing, &all), (true, FlagReason::Deployment));
    }

    #[test]
    fn the_switch_is_named_after_the_flag() {
        assert_eq!(NEW_LIST.switch(), "FEATURE_CATALOG_NEW_LIST");
    }
}
