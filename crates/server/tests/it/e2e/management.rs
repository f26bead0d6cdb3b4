//! The management port of the built binary, and the last words of a stop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::database::Database;
use super::hang_up::Blocked;
use super::http::{Client, receive};
use super::process::{Home, Process, eventually};

#[test]
fn a_taken_management_port_is_named_and_nothing_is_left_running() {
    let (home, database) = (Home::new(), Database::migrated("management"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variables = [
        ("PORT", "0"),
        ("HOST", "127.0.0.1"),
        ("DATABASE_URL", &*database.runtime_url),
        ("METRICS_PORT", &port),
    ];
    let ended = Process::start(&home, &[], &variables).wait();
    assert_eq!(ended.code, 69, "{ended:#?}");
    assert!(ended.err.iter().any(|line| line.contains("set METRICS_PORT")), "{ended:#?}");
}

#[test]
fn a_forced_stop_ends_with_the_same_last_line() {
    let scene = Blocked::set("last_words", &[]);
    let _write = scene.client.send_item("LAST-1").unwrap();
    scene.waiting(1);
    scene.server.signal("TERM");
    scene.server.line("Stopping");
    scene.server.signal("INT");
    let ended = scene.server.wait();
    assert_eq!(ended.code, 143, "{ended:#?}");
    let last: Value = serde_json::from_str(ended.out.last().unwrap()).unwrap();
    assert_eq!((last["message"].as_str(), &last["clean"]), (Some("shutdown complete"), &Value::Bool(false)));
}

#[test]
fn s_02_while_draining_readiness_says_no_and_new_connections_are_still_answered() {
    let (home, database) = (Home::new(), Database::migrated("drain"));
    let variables = [("DATABASE_URL", &*database.runtime_url), ("SHUTDOWN_DRAIN_DELAY", "2s")];
    let server = Process::serve(&home, &variables);
    let address = server.address();
    let signalled = Instant::now();
    server.signal("TERM");
    server.line("Stopping");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
    let ended = server.wait();
    assert_eq!(ended.code, 0, "{ended:#?}");
}

/// What concerns no tenant is told, too: who applied which migration, with which settings a process runs, how much it logs.
#[test]
fn migrations_starts_stops_and_log_levels_are_in_the_platform_log_without_a_secret() {
    let (home, database) = (Home::new(), Database::migrated("platform_log"));
    let told = |action: &str, what: &str| {
        database.value(&format!("select coalesce(string_agg({what}, ' ' order by id), '') from app.platform_log where action = '{action}'"))
    };
    assert!(
        told("platform.migrated", "subject").contains("operators/0002_platform_log"),
        "{}",
        told("platform.migrated", "subject")
    );
    let secret = "a-secret-of-the-platform-log-and-of-nothing-else";
    let variables: Vec<_> =
        database.both().into_iter().chain([("WEBHOOK_SECRET", secret), ("REQUEST_TIMEOUT", "17s")]).collect();
    let server = Process::serve(&home, &variables);
    eventually("the start is told", || !told("platform.started", "id::text").is_empty());
    let answer =
        receive(Client::new(&server.address()).send("PUT", "/log-level", r#"{"level":"debug"}"#).unwrap())
            .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.stop("TERM").code, 0);
    let settings =
        "details #>> '{settings,REQUEST_TIMEOUT}' || ' ' || (details #>> '{settings,WEBHOOK_SECRET}')";
    assert_eq!(told("platform.started", settings), "17s [secret]");
    assert_eq!(
        told("platform.log_level_changed", "details ->> 'after' || ' ' || left(correlation_id, 4)"),
        "debug req_"
    );
    assert_eq!(told("platform.stopped", "actor"), "system:platform-log");
    assert_eq!(
        database
            .value(&format!("select count(*) from app.platform_log where details::text like '%{secret}%'")),
        "0"
    );
}
