//! How modules use each other: by the facade of one that stands before them, and by name.

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
        let mut folders = vec![folder.join(module.name)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Ok(source) = std::fs::read_to_string(&path) else { continue };
                for (other, part) in imports(&source) {
                    let foreign = other != module.name && ALL.iter().any(|module| module.name == other);
                    let allowed = module.uses.contains(&other.as_str()) && part == "facade";
                    assert!(
                        !foreign || allowed,
                        "{}: uses crate::{other}::{part}; a module uses another by its `facade` only, \
                         and names it in `uses`",
                        path.display()
                    );
                }
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
