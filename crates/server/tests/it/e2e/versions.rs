//! T-14: a PostgreSQL with a known leak is warned of wherever an operator looks, and one that is too old is refused.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use serde_json::Value;
use tokio_postgres::config::Host;

use super::database::Database;
use super::http::Client;
use super::process::{Home, Process, run};

/// The runtime role's URL through a way on which the server says that it is of this version.
pub(super) fn pretending(database: &Database, version: &str) -> String {
    let real = database.value("current_setting('server_version')");
    // As long as the real one, since messages state their length.
    let pretended = format!("{version:<0$}", real.len());
    assert_eq!(pretended.len(), real.len(), "{version} is longer than {real}");
    let socket = socket_file(&database.runtime_url);
    let address = pass_on(socket, real.into_bytes(), pretended.into_bytes());
    let (user, rest) = database.runtime_url.split_once('@').unwrap();
    let (_, name) = rest.rsplit_once('/').unwrap();
    format!("{user}@{address}/{name}?sslmode=disable")
}

/// Where the tests' PostgreSQL listens, which is on a socket only.
pub(super) fn socket_file(url: &str) -> PathBuf {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let [Host::Unix(folder)] = config.get_hosts() else { panic!("not on a socket: {url}") };
    folder.join(format!(".s.PGSQL.{}", config.get_ports()[0]))
}

/// Listens on a port of its own and carries connections to `socket`, with `from` made `to` in what the server says.
fn pass_on(socket: PathBuf, from: Vec<u8>, to: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = UnixStream::connect(&socket).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(std::net::Shutdown::Both);
            });
            let (from, to) = (from.clone(), to.clone());
            thread::spawn(move || while message(&server, &client, &from, &to).is_ok() {});
        }
    });
    address
}

/// Carries one message of the server: its kind, its length, which counts itself, and the rest.
fn message(mut server: &UnixStream, mut client: impl Write, from: &[u8], to: &[u8]) -> io::Result<()> {
    let mut head = [0; 5];
    server.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut body = vec![0; length - 4];
    server.read_exact(&mut body)?;
    if let Some(at) = body.windows(from.len()).position(|part| part == from) {
        body[at..at + to.len()].copy_from_slice(to);
    }
    client.write_all(&[&head[..], &body].concat())
}

/// `db check`'s exit code and what it says of the version, for programs and for people.
fn checked(url: &str) -> (i32, Value, String) {
    let json = run(&Home::new(), &["db", "check", "--json"], &[("DATABASE_URL", url)]);
    let steps: Vec<Value> = serde_json::from_str(&json.out.join("\n")).unwrap();
    let step = steps.into_iter().find(|step| step["name"] == "version").unwrap();
    let shown = run(&Home::new(), &["db", "check"], &[("DATABASE_URL", url)]);
    assert_eq!(shown.code, json.code);
    let line = shown.out.into_iter().find(|line| line.contains(" version ")).unwrap();
    (json.code, step, line)
}

#[test]
fn t_14_a_version_that_leaks_is_warned_of_by_the_check_the_log_and_the_health() {
    let database = Database::migrated("leaking");
    let url = pretending(&database, "15.0");
    let (code, step, line) = checked(&url);
    assert_eq!((code, &step["passed"], &step["warning"]), (0, &true.into(), &true.into()), "{step}");
    let warning = step["detail"].as_str().unwrap();
    for part in ["PostgreSQL 15.0", "CVE-2025-8713", "15.14"] {
        assert!(warning.contains(part), "no {part} in {warning}");
    }
    assert!(line.starts_with("warn version") && line.ends_with(warning), "{line}");

    let server = Process::serve(&Home::new(), &[("DATABASE_URL", &url)]);
    let logged: Value = serde_json::from_str(&server.line(r#""outdated":true"#)).unwrap();
    assert_eq!((logged["level"].as_str(), logged["message"].as_str()), (Some("warn"), Some(warning)));
    let health = Client::new(&server.address()).get("/health/detailed").unwrap().json();
    let checks = health["checks"].as_array().unwrap();
    let details = &checks.iter().find(|check| check["name"] == "database").unwrap()["details"];
    assert_eq!((&details["version"], details["warning"].as_str()), (&"15.0".into(), Some(warning)));
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn t_14_a_version_without_the_leak_is_shown_and_not_warned_of() {
    let database = Database::migrated("mended");
    let url = pretending(&database, "18.0");
    let (code, step, line) = checked(&url);
    assert_eq!((code, &step["passed"], &step["warning"]), (0, &true.into(), &false.into()), "{step}");
    assert_eq!(step["detail"], "PostgreSQL 18.0");
    assert!(line.starts_with("ok   version"), "{line}");
    let server = Process::serve(&Home::new(), &[("DATABASE_URL", &url)]);
    let ended = server.stop("TERM");
    assert!(!ended.out.iter().any(|line| line.contains("outdated")), "{ended:#?}");
}

#[test]
fn t_14_a_version_that_is_too_old_fails_the_check_and_refuses_the_start() {
    let database = Database::migrated("too_old");
    let url = pretending(&database, "13.9");
    let (code, step, line) = checked(&url);
    assert_eq!((code, &step["passed"], &step["fix"]), (1, &false.into(), &"upgrade it".into()), "{step}");
    let detail = step["detail"].as_str().unwrap();
    assert!(detail.contains("PostgreSQL 14 or later") && detail.contains("13.9"), "{detail}");
    assert!(line.starts_with("FAIL version"), "{line}");

    let refused = run(&Home::new(), &[], &[("PORT", "0"), ("DATABASE_URL", &url)]);
    assert_eq!((refused.code, refused.err.len()), (69, 1), "{refused:#?}");
    assert!(refused.err[0].contains(detail) && refused.err[0].contains("upgrade it"), "{refused:#?}");
}
