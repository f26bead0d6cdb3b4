//! The table of all work that runs beside requests.

use std::collections::BTreeSet;

use super::proof::PROOF;
use crate::app::DENIALS;
use crate::cache::CACHE_INVALIDATIONS;
use crate::db::MONITOR;
use crate::db::cluster::PRIVATE_POSTGRESQL;
use crate::factory;
use crate::lifecycle::{BackgroundFacts, Exit, StartError};
use crate::metrics::LAG;
use crate::module::Product;
use crate::redis::STORE;
use crate::server::{ACCEPT, CERTIFICATE};
use crate::worker::{JOBS, RELAY, SCHEDULES, UPKEEP};

/// The core's own.
const CORE: [BackgroundFacts; 13] = [
    ACCEPT.facts(),
    DENIALS.facts(),
    JOBS.facts(),
    SCHEDULES.facts(),
    UPKEEP.facts(),
    RELAY.facts(),
    PROOF.facts(),
    LAG.facts(),
    MONITOR.facts(),
    STORE.facts(),
    CACHE_INVALIDATIONS.facts(),
    CERTIFICATE.facts(),
    PRIVATE_POSTGRESQL.facts(),
];

/// Every row, the core's and those of the product's modules, in the order in which they stop; with whose it is.
pub fn background(product: &Product) -> Vec<(&'static str, BackgroundFacts)> {
    let core = CORE.into_iter().map(|row| ("the core", row));
    let modules = factory::modules(product)
        .flat_map(|module| module.background.iter().map(|row| (module.name, row.facts())));
    let mut rows: Vec<_> = core.chain(modules).collect();
    rows.sort_by_key(|(_, row)| row.stops);
    rows
}

/// `docs/reference/background.md`.
pub fn background_markdown(product: &Product) -> String {
    let mut page = String::from(
        "# Background work\n\n\
         <!-- Generated from the rows of `Background`: run the tests with BLESS=1 to write it anew. -->\n\n\
         What runs beside requests, in the order in which it stops: each stage has ended before the next one is told to. The\n\
         name is the label `task` of `background_panics_total` and `background_restarts_total`, and the field `task` of log\n\
         lines. What ends before its stop is started again. What is critical and dies five times within a minute drains the\n\
         process, which ends with exit code 70; what is not is started again after a minute, and `/health/detailed` says\n\
         `degraded` meanwhile.\n\n\
         | Task | Of | Critical | Stops | What it does |\n| --- | --- | --- | --- | --- |\n",
    );
    for (owner, row) in background(product) {
        let critical = if row.critical { "yes" } else { "no" };
        let name = row.name;
        let stops = row.stops.words();
        let about = row.about;
        page.push_str(&format!("| {name} | {owner} | {critical} | {stops} | {about} |\n"));
    }
    page
}

/// Two rows of one name could not be told apart in metrics and logs.
pub(super) fn refuse_same_names(product: &Product) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    match background(product).into_iter().find(|(_, row)| !names.insert(row.name)) {
        None => Ok(()),
        Some((owner, row)) => {
            let what = format!("The background work \"{}\" of {owner} has the name of another", row.name);
            Err(StartError::with_fix(Exit::Internal, what, "rename it in the code"))
        }
    }
}
