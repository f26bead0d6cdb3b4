//! D-01, D-03: strangers and clients that hold connections or send without end do not make the process grow.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::database::Database;
use super::http::Client;
use super::process::{Home, PATIENCE, Process};

const MIB: f64 = 1024.0 * 1024.0;
const GIB: u64 = 1 << 30;

/// The most memory that the process has had so far, in MiB.
fn peak(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib * 1024.0 / MIB
}

/// Sends a body of 1 GiB, as far as the server takes it; how much it took.
fn upload(address: &str, head: &str) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < GIB && stream.write_all(&chunk).is_ok() {
        sent += chunk.len() as u64;
    }
    let _ = stream.read(&mut [0; 64]);
    sent
}

#[test]
fn d_03_stress_a_hundred_endless_uploads_take_no_memory() {
    let (home, database) = (Home::new(), Database::migrated("uploads"));
    let server = Process::serve(&home, &database.both());
    let address = server.address();
    let client = Client::signed_in(&address, home.path());
    let token = client.token();
    let begin = format!(
        "POST /api/v1/items HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    let heads = [
        format!("{begin}transfer-encoding: chunked\r\n\r\n"),
        format!("{begin}content-length: {GIB}\r\n\r\n"),
    ];
    for head in &heads {
        upload(&address, head); // what is read from disk for it counts as memory, too
    }
    let before = peak(server.pid());
    let uploads: Vec<_> = (0..100)
        .map(|number| {
            let (address, head) = (address.clone(), heads[number % heads.len()].clone());
            thread::spawn(move || upload(&address, &head))
        })
        .collect();
    let sent: u64 = uploads.into_iter().map(|upload| upload.join().unwrap()).sum();
    let grown = peak(server.pid()) - before;
    println!(
        "deep: D-03: 100 uploads of 1 GiB, {:.0} MiB taken: {grown:.1} MiB of memory",
        sent as f64 / MIB
    );
    assert!(sent < GIB, "{sent} bytes were taken");
    assert_eq!(client.create_item("after").unwrap().status, 201);
    assert!(grown < 8.0, "{grown:.1} MiB");
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn d_01_stress_five_hundred_slow_connections_are_closed_and_take_little_memory() {
    let (home, database) = (Home::new(), Database::migrated("slow"));
    let settings = [("HEADER_TIMEOUT", "3s"), ("LOG_LEVEL", "info")];
    let server = Process::serve(&home, &[&database.both()[..], &settings].concat());
    let address = server.address();
    let client = Client::new(&address);
    let median = || {
        let mut took: Vec<_> = (0..50)
            .map(|_| {
                let begin = Instant::now();
                assert_eq!(client.get("/ping").unwrap().status, 200);
                begin.elapsed()
            })
            .collect();
        took.sort();
        took[25]
    };
    let alone = median();
    let before = peak(server.pid());
    let begun: [&[u8]; 5] =
        [b"", b"P", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nhost: a\r\nx:", b"PRI * HTTP/2.0\r\n"];
    let mut slow: Vec<_> = (0..500)
        .map(|number| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(begun[number % begun.len()]).unwrap();
            stream
        })
        .collect();
    let beside = median();
    let grown = peak(server.pid()) - before;
    println!(
        "deep: D-01: 500 slow connections: {grown:.1} MiB of memory; /ping {alone:?} alone, {beside:?} beside them"
    );
    assert!(grown < 16.0, "{grown:.1} MiB");
    assert!(beside < alone * 4 + Duration::from_millis(10), "{beside:?}, {alone:?} alone");
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert!(
            end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "it is closed"
        );
    }
    assert_eq!(server.stop("TERM").code, 0);
}
