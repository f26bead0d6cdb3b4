//! `db`: each migration exactly once, whole or not at all, and never by a server in production.

use std::thread;

use erp_core::db::{Migration, Owner};
use erp_core::lifecycle::Exit;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::database::{Database, PASSWORD};
use super::http::Client;
use super::process::{Home, Process, run};

const SECRET: &str = "kX9v-2mQ7r-Tz4w_L8pYs3-Nf6b-Hd1c-Jg5a";
const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";

/// The settings of a server in production, which never migrates.
fn production(database: &Database) -> Vec<(&'static str, &str)> {
    vec![
        ("APP_ENV", "production"),
        ("JWT_SECRET", SECRET),
        ("ENCRYPTION_KEY", KEY),
        ("DATABASE_URL", &database.runtime_url),
        ("SHUTDOWN_DRAIN_DELAY", "0s"),
    ]
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
    let all: Vec<String> = erp_modules::PRODUCT.migrations.iter().map(|m| m.name.to_owned()).collect();
    applied.sort();
    assert_eq!(applied, all, "each exactly once");
    assert_eq!(database.value("select count(*) from app.migrations"), all.len().to_string());
}

#[test]
fn a_changed_migration_is_refused_by_name() {
    let database = Database::migrated("changed");
    database.run("update app.migrations set checksum = 'other' where name = '0002_audit'");
    let ended = run(&Home::new(), &["db", "migrate"], &database.both());
    assert_eq!((ended.code, ended.err.len()), (70, 1), "{ended:#?}");
    assert!(ended.err[0].contains("0002_audit") && ended.err[0].contains("restore the file"), "{ended:#?}");
    let status = run(&Home::new(), &["db", "status"], &database.both());
    assert_eq!(status.code, 1, "{status:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_migration_that_fails_midway_leaves_nothing_behind() {
    let database = tokio::task::spawn_blocking(|| Database::migrated("midway")).await.unwrap();
    let sql =
        "create table public.half_done ();\ncreate table public.gone ();\ninsert into nowhere values (1);\n";
    let mut migrations = erp_modules::PRODUCT.migrations.to_vec();
    migrations.push(Migration { name: "9999_midway", sql });
    let owner = Owner::connect(&database.owner_url.parse().unwrap(), &TaskTracker::new()).await.unwrap();
    let error = owner.migrate(&migrations, &database.app()).await.unwrap_err();
    assert_eq!(error.exit, Exit::Internal);
    for part in ["9999_midway", "rolled back", "nowhere", "(line 3)"] {
        assert!(error.message.contains(part), "no {part:?} in {error}");
    }
    let states = owner.status(&migrations).await.unwrap();
    assert_eq!(states.last().unwrap().state, "pending");
    let left = tokio::task::spawn_blocking(move || {
        database
            .value("select to_regclass('public.half_done') is null and to_regclass('public.gone') is null")
    });
    assert_eq!(left.await.unwrap(), "true");
}
