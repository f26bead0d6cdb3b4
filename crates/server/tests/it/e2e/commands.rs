//! The verbs that look and change nothing, and where each kind of text goes.

use serde_json::Value;

use super::http::Client;
use super::process::{Home, Process, run};

#[test]
fn help_and_version_go_to_stdout() {
    let home = Home::new();
    let help = run(&home, &["--help"], &[]);
    assert_eq!((help.code, help.err.len()), (0, 0), "{help:#?}");
    let text = help.out.join("\n");
    for part in ["--port", "--data-dir", "--jwt-secret-file", "--skip-health", "--json", "Exit codes:", "78"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("--jwt-secret "), "a secret on the command line shows in the list of processes");
    let version = run(&home, &["--version"], &[]);
    assert_eq!((version.code, version.out.len()), (0, 1), "{version:#?}");
    assert!(version.out[0].contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_flag_or_verb_is_a_usage_error() {
    let home = Home::new();
    for arguments in [&["--prot", "3001"][..], &["sevre"], &["db", "migrat"], &["db"]] {
        let ended = run(&home, arguments, &[]);
        assert_eq!((ended.code, ended.out.len()), (2, 0), "{arguments:?}: {ended:#?}");
        assert!(!ended.err.is_empty());
    }
    let hint = run(&home, &["--prot", "3001"], &[]).err.join("\n");
    assert!(hint.contains("--port"), "{hint}");
}

#[test]
fn config_is_checked_and_explained_without_connecting() {
    let home = Home::new();
    let secret = "pgpassword-that-is-masked";
    let url = format!("postgresql://erp_app:{secret}@127.0.0.1:1/erp");
    let variables = [("DATABASE_URL", url.as_str()), ("PORT", "4321")];
    for arguments in [&["config", "check"][..], &["--check-config"], &["config", "check", "--json"]] {
        let ended = run(&home, arguments, &variables);
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:#?}");
    }
    let explained = run(&home, &["config", "explain"], &variables);
    assert_eq!(explained.code, 0);
    let text = explained.out.join("\n");
    assert!(text.contains("PORT = 4321") && text.contains("DATABASE_URL = "), "{text}");
    assert!(!text.contains(secret), "{text}");
    let json = run(&home, &["config", "explain", "--json"], &variables).out.join("\n");
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert!(rows.as_array().is_some_and(|rows| rows.iter().any(|row| row["name"] == "PORT")), "{rows}");
    assert!(!json.contains(secret), "{json}");
}

#[test]
fn healthcheck_tells_ready_from_unready_from_absent() {
    let home = Home::new();
    let server = Process::serve(&home, &[("SHUTDOWN_DRAIN_DELAY", "2s")]);
    let address = server.address();
    let port = address.rsplit_once(':').unwrap().1;
    assert_eq!(run(&home, &["healthcheck"], &[("PORT", port)]).code, 0);

    // While it drains it still answers, and wants no new work (S-02).
    server.signal("TERM");
    server.line("Stopping");
    let draining = run(&home, &["healthcheck"], &[("PORT", port)]);
    assert_eq!((draining.code, draining.err.len()), (1, 1), "{draining:#?}");
    assert_eq!(Client::new(&address).get("/livez").unwrap().status, 200);
    assert_eq!(Client::new(&address).get("/health").unwrap().status, 503);

    assert_eq!(server.wait().code, 0);
    let absent = run(&home, &["healthcheck"], &[("PORT", port)]);
    assert_eq!((absent.code, absent.err.len()), (69, 1), "{absent:#?}");
    assert!(absent.err[0].contains(port), "{absent:#?}");
}
