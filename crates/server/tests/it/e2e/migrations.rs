//! `db`: each migration exactly once, whole or not at all, and never by a server in production.

use std::thread;

use erp_core::db::{Owner, State};
use erp_core::lifecycle::{Exit, StartError};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::database::{Database, PASSWORD};
use super::http::Client;
use super::migration_rules::{and_later, file, migrate};
use super::process::{Home, Process, eventually, run};

pub(super) const SECRET: &str = "kX9v-2mQ7r-Tz4w_L8pYs3-Nf6b-Hd1c-Jg5a";
pub(super) const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";

/// The settings of a server in production, which never migrates.
fn production(database: &Database) -> Vec<(&'static str, &str)> {
    vec![
        ("APP_ENV", "production"),
        ("JWT_SECRET", SECRET),
        ("ENCRYPTION_KEY", KEY),
        ("AUDIT_SIGNING_KEY", KEY),
        ("DATABASE_URL", &database.runtime_url),
        ("SHUTDOWN_DRAIN_DELAY", "0s"),
    ]
}

/// The full names of the product's migrations, in order.
fn all() -> Vec<String> {
    let schema = erp_modules::PRODUCT.schema().unwrap();
    schema.migrations().iter().map(|entry| entry.name.clone()).collect()
}

#[test]
fn production_refuses_pending_migrations_and_starts_after_db_migrate() {
    let database = Database::empty("production");
    let home = Home::new();
    let refused = run(&home, &[], &production(&database));
    assert_eq!((refused.code, refused.err.len()), (78, 1), "{refused:#?}");
    assert!(refused.err[0].contains("erp-backend db migrate"), "{refused:#?}");

    let status = run(&home, &["db", "status", "--json"], &database.both());
    assert_eq!(status.code, 1, "{status:#?}");
    let rows: Value = serde_json::from_str(&status.out.join("\n")).unwrap();
    assert!(rows.as_array().unwrap().iter().all(|row| row["state"] == "pending"), "{rows}");
    let check = run(&home, &["db", "check"], &database.both());
    assert_eq!(check.code, 1, "{check:#?}");
    assert!(check.out.iter().any(|line| line.starts_with("FAIL migrations")), "{check:#?}");

    let migrated = run(&home, &["db", "migrate", "--json"], &database.both());
    assert_eq!(migrated.code, 0, "{migrated:#?}");
    let done: Value = serde_json::from_str(&migrated.out.join("\n")).unwrap();
    assert_eq!(done["applied"].as_array().unwrap().len(), rows.as_array().unwrap().len(), "{done}");
    for arguments in [["db", "status"], ["db", "check"], ["db", "migrate"]] {
        let ended = run(&home, &arguments, &database.both());
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:#?}");
        assert!(!ended.out.join("\n").contains(PASSWORD), "{ended:#?}");
    }
    let check = run(&home, &["db", "check", "--json"], &database.both());
    assert!(serde_json::from_str::<Value>(&check.out.join("\n")).unwrap().is_array(), "{check:#?}");

    let server = Process::serve(&home, &production(&database));
    assert_eq!(Client::new(&server.address()).get("/readyz").unwrap().status, 200);
    assert_eq!(server.said_so_far(), Vec::<String>::new(), "no banner in production");
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn demo_tenants_are_refused_in_production_and_made_elsewhere() {
    let database = Database::migrated("seed");
    let home = Home::new();
    let mut variables = production(&database);
    variables.push(("DATABASE_OWNER_URL", &database.owner_url));
    let refused = run(&home, &["db", "seed"], &variables);
    assert_eq!((refused.code, refused.err.len()), (2, 1), "{refused:#?}");
    assert!(!home.path().join("demo-credentials.json").exists());

    let seeded = run(&home, &["db", "seed"], &database.both());
    assert_eq!((seeded.code, seeded.err.len()), (0, 0), "{seeded:#?}");
    assert!(home.path().join("demo-credentials.json").exists());
}

#[test]
fn s_10_four_instances_migrate_an_empty_database_once() {
    let database = Database::empty("at_once");
    let runs: Vec<_> = thread::scope(|scope| {
        let start = || run(&Home::new(), &["db", "migrate", "--json"], &database.both());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut applied: Vec<String> = Vec::new();
    for ended in &runs {
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:#?}");
        let done: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
        applied.extend(done["applied"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()));
    }
    assert_eq!(applied, all(), "each exactly once, by the one that came first");
    let rows = "select count(*) from app.migrations where name like '%/%'";
    assert_eq!(database.value(rows), all().len().to_string());
}

#[test]
fn s_10_four_servers_migrate_and_seed_an_empty_database_once() {
    let database = Database::empty("servers");
    let homes: Vec<Home> = (0..4).map(|_| Home::new()).collect();
    let servers: Vec<Process> = thread::scope(|scope| {
        let serve = |home| Process::serve(home, &database.both());
        let threads: Vec<_> = homes.iter().map(|home| scope.spawn(move || serve(home))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let seeded: Vec<&Home> =
        homes.iter().filter(|home| home.path().join("demo-credentials.json").exists()).collect();
    let [seeder] = seeded.as_slice() else { panic!("one server seeds, not {}", seeded.len()) };
    for server in &servers {
        let client = Client::signed_in(&server.address(), seeder.path());
        assert_eq!(client.get("/readyz").unwrap().status, 200);
        let items = client.get("/api/v1/items").unwrap().json();
        assert_eq!(items["items"].as_array().unwrap().len(), 3, "seeded once: {items}");
    }
    let people = "select count(*) from memberships m join auth.people u on u.id = m.user_id where u.email like '%.example'";
    assert_eq!(database.value(people), "6");
    let ended: Vec<_> = servers.into_iter().map(|server| server.stop("TERM")).collect();
    let applied = ended.iter().flat_map(|ended| &ended.out).filter(|line| line.contains("Migration applied"));
    assert_eq!(applied.count(), all().len(), "each exactly once");
    let told = ended.iter().filter(|ended| ended.err.iter().any(|line| line.contains("db seed")));
    assert_eq!(told.count(), 3, "who has no passwords says how to get some: {ended:#?}");
}

#[test]
fn passwords_stay_until_new_ones_are_asked_for() {
    let database = Database::empty("passwords");
    let (first, second) = (Home::new(), Home::new());
    let server = Process::serve(&first, &database.both());
    let later = Process::serve(&second, &database.both());
    Client::signed_in(&later.address(), first.path());
    later.line("another DATA_DIR");
    assert!(!second.path().join("demo-credentials.json").exists());

    let seeded = run(&second, &["db", "seed"], &database.both());
    assert_eq!(seeded.code, 0, "{seeded:#?}");
    Client::signed_in(&server.address(), second.path());
    assert_eq!(database.value("select count(*) from tenants where slug in ('acme', 'globex')"), "2");

    // A tenant that is missing is made; the others keep their passwords.
    let read = || std::fs::read_to_string(second.path().join("demo-credentials.json")).unwrap();
    let before: Value = serde_json::from_str(&read()).unwrap();
    database.run("update tenants set slug = 'renamed' where slug = 'globex'");
    drop(later);
    drop(Process::serve(&second, &database.both()));
    let after: Value = serde_json::from_str(&read()).unwrap();
    assert_eq!((&after[0], after.as_array().unwrap().len()), (&before[0], 6));
    assert_ne!(after[1], before[1]);
}

#[test]
fn a_changed_migration_is_refused_by_name() {
    let database = Database::migrated("changed");
    database.run("update app.migrations set checksum = 'other' where name = 'core/0002_audit'");
    for (arguments, code) in [(&["db", "migrate"][..], 70), (&[], 70)] {
        let ended = run(&Home::new(), arguments, &database.both());
        assert_eq!((ended.code, ended.err.len()), (code, 1), "{ended:#?}");
        assert!(
            ended.err[0].contains("core/0002_audit") && ended.err[0].contains("restore the file"),
            "{ended:#?}"
        );
    }
    let production = run(&Home::new(), &[], &production(&database));
    assert_eq!((production.code, production.err.len()), (70, 1), "{production:#?}");
    assert!(production.err[0].contains("core/0002_audit"), "{production:#?}");
    let status = run(&Home::new(), &["db", "status"], &database.both());
    assert_eq!(status.code, 1, "{status:#?}");
    let check = run(&Home::new(), &["db", "check"], &database.both());
    assert_eq!(check.code, 1, "{check:#?}");
    let failed = check.out.iter().find(|line| line.starts_with("FAIL migrations"));
    assert!(failed.is_some_and(|line| line.contains("core/0002_audit")), "{check:#?}");
}

/// What a later version of the product would add to its migrations; says how applying them ended.
fn migrate_as_later_version(database: &Database, sql: &'static str) -> Result<(), StartError> {
    migrate(database, &and_later(&[file("0001_later", sql)])).map(drop)
}

#[test]
fn s_10_a_migration_that_fails_leaves_the_old_version_serving() {
    let (home, database) = (Home::new(), Database::empty("later_fails"));
    let server = Process::serve(&home, &database.both());
    let client = Client::signed_in(&server.address(), home.path());
    let sql = "alter table items add column weight int;\nselect 1 / 0;\n";
    let error = migrate_as_later_version(&database, sql).unwrap_err();
    assert_eq!(error.exit, Exit::Internal);
    for (path, status) in [("/readyz", 200), ("/api/v1/items", 200)] {
        assert_eq!(client.get(path).unwrap().status, status, "{path}");
    }
    assert_eq!(client.create_item("AFTER-1").unwrap().status, 201);
    let column =
        "select count(*) from pg_attribute where attrelid = 'items'::regclass and attname = 'weight'";
    assert_eq!(database.value(column), "0", "nothing of it is left");
    let another = Process::serve(&Home::new(), &production(&database));
    assert_eq!(
        Client::new(&another.address()).get("/readyz").unwrap().status,
        200,
        "nor in a new start's way"
    );
}

#[test]
fn s_10_the_version_before_runs_on_the_schema_after() {
    let (home, database) = (Home::new(), Database::empty("later"));
    let server = Process::serve(&home, &database.both());
    let client = Client::signed_in(&server.address(), home.path());
    assert_eq!(client.get("/api/v1/items").unwrap().status, 200, "its statements are prepared");
    let sql = "alter table items add column weight int;
        create table public.orders (id uuid not null, note text not null default '');
        select app.tenant_table('public.orders', audit_as => 'order', why => 'what a later version sells');";
    migrate_as_later_version(&database, sql).unwrap();
    let serves = |client: &Client, sku: &str| {
        for path in ["/readyz", "/api/v1/items"] {
            let answer = client.get(path).unwrap();
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
        assert_eq!(client.create_item(sku).unwrap().status, 201);
    };
    let proved_at = || {
        let metrics = client.get("/metrics").unwrap().body;
        let line = metrics.lines().find(|line| line.starts_with("isolation_proof_timestamp_seconds "));
        line.unwrap().to_owned()
    };
    let before = proved_at();
    let monitor = format!("usename = '{}' and query = '' and query_start is not null", database.app());
    let end = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where {monitor}");
    eventually("the monitor has asked over its connection", || database.value(&end) != "0");
    eventually("the isolation is proven again", || proved_at() != before);
    serves(&client, "AHEAD-1");
    let another = Process::serve(&Home::new(), &production(&database));
    serves(&Client::signed_in(&another.address(), home.path()), "AHEAD-2");
    for arguments in [["db", "status"], ["db", "check"]] {
        let ended = run(&Home::new(), &arguments, &database.both());
        assert_eq!(ended.code, 0, "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_migration_that_fails_midway_leaves_nothing_behind() {
    let database = tokio::task::spawn_blocking(|| Database::migrated("midway")).await.unwrap();
    let sql =
        "create table public.half_done ();\ncreate table public.gone ();\ninsert into nowhere values (1);\n";
    let schema = and_later(&[file("0001_midway", sql)]);
    let owner = Owner::connect(&database.owner_url.parse().unwrap(), &TaskTracker::new()).await.unwrap();
    let error = owner.migrate(&schema, &database.logins()).await.unwrap_err();
    assert_eq!(error.exit, Exit::Internal);
    for part in ["later/0001_midway", "rolled back", "nowhere", "(line 3)"] {
        assert!(error.message.contains(part), "no {part:?} in {error}");
    }
    let states = owner.status(&schema).await.unwrap();
    assert_eq!(states.last().unwrap().state, State::Pending);
    let left = tokio::task::spawn_blocking(move || {
        database
            .value("select to_regclass('public.half_done') is null and to_regclass('public.gone') is null")
    });
    assert_eq!(left.await.unwrap(), "true");
}

/// Managed databases limit the time of a role's statements, and other programs have identifiers quoted: a migration takes
/// the time that it takes, and the registry holds names as they are.
#[test]
fn a_migration_does_not_mind_what_its_role_has_set() {
    let database = Database::empty("settings");
    for setting in ["statement_timeout = '20ms'", "quote_all_identifiers = on"] {
        database.run(&format!("alter role {} set {setting}", database.owner()));
    }
    let ended = run(&Home::new(), &["db", "migrate"], &database.both());
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.out.iter().any(|line| line.contains("isolation proven")), "{ended:#?}");
    assert_eq!(database.value("select count(*) from app.relations where relation like '%\"%'"), "0");
}
