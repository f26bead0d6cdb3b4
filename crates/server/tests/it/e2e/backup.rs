//! A backup holds every tenant's rows, and what is restored serves: the guide's commands, with pg_dump and pg_restore.

use std::process::{Command, Output};

use super::database::{Database, PASSWORD, Session};
use super::http::Client;
use super::process::{Home, Process, path, run};

/// Runs one of PostgreSQL's programs.
fn tool(name: &str, arguments: &[&str]) -> Output {
    Command::new(name).args(arguments).env_clear().env("PATH", path()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_a_backup_role_dumps_is_restored_whole_and_serves() {
    let (home, database) = (Home::new(), Database::empty("dumped"));
    drop(Process::serve(&home, &database.both()));
    let items = database.value("select count(*) from items");
    assert_ne!(items, "0");
    let backup = format!("{}_backup", database.owner());
    database.run(&format!(
        "create role {backup} login bypassrls password '{PASSWORD}';
         grant pg_read_all_data to {backup}; grant connect on database {} to {backup}",
        database.name()
    ));
    let url = database.owner_url.replace(&database.owner(), &backup);
    let file = home.path().join("erp.dump");
    let file = file.to_str().unwrap();
    let dumped = tool("pg_dump", &["--format=custom", "--file", file, &url]);
    assert!(dumped.status.success(), "{}", said(&dumped));

    // The roles are there, so first come their rights in the new database, then the data.
    let restored = database.sibling("restored");
    let arguments = ["--exit-on-error", "--single-transaction", "-d", &restored.admin_url, file];
    let done = tool("pg_restore", &arguments);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(restored.value("select count(*) from items"), items);
    let heads = "select sum(seq) from audit_heads";
    assert_eq!(restored.value(heads), database.value(heads));
    let check = run(&home, &["db", "check"], &restored.both());
    assert_eq!(check.code, 0, "{check:#?}");
    let server = Process::serve(&home, &restored.both());
    let client = Client::signed_in(&server.address(), home.path());
    assert_eq!(client.create_item("AFTER-1").unwrap().status, 201);
    drop(server);
    drop(restored);
    Session::open(&database.admin_url).run(&format!("drop owned by {backup}; drop role {backup}"));
}

#[test]
fn the_owner_dumps_nothing_of_tenants_and_says_so_unless_it_is_told_to_be_silent() {
    let (home, database) = (Home::new(), Database::empty("by_owner"));
    drop(Process::serve(&home, &database.both()));
    let refused = tool("pg_dump", &["--data-only", &database.owner_url]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("row-level security"), "{}", said(&refused));
    let silent =
        tool("pg_dump", &["--data-only", "--enable-row-security", "--table=items", &database.owner_url]);
    assert!(silent.status.success(), "{}", said(&silent));
    assert!(!String::from_utf8_lossy(&silent.stdout).contains("BOLT-M8"), "the guide need not warn any more");
}
