//! What was found, as a table, as JSON and as a page of the reference.

use std::fmt::Write as _;

use serde::Serialize;

/// What a value must keep to.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

/// One row of the specification's table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub measure: String,
    pub unit: &'static str,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub bound: Bound,
    pub passed: bool,
}

/// What one contestant did under one load: medians over the rounds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub load: String,
    pub contestant: &'static str,
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_ms_per_request: f64,
}

/// Everything that was found in one run.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub machine: String,
    pub rounds: usize,
    pub seconds: f64,
    pub checks: Vec<Check>,
    pub rows: Vec<Row>,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Below(bound) => value < bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound}"),
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::Below(bound) => format!("< {bound}"),
        }
    }
}

impl Report {
    /// Judges the median of `values`, one for each round.
    pub fn check(&mut self, measure: impl Into<String>, unit: &'static str, values: &[f64], bound: Bound) {
        let median = median(values);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let passed = bound.holds(median);
        self.checks.push(Check { measure: measure.into(), unit, median, least, most, bound, passed });
    }

    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let mut out = format!("{}; {} rounds of {} s each\n\n", self.machine, self.rounds, self.seconds);
        for check in &self.checks {
            let Check { measure, unit, median, least, most, bound, passed } = check;
            let verdict = if *passed { "PASS" } else { "FAIL" };
            let spread = format!("{least:.2}–{most:.2}");
            let bound = format!("{} {unit}", bound.text());
            let _ = writeln!(out, "{verdict}  {measure:<58} {median:>8.2}  {spread:<16} {bound}");
        }
        if !self.rows.is_empty() {
            let _ = writeln!(
                out,
                "\n{:<24} {:<10} {:>10} {:>8} {:>8} {:>15}",
                "load", "contestant", "requests/s", "p50 ms", "p99 ms", "CPU µs/request"
            );
        }
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:<24} {:<10} {:>10.0} {:>8.2} {:>8.2} {:>15.1}",
                row.load,
                row.contestant,
                row.requests_per_second,
                row.p50_ms,
                row.p99_ms,
                row.cpu_ms_per_request * 1000.0
            );
        }
        out
    }

    /// For `docs/reference/performance.md`.
    pub fn page(&self) -> String {
        let mut out = format!(
            "# Performance\n\nWritten by `script/bench --write`; do not edit.\n\n{}; the load on the same machine, over \
             loopback; {} rounds of {} s for each contestant, in turn. Ratios are of the same round; median, and least \
             to most over the rounds.\n\n| measure | median | spread | bound | |\n| --- | --- | --- | --- | --- |\n",
            self.machine, self.rounds, self.seconds
        );
        for check in &self.checks {
            let Check { measure, unit, median, least, most, bound, passed } = check;
            let verdict = if *passed { "kept" } else { "**missed**" };
            let bound = bound.text();
            let _ = writeln!(
                out,
                "| {measure} | {median:.2} {unit} | {least:.2}–{most:.2} | {bound} {unit} | {verdict} |"
            );
        }
        out.push_str(
            "\nThe peers are in `bench/peers`: *bare* is axum and a pipelined tokio-postgres with nothing around the \
             handler; *usual* is axum, sqlx and the customary layers of tower-http.\n\n\
             | load | contestant | requests/s | p50 ms | p99 ms | server CPU µs/request |\n\
             | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                out,
                "| {} | {} | {:.0} | {:.2} | {:.2} | {:.1} |",
                row.load,
                row.contestant,
                row.requests_per_second,
                row.p50_ms,
                row.p99_ms,
                row.cpu_ms_per_request * 1000.0
            );
        }
        out
    }
}

/// The middle of `values`.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
