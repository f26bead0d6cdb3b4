//! `serve --rehearse` tells a deployment that will work from one that will not.

use serde_json::Value;

use super::database::Database;
use super::process::{Home, run};

#[test]
fn a_rehearsal_starts_everything_and_cuts_nothing() {
    let (home, database) = (Home::new(), Database::migrated("rehearsal"));
    let url = ("DATABASE_URL", database.runtime_url.as_str());
    let limits = [("RATE_LIMIT_MAX", "100"), ("RATE_LIMIT_WINDOW", "15m")]; // a deployment's own
    let settings = [url, ("METRICS_PORT", "9464"), limits[0], limits[1]];
    let ended = run(&home, &["serve", "--rehearse", "--json"], &settings);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    assert_eq!(report["passed"], true, "{report:#}");
    assert_eq!(report["phases"].as_array().unwrap().len(), 5);
    assert_eq!(report["load"]["cut"], 0, "{report:#}");
    assert!(report["load"]["answered"].as_u64().unwrap() > 50, "{report:#}");
    assert_eq!(report["drain"]["clean"], true);
}

#[test]
fn a_rehearsal_without_its_database_fails_as_the_start_would() {
    let home = Home::new();
    let nowhere = ("DATABASE_URL", "postgresql://erp_app:x@127.0.0.1:1/erp");
    let ended = run(&home, &["serve", "--rehearse"], &[nowhere, ("STARTUP_TIMEOUT", "1s")]);
    assert_eq!(ended.code, 69, "{ended:#?}");
}

#[test]
fn a_rehearsal_that_finds_something_says_what_and_fails() {
    let (home, database) = (Home::new(), Database::migrated("rehearsal_finds"));
    // Fewer connections than the load has clients: some are closed in their faces.
    let settings = [("DATABASE_URL", database.runtime_url.as_str()), ("MAX_CONNECTIONS", "4")];
    let ended = run(&home, &["serve", "--rehearse", "--json"], &settings);
    assert_eq!(ended.code, 1, "{ended:#?}");
    let report: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    assert_eq!(report["passed"], false, "{report:#}");
    let cut = report["load"]["cut"].as_u64().unwrap();
    let finding = format!("{cut} requests were cut");
    assert!(cut > 0 && report["findings"].as_array().unwrap().contains(&finding.into()), "{report:#}");

    let shown = run(&home, &["serve", "--rehearse"], &settings);
    assert_eq!(shown.code, 1, "{shown:#?}");
    let failed = |line: &String| line.starts_with("FAIL    ") && line.ends_with(" requests were cut");
    assert!(shown.out.iter().any(failed), "{shown:#?}");
    assert_eq!(shown.out.last().unwrap(), "The rehearsal failed.");
}

/// The settings of a deployment behind a proxy that ends TLS, which the rehearsal does not have before it.
#[test]
fn a_rehearsal_is_not_led_to_https_where_a_proxy_ends_it() {
    let (home, database) = (Home::new(), Database::migrated("rehearsal_proxy"));
    let settings = [
        ("DATABASE_URL", database.runtime_url.as_str()),
        ("FORCE_HTTPS", "true"),
        ("TRUSTED_PROXIES", "10.0.0.0/8"),
        ("PUBLIC_URL", "https://api.example.com"),
    ];
    let ended = run(&home, &["serve", "--rehearse"], &settings);
    assert_eq!(ended.code, 0, "{ended:#?}");
}
