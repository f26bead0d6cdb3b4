//! Files of tenants, as a module: their codes, their store's probe, and what keeps the store clean.

mod routes;
mod upkeep;

use std::time::Duration;

use crate::module::{Module, Probe};
pub(crate) use upkeep::KEEP_STORE;
pub use upkeep::remove_all_files;
use upkeep::{NIGHTLY, REMOVE, SWEEP, SYSTEM};

/// The core's part in files, as a module like any other.
pub(crate) static FILES: Module = Module {
    name: "files",
    about: "Files of tenants: what is known of each, and its bytes.",
    routes: routes::routes,
    errors: crate::files::FILE_ERRORS,
    jobs: &[&REMOVE, &SWEEP],
    schedules: NIGHTLY,
    system: SYSTEM,
    probes: &[STORE],
    ..Module::BARE
};

/// Without the store, everything but files works.
const STORE: Probe = Probe {
    name: "store",
    required: false,
    timeout: Duration::from_secs(5),
    check: |app| Box::pin(app.files.probe()),
};
