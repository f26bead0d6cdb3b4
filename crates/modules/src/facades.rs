//! How modules use each other: by the facade of one that stands before them, and by name.

#[path = "../../core/tests/it/sources.rs"]
mod sources;

use crate::ALL;

/// Every `crate::<module>::…` of a source text, comments left out.
fn imports(source: &str) -> Vec<(String, String)> {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    let segment = |path: &str| -> String {
        path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let paths = code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$'));
    let named = paths.map(|(at, prefix)| {
        let path = &code[at + prefix.len()..];
        let first = segment(path);
        let rest = path[first.len()..].strip_prefix("::").unwrap_or_default();
        (first, segment(rest))
    });
    named.collect()
}

#[test]
fn a_module_uses_another_only_by_its_facade_and_says_so() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in ALL {
        for file in sources::rust_files(&folder.join(module.name)) {
            for (other, part) in imports(&std::fs::read_to_string(&file).unwrap()) {
                let foreign = other != module.name && ALL.iter().any(|module| module.name == other);
                let allowed = module.uses.contains(&other.as_str()) && part == "facade";
                assert!(
                    !foreign || allowed,
                    "{}: uses crate::{other}::{part}; a module uses another by its `facade` only, and names it in `uses`",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_reader_of_imports_reads() {
    let found = imports("use crate::catalog::facade::take;\n// crate::no\ncrate::identity::me()");
    let named: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(named, [("catalog", "facade"), ("identity", "me")]);
}
