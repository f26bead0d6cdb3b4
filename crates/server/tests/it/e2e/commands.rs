//! The verbs that look and change nothing, and where each kind of text goes.

use std::collections::BTreeSet;
use std::fs;

use erp_core::config::Setting;
use erp_core::factory::settings;
use serde_json::Value;

use super::database::Database;
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

/// The settings of the whole product.
fn all() -> Vec<&'static Setting> {
    settings(&erp_modules::PRODUCT).rows().collect()
}

/// The flag of a setting: a secret's names a file, since its value would show in the list of processes.
fn flag(setting: &Setting) -> String {
    let name = setting.file_name().unwrap_or_else(|| setting.name.to_owned());
    format!("--{}", name.to_lowercase().replace('_', "-"))
}

#[test]
fn help_has_a_flag_for_every_setting_with_its_meaning_and_no_other() {
    let help = run(&Home::new(), &["--help"], &[]);
    // One line, however it is broken for the terminal.
    let text = help.out.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in all() {
        let words = setting.default.words().unwrap_or_else(|| "none".to_owned());
        let about = if setting.secret {
            format!("{} <PATH> File that holds {}. {}", flag(setting), setting.name, setting.doc())
        } else {
            format!(
                "{} <VALUE> {} [{}; default {words}]",
                flag(setting),
                setting.doc(),
                setting.expectation()
            )
        };
        assert!(text.contains(&about), "no {about:?} in {text}");
    }
    let general = ["--json", "--skip-health", "--check-config", "--env-file", "--help", "--version"];
    let known = all().into_iter().map(flag).chain(general.map(str::to_owned)).collect::<BTreeSet<_>>();
    let first =
        |line: &String| line.split_whitespace().find(|word| word.starts_with("--")).map(str::to_owned);
    let options = help.out.iter().filter(|line| line.trim_start().starts_with('-'));
    assert_eq!(options.filter_map(first).collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_flag_overrides_the_environment_before_the_verb_and_after_it() {
    let home = Home::new();
    fs::write(home.path().join("secret"), "what-the-flag's-file-holds").unwrap();
    // Values are not checked here, so that each setting can have a text of its own.
    let values = all()
        .into_iter()
        .map(|setting| if setting.secret { "secret".to_owned() } else { format!("flag's {}", setting.name) });
    let flags = all().into_iter().zip(values).flat_map(|(setting, value)| [flag(setting), value]);
    let flags = flags.collect::<Vec<_>>();
    let variables = all().into_iter().map(|setting| (setting.name, "environment's")).collect::<Vec<_>>();
    let verb = ["config", "explain", "--json"].map(str::to_owned);
    for arguments in [[&flags[..], &verb].concat(), [&verb, &flags[..]].concat()] {
        let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
        let ended = run(&home, &arguments, &variables);
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:#?}");
        let text = ended.out.join("\n");
        assert!(!text.contains("environment's") && !text.contains("file-holds"), "{text}");
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.len(), all().len());
        for (row, setting) in rows.iter().zip(all()) {
            let (value, source) = match setting.file_name() {
                Some(file) => ("[secret]".to_owned(), format!("flag ({file})")),
                None => (format!("flag's {}", setting.name), "flag".to_owned()),
            };
            assert_eq!(row["name"], setting.name);
            assert_eq!(
                (row["value"].as_str(), row["source"].as_str()),
                (Some(&*value), Some(&*source)),
                "{row}"
            );
        }
    }
}

#[test]
fn no_secret_is_taken_from_the_command_line() {
    let home = Home::new();
    for setting in all().into_iter().filter(|setting| setting.secret) {
        let own = format!("--{}", setting.name.to_lowercase().replace('_', "-"));
        let ended = run(&home, &["config", "explain", &own, "never-to-be-shown"], &[]);
        assert_eq!((ended.code, ended.out.len()), (2, 0), "{own}: {ended:#?}");
        assert!(!ended.err.join("\n").contains("never-to-be-shown"), "{ended:#?}");
    }
}

#[test]
fn healthcheck_tells_ready_from_unready_from_absent() {
    let home = Home::new();
    let database = Database::migrated("healthcheck");
    let server =
        Process::serve(&home, &[("SHUTDOWN_DRAIN_DELAY", "2s"), ("DATABASE_URL", &database.runtime_url)]);
    let address = server.address();
    let port = address.rsplit_once(':').unwrap().1;
    assert_eq!(run(&home, &["healthcheck"], &[("PORT", port)]).code, 0);
    let told = run(&home, &["healthcheck", "--json"], &[("PORT", port)]);
    let answer: Value = serde_json::from_str(&told.out.join("\n")).unwrap();
    assert_eq!((told.code, answer), (0, serde_json::json!({ "ready": true, "error": null })));

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
