//! Holds that work of the system is declared where it is done, and renders the page of all of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Module, Route};
use crate::db::SystemWork;
use crate::lifecycle::{Exit, StartError};

/// Refuses a route, or an `authentication`, whose work as the system its own module does not declare, and two works of one
/// name.
///
/// # Errors
/// `Exit::Internal`, with the row to add.
pub(crate) fn refuse_undeclared(modules: &[&Module], custom: &[Route]) -> Result<(), StartError> {
    let refused = |why: String| Err(StartError::new(Exit::Internal, why));
    let undeclared = |place: &str, module: &str, work: &SystemWork| {
        refused(format!(
            "{place} of '{module}' does the system work '{}', which no row of a module's `system` declares for it: add it \
             there",
            work.name
        ))
    };
    if let Some((route, work)) = custom.iter().find_map(|route| Some((route, route.system?))) {
        return undeclared(route.path, "the custom routes", work);
    }
    let mut names = BTreeSet::new();
    for module in modules {
        let mut uses = uses(module).into_iter();
        let declared = |work: &SystemWork| module.system.iter().any(|row| std::ptr::eq(*row, work));
        if let Some((place, work)) = uses.find(|(_, work)| !declared(work)) {
            return undeclared(&place, module.name, work);
        }
        if let Some(twice) = module.system.iter().find(|work| !names.insert(work.name)) {
            return refused(format!(
                "The system work '{}' of '{}' has the name of another, and audit rows could not tell them apart: rename it",
                twice.name, module.name
            ));
        }
    }
    Ok(())
}

/// Where a module works as the system.
fn uses(module: &Module) -> Vec<(String, &'static SystemWork)> {
    let routes = (module.routes)().of(module.name);
    let routes = routes.filter_map(|route| Some((format!("{} {}", route.method, route.path), route.system?)));
    let authentication = module.authentication.map(|offered| ("`authentication`".to_owned(), offered.system));
    let operators = module.operators.map(|offered| ("`operators`".to_owned(), offered.system));
    let tenancy = module.tenancy.map(|offered| ("`tenancy`".to_owned(), offered.system));
    let jobs = module.jobs.iter().map(|kind| kind.facts());
    let jobs = jobs.filter_map(|facts| Some((format!("the job `{}`", facts.name), facts.system?)));
    let subscribers = module.subscribers.iter().map(|subscriber| subscriber.facts());
    let subscribers =
        subscribers.filter_map(|facts| Some((format!("the subscriber `{}`", facts.name), facts.system?)));
    let background =
        module.system_background.iter().map(|(task, work)| (format!("the task `{task}`"), *work));
    let verbs =
        module.system_verbs.iter().map(|(verb, work)| (format!("the operators' verb `{verb}`"), *work));
    let gauges = module.gauges.iter().map(|gauge| (format!("the gauge `{}`", gauge.metric), gauge.work));
    routes
        .chain(authentication)
        .chain(operators)
        .chain(tenancy)
        .chain(jobs)
        .chain(subscribers)
        .chain(background)
        .chain(verbs)
        .chain(gauges)
        .collect()
}

/// `docs/reference/system-work.md`.
pub fn system_work_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Work of the system\n\n\
         <!-- Generated from the modules' tables: run the tests with BLESS=1 to write it anew. -->\n\n\
         What is done in the database for no caller, and so beyond one tenant's permissions. It is declared in a module's\n\
         table and named where it is done; there the code is handed the right to do it, and nowhere else. Audit rows have\n\
         it as their actor: `system:` and the name.\n\n\
         | Work | Module | Where | What and why |\n| --- | --- | --- | --- |\n",
    );
    for module in modules {
        let uses = uses(module);
        for work in module.system {
            let places = uses.iter().filter(|(_, used)| std::ptr::eq(*used, *work));
            let places: Vec<&str> = places.map(|(place, _)| place.as_str()).collect();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                work.name,
                module.name,
                places.join(", "),
                work.why
            );
        }
    }
    page
}
