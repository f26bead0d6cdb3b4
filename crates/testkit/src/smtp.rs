//! A mail server of a test's own: aiosmtpd, which `script/bootstrap tests` installs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// How long it may take to come up, and a mail to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running mail server, which dropping this ends.
pub struct MailServer {
    process: Child,
    port: u16,
    options: Value,
    lines: UnboundedReceiver<Value>,
}

fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("tools/aiosmtpd/bin/python")
}

impl MailServer {
    /// Whether aiosmtpd is there. Where it is not, says so and that `what` was not run; on CI that is a failure.
    pub fn is_installed(what: &str) -> bool {
        let found = python().exists();
        if !found {
            eprintln!("aiosmtpd is not installed: {what} was not run; script/bootstrap tests installs it");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test: install aiosmtpd");
        }
        found
    }

    /// One that takes everything in the clear.
    pub fn start() -> Self {
        Self::with(json!({ "tls": "none" }))
    }

    /// One with `tls` (`none`, `starttls` or `tls`), `certificate` and `key` as paths, `account` as user and password, and
    /// `pause`, the seconds that it takes to say that it has taken a mail.
    pub fn with(mut options: Value) -> Self {
        let (process, port, lines) = spawn(&options);
        options["port"] = port.into();
        Self { process, port, options, lines }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next mail that it has taken.
    pub async fn mail(&mut self) -> Value {
        timeout(PATIENCE, self.lines.recv()).await.expect("a mail arrives").expect("the mail server runs")
    }

    /// The mails that it has taken meanwhile.
    pub fn mails_so_far(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// The mails that it has taken until none has come for so long.
    pub async fn mails_until_silent(&mut self, silence: Duration) -> Vec<Value> {
        let mut mails = Vec::new();
        while let Ok(Some(mail)) = timeout(silence, self.lines.recv()).await {
            mails.push(mail);
        }
        mails
    }

    /// Ends it, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port with another password of its account.
    pub fn change_password(&mut self, password: &str) {
        self.options["account"][1] = password.into();
        self.restart();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let (process, _, lines) = spawn(&self.options);
        (self.process, self.lines) = (process, lines);
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(options: &Value) -> (Child, u16, UnboundedReceiver<Value>) {
    let mut process = Command::new(python())
        .args(["-c", include_str!("smtp_server.py"), &options.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("asked before: MailServer::is_installed");
    let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let begun = Instant::now();
    let first = lines.next().expect("it says its port").expect("it says it as text");
    assert!(begun.elapsed() < PATIENCE, "it takes too long");
    let port = first.strip_prefix("port ").and_then(|port| port.parse().ok()).expect("a port");
    let (say, said) = unbounded_channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let Ok(mail) = serde_json::from_str(&line) else { continue };
            if say.send(mail).is_err() {
                return;
            }
        }
    });
    (process, port, said)
}
