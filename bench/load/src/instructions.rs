//! How many instructions a request takes, and whether they have become more: `script/bench instructions`.
//!
//! Counts do not depend on how busy the machine is. They do depend on its processor and on the compiler: a comparison
//! with what another machine has recorded is worth little.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::client::Connection;
use crate::contestant::Setup;
use crate::data::Database;
use crate::request;
use crate::token::Signer;

/// What was recorded, and by which commit.
const RECORD: &str = "bench/instructions.json";
/// Until everything that is made once has been made; their instructions are subtracted.
const FIRST: usize = 300;
const COUNTED: usize = 2000;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;
/// How much more than recorded a request may take, in percent.
const BOUND: f64 = 2.0;

/// Instructions in user mode, of one request.
#[derive(Serialize, Deserialize)]
pub struct Counts {
    commit: String,
    ping: f64,
    point: f64,
}

/// What is counted now, beside what was recorded.
#[derive(Serialize)]
pub struct Comparison {
    recorded: Counts,
    now: Counts,
    passed: bool,
}

impl Counts {
    /// Counts `commit`, which is what `setup.server` was built from.
    pub async fn of(commit: String, setup: &Setup, database: &Database) -> Result<Self> {
        let pings = Rc::new(vec![request::get("/ping")]);
        let reads = request::point_reads_of_few(&Signer::new(&setup.secret))?;
        let ping = a_request(setup, database, &pings).await?;
        let point = a_request(setup, database, &reads).await?;
        Ok(Self { commit, ping, point })
    }

    /// Compares with what was recorded.
    pub fn compare(self) -> Result<Comparison> {
        let text = std::fs::read_to_string(RECORD).with_context(|| format!("{RECORD} cannot be read"))?;
        let recorded: Self = serde_json::from_str(&text).context(RECORD)?;
        let kept = |now: f64, then: f64| change(now, then) <= BOUND;
        let passed = kept(self.ping, recorded.ping) && kept(self.point, recorded.point);
        Ok(Comparison { recorded, now: self, passed })
    }

    /// Writes them down for later comparisons.
    pub fn record(&self) -> Result<()> {
        Ok(std::fs::write(RECORD, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

impl Comparison {
    /// Whether no request takes more than it may.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let Self { recorded, now, .. } = self;
        let mut out =
            format!("{:<14} {:>12} {:>12} {:>9}\n", "instructions", recorded.commit, now.commit, "change");
        for (name, then, now) in
            [("/ping", recorded.ping, now.ping), ("point read", recorded.point, now.point)]
        {
            let change = change(now, then);
            let verdict = if change <= BOUND { "PASS" } else { "FAIL" };
            let _ =
                writeln!(out, "{name:<14} {then:>12.0} {now:>12.0} {change:>+7.1} %  {verdict} ≤ +{BOUND} %");
        }
        out
    }
}

/// How much more than `then` `now` is, in percent.
fn change(now: f64, then: f64) -> f64 {
    (now / then - 1.0) * 100.0
}

/// What one request takes, once the server has seen some. What goes on beside requests only adds, so that of several
/// runs the least is the truest.
async fn a_request(setup: &Setup, database: &Database, requests: &Rc<Vec<Vec<u8>>>) -> Result<f64> {
    let mut few = u64::MAX;
    let mut many = u64::MAX;
    for _ in 0..ROUNDS {
        few = few.min(a_run(setup, database, requests, FIRST).await?);
        many = many.min(a_run(setup, database, requests, FIRST + COUNTED).await?);
    }
    Ok((many as f64 - few as f64) / COUNTED as f64)
}

/// What a server takes from its start to its end with so many requests in between.
async fn a_run(setup: &Setup, database: &Database, requests: &Rc<Vec<Vec<u8>>>, count: usize) -> Result<u64> {
    let folder = Path::new("bench/target/profile");
    std::fs::create_dir_all(folder)?;
    let file = folder.join("counted.callgrind");
    let out = format!("--callgrind-out-file={}", file.display());
    let tool = ["valgrind", "-q", "--tool=callgrind", &out].map(str::to_owned);
    let product = setup.product_under(&tool, &database.runtime_url).await?;
    let next = Cell::new(0);
    let connections = (0..CONNECTIONS).map(async |_| {
        let mut connection = Connection::open(product.port).await?;
        while next.get() < count {
            let request = &requests[next.get() % requests.len()];
            next.set(next.get() + 1);
            let status = connection.exchange(request).await?;
            ensure!(status == 200, "an answer has status {status}");
        }
        Ok(())
    });
    try_join_all(connections).await?;
    product.stop().await?; // it writes what it counted when it ends
    total(&std::fs::read_to_string(&file)?)
}

/// The instructions that a file of callgrind has counted.
fn total(file: &str) -> Result<u64> {
    let line = file.lines().find_map(|line| line.strip_prefix("totals: "));
    line.context("callgrind has counted nothing")?.trim().parse().context("a strange file of callgrind")
}

/// The commit that is checked out, and whether it has been changed since.
pub async fn checked_out() -> Result<String> {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().await?;
    Ok(String::from_utf8(git.stdout)?.trim().to_owned())
}
