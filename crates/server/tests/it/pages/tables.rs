//! The house's tables across all modules: unique, named after their module, documented, rendered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use erp_core::bootstrap::{background, background_markdown};
use erp_core::cache::caches_markdown;
use erp_core::config::{SETTINGS, SettingsSchema};
use erp_core::error::render_markdown;
use erp_core::factory::{modules, settings};
use erp_core::metrics::{Kind, MetricTable};
use erp_core::module::{
    entitlements_markdown, events_markdown, jobs_markdown, mails_markdown, permissions_markdown,
    routes_markdown, schedules_markdown, states_markdown, system_work_markdown,
};
use erp_modules::PRODUCT;

fn is_snake(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn permissions_are_unique_named_after_their_module_and_documented() {
    let mut names = BTreeSet::new();
    for module in modules(&PRODUCT) {
        for permission in module.permissions {
            let parts: Vec<&str> = permission.name.split('.').collect();
            assert_eq!(
                (parts.len(), parts[0]),
                (3, module.name),
                "{}: module.resource.verb",
                permission.name
            );
            assert!(parts.iter().all(|part| is_snake(part)), "{}", permission.name);
            assert!(names.insert(permission.name), "{} is declared twice", permission.name);
            assert!(permission.what.len() > 10 && permission.what.ends_with('.'), "{}", permission.name);
            assert!(!permission.roles.is_empty(), "{} is nobody's", permission.name);
        }
    }
}

#[test]
fn error_codes_are_unique_named_after_their_module_and_documented() {
    let mut codes = BTreeSet::new();
    for module in modules(&PRODUCT) {
        let owner = match module.name {
            "health" => "core",
            "worker" => "jobs",
            own => own,
        };
        for error in module.errors {
            let (prefix, name) = error.code.split_once('.').unwrap();
            assert_eq!(prefix, owner, "{}", error.code);
            assert!(is_snake(name), "{}", error.code);
            assert!(codes.insert(error.code), "{} is declared twice", error.code);
            assert!((400..600).contains(&error.status), "{}", error.code);
            assert!(error.title.len() > 3 && !error.title.ends_with('.'), "{}", error.code);
            for sentence in [error.what, error.fix] {
                assert!(sentence.len() > 10 && sentence.ends_with('.'), "{}: {sentence}", error.code);
            }
        }
    }
}

#[test]
fn modules_are_unique_and_of_one_word() {
    let names: Vec<&str> = modules(&PRODUCT).map(|module| module.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.iter().all(|name| is_snake(name)), "{names:?}");
}

/// Compares a page of `docs/reference` with what is rendered; BLESS=1 writes it.
fn is_fresh(page: &str, rendered: &str) {
    is_fresh_at(&format!("docs/reference/{page}"), rendered);
}

/// The same for a file anywhere in the repository.
fn is_fresh_at(path: &str, rendered: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        committed, rendered,
        "run BLESS=1 script/test integration the_reference and commit the difference"
    );
}

#[test]
fn settings_of_modules_are_named_after_them() {
    for module in modules(&PRODUCT) {
        let prefix = format!("{}_", module.name.to_uppercase());
        for setting in SettingsSchema::core().with(module.name, module.settings).rows().skip(SETTINGS.len()) {
            assert!(setting.name.starts_with(&prefix), "{}: begin it with {prefix}", setting.name);
            assert!(setting.doc().len() > 20 && setting.doc().ends_with('.'), "{}", setting.name);
        }
    }
}

#[test]
fn the_reference_of_settings_is_up_to_date() {
    is_fresh("configuration.md", &settings(&PRODUCT).render_markdown());
    is_fresh_at(".env.example", &settings(&PRODUCT).render_env_example());
}

