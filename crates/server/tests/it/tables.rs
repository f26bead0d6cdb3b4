//! The house's tables across all modules: unique, named after their module, documented, rendered.

use std::collections::BTreeSet;
use std::path::Path;

use erp_core::error::render_markdown;
use erp_core::factory::modules;
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
        let owner = if module.name == "health" { "core" } else { module.name };
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

#[test]
fn the_reference_of_errors_is_up_to_date() {
    let tables: Vec<_> = modules(&PRODUCT).map(|module| module.errors).collect();
    let rendered = render_markdown(&tables);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/errors.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        committed, rendered,
        "run BLESS=1 script/test integration the_reference_of_errors and commit the difference"
    );
}
