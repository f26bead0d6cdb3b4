//! One command starts everything, a signal stops it, and the next start finds it all again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::database::Database;
use super::http::Client;
use super::postgres::Postgres;
use super::process::{Ended, Home, PATIENCE, Process, eventually, run, runs};

/// The last line of the log is the end of an orderly stop.
fn stopped_cleanly(ended: &Ended, home: &Home) {
    assert_eq!(ended.code, 0, "{ended:#?}");
    let last: Value = serde_json::from_str(ended.out.last().unwrap()).unwrap();
    assert_eq!(last["message"], "shutdown complete", "{ended:#?}");
    assert!(last["duration"].is_f64(), "{last}");
    assert_eq!(home.postmaster(), None, "PostgreSQL still runs");
    assert!(!home.path().join("postgres/socket").exists(), "the socket is still there");
}

fn every_line_is_json(lines: &[String]) {
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["message"].is_string(), "{line}");
    }
}

#[test]
fn one_command_boots_everything_and_each_signal_stops_it() {
    let home = Home::new();
    let server = Process::serve(&home, &[("WORKER_THREADS", "3")]);
    probes_answer(&Client::new(&server.address()));
    let metrics = Client::new(&server.address()).get("/metrics").unwrap().body;
    assert!(metrics.contains("\ntokio_workers 3\n"), "WORKER_THREADS counts: {metrics}");
    banner_tells_all(&server);
    let credentials = home.path().join("demo-credentials.json");
    assert_eq!(fs::metadata(&credentials).unwrap().permissions().mode() & 0o777, 0o600);
    let passwords = fs::read_to_string(&credentials).unwrap();
    let client = Client::signed_in(&server.address(), home.path());
    assert_eq!(client.create_item("KEPT-1").unwrap().status, 201);
    let ended = server.stop("TERM");
    every_line_is_json(&ended.out);
    assert!(
        ended.err.iter().all(|line| line.is_empty() || line.starts_with("  ")),
        "only the banner: {ended:#?}"
    );
    stopped_cleanly(&ended, &home);

    for signal in ["INT", "QUIT"] {
        let server = Process::serve(&home, &[]);
        assert_eq!(fs::read_to_string(&credentials).unwrap(), passwords, "the passwords stay");
        let client = Client::signed_in(&server.address(), home.path());
        let items = client.get("/api/v1/items?limit=200").unwrap();
        assert!(items.body.contains("KEPT-1"), "{items:?}");
        stopped_cleanly(&server.stop(signal), &home);
    }
}

fn probes_answer(client: &Client) {
    for path in ["/livez", "/readyz", "/health", "/ping"] {
        let answer = client.get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(client.get("/ping").unwrap().body, "pong");
    assert_eq!(client.get("/health").unwrap().json()["version"], env!("CARGO_PKG_VERSION"));
}

fn banner_tells_all(server: &Process) {
    let curl = server.said("curl ");
    let banner = server.said_so_far().join("\n");
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    for part in [
        env!("CARGO_PKG_VERSION"),
        "development",
        &format!("http://localhost:{port}"),
        "private PostgreSQL",
        "isolation",
        "proven: ",
    ] {
        assert!(banner.contains(part), "no {part:?} in {banner}");
    }
    if Command::new("curl").arg("--version").output().is_err() {
        return; // nothing to paste it to
    }
    let line = &curl[curl.find("curl ").unwrap()..];
    let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["accessToken"].is_string(), "{line}: {answer}");
}

#[test]
fn a_killed_server_leaves_a_cluster_that_the_next_adopts_and_nobody_else_takes() {
    let home = Home::new();
    let server = Process::serve(&home, &[]);
    let postmaster = home.postmaster().unwrap();
    server.signal("KILL");
    assert_eq!(server.wait().code, -9);
    assert!(runs(postmaster), "PostgreSQL outlives a kill -9 of the server");

    let next = Process::serve(&home, &[]);
    assert_eq!(home.postmaster(), Some(postmaster), "adopted, not started anew");
    let second = run(&home, &["--port", "0"], &[("LOG_FORMAT", "json")]);
    assert_eq!(second.code, 73, "{second:#?}");
    let [reason] = second.err.as_slice() else { panic!("{second:#?}") };
    assert!(reason.contains(&format!("pid {}", next.pid())) && reason.contains("DATA_DIR"), "{reason}");

    assert_eq!(
        Client::new(&next.address()).get("/readyz").unwrap().status,
        200,
        "the first is not disturbed"
    );
    stopped_cleanly(&next.stop("TERM"), &home);
    assert!(!runs(postmaster));
}

#[test]
fn a_database_that_comes_up_later_is_waited_for() {
    let (home, mut postgres) = (Home::new(), Postgres::start());
    postgres.stop();
    let (runtime, owner) = (postgres.roles.runtime_url.clone(), postgres.roles.owner_url.clone());
    let variables = [
        ("PORT", "0"),
        ("LOG_FORMAT", "json"),
        ("STARTUP_TIMEOUT", "30s"),
        ("DATABASE_URL", runtime.as_str()),
        ("DATABASE_OWNER_URL", &owner),
    ];
    let server = Process::start(&home, &[], &variables);
    server.line("trying again");
    postgres.start_again();
    let begin = Instant::now();
    let address = server.address();
    assert!(begin.elapsed() < PATIENCE, "within STARTUP_TIMEOUT");
    assert_eq!(Client::new(&address).get("/readyz").unwrap().status, 200);
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
}

#[test]
fn log_file_takes_the_whole_log_and_standard_output_none() {
    let (home, database) = (Home::new(), Database::migrated("log_file"));
    let file = home.path().join("erp.log");
    let variables = [
        ("PORT", "0"),
        ("LOG_FORMAT", "json"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FILE", file.to_str().unwrap()),
        ("DATABASE_URL", &database.runtime_url),
    ];
    let server = Process::start(&home, &[], &variables);
    let lines = || -> Vec<String> {
        fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    eventually("it starts", || lines().iter().any(|line| line.contains("Server started")));
    let ended = server.stop("TERM");
    assert_eq!((ended.code, ended.out.len()), (0, 0), "{ended:#?}");
    let lines = lines();
    every_line_is_json(&lines);
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert!(first.contains("Phase complete"), "{first}");
    assert!(last.contains("shutdown complete"), "{last}");
}
