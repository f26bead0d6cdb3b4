//! The built binary as a process of its own: started with a clean environment, watched, signalled, cleaned up after.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::database::as_system;

/// How long anything may take that has no limit of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of a test's own: `DATA_DIR` and working directory of its processes. Dropping it stops the private
/// PostgreSQL that may run in it.
pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("erp-e2e-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by a test that was killed, whose process id this one has now.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The process id of the private PostgreSQL, while it runs.
    pub(super) fn postmaster(&self) -> Option<u32> {
        postmaster(&self.0.join("postgres"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(pid) = self.postmaster() {
            signal(pid, "QUIT");
            eventually("PostgreSQL ends", || !runs(pid));
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process id of the PostgreSQL whose cluster lies in `folder`, while it runs.
pub(super) fn postmaster(folder: &Path) -> Option<u32> {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok().filter(|pid| runs(*pid))
}

/// Sends a signal, by name, to a process; says whether there was one.
pub(super) fn signal(pid: u32, name: &str) -> bool {
    let kill = format!("kill -s {name} {pid}");
    Command::new("/bin/sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap().success()
}

/// Whether the process exists and is no zombie.
pub(super) fn runs(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout);
    !state.trim().is_empty() && !state.trim_start().starts_with('Z')
}

/// Waits until `condition` holds.
pub(super) fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
    begin.elapsed()
}

/// `erp-backend` with these arguments and nothing in its environment but `PATH` and these variables; with
/// `DATABASE_URL` comes the system's login of the same database. All clients of a test
/// are one address, so its limit is out of their way.
pub(super) fn command(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_erp-backend"));
    command.args(arguments).current_dir(home.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", path()).env("DATA_DIR", home.path());
    command.env("RATE_LIMIT_MAX", "1000000").env("RATE_LIMIT_WINDOW", "1s");
    if let Some((_, url)) = variables.iter().find(|(name, _)| *name == "DATABASE_URL") {
        let system = as_system(url);
        if system != *url {
            command.env("DATABASE_SYSTEM_URL", system);
        }
    }
    command.envs(variables.iter().copied());
    command
}

/// Runs `erp-backend` to its end.
pub(super) fn run(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    Process::start(home, arguments, variables).wait()
}

#[allow(clippy::disallowed_methods)] // a test has no settings: PostgreSQL's binaries must be found
pub(super) fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// A process that may still run. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

/// How a process ended, and all that it said.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; −n when signal n ended it.
    pub(super) code: i32,
    pub(super) out: Vec<String>,
    pub(super) err: Vec<String>,
}

impl Process {
    pub(super) fn start(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(home, arguments, variables))
    }

    pub(super) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// A server on a free port, with its log as JSON, that has started.
    pub(super) fn serve(home: &Home, variables: &[(&str, &str)]) -> Self {
        let mut all = vec![("PORT", "0"), ("LOG_FORMAT", "json"), ("STARTUP_TIMEOUT", "30s")];
        all.extend(variables);
        let process = Self::start(home, &[], &all);
        process.line("Server started");
        process
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, name: &str) {
        assert!(signal(self.pid(), name), "the process has ended");
    }

    /// The first line of the log that holds `part`.
    pub(super) fn line(&self, part: &str) -> String {
        let found = self.out.wait_for(part);
        found.unwrap_or_else(|| panic!("no {part:?} in {:#?}\n{:#?}", self.out.all(), self.err.all()))
    }

    /// The same for standard error.
    pub(super) fn said(&self, part: &str) -> String {
        self.err.wait_for(part).unwrap_or_else(|| panic!("no {part:?} in {:#?}", self.err.all()))
    }

    /// All that standard error has got so far.
    pub(super) fn said_so_far(&self) -> Vec<String> {
        self.err.all()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        let line = self.line("Server started");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().to_owned()
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() > PATIENCE => {
                    panic!("it does not end: {:#?}\n{:#?}", self.out.all(), self.err.all())
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let code = status.code().or(status.signal().map(|signal| -signal)).unwrap();
        Ended { code, out: self.out.read_to_end(), err: self.err.read_to_end() }
    }

    /// Asks it to end, and waits for that.
    pub(super) fn stop(self, name: &str) -> Ended {
        self.signal(name);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of one stream, as they come.
struct Lines {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                theirs.0.lock().unwrap().push(line);
                theirs.1.notify_all();
            }
        });
        Self { shared, reader: Some(reader) }
    }

    fn all(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().clone()
    }

    fn read_to_end(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.all()
    }

    fn wait_for(&self, part: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.shared.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if self.reader.as_ref().is_none_or(JoinHandle::is_finished) && left < PATIENCE {
                return lines.iter().find(|line| line.contains(part)).cloned();
            }
            lines = self.shared.1.wait_timeout(lines, left.min(Duration::from_millis(50))).unwrap().0;
        }
    }
}
