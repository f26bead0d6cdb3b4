//! C-06, O-02: secrets come from files, and are seen nowhere: not among processes, not in the log, not in any output.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use erp_core::config::{SETTINGS, Setting};

use super::database::{Database, PASSWORD};
use super::http::Client;
use super::process::{Home, Process, run};

const KEY: &str = "q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd0Fg_unseen";
const ENCRYPTION_KEY: &str = "unseenABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGh8=";

/// A value that the setting accepts, and that nothing else in any output could look like.
fn value(setting: &Setting, database: &Database) -> String {
    match setting.name {
        "DATABASE_URL" => database.runtime_url.clone(),
        "DATABASE_SYSTEM_URL" => database.system_url(),
        "DATABASE_OWNER_URL" => database.owner_url.clone(),
        "AUDIT_SIGNING_KEY" | "AUDIT_SIGNING_KEY_PREVIOUS" => ENCRYPTION_KEY.to_owned(),
        name if name.starts_with("ENCRYPTION_KEY") => ENCRYPTION_KEY.to_owned(),
        "REDIS_URL" => format!("redis://:{PASSWORD}@127.0.0.1:1/0"),
        _ => format!("{KEY}_{}", setting.name.to_lowercase()),
    }
}

fn unseen(what: &str, text: &str) {
    for secret in [PASSWORD, KEY, ENCRYPTION_KEY] {
        assert!(!text.contains(secret), "{what} holds a secret: {text}");
    }
}

#[test]
fn c_06_secrets_come_from_files_and_are_seen_nowhere() {
    let (home, database) = (Home::new(), Database::migrated("secrets"));
    let mut variables = vec![("LOG_LEVEL".to_owned(), "debug".to_owned())];
    let mut flags = Vec::new();
    for (number, setting) in SETTINGS.iter().filter(|setting| setting.secret).enumerate() {
        let path = home.path().join(setting.name);
        fs::write(&path, value(setting, &database) + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let name = format!("{}_FILE", setting.name);
        // Half of them by flag: what stands there is seen by everybody on the machine.
        if number % 2 == 0 {
            variables.push((name, path.display().to_string()));
        } else {
            flags.push(format!("--{}={}", name.to_lowercase().replace('_', "-"), path.display()));
        }
    }
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();

    for verb in
        [&["config", "explain"][..], &["config", "explain", "--json"], &["config", "check"], &["--help"]]
    {
        let ended = run(&home, &[verb, &flags].concat(), &variables);
        assert_eq!(ended.code, 0, "{verb:?}: {ended:#?}");
        unseen(&verb.join(" "), &format!("{ended:?}"));
    }
    for verb in [&["db", "check"][..], &["db", "status", "--json"], &["doctor", "isolation"]] {
        unseen(&verb.join(" "), &format!("{:?}", run(&home, &[verb, &flags].concat(), &variables)));
    }

    let serving =
        [&[("PORT", "0"), ("LOG_FORMAT", "json"), ("STARTUP_TIMEOUT", "30s")], &variables[..]].concat();
    let server = Process::start(&home, &flags, &serving);
    let address = server.address();
    for file in ["cmdline", "environ"] {
        if let Ok(bytes) = fs::read(format!("/proc/{}/{file}", server.pid())) {
            unseen(file, &String::from_utf8_lossy(&bytes));
        }
    }
    let client = Client::new(&address);
    let demo = Client::signed_in(&address, home.path());
    for answer in
        [demo.get("/api/v1/items"), demo.create_item("C-06"), client.get("/health"), client.get("/nowhere")]
    {
        unseen("an answer", &format!("{:?}", answer.unwrap()));
    }
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
    unseen("the log or the banner", &format!("{ended:?}"));

    // A secret that is refused is not shown either.
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let wrong = home.path().join("wrong");
        fs::write(&wrong, format!("{KEY}\u{1}://@{PASSWORD}")).unwrap();
        let name = format!("{}_FILE", setting.name);
        let wrong = wrong.display().to_string();
        let variables = [("APP_ENV", "production"), (name.as_str(), wrong.as_str())];
        let ended = run(&home, &["config", "check"], &variables);
        assert_eq!(ended.code, 78, "{ended:#?}");
        unseen(setting.name, &format!("{ended:?}"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn o_02_no_core_of_the_server_is_dumped() {
    let (home, database) = (Home::new(), Database::migrated("core"));
    let server = Process::serve(&home, &database.both());
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let allowed: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(allowed, ["1", "1"], "to a file less than a page is nothing, and to a pipe one byte is");
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn j_04_a_rotated_secret_is_new_each_time_and_good_for_the_setting() {
    let home = Home::new();
    let made = || {
        let ended = run(&home, &["secret", "rotate", "--json"], &[]);
        assert_eq!(ended.code, 0, "{ended:#?}");
        serde_json::from_str::<serde_json::Value>(&ended.out.join("\n")).unwrap()
    };
    let (one, other) = (made(), made());
    assert_ne!(one["secret"], other["secret"]);
    assert_eq!(one["steps"].as_array().unwrap().len(), 3);
    let ring = [("JWT_SECRET", &one["secret"]), ("JWT_SECRET_NEXT", &other["secret"])];
    let ring = ring.map(|(name, secret)| (name, secret.as_str().unwrap()));
    let keys = ["ENCRYPTION_KEY", "AUDIT_SIGNING_KEY"].map(|name| (name, ENCRYPTION_KEY));
    let production = [&[("APP_ENV", "production")], &keys[..]].concat();
    let checked = run(&home, &["config", "check", "--json"], &[&ring[..], &production].concat());
    assert!(!checked.out.join("\n").contains("JWT_SECRET"), "{checked:#?}");
}
