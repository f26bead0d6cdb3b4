//! `docs/guides/add-a-module.md` works as it is typed: the module of the guide is compiled here, from the same text, and
//! runs; the lists that the guide changes are those of the code.

#[allow(unreachable_pub)] // as in erp-modules, where the guide puts it
mod customers;
mod edge;
mod services;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use erp_core::module::{Module, Product};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;
use serde_json::json;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The guide's blocks of code.
fn blocks(guide: &str) -> Vec<&str> {
    guide.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap().1).collect()
}

/// What stands between `before` and the next `end`, in pieces without quotes and white space. A long list begins on a line of
/// its own.
fn list<'a>(text: &'a str, before: &str, end: char) -> Vec<&'a str> {
    let (name, list) = before.split_once(" = ").unwrap_or((before, ""));
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("the guide shows no {before}"));
    let rest = rest.trim_start_matches([' ', '=', '\n']);
    let rest = rest.strip_prefix(list).unwrap_or_else(|| panic!("the guide shows no {before}"));
    let pieces = rest[..rest.find(end).unwrap()].split(',');
    pieces.map(|piece| piece.trim().trim_matches('"')).filter(|piece| !piece.is_empty()).collect()
}

#[test]
fn the_guide_shows_the_files_that_are_compiled_here() {
    let guide = file("docs/guides/add-a-module.md");
    for (name, text) in [
        ("migrations/0001_customers.sql", customers::MODULE.migrations[0].sql),
        ("samples/customers.sql", customers::MODULE.samples[0].insert),
        ("mod.rs", include_str!("customers/mod.rs")),
    ] {
        let first = text.lines().next().unwrap();
        let shown = blocks(&guide).into_iter().find(|block| block.starts_with(first)).unwrap_or_default();
        let shown = format!("{}\n", shown.trim_end());
        if std::env::var_os("BLESS").is_some() && shown.len() > 1 {
            let file = format!("{}/tests/it/guide/customers/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(file, shown).unwrap();
        } else {
            assert_eq!(
                shown, text,
                "the guide shows another {name}: BLESS=1 script/test integration the_guide_shows"
            );
        }
    }
}

/// The guide shows the lists of the product that it was written for. This one may have more modules by now (F52).
#[test]
fn f52_the_guide_goes_on_from_a_part_of_the_product() {
    let (guide, source) = (file("docs/guides/add-a-module.md"), file("crates/modules/src/lib.rs"));
    let listed = list(&source, "ALL: &[&Module] = &[", ']');
    let shown = list(&guide, "ALL: &[&Module] = &[", ']');
    let (ours, before) = shown.split_last().unwrap();
    assert_eq!(*ours, "&customers::MODULE", "the guide adds its module at the end");
    let mut rest = listed.iter();
    for module in before {
        assert!(
            rest.any(|other| other == module),
            "crates/modules/src/lib.rs does not have {module} there: correct the list that the guide shows"
        );
    }
    let block = blocks(&guide).into_iter().find(|block| block.starts_with("pub mod ")).unwrap();
    for line in block.lines().filter(|line| *line != "pub mod customers;") {
        assert!(
            source.contains(line),
            "crates/modules/src/lib.rs has no '{line}': correct what the guide shows"
        );
    }
}

/// What a resource costs its author: issue 10 bounds it, and counts with `script/lines`.
#[test]
fn a_resource_costs_at_most_200_lines_and_the_guides_120() {
    // The catalogue's import is one more feature, in a file of its own.
    for (module, most) in [("catalog/mod.rs", 200), ("crates/server/tests/it/guide/customers", 120)] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../script/lines");
        let counted = std::process::Command::new(script).arg(module).output().unwrap();
        let text = String::from_utf8(counted.stdout).unwrap();
        let lines: u32 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert!((50..=most).contains(&lines), "{module} has {lines} lines");
    }
}

