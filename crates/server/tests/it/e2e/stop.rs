//! S-02: a stop lets what is under way finish, and a second signal or the deadline does not wait for it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::database::Database;
use super::hang_up::Blocked;
use super::http::{Client, receive};
use super::process::{Home, Process, eventually};

#[test]
fn requests_in_flight_complete() {
    let scene = Blocked::set("in_flight", &[]);
    let write = scene.client.send_item("FLIGHT-1").unwrap();
    let read = scene.client.send("GET", "/api/v1/items", "").unwrap();
    scene.waiting(2);
    scene.server.signal("TERM");
    scene.server.line("Stopping");
    let refused = || TcpStream::connect(scene.server.address()).is_err();
    eventually("no connection is taken any more", refused);
    std::thread::sleep(Duration::from_secs(1)); // as long as the lock is held
    scene.unlock();
    assert_eq!(receive(write).unwrap().status, 201);
    assert_eq!(receive(read).unwrap().status, 200);
    assert_eq!(scene.items("FLIGHT-1"), "1");
    let ended = scene.server.wait();
    assert_eq!(ended.code, 0, "{ended:#?}");
}

/// Two transactions wait for a lock, and the process has been told to stop.
fn stopping(name: &str, variables: &[(&str, &str)]) -> (Blocked, [TcpStream; 2]) {
    let scene = Blocked::set(name, variables);
    let write = scene.client.send_item("FORCED-1").unwrap();
    let read = scene.client.send("GET", "/api/v1/items", "").unwrap();
    scene.waiting(2);
    scene.server.signal("TERM");
    scene.server.line("Stopping");
    (scene, [write, read])
}

/// The process ends by force within `limit`, and PostgreSQL rolls back.
fn is_forced(scene: Blocked, limit: Duration) {
    let begin = Instant::now();
    let Blocked { server, admin, database, .. } = &scene;
    let pid = server.pid();
    eventually("it ends", || !super::process::runs(pid));
    let took = begin.elapsed();
    println!("forced within {took:?}");
    assert!(took <= limit, "{took:?}");
    scene.unlock();
    let sessions = format!("select count(*) from pg_stat_activity where usename = '{}'", database.app());
    eventually("its sessions end", || admin.value(&sessions) == "0");
    assert_eq!(scene.items("FORCED-1"), "0", "the open transaction was rolled back");
    let ended = scene.server.wait();
    assert_eq!(ended.code, 143, "{ended:#?}");
}

#[test]
fn a_second_signal_forces_the_end_and_rolls_back() {
    let (scene, _streams) = stopping("second_signal", &[]);
    scene.server.signal("TERM");
    is_forced(scene, Duration::from_secs(1));
}

#[test]
fn the_deadline_forces_the_end_and_rolls_back() {
    let (scene, _streams) = stopping("deadline", &[("SHUTDOWN_TIMEOUT", "1s")]);
    is_forced(scene, Duration::from_secs(2)); // S-02: within a second more
}

#[test]
fn idle_connections_do_not_hold_up_a_stop() {
    let (home, database) = (Home::new(), Database::migrated("idle"));
    let server = Process::serve(&home, &[("DATABASE_URL", &database.runtime_url)]);
    let mut idle = TcpStream::connect(server.address()).unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
    let _silent = TcpStream::connect(server.address()).unwrap();
    assert_eq!(Client::new(&server.address()).get("/livez").unwrap().status, 200);
    let begin = Instant::now();
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_signal_during_the_start_leaves_no_postgres_behind() {
    let home = Home::new();
    let server = Process::start(&home, &[], &[("PORT", "0"), ("LOG_FORMAT", "json")]);
    eventually("PostgreSQL is starting", || home.postmaster().is_some());
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 143, "{ended:#?}");
    assert_eq!(home.postmaster(), None, "PostgreSQL still runs");
}
