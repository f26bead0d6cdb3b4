//! Imports run one way: a module of the core uses those above it in `lib.rs`, never those below. And where crates come
//! from.

use std::collections::BTreeMap;
use std::path::Path;

use crate::sources::rust_files;

/// `user → used`, with the reason. This list may only shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// The core's modules in the order of `lib.rs`.
fn order(lib: &str) -> Vec<&str> {
    let declared = lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    declared.collect()
}

/// The modules named after each `crate::` of a source text, comments left out: `crate::a::b`, `crate::{a, b::c}`.
fn used(source: &str) -> Vec<String> {
    used_from(source, "crate::")
}

/// The modules named after each `prefix` of a source text, comments left out.
fn used_from(source: &str, prefix: &str) -> Vec<String> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: Vec<&str> = lines.collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_of(group)),
            None => found.push(first_name(rest)),
        }
    }
    found
}

/// The first names of a group's entries, up to its closing brace.
fn names_of(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, byte) in group.bytes().enumerate() {
        let ends = byte == b'}' && depth == 0;
        if ends || (byte == b',' && depth == 0) {
            names.push(first_name(&group[start..at]));
            start = at + 1;
        }
        match byte {
            b'{' => depth += 1,
            b'}' if ends => return names,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_run_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    let order = order(&lib);
    let place = |module: &str| order.iter().position(|name| *name == module);
    let (mut back, mut needed) = (Vec::new(), Vec::new());
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let Some(own) = place(module) else { continue };
        for name in used(&std::fs::read_to_string(&file).unwrap()) {
            if place(&name).is_none_or(|place| place <= own) {
                continue; // above, or a macro
            }
            match EXCEPTIONS.iter().find(|(user, used, _)| (*user, *used) == (module, name.as_str())) {
                Some(exception) => needed.push(*exception),
                None => back.push(format!("{}: uses crate::{name}", inside.display())),
            }
        }
    }
    assert!(
        back.is_empty(),
        "these imports run against the order of lib.rs; move the code, not the rule:\n{}",
        back.join("\n")
    );
    for exception in EXCEPTIONS {
        assert!(needed.contains(exception), "{exception:?} is not needed any more: remove it");
    }
}

/// The folders whose own modules are used from top to bottom of the list in their `mod.rs`, as the core's are.
const ORDERED: [&str; 2] = ["db", "middleware"];

#[test]
fn imports_run_one_way_inside_the_large_folders_too() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut back = Vec::new();
    for folder in ORDERED {
        let list = std::fs::read_to_string(source.join(folder).join("mod.rs")).unwrap();
        let order = declared(&list);
        assert!(order.len() > 5, "{folder}: {order:?}");
        let place = |module: &str| order.iter().position(|name| *name == module);
        for file in rust_files(&source.join(folder)) {
            let inside = file.strip_prefix(source.join(folder)).unwrap();
            let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
            if file.ends_with("tests.rs") {
                continue; // tests reach for what they need
            }
            let Some(own) = place(module) else { continue }; // the list itself
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let sister = if inside.iter().count() == 1 { Some("super::") } else { None };
            let mut names = used_from(code, &format!("crate::{folder}::"));
            names.extend(sister.into_iter().flat_map(|prefix| used_from(code, prefix)));
            let below = names.iter().filter(|name| place(name).is_some_and(|place| place > own));
            back.extend(below.map(|name| format!("{folder}/{}: uses {name}", inside.display())));
        }
    }
    assert!(back.is_empty(), "these imports run against the order of their mod.rs:\n{}", back.join("\n"));
}

/// The modules that a list declares, in its order; those of tests are used by nobody.
fn declared(list: &str) -> Vec<&str> {
    let lines = list.lines().filter(|line| line.ends_with(';'));
    let named = lines.filter_map(|line| line.split_once("mod ").map(|(_, name)| name.trim_end_matches(';')));
    named.filter(|name| *name != "tests").collect()
}

#[test]
fn the_reader_of_imports_reads() {
    let source = "use crate::db::{Db, proof};\nuse crate::{app::App, auth::{Caller, Role}, error};\n// crate::no\n$crate::logging::x()";
    assert_eq!(used(source), ["db", "app", "auth", "error", "logging"]);
    assert_eq!(order("//! x\n\npub mod shared;\n\nmod hidden;\npub mod db;\n"), ["shared", "db"]);
}

/// The dependencies that the manifest of one of our crates names in a section, `[dependencies]` for one.
fn dependencies(package: &str, section: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let (_, rest) = manifest.split_once(&format!("\n{section}\n")).unwrap_or_default();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_owned()));
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).collect()
}

