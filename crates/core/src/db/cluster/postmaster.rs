use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::lifecycle::{Exit, StartError};

use super::ClusterOptions;
use super::answer::{Answerer, ask, listens};
use super::binaries::Binaries;
use super::place::{ClusterPlace, unusable};

/// How long PostgreSQL may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before looking again, while something is about to happen.
const SOON: Duration = Duration::from_millis(10);

/// The log is begun anew at a start that finds it larger than this, in bytes.
const LOG_SIZE: u64 = 16 << 20;

/// The main process of PostgreSQL.
#[derive(Debug)]
pub(super) enum Postmaster {
    /// We started it.
    Child(Box<Child>),
    /// A server that was killed left it.
    Adopted,
}

impl Postmaster {
    /// The one that runs on our data already, if any.
    pub(super) async fn adopt(place: &ClusterPlace) -> Result<Option<Self>, StartError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ask(place).await {
                Answerer::Ours => {
                    tracing::info!(folder = %place.data.display(), "adopted the PostgreSQL of an earlier start");
                    return Ok(Some(Self::Adopted));
                }
                Answerer::Nobody => return Ok(None),
                Answerer::Stranger(data) => return Err(stranger(place, &data)),
                Answerer::NotNow if Instant::now() > deadline => return Err(silent(place)),
                Answerer::NotNow => sleep(SOON).await,
            }
        }
    }

    /// Starts it and waits until it answers.
    pub(super) async fn launch(
        place: &ClusterPlace,
        binaries: &Binaries,
        options: &ClusterOptions,
    ) -> Result<Self, StartError> {
        place.account.own(&place.socket).map_err(|error| unusable(&place.socket, error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (log, begin) = open_log(place).map_err(|error| unusable(&place.log, error))?;
            let mut child = spawn(place, binaries, options, log)?;
            if ready(place, &mut child, deadline).await? {
                return Ok(Self::Child(Box::new(child)));
            }
            let said = log_since(place, begin);
            // Processes of one that was killed take a moment to notice; until then it refuses to start.
            let passing = ["shared memory block", "lock file"].iter().any(|sign| said.contains(sign));
            if !passing || Instant::now() > deadline {
                return Err(StartError::new(Exit::Unavailable, format!("PostgreSQL does not start: {said}")));
            }
            sleep(10 * SOON).await;
        }
    }

    /// Returns when it runs no longer.
    pub(super) async fn gone(&mut self, place: &ClusterPlace) {
        match self {
            Self::Child(child) => {
                let _ = child.wait().await;
            }
            Self::Adopted => {
                while listens(place).await {
                    sleep(10 * SOON).await;
                }
            }
        }
    }

    /// Stops it, first gently.
    pub(super) async fn stop(mut self, place: &ClusterPlace, binaries: &Binaries) -> Result<(), StartError> {
        for (mode, patience) in [("smart", 500), ("fast", 10_000), ("immediate", 5_000)] {
            // It fails where nothing runs any more, which the wait below finds out.
            let _ = place
                .account
                .command(&binaries.pg_ctl(), &place.home)
                .args(["stop", "--silent", "--no-wait", "--mode", mode, "--pgdata"])
                .arg(&place.data)
                .output()
                .await;
            if timeout(Duration::from_millis(patience), self.gone(place)).await.is_ok() {
                return Ok(());
            }
        }
        Err(StartError::new(
            Exit::Internal,
            format!("the private PostgreSQL on {} does not stop", place.data.display()),
        ))
    }
}

fn spawn(
    place: &ClusterPlace,
    binaries: &Binaries,
    options: &ClusterOptions,
    log: File,
) -> Result<Child, StartError> {
    let program = binaries.postgres();
    let failed = |error: io::Error| {
        StartError::new(Exit::Unavailable, format!("{} cannot be run: {error}", program.display()))
    };
    let mut command = place.account.command(&program, &place.home);
    command.arg("-D").arg(&place.data).process_group(0);
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    settings(&mut command, place, options);
    if !options.durable && binaries.count_statements() {
        // For tests of what is asked how often. Where PostgreSQL runs out of room it forgets statements, and 5,000 of them,
        // its default, are those of a few hundred tests; all of them have some 100,000.
        for setting in [
            "shared_preload_libraries=pg_stat_statements",
            "pg_stat_statements.max=200000",
            "pg_stat_statements.track_utility=off",
        ] {
            command.arg("-c").arg(setting);
        }
    }
    command.spawn().map_err(failed)
}

fn settings(command: &mut Command, place: &ClusterPlace, options: &ClusterOptions) {
    let mut sockets = OsString::from("unix_socket_directories=\"");
    sockets.push(&place.socket);
    sockets.push("\"");
    command.arg("-c").arg(sockets);
    command.arg("-c").arg(format!("max_connections={}", options.max_connections));
    let always = [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "timezone=UTC",
        "log_timezone=UTC",
    ];
    let fast = [
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
    ];
    let fast = if options.durable { &[][..] } else { &fast };
    for setting in always.iter().chain(fast) {
        command.arg("-c").arg(setting);
    }
}

/// Whether it came to answer; `false` when it ended before.
async fn ready(place: &ClusterPlace, child: &mut Child, deadline: Instant) -> Result<bool, StartError> {
    while child.try_wait().ok().flatten().is_none() {
        match ask(place).await {
            Answerer::Ours => return Ok(true),
            Answerer::Stranger(data) => return Err(stranger(place, &data)),
            Answerer::NotNow | Answerer::Nobody if Instant::now() > deadline => {
                let _ = child.start_kill();
                return Err(silent(place));
            }
            Answerer::NotNow | Answerer::Nobody => sleep(SOON).await,
        }
    }
    Ok(false)
}

/// The log, and where this start's lines begin in it.
fn open_log(place: &ClusterPlace) -> io::Result<(File, usize)> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&place.log)?;
    let mut size = log.metadata()?.len();
    if size > LOG_SIZE {
        log.set_len(0)?;
        size = 0;
    }
    Ok((log, usize::try_from(size).unwrap_or(0)))
}

/// The last lines that a start wrote, in one.
fn log_since(place: &ClusterPlace, begin: usize) -> String {
    let log = fs::read(&place.log).unwrap_or_default();
    let text = String::from_utf8_lossy(log.get(begin..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{} ({})", lines[lines.len().saturating_sub(5)..].join(" | "), place.log.display())
}

fn stranger(place: &ClusterPlace, data: &str) -> StartError {
    StartError::new(
        Exit::DataFolder,
        format!(
            "{} is the socket of a PostgreSQL on other data, {data}: stop that one",
            place.socket.display()
        ),
    )
}

fn silent(place: &ClusterPlace) -> StartError {
    let waited = PATIENCE.as_secs();
    StartError::new(
        Exit::Unavailable,
        format!("PostgreSQL did not answer within {waited} s: see {}", place.log.display()),
    )
}
