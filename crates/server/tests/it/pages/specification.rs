//! `docs/reference/specification.md` says what of the specification is there: what it names exists.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A row of the table, in the order of its columns.
struct Row<'a> {
    text: &'a str,
    lines: RangeInclusive<usize>,
    files: Vec<&'a str>,
    tests: Vec<&'a str>,
    remarks: &'a str,
}

impl<'a> Row<'a> {
    /// `None` for what is no row: text, headings, a table's head.
    fn read(text: &'a str) -> Option<Self> {
        let cells: Vec<&str> = text.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let (first, last) = cells[0].split_once('–').unwrap_or((cells[0], cells[0]));
        let lines = first.parse().ok()?..=last.parse().ok()?;
        let [_, capability, files, tests, remarks] = cells[..] else { panic!("five cells: {text}") };
        assert!(!capability.is_empty(), "{text}");
        Some(Self { text, lines, files: quoted(files), tests: quoted(tests), remarks })
    }
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The files that a test may be in: `crates/…/x.rs::name`, or a path such as `erp_core::config::tests::name`, where a
/// module `tests` stands in its parent's file or in one of its own.
fn places(test: &str) -> (Vec<String>, &str) {
    let (path, name) = test.rsplit_once("::").unwrap();
    if path.ends_with(".rs") {
        return (vec![path.to_owned()], name);
    }
    let (package, module) = path.split_once("::").unwrap();
    let source = format!("crates/{}/src", package.strip_prefix("erp_").unwrap());
    let inline = module.strip_suffix("::tests").unwrap_or(module).replace("::", "/");
    let own = module.replace("::", "/");
    let places =
        [format!("{own}.rs"), format!("{own}/mod.rs"), format!("{inline}.rs"), format!("{inline}/mod.rs")];
    (places.iter().map(|place| format!("{source}/{place}")).collect(), name)
}

/// Whether the source has a test of that name: a function whose attributes say that it is one.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    let declared = |line: &str| line.trim_start_matches("async ").starts_with(&function);
    lines.iter().enumerate().filter(|(_, line)| declared(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
        above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn the_table_names_what_exists() {
    let root = root();
    let page = fs::read_to_string(root.join("docs/reference/specification.md")).unwrap();
    let length = page.split_once("The specification has ").and_then(|(_, rest)| rest.split(' ').next());
    let length: usize = length.unwrap().parse().unwrap();
    let rows: Vec<Row<'_>> = page.lines().filter_map(Row::read).collect();
    assert!(rows.len() > 200, "only {} rows were read", rows.len());
    let (mut last, mut built, mut in_part) = (1, 0, 0);
    for row in &rows {
        let (from, to) = (*row.lines.start(), *row.lines.end());
        assert!(last <= from && from <= to && to <= length, "lines out of order or range: {}", row.text);
        last = from;
        for file in &row.files {
            assert!(root.join(file).is_file(), "there is no {file}: {}", row.text);
        }
        for test in &row.tests {
            let (places, name) = places(test);
            let holds = |place: &String| {
                fs::read_to_string(root.join(place)).is_ok_and(|source| is_test(&source, name))
            };
            assert!(places.iter().any(holds), "there is no test {test}: {}", row.text);
        }
        match (!row.files.is_empty() && !row.tests.is_empty(), row.remarks.starts_with("partly")) {
            (true, false) => built += 1,
            (true, true) => in_part += 1,
            (false, _) => assert!(row.remarks.starts_with("not built"), "files and tests: {}", row.text),
        }
    }
    let summary = format!(
        "Of {} rows {built} are built, {in_part} in part, {} not",
        rows.len(),
        rows.len() - built - in_part
    );
    assert!(page.contains(&summary), "the page must say: {summary}");
}

#[test]
fn the_reader_of_the_table_reads() {
    let row = Row::read("| 3–5 | x | `a.rs` `b.rs` | – | not built: yet |").unwrap();
    assert_eq!((row.lines, row.files, row.tests.len()), (3..=5, vec!["a.rs", "b.rs"], 0));
    assert!(Row::read("| lines | capability | files | tests | remarks |").is_none());
    assert!(is_test("    #[tokio::test(flavor = \"x\")]\n    // why\n    async fn reads() {", "reads"));
    assert!(
        !is_test("#[test]\nfn other() {}\nfn reads() {", "reads")
            && !is_test("#[test]\nfn reads_not(", "reads")
    );
    let (places, name) = places("erp_core::config::tests::reads");
    assert_eq!(name, "reads");
    assert!(places.contains(&"crates/core/src/config/tests.rs".to_owned()));
    assert!(places.contains(&"crates/core/src/config/mod.rs".to_owned()));
}
