//! A Redis of a test's own: real, on a free port, and as unwell as the test wants it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running redis-server, which dropping this ends.
pub struct Redis {
    process: Child,
    port: u16,
    options: Vec<String>,
}

impl Redis {
    /// Whether redis-server is there. Where it is not, says so and that `what` was not run; on CI that is a failure.
    pub fn is_installed(what: &str) -> bool {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !found {
            eprintln!("redis-server is not installed: {what} was not run");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test: install redis-server");
        }
        found
    }

    /// Starts one on a free port, with options such as `["--maxmemory", "1mb"]`.
    pub fn start(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Somebody else may take the port in between: then it ends, and another one is tried.
        for _ in 0..20 {
            let port = TcpListener::bind(("127.0.0.1", 0))
                .and_then(|free| free.local_addr())
                .expect("a port")
                .port();
            let mut redis = Self { process: spawn(port, &options), port, options: options.clone() };
            if redis.comes_up() {
                return redis;
            }
        }
        panic!("redis-server does not come up");
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again where it was, empty.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, &self.options);
        assert!(self.comes_up(), "redis-server does not come up again");
    }

    /// Leaves its connections open and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends the pause.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends a command, such as `replicaof 127.0.0.1 1`; returns the first 64 KiB of the answer, as they are.
    pub fn command(&self, command: &str) -> String {
        self.try_command(command).expect("redis-server answers")
    }

    fn try_command(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = vec![0; 64 * 1024];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.process.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Whether it answers before it ends: +PONG, or that it wants a password.
    fn comes_up(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.try_command("PING").is_ok_and(|answer| answer.starts_with(['+', '-'])) {
                return self.process.try_wait().is_ok_and(|ended| ended.is_none());
            }
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, options: &[String]) -> Child {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        "/tmp",
    ]);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("asked before: Redis::is_installed")
}
