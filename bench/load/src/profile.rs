//! Where the product spends its time: `script/bench profile [point|ping] [perf|callgrind]`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::contestant::Setup;
use crate::data::Database;
use crate::measure;

const SAMPLED: Duration = Duration::from_secs(8);
/// Under callgrind everything takes fifty times as long.
const SIMULATED: Duration = Duration::from_secs(10);

/// Runs a profiler on the product under load; its files stay in `bench/target/profile`.
pub async fn run(setup: &Setup, database: &Database, words: &[&str]) -> Result<()> {
    let (what, tool) = match words {
        [] => ("point", default_tool().await),
        [what @ ("point" | "ping")] => (*what, default_tool().await),
        [what @ ("point" | "ping"), tool @ ("perf" | "callgrind")] => (*what, *tool),
        _ => bail!("usage: script/bench profile [point|ping] [perf|callgrind]"),
    };
    let folder = Path::new("bench/target/profile");
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{what}.{tool}"));
    let file = file.to_str().context("a strange path")?;
    match tool {
        "perf" => perf(setup, database, what, file).await,
        _ => callgrind(setup, database, what, file).await,
    }
}

async fn default_tool() -> &'static str {
    let perf =
        Command::new("perf").args(["record", "-o", "/dev/null", "-e", "cpu-clock", "true"]).output().await;
    if perf.is_ok_and(|output| output.status.success()) { "perf" } else { "callgrind" }
}

/// Samples the processor's time, the kernel's included.
async fn perf(setup: &Setup, database: &Database, what: &str, file: &str) -> Result<()> {
    let product = setup.product(&database.runtime_url).await?;
    measure::drive(&product, setup, what, Duration::from_secs(1)).await?;
    let pid = product.pid.to_string();
    let seconds = SAMPLED.as_secs().to_string();
    let mut record = Command::new("perf");
    record.args([
        "record",
        "-q",
        "-e",
        "cpu-clock",
        "-F",
        "499",
        "--call-graph",
        "dwarf,65528",
        "-o",
        file,
        "-p",
        &pid,
    ]);
    let recorder = record.args(["--", "sleep", &seconds]).kill_on_drop(true).spawn()?;
    let outcome = measure::drive(&product, setup, what, SAMPLED).await?;
    let output = recorder.wait_with_output().await?;
    ensure!(output.status.success(), "perf record failed");
    eprintln!("{:.1} µs of CPU per request while it was watched", outcome.cpu_ms_per_request * 1000.0);
    println!("{file} {}", outcome.requests);
    Ok(())
}

/// Counts instructions, in user mode only; those of the start are among them.
async fn callgrind(setup: &Setup, database: &Database, what: &str, file: &str) -> Result<()> {
    let out = format!("--callgrind-out-file={file}");
    let tool = ["valgrind", "-q", "--tool=callgrind", &out].map(str::to_owned);
    let product = setup.product_under(&tool, &database.runtime_url).await?;
    let outcome = measure::drive(&product, setup, what, SIMULATED).await?;
    product.stop().await?; // it writes what it counted when it ends
    println!("{file} {}", outcome.requests);
    Ok(())
}
