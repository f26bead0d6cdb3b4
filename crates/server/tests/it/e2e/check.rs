//! `db check`: every step that can fail does so by its name, with a fix, and nothing that rests on it is tried.

use serde_json::Value;

use super::database::{Database, PASSWORD};
use super::process::{Home, run};

/// The steps of a check with these settings, the last of which failed.
fn failed(variables: &[(&str, &str)], name: &str, fix: &str) -> Vec<Value> {
    let home = Home::new();
    let ended = run(&home, &["db", "check", "--json"], variables);
    assert_eq!((ended.code, ended.err.len()), (1, 0), "{name}: {ended:#?}");
    let text = ended.out.join("\n");
    assert!(!text.contains(PASSWORD), "{text}");
    let steps: Vec<Value> = serde_json::from_str(&text).unwrap();
    let step = steps.iter().find(|step| step["passed"] == false).unwrap();
    assert_eq!(step["name"], name, "{text}");
    assert!(step["fix"].as_str().is_some_and(|text| text.contains(fix)), "no {fix:?} in {step}");
    let shown = run(&home, &["db", "check"], variables).out.join("\n");
    assert!(shown.contains(&format!("FAIL {name}")) && shown.contains("fix: "), "{shown}");
    steps
}

fn names(steps: &[Value]) -> Vec<&str> {
    steps.iter().filter_map(|step| step["name"].as_str()).collect()
}

#[test]
fn a_url_an_address_and_a_credential_fail_each_by_its_name() {
    let database = Database::empty("check_reach");
    let url = &database.runtime_url;
    let missing = format!("{url}_that_is_missing");
    let nowhere = format!("postgresql://erp_app:{PASSWORD}@127.0.0.1:1/erp");
    failed(&[("DATABASE_URL", "mysql://u@h/d")], "url", "postgresql://user");
    failed(&[("DATABASE_URL", &format!("{url}?sslmode=verify-ca&sslrootcert=%2Fnone"))], "url", "correct");
    let steps = failed(&[("DATABASE_URL", &nowhere)], "address", "host and port");
    assert_eq!(names(&steps), ["url", "address"]);
    let steps = failed(&[("DATABASE_URL", &missing)], "database", "create it");
    assert_eq!(names(&steps), ["url", "address", "tls", "credentials", "database"]);
}

#[test]
fn privileges_migrations_and_isolation_fail_each_by_its_name() {
    let database = Database::empty("check_rest");
    let runtime = [("DATABASE_URL", database.runtime_url.as_str())];
    failed(&[("DATABASE_URL", &database.admin_url)], "privileges", "migrations/roles.sql");
    let steps = failed(&runtime, "migrations", "erp-backend db migrate");
    assert!(!names(&steps).contains(&"isolation"), "{steps:?}");

    assert_eq!(run(&Home::new(), &["db", "migrate"], &database.both()).code, 0);
    let ended = run(&Home::new(), &["db", "check", "--json"], &runtime);
    let steps: Vec<Value> = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let all = [
        "url",
        "address",
        "tls",
        "credentials",
        "database",
        "session",
        "privileges",
        "system",
        "version",
        "encoding",
        "connections",
        "migrations",
        "isolation",
        "search",
    ];
    assert_eq!((ended.code, names(&steps)), (0, all.to_vec()), "{ended:#?}");
    let applied = format!("{} applied", erp_modules::PRODUCT.schema().unwrap().migrations().len());
    let step = steps.iter().find(|step| step["name"] == "migrations").unwrap();
    assert_eq!(step["detail"], applied, "{step}");
    let warned = run(&Home::new(), &["db", "check"], &[runtime[0], ("INSTANCES", "1000")]);
    assert!(warned.out.iter().any(|line| line.starts_with("warn connections")), "{warned:#?}");

    database.run("alter table items no force row level security");
    failed(&runtime, "isolation", "doctor isolation");
    database.run("update app.migrations set checksum = 'other' where name = 'catalog/0003_items_counted'");
    let steps = failed(&runtime, "migrations", "restore the file");
    assert!(!names(&steps).contains(&"isolation"), "{steps:?}");

    // A binary newer than the schema: what is pending is named, and nothing else.
    database.run("delete from app.migrations where name in ('catalog/0003_items_counted')");
    let steps = failed(&runtime, "migrations", "erp-backend db migrate");
    assert_eq!(steps.last().unwrap()["detail"], "pending: catalog/0003_items_counted", "{steps:?}");
}

/// Each command that reads the settings, at its most talkative.
const COMMANDS: [&[&str]; 11] = [
    &[],
    &["serve", "--rehearse"],
    &["config", "check"],
    &["config", "check", "--json"],
    &["config", "explain"],
    &["db", "check"],
    &["db", "check", "--json"],
    &["db", "migrate"],
    &["db", "status"],
    &["db", "seed"],
    &["doctor", "isolation"],
];

#[test]
fn no_command_prints_a_part_of_a_password_with_a_mark_in_it() {
    let home = Home::new();
    for url in [
        "postgresql://erp_app:hun@ter2@localhost:5432/erp",
        "postgresql://erp_app:hun?ter2@localhost:5432/erp?sslmode=require",
        "postgresql://erp_app:hun/ter2@localhost:5432/erp",
        "postgresql://erp_app:hun#ter2@localhost:5432/erp",
        "postgresql://erp_app@localhost:5432/erp?password=hun&ter2=",
        "jdbc:postgresql://localhost/erp?user=erp_app&password=hunter2",
    ] {
        for name in ["DATABASE_URL", "DATABASE_OWNER_URL"] {
            let variables = [(name, url), ("LOG_LEVEL", "debug"), ("PORT", "0")];
            for command in COMMANDS {
                let ended = run(&home, command, &variables);
                let said = [ended.out, ended.err].concat().join("\n");
                assert!(ended.code != 0 || command == ["config", "explain"], "{command:?} {url}: {said}");
                for part in ["hun", "ter2"] {
                    assert!(!said.contains(part), "{command:?} shows {part} of {name}={url}: {said}");
                }
            }
        }
    }
}
