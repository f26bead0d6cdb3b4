//! What the rehearsal found, for people and for pipelines.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::load::LoadCounts;

/// One path that was asked.
pub(super) struct Probed {
    pub(super) path: &'static str,
    pub(super) expected: StatusCode,
    pub(super) status: Option<StatusCode>,
    pub(super) duration: Duration,
}

/// How the stop went.
pub(super) struct Drain {
    /// Everything ended in time.
    pub(super) clean: bool,
    /// How long readiness took to say so.
    pub(super) unready_after: Option<Duration>,
    pub(super) duration: Duration,
}

#[derive(Serialize)]
pub(super) struct RehearsalReport {
    pub(super) passed: bool,
    /// What was not as it should be.
    findings: Vec<String>,
    phases: Vec<serde_json::Value>,
    probes: Vec<serde_json::Value>,
    load: serde_json::Value,
    drain: serde_json::Value,
    #[serde(skip)]
    text: String,
}

impl RehearsalReport {
    pub(super) fn new(
        phases: &[(&'static str, Duration)],
        probes: &[Probed],
        load: &LoadCounts,
        drain: &Drain,
    ) -> Self {
        let findings = findings(probes, load, drain);
        let (p50, p99) = (percentile(&load.durations, 50), percentile(&load.durations, 99));
        let status = |probed: &Probed| probed.status.map(|status| status.as_u16());
        let text = text(phases, probes, load, drain, (p50, p99));
        Self {
            passed: findings.is_empty(),
            findings,
            text,
            phases: phases
                .iter()
                .map(|(name, took)| json!({ "name": name, "duration": ms(*took) }))
                .collect(),
            probes: probes
                .iter()
                .map(|probed| {
                    let expected = probed.expected.as_u16();
                    json!({
                        "path": probed.path, "status": status(probed), "expected": expected,
                        "duration": ms(probed.duration),
                    })
                })
                .collect(),
            load: json!({
                "answered": load.answered, "failed": load.failed, "cut": load.cut, "p50": ms(p50), "p99": ms(p99),
            }),
            drain: json!({
                "clean": drain.clean, "unreadyAfter": drain.unready_after.map(ms), "duration": ms(drain.duration),
            }),
        }
    }
}

fn findings(probes: &[Probed], load: &LoadCounts, drain: &Drain) -> Vec<String> {
    let mut findings = Vec::new();
    for Probed { path, expected, status, .. } in probes {
        if *status != Some(*expected) {
            let got = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            findings.push(format!("{path} gave {got} instead of {expected}"));
        }
    }
    let mut unless = |well: bool, what: String| {
        if !well {
            findings.push(what);
        }
    };
    unless(load.answered > 0, "no request of the load was answered".to_owned());
    unless(load.failed == 0, counted(load.failed, "request failed", "requests failed"));
    unless(load.cut == 0, counted(load.cut, "request was cut", "requests were cut"));
    unless(drain.unready_after.is_some(), "/readyz did not turn 503 within a second of the stop".to_owned());
    unless(drain.clean, "not everything ended within SHUTDOWN_TIMEOUT".to_owned());
    findings
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn text(
    phases: &[(&'static str, Duration)],
    probes: &[Probed],
    load: &LoadCounts,
    drain: &Drain,
    (p50, p99): (Duration, Duration),
) -> String {
    let phases: Vec<String> = phases.iter().map(|(name, took)| format!("{name} {} ms", ms(*took))).collect();
    let probes: Vec<String> = probes
        .iter()
        .map(|probed| format!("{} {}", probed.path, probed.status.map_or(0, |status| status.as_u16())))
        .collect();
    let unready =
        drain.unready_after.map_or_else(|| "never".to_owned(), |after| format!("after {} ms", ms(after)));
    format!(
        "start   {}\nprobes  {}\nload    {} answered, {} failed, {} cut; p50 {} ms, p99 {} ms\n\
         drain   unready {unready}, stopped after {} ms",
        phases.join(" · "),
        probes.join(" · "),
        load.answered,
        load.failed,
        load.cut,
        ms(p50),
        ms(p99),
        ms(drain.duration),
    )
}

impl fmt::Display for RehearsalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for finding in &self.findings {
            writeln!(f, "FAIL    {finding}")?;
        }
        f.write_str(if self.passed { "The rehearsal went well." } else { "The rehearsal failed." })
    }
}

/// Milliseconds with two decimals.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_go_wrong_is_a_finding_of_its_own() {
        let probe =
            |status| Probed { path: "/readyz", expected: StatusCode::OK, status, duration: Duration::ZERO };
        let well =
            || (vec![probe(Some(StatusCode::OK))], LoadCounts { answered: 9, ..LoadCounts::default() });
        let drain = || Drain { clean: true, unready_after: Some(Duration::ZERO), duration: Duration::ZERO };
        let (probes, load) = well();
        assert!(findings(&probes, &load, &drain()).is_empty());

        let unready = [probe(Some(StatusCode::SERVICE_UNAVAILABLE)), probe(None)];
        assert_eq!(
            findings(&unready, &load, &drain()),
            [
                "/readyz gave 503 Service Unavailable instead of 200 OK",
                "/readyz gave no answer instead of 200 OK"
            ]
        );
        let load = LoadCounts { failed: 2, cut: 3, ..LoadCounts::default() };
        let late = Drain { clean: false, unready_after: None, ..drain() };
        assert_eq!(
            findings(&probes, &load, &late),
            [
                "no request of the load was answered",
                "2 requests failed",
                "3 requests were cut",
                "/readyz did not turn 503 within a second of the stop",
                "not everything ended within SHUTDOWN_TIMEOUT",
            ]
        );
        let report = RehearsalReport::new(&[], &probes, &load, &late);
        let text = report.to_string();
        assert!(!report.passed && text.ends_with("The rehearsal failed."), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("FAIL    ")).count(), 5, "{text}");
    }
}
