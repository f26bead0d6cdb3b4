//! What the machine does not give: file descriptors (D-06), threads, a name for the account.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use super::database::Database;
use super::http::Client;
use super::process::{Home, Process, eventually};

const GET: &[u8] = b"GET /ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[test]
fn d_06_accepting_outlives_a_lack_of_file_descriptors() {
    let (home, database) = (Home::new(), Database::migrated("descriptors"));
    let plain = super::process::command(&home, &[], &[]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 48 && exec \"$0\""]).arg(plain.get_program());
    limited.current_dir(home.path()).stdin(Stdio::null()).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.env("DATABASE_URL", &database.runtime_url).env("PORT", "0").env("LOG_FORMAT", "json");
    let server = Process::spawn(limited);
    server.line("The limit of open files is lower");
    let address = server.address();
    let hoard: Vec<_> = (0..80).map(|_| TcpStream::connect(&address).unwrap()).collect();
    server.line("No connection can be accepted");
    drop(hoard);
    let answers = || {
        let Ok(mut stream) = TcpStream::connect(&address) else { return false };
        let mut answer = String::new();
        stream.write_all(GET).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    };
    eventually("it answers again", answers);
    assert_eq!(Client::new(&address).get("/readyz").unwrap().status, 200);
    let ended = server.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
    let said = ended.out.iter().filter(|line| line.contains("No connection can be accepted")).count();
    assert!(said < 10, "one line for each shortage, not for each attempt: {said}");
}

/// A start that cannot have its threads ends and says so. The runtime alone would panic and wait for ever.
#[test]
fn a_start_without_enough_threads_ends_and_says_which_limit() {
    let home = Home::new();
    let plain = super::process::command(&home, &["config", "check"], &[("WORKER_THREADS", "200")]);
    let mut limited = Command::new("/bin/sh");
    // Stacks of 2 MiB: 200 do not fit into this much. A limit of processes would not hold back root.
    limited.args(["-c", "ulimit -v 400000 && exec \"$0\" config check"]).arg(plain.get_program());
    limited.current_dir(home.path()).stdin(Stdio::null()).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = Process::spawn(limited).wait();
    assert_eq!(ended.code, 69, "{ended:#?}");
    assert!(ended.err.iter().any(|line| line.contains("lower WORKER_THREADS")), "{ended:#?}");
}