#[test]
fn metrics_of_modules_are_named_after_them_and_documented() {
    for module in modules(&PRODUCT) {
        for metric in module.metrics.iter().flat_map(MetricTable::rows) {
            let specified = metric.name == "sessions_active"; // the specification names it so
            assert!(specified || metric.name.starts_with(&format!("{}_", module.name)), "{}", metric.name);
            assert!(metric.help().len() > 20 && metric.help().ends_with('.'), "{}", metric.name);
            assert!(!metric.unit.is_empty(), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }
}

#[test]
fn the_reference_of_metrics_is_up_to_date() {
    let tables: Vec<_> = modules(&PRODUCT).map(|module| (module.name, module.metrics)).collect();
    is_fresh("metrics.md", &erp_core::metrics::render_markdown(&tables));
}

#[test]
fn the_reference_of_background_work_is_up_to_date() {
    is_fresh("background.md", &background_markdown(&PRODUCT));
    for (owner, row) in background(&PRODUCT) {
        assert!(row.about.len() > 20 && row.about.ends_with('.'), "{}", row.name);
        assert!(owner == "the core" || row.name.starts_with(owner), "{}: begin it with {owner}", row.name);
    }
}

#[test]
fn t_17_the_reference_of_system_work_is_up_to_date_and_says_why() {
    is_fresh("system-work.md", &system_work_markdown(modules(&PRODUCT)));
    for work in modules(&PRODUCT).flat_map(|module| module.system) {
        assert!(work.why.len() > 40 && work.why.ends_with('.'), "{}", work.name);
    }
}

#[test]
fn the_reference_of_caches_is_up_to_date() {
    let caches = || {
        modules(&PRODUCT).flat_map(|module| module.caches.iter().map(|cache| (module.name, cache.facts())))
    };
    is_fresh("caches.md", &caches_markdown(caches()));
    for (module, cache) in caches() {
        assert!(cache.name.starts_with(&format!("{module}.")), "{}: begin it with {module}.", cache.name);
        assert!(cache.what.len() > 20 && cache.what.ends_with('.'), "{}", cache.name);
    }
}

#[test]
fn the_reference_of_files_is_up_to_date() {
    let kinds = || modules(&PRODUCT).flat_map(|module| module.files.iter().map(|kind| (module.name, *kind)));
    is_fresh("files.md", &erp_core::files::files_markdown(kinds()));
    for (module, kind) in kinds() {
        assert!(kind.name.starts_with(&format!("{module}.")), "{}: begin it with {module}.", kind.name);
        assert!(kind.about.len() > 20 && kind.about.ends_with('.'), "{}", kind.name);
    }
}

#[test]
fn the_record_of_processing_is_up_to_date() {
    let personal = || {
        let of_modules = PRODUCT.modules.iter().map(|module| (module.name, module.personal));
        std::iter::once(("core", erp_core::db::CORE.personal)).chain(of_modules)
    };
    let duties = || PRODUCT.modules.iter().flat_map(|module| module.duties);
    is_fresh("personal-data.md", &erp_core::db::record_markdown(personal(), duties()));
    for data in personal().flat_map(|(_, data)| data) {
        assert!(
            !data.purpose.is_empty() && !data.kept.is_empty() && !data.columns.is_empty(),
            "{}",
            data.relation
        );
    }
}

#[test]
fn the_reference_of_errors_is_up_to_date() {
    let tables: Vec<_> = modules(&PRODUCT).map(|module| module.errors).collect();
    is_fresh("errors.md", &render_markdown(&tables));
}

#[test]
fn the_reference_of_permissions_is_up_to_date() {
    is_fresh("permissions.md", &permissions_markdown(modules(&PRODUCT)));
}

#[test]
fn the_reference_of_tenants_is_up_to_date() {
    let all: Vec<_> = modules(&PRODUCT).collect();
    is_fresh("tenants.md", &entitlements_markdown(all.iter().copied()));
    for setting in all.iter().flat_map(|module| module.tenant_settings) {
        let facts = setting.facts();
        assert!(setting.is_sound(), "{}: its default is no value of it", facts.name);
        assert!(facts.about.len() > 20 && facts.about.ends_with('.'), "{}", facts.name);
    }
    for meter in all.iter().flat_map(|module| module.meters) {
        assert!(meter.about.len() > 15 && meter.about.ends_with('.'), "{}", meter.name);
    }
    for flag in all.iter().flat_map(|module| module.flags) {
        assert!(flag.about.len() > 20 && flag.about.ends_with('.'), "{}", flag.name);
    }
}

#[test]
fn the_reference_of_routes_is_up_to_date() {
    is_fresh("routes.md", &routes_markdown(modules(&PRODUCT)));
}

#[test]
fn the_reference_of_jobs_is_up_to_date() {
    is_fresh("jobs.md", &jobs_markdown(modules(&PRODUCT)));
    for facts in modules(&PRODUCT).flat_map(|module| module.jobs).map(|kind| kind.facts()) {
        assert!(facts.about.len() > 20 && facts.about.ends_with('.'), "{}", facts.name);
    }
}

#[test]
fn the_reference_of_events_is_up_to_date() {
    let all: Vec<_> = modules(&PRODUCT).collect();
    is_fresh("events.md", &events_markdown(all.iter().copied()));
    let events = all.iter().flat_map(|module| module.events).map(|kind| kind.facts());
    let subscribers = all.iter().flat_map(|module| module.subscribers).map(|subscriber| subscriber.facts());
    for (name, about) in events
        .map(|facts| (facts.name, facts.about))
        .chain(subscribers.map(|facts| (facts.name, facts.about)))
    {
        assert!(about.len() > 10 && about.ends_with('.'), "{name}: {about}");
    }
}

#[test]
fn the_reference_of_mails_is_up_to_date() {
    is_fresh("mails.md", &mails_markdown(modules(&PRODUCT)));
    for facts in modules(&PRODUCT).flat_map(|module| module.mails).map(|template| template.facts()) {
        assert!(facts.about.len() > 20 && facts.about.ends_with('.'), "{}", facts.name);
    }
}

#[test]
fn the_reference_of_schedules_is_up_to_date() {
    is_fresh("schedules.md", &schedules_markdown(modules(&PRODUCT)));
    for schedule in modules(&PRODUCT).flat_map(|module| module.schedules) {
        assert!(schedule.about.len() > 20 && schedule.about.ends_with('.'), "{}", schedule.name);
    }
}

#[test]
fn the_reference_of_states_is_up_to_date() {
    is_fresh("states.md", &states_markdown(modules(&PRODUCT)));
}

#[test]
fn steps_of_documents_are_named_after_them_and_have_a_route() {
    let mut taken = Vec::new();
    for module in modules(&PRODUCT) {
        let routes = (module.routes)();
        let routed: Vec<&str> = routes.transitions().map(|step| step.action).collect();
        for step in module.states.iter().flat_map(|states| states.transitions) {
            assert!(
                module.permissions.contains(&step.permission),
                "{}: {}",
                step.action,
                step.permission.name
            );
            assert!(routed.contains(&step.action), "{} has no route: `.transition(…)`", step.action);
            taken.push(step.action);
        }
        assert!(routed.iter().all(|action| taken.contains(action)), "{}: name its `states`", module.name);
    }
    assert!(taken.len() >= 4, "{taken:?}");
}

/// Every source file below a folder with its code: no tests, no comments.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((path, code.join("\n")));
        }
    }
}

