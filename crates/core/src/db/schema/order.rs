//! The order over all migrations.
//!
//! Core's come first, all of them, and depend on no module: a module may rely on everything that its version of core
//! has. Then the modules in the order in which the product names them; each migration after its predecessor and after
//! what it names in `after`, which is brought forward where it belongs to a later module. The order among what is not
//! applied yet depends on these lists alone, and never on what a database has already: upstream's next migration may
//! be applied long after a team's own.

use std::collections::HashMap;

use super::{CORE_NAME, Entry, Migration, Namespace, place};
use crate::lifecycle::{Exit, StartError};

/// All migrations, each after what it depends on.
pub(super) fn order(namespaces: &[Namespace<'_>]) -> Result<Vec<Entry>, StartError> {
    let mut nodes = Vec::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        if namespaces[..at].iter().any(|other| other.name == namespace.name) {
            return Err(two_modules(namespace.name));
        }
        nodes.extend(numbered(namespace)?);
    }
    refuse_ambiguous(&nodes)?;
    let places: HashMap<String, usize> =
        nodes.iter().enumerate().map(|(at, node)| (node.entry.name.clone(), at)).collect();
    let mut sorting = Sorting {
        nodes: &nodes,
        places: &places,
        states: vec![SortState::New; nodes.len()],
        order: Vec::new(),
    };
    for at in 0..nodes.len() {
        sorting.visit(at, &mut Vec::new())?;
    }
    Ok(sorting.order.into_iter().map(|at| nodes[at].entry.clone()).collect())
}

/// A migration, and what it directly depends on in its own namespace.
struct Node {
    entry: Entry,
    predecessor: Option<String>,
}

/// The migrations of one namespace, whose numbers must go up one by one.
fn numbered(namespace: &Namespace<'_>) -> Result<Vec<Node>, StartError> {
    let mut nodes: Vec<Node> = Vec::with_capacity(namespace.migrations.len());
    for (before, migration) in namespace.migrations.iter().enumerate() {
        let name = format!("{}/{}", namespace.name, migration.name);
        let Some((_, number)) = place(&name) else { return Err(malformed(&name)) };
        let predecessor = nodes.last().map(|node| node.entry.name.clone());
        if number.parse() != Ok(before + 1) {
            return Err(misnumbered(&name, before + 1, predecessor.as_deref()));
        }
        nodes.push(Node { entry: Entry { name, migration: *migration }, predecessor });
    }
    Ok(nodes)
}

