//! A PostgreSQL for the time that a command runs.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use erp_core::db::cluster::{Cluster, ClusterOptions};
use erp_core::lifecycle::{Exit, StartError};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Enough for a test per core with a few pools each.
const MAX_CONNECTIONS: u32 = 300;

/// The whole `main` of `with-postgres [--] COMMAND…`, which runs a command with a PostgreSQL of its own, for tests.
///
/// The command finds the superuser's URL in `TEST_DATABASE_URL`. The cluster loses its data in a power cut, and is
/// stopped and removed when the command ends, whose exit code becomes ours (128 + n when signal n ended it). SIGINT,
/// SIGTERM and SIGHUP are passed on. To look around: `with-postgres sh -c 'psql "$TEST_DATABASE_URL"'`.
pub fn with_postgres() -> ExitCode {
    let mut command: Vec<OsString> = std::env::args_os().skip(1).collect();
    if command.first().is_some_and(|first| first == "--") {
        command.remove(0);
    }
    let result = if command.is_empty() {
        Err(StartError::new(Exit::Usage, "usage: with-postgres [--] COMMAND…"))
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(fault).and_then(|runtime| runtime.block_on(serve(&command)))
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "with-postgres: {error}");
        ExitCode::from(error.exit as u8)
    })
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn fault(error: io::Error) -> StartError {
    StartError::new(Exit::Internal, error.to_string())
}

/// Starts the cluster, runs the command, and removes the cluster.
async fn serve(command: &[OsString]) -> Result<ExitCode, StartError> {
    let mut signals = Signals::listen().map_err(fault)?; // from now on, a signal cannot leave PostgreSQL behind
    let folder = fresh_folder().map_err(fault)?;
    let options = ClusterOptions {
        folder: folder.clone(),
        durable: false,
        max_connections: MAX_CONNECTIONS,
        path: path(),
    };
    let result = match Cluster::start(options).await {
        Ok(cluster) => {
            let ended = run(command, &cluster.admin_url(), &mut signals).await;
            let stopped = cluster.stop().await;
            ended.and_then(|status| stopped.map(|()| exit_code(status)))
        }
        Err(error) => Err(error),
    };
    std::fs::remove_dir_all(&folder).map_err(fault)?;
    result
}

async fn run(command: &[OsString], url: &str, signals: &mut Signals) -> Result<ExitStatus, StartError> {
    // On a terminal the command stays in the foreground, where Ctrl-C reaches it without us. Else it gets a process
    // group of its own, so that we can pass signals on to all of it.
    let foreground = io::stdin().is_terminal();
    let mut spawn = Command::new(&command[0]);
    spawn.args(&command[1..]).env("TEST_DATABASE_URL", url);
    if !foreground {
        spawn.process_group(0);
    }
    let cannot_run = |error: io::Error| {
        StartError::new(Exit::Unavailable, format!("{} cannot be run: {error}", command[0].display()))
    };
    let mut child = spawn.spawn().map_err(cannot_run)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(cannot_run),
            name = signals.next() => match (name, foreground) {
                ("INT", true) => {}
                (name, true) => pass_on(name, &child, "").await,
                (name, false) => pass_on(name, &child, "-").await,
            },
        }
    }
}

/// Sends the signal to the command, or with `-` to its process group. The shell's `kill` is on every machine.
async fn pass_on(name: &str, child: &Child, group: &str) {
    if let Some(pid) = child.id() {
        let kill = format!("kill -s {name} -- {group}{pid}");
        let _ = Command::new("/bin/sh").args(["-c", &kill]).status().await;
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "INT",
            _ = self.terminate.recv() => "TERM",
            _ = self.hangup.recv() => "HUP",
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Internal as u8))
}

fn fresh_folder() -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = std::env::temp_dir().join(format!("erp-test-{}-{number}", std::process::id()));
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            done => return done.map(|()| path),
        }
    }
}

#[allow(clippy::disallowed_methods)] // a tool of its own: there is no configuration to load
fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
