//! What keeps a server from starting: the exit code, and one line that names the mend and shows no secret.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::database::{Database, PASSWORD};
use super::http::Client;
use super::process::{Ended, Home, Process, run};

/// A start that must fail with `code` and one line.
fn refused(code: i32, variables: &[(&str, &str)]) -> String {
    let mut all = vec![("PORT", "0"), ("LOG_FORMAT", "json")];
    all.extend(variables);
    let ended = run(&Home::new(), &[], &all);
    assert_eq!((ended.code, ended.err.len()), (code, 1), "{ended:#?}");
    shows_no_password(&ended);
    ended.err[0].clone()
}

fn shows_no_password(ended: &Ended) {
    assert!(!format!("{ended:?}").contains(PASSWORD), "{ended:#?}");
}

/// A URL of TCP, for servers that are none.
fn at(port: u16) -> String {
    format!("postgresql://erp_app:{PASSWORD}@127.0.0.1:{port}/erp?sslmode=disable")
}

/// A server that takes connections, and answers the first message with these bytes or not at all.
fn impostor(answer: Option<&'static [u8]>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(answer) = answer {
                let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(answer));
            } else {
                open.push(stream);
            }
        }
    });
    port
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_database_that_is_down_is_waited_for_until_startup_timeout() {
    let url = at(closed_port());
    let begin = Instant::now();
    let said = refused(69, &[("DATABASE_URL", &url), ("STARTUP_TIMEOUT", "1s")]);
    assert!(said.contains("cannot be reached") && said.contains("127.0.0.1:"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_given_up() {
    let url = at(impostor(None));
    let begin = Instant::now();
    let said = refused(69, &[("DATABASE_URL", &url), ("STARTUP_TIMEOUT", "1s")]);
    assert!(said.contains("does not answer"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[test]
fn a_wrong_password_is_refused_at_once() {
    let answer = b"E\0\0\0\x67SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"erp_app\"\0\
        Fauth.c\0L324\0Rauth_failed\0\0";
    assert_eq!(answer.len(), 1 + 0x67, "the length that the message states");
    let url = at(impostor(Some(answer)));
    let begin = Instant::now();
    let said = refused(69, &[("DATABASE_URL", &url), ("STARTUP_TIMEOUT", "60s")]);
    assert!(
        said.contains("refused user 'erp_app'") && said.contains("check the user and password"),
        "{said}"
    );
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_missing_database_is_refused_at_once() {
    let database = Database::empty("elsewhere");
    let (server, _) = database.runtime_url.rsplit_once('/').unwrap();
    let url = format!("{server}/e2e_nowhere");
    let begin = Instant::now();
    let said = refused(69, &[("DATABASE_URL", &url), ("STARTUP_TIMEOUT", "60s")]);
    assert!(said.contains("has no database 'e2e_nowhere'") && said.contains("create it"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let database = Database::migrated("port_taken");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refused(69, &[("DATABASE_URL", &database.runtime_url), ("PORT", &port)]);
    assert!(said.contains(&port) && said.contains("set PORT"), "{said}");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let said = refused(73, &[("DATA_DIR", file.to_str().unwrap())]);
    assert!(said.contains(file.to_str().unwrap()) && said.contains("DATA_DIR"), "{said}");
    let below = file.join("data");
    let said = refused(73, &[("DATA_DIR", below.to_str().unwrap())]);
    assert!(said.contains(below.to_str().unwrap()) && said.contains("DATA_DIR"), "{said}");
}

#[test]
fn every_invalid_setting_is_reported_at_once() {
    let secret = "changeme";
    let ended = run(
        &Home::new(),
        &[],
        &[("PORT", "eighty"), ("LOG_LEVEL", "loud"), ("JWT_SECRET", secret), ("APP_ENV", "production")],
    );
    assert_eq!((ended.code, ended.out.len()), (78, 0), "{ended:#?}");
    let said = ended.err.join("\n");
    let names = [
        "PORT",
        "LOG_LEVEL",
        "JWT_SECRET",
        "DATABASE_URL",
        "DATABASE_SYSTEM_URL",
        "ENCRYPTION_KEY",
        "AUDIT_SIGNING_KEY",
    ];
    for name in names {
        assert_eq!(ended.err.iter().filter(|line| line.contains(&format!("{name}: "))).count(), 1, "{said}");
    }
    assert_eq!(ended.err.len(), 8, "a heading and a line each: {said}");
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn production_with_nothing_set_lists_what_it_needs() {
    let ended = run(&Home::new(), &[], &[("NODE_ENV", "production")]);
    assert_eq!((ended.code, ended.err.len()), (78, 6), "a heading and five settings: {ended:#?}");
    assert!(ended.err.iter().skip(1).all(|line| line.contains("is required in production")), "{ended:#?}");
}

#[test]
fn weak_or_example_secrets_are_refused_in_production_and_not_shown() {
    let url = at(1);
    for secret in ["too-short", "your-super-secret-jwt-key-change-this-in-production", &"ab".repeat(32)] {
        let key = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";
        let variables = [
            ("APP_ENV", "production"),
            ("DATABASE_URL", &url),
            ("JWT_SECRET", secret),
            ("ENCRYPTION_KEY", key),
            ("AUDIT_SIGNING_KEY", key),
        ];
        let said = refused(78, &variables);
        assert!(said.contains("JWT_SECRET") && !said.contains(secret), "{said}");
    }
}

#[test]
fn a_misspelt_setting_gets_a_hint() {
    let home = Home::new();
    std::fs::write(home.path().join(".env"), "PROT=3001\n").unwrap();
    let ended = run(&home, &[], &[]);
    assert_eq!((ended.code, ended.err.len()), (78, 1), "{ended:#?}");
    assert!(ended.err[0].contains("PROT") && ended.err[0].contains("PORT"), "{ended:#?}");
}

#[test]
fn s_03_a_broken_line_of_the_env_file_is_reported_with_all_the_rest() {
    let home = Home::new();
    std::fs::write(home.path().join(".env"), "this is no setting\nPORT=eighty\n").unwrap();
    for arguments in [&[][..], &["config", "check"]] {
        let ended = run(&home, arguments, &[("LOG_LEVEL", "loud")]);
        assert_eq!((ended.code, ended.err.len()), (78, 4), "a heading and three problems: {ended:#?}");
        let said = ended.err.join("\n");
        for part in [".env:1: ", "PORT: ", "LOG_LEVEL: "] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(!said.contains("this is no setting"), "{said}");
    }
}

#[test]
fn c_03_a_server_with_a_key_that_opens_nothing_does_not_start_and_says_which_is_missing() {
    let (home, database) = (Home::new(), Database::migrated("wrong_key"));
    let of = |key: &'static str| [&database.both()[..], &[("ENCRYPTION_KEY", key)]].concat();
    let server = Process::serve(&home, &of("3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="));
    let demo = Client::signed_in(&server.address(), home.path());
    let supplier = serde_json::json!({ "name": "Steel", "iban": "DE02120300000000202051" });
    assert_eq!(demo.post("/api/v1/suppliers", &supplier).unwrap().status, 201);
    assert_eq!(server.stop("TERM").code, 0);
    const OTHER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let refused = run(&home, &["serve"], &[&of(OTHER)[..], &[("PORT", "0")]].concat());
    assert_eq!(refused.code, 78, "{refused:#?}");
    let said = refused.err.join("\n");
    assert!(said.contains("1 data keys of tenants are wrapped by the key env:"), "{said}");
    assert!(said.contains("set ENCRYPTION_KEY_PREVIOUS to what ENCRYPTION_KEY was before"), "{said}");
    assert!(!said.contains(OTHER), "{said}");
}