/// A name in the database must lead to one migration.
fn refuse_ambiguous(nodes: &[Node]) -> Result<(), StartError> {
    let mut claimed: HashMap<&str, &str> = HashMap::new();
    for Node { entry, .. } in nodes {
        for name in std::iter::once(entry.name.as_str()).chain(entry.migration.was.iter().copied()) {
            if let Some(other) = claimed.insert(name, &entry.name) {
                return Err(refused(
                    format!("Both {other} and {} say that they are or were {name}", entry.name),
                    "keep it in `was` of the one whose text was released under that name",
                ));
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum SortState {
    New,
    Open,
    Done,
}

struct Sorting<'a> {
    nodes: &'a [Node],
    places: &'a HashMap<String, usize>,
    states: Vec<SortState>,
    order: Vec<usize>,
}

impl<'a> Sorting<'a> {
    /// Puts the migration at `at` behind all that it depends on; `path` leads to it.
    fn visit(&mut self, at: usize, path: &mut Vec<&'a str>) -> Result<(), StartError> {
        let nodes = self.nodes;
        let Some(node) = nodes.get(at) else { return Ok(()) };
        let name = node.entry.name.as_str();
        match self.states[at] {
            SortState::Done => return Ok(()),
            SortState::Open => return Err(cycle(path, name)),
            SortState::New => {}
        }
        self.states[at] = SortState::Open;
        path.push(name);
        let Migration { after, .. } = node.entry.migration;
        for dependency in node.predecessor.iter().map(String::as_str).chain(after.iter().copied()) {
            let next = self.dependency(&node.entry, dependency)?;
            self.visit(next, path)?;
        }
        path.pop();
        self.states[at] = SortState::Done;
        self.order.push(at);
        Ok(())
    }

    fn dependency(&self, entry: &Entry, on: &str) -> Result<usize, StartError> {
        let Some(at) = self.places.get(on) else { return Err(self.unknown(&entry.name, on)) };
        let (mine, theirs) = (entry.place().0, self.nodes[*at].entry.place().0);
        if mine == CORE_NAME && theirs != CORE_NAME {
            return Err(refused(
                format!("Migration {} of core comes after {on}, which belongs to a module", entry.name),
                "core depends on no module: move the migration into the module's namespace",
            ));
        }
        Ok(*at)
    }

    fn unknown(&self, name: &str, on: &str) -> StartError {
        let what = format!("Migration {name} comes after {on}, which this binary does not have");
        let namespace = on.split_once('/').map_or(on, |(namespace, _)| namespace);
        let here = self.nodes.iter().any(|node| node.entry.place().0 == namespace);
        let fix = match here {
            true if namespace == CORE_NAME => {
                "take a version of erp-core that has it, or correct `after`".to_owned()
            }
            true => format!("take a version of the module {namespace} that has it, or correct `after`"),
            false => format!("name the module {namespace} in the product, or correct `after`"),
        };
        refused(what, fix)
    }
}

fn refused(what: String, fix: impl std::fmt::Display) -> StartError {
    StartError::with_fix(Exit::Internal, what, fix)
}

fn two_modules(name: &str) -> StartError {
    if name == CORE_NAME {
        let what = "A module is called core, and that namespace is taken".to_owned();
        return refused(what, "give the module another name");
    }
    let what = format!("Two modules are called {name}, which is the namespace of their migrations");
    refused(what, "name the module once in the product, or give one of them another name")
}

fn malformed(name: &str) -> StartError {
    let what = format!("The migration {name} has no number");
    refused(
        what,
        "call its file by four digits, an underscore and words in a-z, 0-9 and _, such as 0001_items.sql",
    )
}

fn misnumbered(name: &str, expected: usize, predecessor: Option<&str>) -> StartError {
    let behind =
        predecessor.map_or("is the first of its module".to_owned(), |name| format!("stands behind {name}"));
    let what = format!("Migration {name} {behind} and should have the number {expected:04}");
    refused(what, "number a module's migrations from 0001 without gaps, and list them in that order")
}

fn cycle(path: &[&str], name: &str) -> StartError {
    let from = path.iter().position(|on| *on == name).unwrap_or_default();
    let circle: Vec<&str> = path[from..].iter().copied().chain([name]).collect();
    let what = format!("Migrations wait for each other: {}", circle.join(" comes after "));
    refused(what, "take one of these out of `after`")
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use super::*;

    const fn migration(name: &'static str) -> Migration {
        Migration { name, sql: "", after: &[], was: &[] }
    }

    const fn after(name: &'static str, after: &'static [&'static str]) -> Migration {
        Migration { after, ..migration(name) }
    }

    fn module<'a>(name: &'a str, migrations: &'a [Migration]) -> Namespace<'a> {
        Namespace::of(name, migrations)
    }

    /// The order of the modules' migrations, core's left out.
    fn ordered(modules: &[Namespace<'_>]) -> Vec<String> {
        let schema = Schema::new(modules.iter().copied()).unwrap();
        let names: Vec<String> = schema.migrations().iter().map(|entry| entry.name.clone()).collect();
        let cores = names.iter().take_while(|name| name.starts_with("core/")).count();
        assert_eq!(cores, super::super::CORE.migrations.len(), "core's come first: {names:?}");
        names[cores..].to_vec()
    }

    #[test]
    fn modules_follow_in_the_order_of_the_product_and_what_is_needed_is_brought_forward() {
        let orders = [migration("0001_orders"), after("0002_lines", &["items/0002_units"])];
        let items = [migration("0001_items"), migration("0002_units"), migration("0003_prices")];
        let (orders, items) = (module("orders", &orders), module("items", &items));
        assert_eq!(
            ordered(&[orders, items]),
            [
                "orders/0001_orders",
                "items/0001_items",
                "items/0002_units",
                "orders/0002_lines",
                "items/0003_prices"
            ]
        );
        assert_eq!(
            ordered(&[items, orders]),
            [
                "items/0001_items",
                "items/0002_units",
                "items/0003_prices",
                "orders/0001_orders",
                "orders/0002_lines"
            ]
        );
    }

    /// A version of core can be asked for, so that an older one is refused and not met half-way.
    #[test]
    fn a_module_may_name_what_it_needs_of_core() {
        let newest = [after("0001_a", &["core/0004_data_rules"])];
        assert_eq!(ordered(&[module("a", &newest)]), ["a/0001_a"]);
    }

    #[test]
    fn what_cannot_be_applied_in_order_is_refused_with_what_to_do() {
        let first = [migration("0001_a")];
        let a = |migrations: &[Migration], parts: &[&str]| {
            let error = Schema::new([module("a", migrations), module("other", &first)]).err().unwrap();
            assert_eq!(error.exit, Exit::Internal);
            assert!(error.fix().is_some_and(|fix| !fix.is_empty()), "{error}");
            for part in parts {
                assert!(error.message.contains(part), "no {part:?} in {error}");
            }
        };
        a(&[migration("items")], &["a/items", "0001_items.sql"]);
        a(&[migration("0001_Items")], &["a/0001_Items", "a-z"]);
        a(&[migration("0001_")], &["has no number"]);
        a(&[migration("0002_a")], &["a/0002_a is the first of its module and should have the number 0001"]);
        a(
            &[migration("0001_a"), migration("0003_b")],
            &["a/0003_b stands behind a/0001_a", "0002", "without gaps"],
        );
        a(&[migration("0001_a"), migration("0001_b")], &["a/0001_b stands behind a/0001_a", "0002"]);
        a(&[after("0001_a", &["core/0999_x"])], &["core/0999_x", "erp-core"]);
        a(&[after("0001_a", &["other/0002_x"])], &["other/0002_x", "version of the module other"]);
        a(&[after("0001_a", &["gone/0001_x"])], &["gone/0001_x", "name the module gone in the product"]);
        a(
            &[after("0001_a", &["a/0002_b"]), migration("0002_b")],
            &["a/0001_a comes after a/0002_b comes after a/0001_a"],
        );
        a(
            &[migration("0001_a"), Migration { was: &["a/0001_a"], ..migration("0002_b") }],
            &["a/0001_a", "a/0002_b", "`was`"],
        );
    }

    #[test]
    fn a_circle_of_two_modules_is_told_in_full() {
        let one = [after("0001_a", &["two/0001_b"])];
        let two = [after("0001_b", &["one/0001_a"])];
        let error = Schema::new([module("one", &one), module("two", &two)]).err().unwrap();
        assert!(
            error.message.contains("one/0001_a comes after two/0001_b comes after one/0001_a"),
            "{error}"
        );
    }

    #[test]
    fn a_namespace_belongs_to_one_module() {
        let twice = Schema::new([module("a", &[]), module("a", &[])]).err().unwrap();
        assert!(twice.message.contains("Two modules are called a"), "{twice}");
        let core = Schema::new([module("core", &[])]).err().unwrap();
        assert!(core.message.contains("A module is called core"), "{core}");
    }

    #[test]
    fn the_migration_that_makes_a_table_is_found_in_its_text() {
        let sql = "create table public.ships (id uuid);\nCREATE TABLE IF NOT EXISTS boats(id uuid);";
        let ships = [Migration { sql, ..migration("0001_ships") }];
        let schema = Schema::new([module("fleet", &ships)]).unwrap();
        for table in ["public.ships", "public.boats"] {
            assert_eq!(schema.maker_of(table), Some("fleet/0001_ships"), "{table}");
        }
        assert_eq!(schema.maker_of("public.ship"), None);
        assert_eq!(schema.maker_of("public.audit_log"), Some("core/0002_audit"));
    }

    #[test]
    fn every_file_of_core_is_embedded() {
        let files = |folder: &str| {
            let folder = format!("{}/src/db/schema/{folder}", env!("CARGO_MANIFEST_DIR"));
            let entries = std::fs::read_dir(folder).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".sql").to_owned())
                .collect();
            names.sort();
            names
        };
        let core = super::super::CORE;
        let listed: Vec<&str> = core.migrations.iter().map(|migration| migration.name).collect();
        assert_eq!(listed, files("migrations"), "name the file in CORE");
        let mut samples: Vec<&str> = core.samples.iter().map(|sample| sample.table).collect();
        samples.sort_unstable();
        assert_eq!(samples, files("samples"), "name the file in CORE");
    }

    #[test]
    fn core_depends_on_no_module() {
        let core = [after("0001_a", &["identity/0001_people"])];
        let people = [migration("0001_people")];
        let error = order(&[module("core", &core), module("identity", &people)]).err().unwrap();
        assert!(error.message.contains("core depends on no module"), "{error}");
    }

    #[test]
    fn two_samples_of_a_table_are_refused() {
        let sample = |table| super::super::Sample { table, insert: "" };
        let (mine, theirs) = ([sample("public.a")], [sample("a")]);
        let modules = [("one", &mine), ("two", &theirs)]
            .map(|(name, samples)| Namespace { samples, ..Namespace::of(name, &[]) });
        let error = Schema::new(modules).err().unwrap();
        assert!(error.message.contains("a has two samples"), "{error}");
    }
}
