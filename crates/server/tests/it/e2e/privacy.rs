//! The register of personal data: what the modules declare stands in the database, and what nobody has declared is found.

use serde_json::Value;

use super::database::Database;
use super::process::{Home, run};

#[test]
fn doctor_privacy_finds_columns_that_nobody_has_declared() {
    let database = Database::migrated("undeclared");
    let doctor =
        |arguments: &[&str]| run(&Home::new(), arguments, &[("DATABASE_URL", database.runtime_url.as_str())]);
    let healthy = doctor(&["doctor", "privacy"]);
    assert_eq!(healthy.code, 0, "{healthy:#?}");
    assert_eq!(healthy.out, ["Every column that looks personal is declared."]);

    // One that looks so wherever it stands, and one beside what is somebody's.
    database
        .run("alter table items add column contact_email text; alter table suppliers add column remark text");
    let found = doctor(&["doctor", "privacy"]);
    assert_eq!((found.code, found.out.len()), (1, 2), "{found:#?}");
    assert!(
        found.out[1].starts_with("public.suppliers.remark: its table holds something of a person"),
        "{found:#?}"
    );
    let json = doctor(&["doctor", "privacy", "--json"]);
    let report: Value = serde_json::from_str(&json.out.join("\n")).unwrap();
    assert_eq!((json.code, &report[0]["column"]), (1, &Value::from("contact_email")), "{report}");
}

#[test]
fn a_server_whose_register_is_not_that_of_its_modules_does_not_start() {
    let database = Database::migrated("register");
    let start = || run(&Home::new(), &[], &[("DATABASE_URL", database.runtime_url.as_str()), ("PORT", "0")]);
    database.run("delete from app.personal_data where col = 'iban'");
    let refused = start();
    assert_eq!(refused.code, 78, "{refused:#?}");
    assert!(refused.err.join("\n").contains("public.suppliers.iban is declared as personal"), "{refused:#?}");
    let migrated = run(&Home::new(), &["db", "migrate"], &database.both());
    assert_eq!(migrated.code, 0, "{migrated:#?}");
    let register = "select count(*)::text from app.personal_data where col = 'iban' and declared";
    assert_eq!(database.value(register), "1");
}

#[test]
fn the_record_of_processing_is_printed_without_a_database() {
    let printed = run(&Home::new(), &["privacy", "record"], &[]);
    assert_eq!(printed.code, 0, "{printed:#?}");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/personal-data.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(printed.out.join("\n"), page.trim_end());
}