/// A copy of what `script/new-module` reads and writes, in a folder that goes with it.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("erp-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let parts = [
            "script/new-module",
            "crates/modules/src",
            "crates/core/src/db/schema/migrations",
            "crates/server/tests/it/modules.rs",
            "rustfmt.toml",
        ];
        let mut copy = Command::new("cp");
        copy.args(["-R", "--parents"]).args(parts).arg(&folder).current_dir(root());
        assert!(copy.status().unwrap().success());
        Self(folder)
    }

    fn new_module(&self, name: &str, fields: &[&str]) -> Output {
        Command::new(self.0.join("script/new-module")).arg(name).args(fields).output().unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FIELDS: [&str; 4] = ["name:text:200", "email:email?", "credit:money", "status:[draft|open|closed]"];

/// It would write what no database takes, or over what somebody has written.
#[test]
fn new_module_refuses_names_that_are_taken_and_says_by_what() {
    let copy = Copy::new("taken");
    for (name, why) in [
        (
            "suppliers",
            "there is a module suppliers already: choose another name, or remove crates/modules/src/suppliers",
        ),
        ("items", "the migration catalog/0001_items makes a table items already: choose another name"),
        ("files", "the migration core/0014_files makes a table files already: choose another name"),
    ] {
        let tried = copy.new_module(name, &FIELDS);
        let said = String::from_utf8_lossy(&tried.stderr);
        assert!(!tried.status.success() && said.contains(why), "{name}: {said}");
    }
}

/// However many there are: their list comes to take more than one line.
#[test]
fn new_module_lists_each_module_in_files_that_are_formatted() {
    let copy = Copy::new("listed");
    for name in ["carriers", "drivers", "vendors"] {
        let written = copy.new_module(name, &[&FIELDS[..], &["item_id:items?"]].concat());
        assert!(written.status.success(), "{name}: {written:?}");
        let lib = std::fs::read_to_string(copy.0.join("crates/modules/src/lib.rs")).unwrap();
        let tests = std::fs::read_to_string(copy.0.join("crates/server/tests/it/modules.rs")).unwrap();
        let (module, fixtures) = (format!("&{name}::MODULE"), format!("{name}::FIXTURES"));
        assert_eq!(list(&lib, "ALL: &[&Module] = &[", ']').last(), Some(&&*module));
        assert_eq!(list(&tests, "FIXTURES: &[&[Fixture]] = &[", ']').last(), Some(&&*fixtures));
    }
    for file in ["crates/modules/src/lib.rs", "crates/server/tests/it/modules.rs"] {
        let mut rustfmt = Command::new("rustfmt"); // by its input: else it goes on to the modules that the file names
        rustfmt.args(["--edition", "2024"]).current_dir(&copy.0);
        let formatted = rustfmt.stdin(File::open(copy.0.join(file)).unwrap()).output().unwrap();
        let written = std::fs::read_to_string(copy.0.join(file)).unwrap();
        assert_eq!(String::from_utf8_lossy(&formatted.stdout), written, "{file}: {formatted:?}");
    }
}

/// They are made in what `script/new-module` writes today. That each is stopped where it says takes minutes: a row of
/// `script/check-deep`.
#[test]
fn each_honest_mistake_of_script_mistakes_can_be_made() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../script/mistakes");
    let checked = std::process::Command::new(script).arg("--check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn f52_the_guides_module_keeps_its_promises() {
    // A frozen product: whatever modules the real one has by now, of whatever names.
    static BEFORE: [&Module; 2] = [&erp_modules::identity::MODULE, &erp_modules::catalog::MODULE];
    let frozen = Product { modules: &BEFORE, ..PRODUCT };
    let app = TestApp::of(frozen).module(&customers::MODULE).start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let bolt = || json!({ "name": "Bolt & Co", "email": "sales@bolt.example" });
    let made = alice.post("/api/v1/customers", bolt()).await.assert(201);
    let path = made.header("location").to_owned();
    assert_eq!(alice.get(&path).await.assert(200).json(), made.json());
    bob.get(&path).await.problem("core.not_found");
    alice.post("/api/v1/customers", bolt()).await.assert(409).problem("customers.name_taken");
    bob.post("/api/v1/customers", bolt()).await.assert(201);
    app.reader_of("acme").post("/api/v1/customers", bolt()).await.assert(403);
    alice.put(&path, json!({ "name": "Bolt Ltd" })).await.assert(200);
    let listed = alice.get("/api/v1/customers").await.assert(200).json();
    assert_eq!(
        (&listed["items"][0]["name"], &listed["items"][0]["version"]),
        (&json!("Bolt Ltd"), &json!(2))
    );
    bob.delete(&path).await.problem("core.not_found");
    alice.delete(&path).await.assert(204);
    let audit = app.audit_of("acme").await;
    let told: Vec<_> = audit.iter().filter(|row| row["resource"] == "customer").collect();
    let actions: Vec<_> = told.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["customer.created", "customer.updated", "customer.deleted"]);
    assert_eq!(told[0]["after"]["email"], "[masked]", "{told:#?}");
    app.finish().await;
}
