//! Runs the product and its peers in turn and judges the product: see `script/bench`.

mod client;
mod contestant;
mod data;
mod delay;
mod instructions;
mod measure;
mod process;
mod profile;
mod report;
mod request;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use contestant::Setup;
use instructions::Counts;
use measure::Effort;
use report::Report;

/// The command line.
struct Arguments {
    what: Vec<String>,
    server: PathBuf,
    peers: PathBuf,
    rounds: usize,
    seconds: f64,
    json: bool,
    write: bool,
}

// One thread: the client must cost little, and leave the other cores to the contestants.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(70)
        }
    }
}

/// Whether every bound was kept.
async fn run() -> Result<bool> {
    let arguments = arguments()?;
    let admin_url =
        std::env::var("TEST_DATABASE_URL").context("run script/bench: TEST_DATABASE_URL is not set")?;
    let mut secret = [0; 36];
    aws_lc_rs::rand::fill(&mut secret)?;
    let setup = Setup { server: arguments.server, peers: arguments.peers, secret: STANDARD.encode(secret) };
    let database = data::migrated(&admin_url, "bench", &setup.server).await?;
    data::fill(&database).await?;
    let what: Vec<&str> = arguments.what.iter().map(String::as_str).collect();
    if let ["profile", rest @ ..] = &what[..] {
        profile::run(&setup, &database, rest).await?;
        return Ok(true);
    }
    if what == ["instructions"] {
        let counts = Counts::of(instructions::checked_out().await?, &setup, &database).await?;
        return judge(counts, arguments.write, arguments.json);
    }
    let effort = Effort { rounds: arguments.rounds, duration: Duration::from_secs_f64(arguments.seconds) };
    let mut report = Report {
        machine: machine(&admin_url).await?,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        ..Report::default()
    };
    let (all, part) = match what[..] {
        [] | ["all"] => (true, ""),
        [part @ ("point" | "create" | "limits" | "ping" | "start" | "memory")] => (false, part),
        _ => bail!(
            "usage: script/bench [point|create|limits|ping|start|memory|all|instructions] [--rounds N] [--seconds N] [--json] [--write]"
        ),
    };
    if all || part == "point" {
        measure::point(&mut report, &setup, &database, effort).await?;
    }
    if all || part == "create" {
        measure::create(&mut report, &setup, &admin_url, &database, effort).await?;
    }
    if all || part == "limits" {
        measure::limits(&mut report, &setup, &database).await?;
    }
    if all || part == "ping" {
        measure::ping(&mut report, &setup, &database, effort).await?;
    }
    if all || part == "start" {
        measure::start(&mut report, &setup, &database).await?;
    }
    if all || part == "memory" {
        let folder = Folder::new()?;
        measure::memory(&mut report, &setup, &admin_url, &folder.0).await?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    if arguments.write {
        std::fs::write("docs/reference/performance.md", report.page())?;
    }
    Ok(report.passed())
}

/// Whether no request takes more instructions than it may; with `--write` they are what later ones are compared with.
fn judge(counts: Counts, write: bool, json: bool) -> Result<bool> {
    if write {
        counts.record()?;
    }
    let comparison = counts.compare()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        print!("{}", comparison.table());
    }
    Ok(comparison.passed())
}

async fn machine(admin_url: &str) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores, PostgreSQL {}", data::version(admin_url).await?))
}

/// A folder of our own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("erp-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments {
        what: Vec::new(),
        server: PathBuf::from("target/release/erp-backend"),
        peers: PathBuf::from("bench/target/release/peers"),
        rounds: 7,
        seconds: 2.0,
        json: false,
        write: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match word.as_str() {
            "--server" => parsed.server = value()?.into(),
            "--peers" => parsed.peers = value()?.into(),
            "--rounds" => parsed.rounds = value()?.parse().context("--rounds takes a number")?,
            "--seconds" => parsed.seconds = value()?.parse().context("--seconds takes a number")?,
            "--json" => parsed.json = true,
            "--write" => parsed.write = true,
            flag if flag.starts_with('-') => bail!("there is no flag {flag}"),
            _ => parsed.what.push(word),
        }
    }
    if parsed.rounds == 0 || !(0.1..=600.0).contains(&parsed.seconds) {
        bail!("--rounds is at least 1, --seconds from 0.1 to 600");
    }
    Ok(parsed)
}
