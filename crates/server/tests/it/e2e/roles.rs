//! `migrations/roles.sql` as operators run it, and the commands that the documentation shows for it.

use std::path::Path;
use std::process::Command;

use super::database::{Database, Session};
use super::process::{Home, path};

/// Runs psql with the file of roles as the documentation says; its exit code and what it said.
fn psql(home: &Home, url: &str, roles: &str) -> (i32, String) {
    let file = home.path().join("roles.sql");
    std::fs::write(&file, roles).unwrap();
    let mut command = Command::new("psql");
    command.args([url, "-X", "-v", "ON_ERROR_STOP=1", "-1", "-f"]).arg(&file).env_clear().env("PATH", path());
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_administrator_that_is_no_superuser_makes_the_roles() {
    let (home, shared) = (Home::new(), Database::empty("roles"));
    let (owner, app, admin) = (shared.owner(), shared.app(), format!("{}_admin", shared.owner()));
    // Roles of their own: those of the shared server belong to other tests.
    let roles = include_str!("../../../../../migrations/roles.sql");
    let roles = roles.replace("erp_owner", &format!("{owner}2")).replace("erp_app", &format!("{app}2"));
    let root = Session::open(&shared.admin_url);
    root.run(&format!("create role {admin} login createrole createdb"));
    let name = shared.value("current_database()::text");
    let as_admin = |database: &str| {
        let (scheme, rest) = shared.admin_url.split_once("://").unwrap();
        let (_, place) = rest.split_once('@').unwrap();
        format!("{scheme}://{admin}@{}/{database}", place.rsplit_once('/').unwrap().0)
    };
    Session::open(&as_admin("postgres")).run(&format!("create database {name}_made"));

    let (code, said) = psql(&home, &as_admin(&format!("{name}_made")), &roles);
    let owned =
        shared.value(&format!("select datdba::regrole from pg_database where datname = '{name}_made'"));
    let joined = shared.value(&format!(
        "select count(*) from pg_auth_members where member = '{admin}'::regrole and not admin_option"
    ));
    // What it may not give away ends with an error, an exit code, and what to do.
    root.run(&format!("create database {name}_other; "));
    root.run(&format!("grant connect on database {name}_other to {admin}"));
    let (refused, why) = psql(&home, &as_admin(&format!("{name}_other")), &roles);

    root.run(&format!("drop database {name}_made"));
    root.run(&format!("drop database {name}_other"));
    root.run(&format!("drop role if exists {admin}, {owner}2, {app}2"));
    assert_eq!((code, owned, joined), (0, format!("{owner}2"), "0".to_owned()), "{said}");
    assert!(
        refused != 0 && why.contains("cannot give database") && why.contains("CREATEDB"),
        "{refused}: {why}"
    );
}

/// All pages and files that show commands.
fn shown(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            shown(&path, all);
        } else if ["md", "sql"].contains(&kind.as_str()) {
            all.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_shown_psql_that_runs_a_file_stops_at_the_first_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = vec![("README.md".to_owned(), std::fs::read_to_string(root.join("README.md")).unwrap())];
    shown(&root.join("docs"), &mut all);
    shown(&root.join("migrations"), &mut all);
    shown(&root.join("crates"), &mut all);
    let mut found = 0;
    for (name, text) in all {
        for line in text.lines().filter(|line| line.contains("psql")) {
            let runs_a_file = [" -f ", " --file", " < "].iter().any(|option| line.contains(option));
            found += usize::from(runs_a_file);
            assert!(!runs_a_file || line.contains("ON_ERROR_STOP=1"), "{name}: {line}");
        }
    }
    assert!(found >= 2, "the guide shows how the roles are made");
}
