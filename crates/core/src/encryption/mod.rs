//! What is done about keys beside using them: what is encrypted with an older version is encrypted anew, versions are added, retired
//! and destroyed, and data keys are wrapped anew after `ENCRYPTION_KEY` was replaced.

mod keys;
mod rewrap;

use crate::jobs::Schedule;
use crate::module::Module;
pub use keys::{KeyStatus, KeysOfTenant};
pub(crate) use keys::{refuse_unknown_key, retire, rewrap_keys, status, tenants_with_keys};
pub(crate) use rewrap::REWRAP;

crate::system_work! {
    /// What is done with keys as the system.
    pub(crate) SYSTEM {
        KEEP_KEYS = "encryption": "Opens tenants' data keys, adds versions of them, and encrypts anew what older ones have: requests never see a wrapped key.";
    }
}

/// The core's part in encryption, as a module like any other.
pub(crate) static ENCRYPTION: Module = Module {
    name: "encryption",
    about: "Keys of tenants, and what is encrypted with them.",
    jobs: &[&REWRAP, &keys::REWRAP_KEYS],
    schedules: NIGHTLY,
    system: SYSTEM,
    system_verbs: &[("secret", &KEEP_KEYS)],
    ..Module::BARE
};

/// At a time of few requests in most of the world, and not at a full hour.
const NIGHTLY: &[&Schedule] = &[
    &Schedule::for_each_tenant(
        "encryption.nightly",
        "Encrypts anew what an older version of the tenant's key has encrypted; `secret rotate encryption` does the same at once.",
        "10 4 * * *",
        &REWRAP,
        &(),
    ),
    &Schedule::for_platform(
        "encryption.platform",
        "The same of what belongs to no tenant, such as the secrets of second factors.",
        "15 4 * * *",
        &REWRAP,
        &(),
    ),
    &Schedule::for_platform(
        "encryption.keys",
        "Wraps data keys anew that another ENCRYPTION_KEY has wrapped; `secret rewrap` does the same at once.",
        "5 4 * * *",
        &keys::REWRAP_KEYS,
        &(),
    ),
];
