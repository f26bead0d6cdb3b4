//! A database of before, whose migrations stood in one list, goes on under the names of today: nothing is applied twice,
//! and the version before still finds its own.

use std::process::Command;
use std::thread;

use erp_core::db::{Migration, Schema, State};
use serde_json::Value;

use super::clients::finish;
use super::database::Database;
use super::migration_rules::{and_later, file, migrate, status};
use super::migrations::{KEY, SECRET};
use super::one_list::{self, RELEASED};
use super::process::{Home, Process, run};

const ALL: usize = RELEASED.len();

/// The rows of the table of migrations, as the version before reads them.
fn rows(database: &Database) -> Vec<String> {
    let all =
        database.value("select string_agg(name || ' ' || checksum, ',' order by name) from app.migrations");
    all.split(',').map(str::to_owned).collect()
}

/// What the version before asks at its start: whether all that it knows was applied, from the same text.
fn is_whole_to_the_version_before(database: &Database) -> bool {
    let rows = rows(database);
    RELEASED.iter().all(|(name, checksum)| rows.contains(&format!("{name} {checksum}")))
}

#[test]
fn a_database_of_the_one_list_is_carried_over_once_by_instances_that_start_at_once() {
    let database = Database::empty("one_list");
    one_list::migrate(&database, ALL);
    let at = "select string_agg(applied_at::text, ' ' order by name) from app.migrations where name < '0009'";
    let times = database.value(at);
    let runs: Vec<_> = thread::scope(|scope| {
        let start = || run(&Home::new(), &["db", "migrate", "--json"], &database.both());
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut carried = Vec::new();
    for ended in &runs {
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:#?}");
        let done: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
        carried.extend(
            done["carriedOver"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()),
        );
    }
    let now: Vec<String> = RELEASED.iter().map(|(name, _)| one_list::now(name).name).collect();
    carried.sort();
    let sorted = {
        let mut now = now.clone();
        now.sort();
        now
    };
    assert_eq!(carried, sorted, "each once, by one of the three");
    assert_eq!(database.value(at), times, "the former rows stay as they are");
    let same_time = "select count(distinct applied_at) from app.migrations where name in ('0004_catalog', 'catalog/0001_items')";
    assert_eq!(database.value(same_time), "1");
    assert!(is_whole_to_the_version_before(&database));
    let ended = run(&Home::new(), &["db", "status"], &database.both());
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.out.iter().all(|line| line.contains(" applied at ")), "{ended:#?}");
}

/// A server that may not migrate starts on it as it is, and a dry run says what `db migrate` will do.
#[test]
fn before_it_is_carried_over_it_counts_as_applied() {
    let (home, database) = (Home::new(), Database::empty("one_list_as_is"));
    one_list::migrate(&database, ALL);
    let dry = run(&home, &["db", "migrate", "--dry-run"], &database.both());
    assert_eq!(dry.code, 0, "{dry:#?}");
    assert!(
        dry.out[0].starts_with("Would carry over from their former names: core/0001_tenancy, "),
        "{dry:#?}"
    );
    assert!(dry.out[0].contains(". Would apply core/0005_record_rules"), "{dry:#?}");
    let dry = run(&home, &["db", "migrate", "--dry-run", "--json"], &database.both());
    let would: Value = serde_json::from_str(&dry.out.join("\n")).unwrap();
    assert_eq!(would["carriedOver"].as_array().unwrap().len(), ALL, "{would}");
    assert_eq!(would["pending"][0], "core/0005_record_rules");
    assert_eq!(rows(&database).len(), ALL, "a dry run changes nothing");

    assert_eq!(run(&home, &["db", "migrate"], &database.both()).code, 0);
    let carried = RELEASED.map(|(name, _)| format!("'{}'", one_list::now(name).name)).join(", ");
    database.run(&format!("delete from app.migrations where name in ({carried})"));
    let status = run(&home, &["db", "status"], &database.both());
    assert_eq!(status.code, 0, "{status:#?}");
    let line = status.out.iter().find(|line| line.starts_with("catalog/0001_items")).unwrap();
    assert!(line.contains("applied as 0004_catalog at "), "{line}");
    let checked = run(&home, &["db", "check"], &database.both());
    assert_eq!(checked.code, 0, "{checked:#?}");
    let dry = run(&home, &["db", "migrate", "--dry-run"], &database.both());
    assert!(dry.out[0].ends_with(" Nothing was pending."), "{dry:#?}");
    let keys = [("JWT_SECRET", SECRET), ("ENCRYPTION_KEY", KEY), ("AUDIT_SIGNING_KEY", KEY)];
    let production = [&database.both()[..1], &[("APP_ENV", "staging")], &keys];
    drop(Process::serve(&home, &production.concat()));
}

/// Half-way through the list: what is missing is applied in today's order.
#[test]
fn a_database_that_stopped_half_way_through_the_list_goes_on() {
    for count in 1..ALL {
        let database = Database::empty(&format!("one_list_{count}"));
        one_list::migrate(&database, count);
        let migrated = run(&Home::new(), &["db", "migrate", "--json"], &database.both());
        assert_eq!(migrated.code, 0, "{count}: {migrated:#?}");
        let done: Value = serde_json::from_str(&migrated.out.join("\n")).unwrap();
        assert_eq!(done["carriedOver"].as_array().unwrap().len(), count, "{done}");
        assert!(is_whole_to_the_version_before(&database), "{count}");
    }
}

/// A rolling deployment goes back and forth between two versions, and a test environment is made by the newer one.
#[test]
fn the_version_before_finds_its_own_in_a_database_of_today() {
    let database = Database::migrated("one_list_fresh");
    assert!(is_whole_to_the_version_before(&database));
}

/// Both orders lead to the same tables, constraints, functions and grants.
#[test]
fn a_fresh_database_and_one_that_was_carried_over_are_the_same() {
    let database = Database::empty("one_list_same");
    one_list::migrate(&database, ALL);
    let fresh = database.sibling("fresh");
    for both in [database.both(), fresh.both()] {
        assert_eq!(run(&Home::new(), &["db", "migrate"], &both).code, 0);
    }
    let dump = |url: &str| {
        let dumped = finish(Command::new("pg_dump").args(["--schema-only", "--dbname", url]));
        assert!(dumped.status.success(), "{dumped:?}");
        let text = String::from_utf8(dumped.stdout).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with("\\") && !line.starts_with("--"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(dump(&database.admin_url), dump(&fresh.admin_url));
}

#[test]
fn an_edited_text_is_refused_under_its_former_name_too() {
    let database = Database::empty("one_list_edited");
    one_list::migrate(&database, ALL);
    database.run("update app.migrations set checksum = 'other' where name = '0004_catalog'");
    let ended = run(&Home::new(), &["db", "migrate"], &database.both());
    assert_eq!(ended.code, 70, "{ended:#?}");
    for part in ["catalog/0001_items", "as 0004_catalog", "restore the file"] {
        assert!(ended.err[0].contains(part), "{part}: {ended:#?}");
    }
    assert_eq!(rows(&database).len(), ALL, "nothing was carried over");
}

/// A team's own table, made by a migration of the one list, which has a module's name now.
const SHIPS: &str = "create table public.ships (id uuid not null); select app.tenant_table('public.ships', audit_as => 'ship');";

fn applied_in_the_one_list(database: &Database, name: &str, migration: &Migration) {
    database.run(&format!(
        "set role {}; set app.runtime_role = '{}'; {}",
        database.owner(),
        database.app(),
        migration.sql
    ));
    database.run(&format!(
        "insert into app.migrations (name, checksum) values ('{name}', '{}')",
        migration.checksum()
    ));
}

#[test]
fn a_teams_own_migration_is_carried_over_by_what_it_says_that_it_was() {
    let database = Database::empty("one_list_team");
    one_list::migrate(&database, ALL);
    let silent = file("0001_ships", SHIPS);
    applied_in_the_one_list(&database, "0009_ships", &silent);
    let refused = migrate(&database, &and_later(&[silent])).unwrap_err();
    for part in ["0009_ships", "was [\"0009_ships\"]"] {
        assert!(refused.message.contains(part), "{part}: {refused}");
    }
    let told = Migration { was: &["0009_ships"], ..silent };
    let more = file("0002_more", "alter table public.ships add column name text;");
    let migrated = migrate(&database, &and_later(&[told, more])).unwrap();
    assert_eq!(migrated.applied.last().unwrap(), "later/0002_more");
    assert!(!migrated.applied.contains(&"later/0001_ships".to_owned()), "{migrated:?}");
    assert_eq!(migrated.carried_over.len(), ALL + 1);
}

/// The same for a module that gets another name.
#[test]
fn a_renamed_module_keeps_its_migrations() {
    let database = Database::migrated("renamed_module");
    migrate(&database, &and_later(&[file("0001_ships", SHIPS)])).unwrap();
    let renamed = Migration { was: &["later/0001_ships"], ..file("0001_ships", SHIPS) };
    let fleet = |migrations: &[Migration]| {
        let fleet = erp_core::db::Namespace::of("fleet", migrations);
        Schema::new(erp_modules::PRODUCT.namespaces().chain([fleet])).unwrap()
    };
    let silent = migrate(&database, &fleet(&[file("0001_ships", SHIPS)])).unwrap_err();
    assert!(silent.message.contains("fleet/0001_ships failed"), "{silent}");
    let migrated = migrate(&database, &fleet(&[renamed])).unwrap();
    assert_eq!((migrated.applied, migrated.carried_over), (vec![], vec!["fleet/0001_ships".to_owned()]));
}

/// Upstream's next migration comes after a team's own were applied, and both are fine with it.
#[test]
fn the_next_one_of_another_module_is_applied_after_later_ones_of_ones_own() {
    let database = Database::migrated("interleaved");
    let team =
        [file("0001_ships", SHIPS), file("0002_more", "alter table public.ships add column name text;")];
    let upstream = [file("0001_first", "select 1;"), file("0002_next", "select 2;")];
    let schema = |upstream: &[Migration], team: &[Migration]| {
        let namespace = |(name, migrations)| erp_core::db::Namespace::of(name, migrations);
        let modules = [("upstream", upstream), ("team", team)].map(namespace);
        Schema::new(erp_modules::PRODUCT.namespaces().chain(modules)).unwrap()
    };
    migrate(&database, &schema(&upstream[..1], &team[..1])).unwrap();
    let migrated = migrate(&database, &schema(&upstream, &team)).unwrap();
    assert_eq!(migrated.applied, ["upstream/0002_next", "team/0002_more"]);
}

#[test]
fn a_module_that_is_gone_is_told_and_its_tables_stay_proven() {
    let (home, database) = (Home::new(), Database::migrated("gone_module"));
    migrate(&database, &and_later(&[file("0001_ships", SHIPS)])).unwrap();
    let status = run(&home, &["db", "status"], &database.both());
    assert_eq!(status.code, 0, "{status:#?}");
    let told = |line: &&String| line.starts_with("later/0001_ships") && line.contains("unclaimed");
    assert!(status.out.iter().any(|line| told(&line)), "{status:#?}");
    let server = Process::serve(&home, &[&database.both()[..], &[("LOG_FORMAT", "json")]].concat());
    let log = server.stop("TERM").out.join("\n");
    assert!(log.contains("no module of this binary claims") && log.contains("later/0001_ships"), "{log}");
    assert!(log.contains("Isolation proven"), "{log}");
}

#[test]
fn what_stands_at_another_place_than_it_was_applied_is_refused() {
    let database = Database::migrated("places");
    let (one, two) = (file("0001_one", "select 1;"), file("0002_two", "select 2;"));
    migrate(&database, &and_later(&[one, two])).unwrap();
    let other = migrate(&database, &and_later(&[one, file("0002_other", "select 3;")])).unwrap_err();
    for part in ["later/0002_two was applied", "another one of that number", "was [\"later/0002_two\"]"] {
        assert!(other.message.contains(part), "{part}: {other}");
    }
    let newer = status(&database, &and_later(&[one]));
    assert_eq!(newer.last().map(|row| (&*row.name, row.state)), Some(("later/0002_two", State::Ahead)));
    database.run("delete from app.migrations where name = 'later/0001_one'");
    let late = migrate(&database, &and_later(&[one, two])).unwrap_err();
    assert!(late.message.contains("later/0001_one is not applied, and a later one"), "{late}");
}