/// The constants of the rows `NAME = "first", …` of the tables that `macro_name` declares in a text.
fn rows<'a>(text: &'a str, macro_name: &str) -> Vec<&'a str> {
    let tables = text.split(macro_name).skip(1).map(|table| table.split("\n}").next().unwrap());
    let lines = tables.flat_map(str::lines).filter_map(|line| line.trim().split_once(" = \""));
    lines
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect()
}

/// Whether `prefix` and `name` stand in the text, and the name ends there.
fn uses(text: &str, prefix: &str, name: &str) -> bool {
    let whole = format!("{prefix}{name}");
    text.match_indices(&whole).any(|(at, _)| {
        !text[at + whole.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
    })
}

#[test]
fn every_error_code_and_permission_is_used_outside_its_table() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut codes, mut permissions, mut unused) = (0, 0, Vec::new());
    let mut all = Vec::new();
    sources(&crates.join("core/src"), &mut all);
    sources(&crates.join("modules/src"), &mut all);
    for (file, text) in &all {
        // The core's codes are for everybody; a module's table is for its own folder.
        let is_core = file.starts_with(crates.join("core"));
        let may_use = |user: &Path| is_core || user.starts_with(file.parent().unwrap());
        let users: Vec<&str> =
            all.iter().filter(|(user, _)| may_use(user)).map(|(_, text)| text.as_str()).collect();
        for name in rows(text, "error_codes! {") {
            codes += 1;
            // A code with a constraint is used by the chain, when the constraint is broken.
            let row =
                text.split(&format!("\n        {name} = ")).nth(1).and_then(|row| row.split(';').next());
            let is_constraint = row.is_some_and(|row| row.lines().any(|line| line.contains(" on ")));
            if !is_constraint && !users.iter().any(|text| uses(text, "codes::", name)) {
                unused.push(format!("{}: codes::{name}", file.display()));
            }
        }
        for name in rows(text, "permissions! {") {
            permissions += 1;
            // By reference, or in `states!`, which says who may take a step.
            if !users.iter().any(|text| uses(text, "&", name) || uses(text, "may ", name)) {
                unused.push(format!("{}: {name}", file.display()));
            }
        }
    }
    let tables = |count: fn(&erp_core::module::Module) -> usize| modules(&PRODUCT).map(count).sum::<usize>();
    assert_eq!(
        (codes, permissions),
        (tables(|module| module.errors.len()), tables(|module| module.permissions.len()))
    );
    assert!(unused.is_empty(), "declared, documented and never used: {unused:#?}");
}