/// Lines of a source text that are about floats, with their numbers; comments and the value of a metric, `count as f64`,
/// left out.
fn floats(source: &str) -> Vec<usize> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default().replace(" as f64", ""));
    let named = lines.enumerate().filter(|(_, code)| code.contains("f64") || code.contains("f32"));
    named.map(|(index, _)| index + 1).collect()
}

#[test]
fn no_feature_knows_a_float() {
    assert_eq!(
        floats("// f64\nlet a: f64 = x;\nset(count as f64); // f32\nvalue.as_f64()\nVec<f32>"),
        [2, 4, 5]
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["crates/modules/src", "examples/own-product/src"] {
        for file in rust_files(&root.join(folder)) {
            let lines = floats(&std::fs::read_to_string(&file).unwrap());
            found.extend(
                lines.iter().map(|line| format!("{}:{line}", file.strip_prefix(&root).unwrap().display())),
            );
        }
    }
    assert!(
        found.is_empty(),
        "a float holds no decimal exactly: use shared::Money for amounts, and Int for numbers\n{}",
        found.join("\n")
    );
}

#[test]
fn the_leaf_crate_stands_alone() {
    let own = dependencies("postgres", "[dependencies]");
    assert!(own.iter().any(|name| name == "tokio"), "the manifest is read: {own:?}");
    assert!(
        !own.iter().any(|name| name.starts_with("erp-")),
        "erp-postgres is useful without the house: {own:?}"
    );
}

#[test]
fn nothing_but_core_depends_on_a_driver() {
    for package in ["modules", "server"] {
        for driver in ["erp-postgres", "tokio-postgres", "postgres-protocol", "deadpool", "reqwest"] {
            let found = dependencies(package, "[dependencies]").iter().any(|name| name == driver);
            assert!(
                !found,
                "{package} reaches data and services through erp_core, and depends on no {driver}"
            );
        }
    }
    assert!(dependencies("core", "[dependencies]").iter().any(|name| name == "erp-postgres"));
}

/// The types that a source text declares at its outermost level, its tests left out.
fn types(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let found = code.lines().filter_map(|line| {
        let rest = line.strip_prefix("pub").map_or(line, str::trim_start);
        let rest = if rest.starts_with('(') { rest.split_once(") ")?.1 } else { rest };
        let (kind, name) = rest.split_once(' ')?;
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        ["struct", "enum", "trait", "type", "union"].contains(&kind).then_some(&name[..end])
    });
    found.collect()
}

#[test]
fn a_name_means_one_thing_in_the_whole_house() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["core", "modules", "postgres", "server"] {
        for file in rust_files(&crates.join(folder).join("src")) {
            let place = file.strip_prefix(&crates).unwrap().display().to_string();
            if ["tests", "attacks", "slow_readers"].iter().any(|of_tests| place.contains(of_tests)) {
                continue;
            }
            for name in types(&std::fs::read_to_string(&file).unwrap()) {
                all.entry(name.to_owned()).or_default().push(place.clone());
            }
        }
    }
    assert!(all.len() > 300, "only {} types were read", all.len());
    let twice = all.iter().filter(|(_, places)| places.len() > 1);
    let refused: Vec<_> = twice.map(|(name, places)| format!("{name}: {places:?}")).collect();
    assert!(refused.is_empty(), "name each after what it is for:\n{}", refused.join("\n"));
}

#[test]
fn the_reader_of_types_reads() {
    let source = "pub struct A<T>(T);\nstruct B {\npub(in crate::db) enum C<'a> {\npub(super) type D = u8;\n\
        pub trait E: Send {\n    type F;\n// struct G\npub fn h() {}\n#[cfg(test)]\nmod tests {\nstruct I;";
    assert_eq!(types(source), ["A", "B", "C", "D", "E"]);
}

/// What of X-01 needs no tool; `script/supply-chain` checks the rest.
#[test]
fn x_01_every_crate_comes_from_the_registry_with_its_checksum() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let (mut own, mut foreign) = (Vec::new(), 0);
    for package in lock.split("[[package]]\n").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            line.strip_suffix('"')
        };
        let name = field("name").unwrap();
        match field("source") {
            None => own.push(name),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert_eq!(field("checksum").map(str::len), Some(64), "{name}");
                foreign += 1;
            }
        }
    }
    assert_eq!(own, ["erp-backend", "erp-core", "erp-modules", "erp-postgres", "erp-testkit"]);
    assert!(foreign > 100, "only {foreign} crates were read");
}
