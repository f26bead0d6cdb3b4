//! T-01: a server whose isolation is not proven does not serve, and says what to mend.

use serde_json::Value;

use super::database::{Database, PASSWORD};
use super::process::{Ended, Home, Process, run};

/// Starts a server that must refuse, and returns what it said.
fn refused(variables: &[(&str, &str)]) -> String {
    refused_with(&[], variables)
}

fn refused_with(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let home = Home::new();
    let mut all = vec![("PORT", "0"), ("LOG_FORMAT", "json")];
    all.extend(variables);
    let ended = run(&home, arguments, &all);
    assert_eq!(ended.code, 77, "{ended:#?}");
    let said = ended.err.join("\n");
    assert!(!ended.out.iter().any(|line| line.contains("Server started")), "{ended:#?}");
    assert!(!said.contains(PASSWORD) && !ended.out.join("\n").contains(PASSWORD), "{ended:#?}");
    said
}

#[test]
fn a_superuser_or_bypassrls_role_is_refused_in_one_line() {
    let database = Database::migrated("privileged");
    let said = refused(&[("DATABASE_URL", &database.admin_url)]);
    assert!(said.contains("superuser") && said.contains("roles.sql"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    database.run(&format!("alter role {} bypassrls", database.app()));
    let said = refused(&[("DATABASE_URL", &database.runtime_url)]);
    assert!(said.contains("BYPASSRLS") && said.contains("roles.sql"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn the_owner_role_is_refused() {
    let database = Database::migrated("as_owner");
    for variables in [
        vec![("DATABASE_URL", database.owner_url.as_str())],
        vec![("DATABASE_URL", &database.owner_url), ("DATABASE_OWNER_URL", &database.owner_url)],
    ] {
        let said = refused(&variables);
        assert!(said.contains("the owner of the database") && said.contains("roles.sql"), "{said}");
    }
}

#[test]
fn a_member_of_a_privileged_role_is_refused() {
    let database = Database::migrated("member");
    for role in [database.owner(), "pg_read_all_data".to_owned()] {
        database.run(&format!("grant {role} to {}", database.app()));
        let said = refused(&[("DATABASE_URL", &database.runtime_url)]);
        let mend = format!("revoke {role} from {}", database.app());
        assert!(said.contains("T-01 role-membership") && said.contains(&mend), "{said}");
        database.run(&mend);
    }
}

#[test]
fn a_sabotaged_schema_is_refused_by_name_and_mended_by_the_fix() {
    let database = Database::migrated("sabotaged");
    let doctor = |arguments: &[&str]| -> Ended {
        run(&Home::new(), arguments, &[("DATABASE_URL", database.runtime_url.as_str())])
    };
    let healthy = doctor(&["doctor", "isolation"]);
    assert_eq!((healthy.code, healthy.err.len()), (0, 0), "{healthy:#?}");

    database.run("alter table items no force row level security");
    let said = refused(&[("DATABASE_URL", &database.runtime_url)]);
    assert!(said.contains("public.items") && said.contains("force row level security"), "{said}");

    let found = doctor(&["doctor", "isolation"]);
    assert_eq!(found.code, 1, "{found:#?}");
    let matrix = found.out.join("\n");
    assert!(matrix.contains("public.items") && matrix.contains("isolated"), "{matrix}");
    let json = doctor(&["doctor", "isolation", "--json"]);
    let report: Value = serde_json::from_str(&json.out.join("\n")).unwrap();
    assert_eq!(json.code, 1);
    assert_eq!(report["findings"][0]["object"], "public.items", "{report}");

    let fix = report["findings"][0]["fix"].as_str().unwrap();
    database.run(fix);
    assert_eq!(doctor(&["doctor", "isolation"]).code, 0, "the fix is the fix: {fix}");
}

#[test]
fn skip_health_leaves_the_checks_out_and_never_the_proof() {
    let database = Database::migrated("skip_health");
    let url = ("DATABASE_URL", database.runtime_url.as_str());
    let too_many = [url, ("PORT", "0"), ("LOG_FORMAT", "json"), ("INSTANCES", "1000")];
    for (arguments, warned) in [(&[][..], true), (&["--skip-health"], false)] {
        let server = Process::start(&Home::new(), arguments, &too_many);
        server.line("Server started");
        let ended = server.stop("TERM");
        let log = ended.out.join("\n");
        assert_eq!((ended.code, log.contains("may open")), (0, warned), "{log}");
        assert!(log.contains("Isolation proven"), "{log}");
    }
    database.run("alter table items no force row level security");
    let said = refused_with(&["--skip-health"], &[url]);
    assert!(said.contains("public.items"), "{said}");
}
