//! S-12: under moderate load for a while, memory, file descriptors, threads and connections stay as they are.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::database::{Database, Session};
use super::http::Client;
use super::load::{Load, Seen, summary};
use super::process::{Home, Process};

const SAMPLE: Duration = Duration::from_secs(2);
/// KiB a minute that memory may grow by, after the first third.
const SLOPE: f64 = 1024.0;
/// A slope is judged from here on: in less time an allocator's habits look like a trend.
const JUDGED: Duration = Duration::from_secs(300);

/// When to sign in anew: a token lives for 15 minutes.
const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// What one look at the process shows.
#[derive(Debug, Clone, Copy)]
struct Sample {
    minutes: f64,
    rss: f64,
    files: f64,
    threads: f64,
    connections: f64,
}

fn look(pid: u32, admin: &Session, role: &str, since: Instant) -> Sample {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let connections = format!("select count(*) from pg_stat_activity where usename = '{role}'");
    Sample {
        minutes: since.elapsed().as_secs_f64() / 60.0,
        rss: field("VmRSS:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as f64,
        threads: field("Threads:"),
        connections: admin.value(&connections).parse().unwrap(),
    }
}

/// Least squares: how much `y` grows a minute.
fn slope(samples: &[Sample], y: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|sample| sample.minutes).sum::<f64>() / count;
    let mean_y = samples.iter().map(&y).sum::<f64>() / count;
    let covariance: f64 = samples.iter().map(|s| (s.minutes - mean_x) * (y(s) - mean_y)).sum();
    covariance / samples.iter().map(|s| (s.minutes - mean_x).powi(2)).sum::<f64>()
}

/// The least and the greatest.
fn range(samples: &[Sample], y: impl Fn(&Sample) -> f64) -> (f64, f64) {
    samples.iter().map(y).fold((f64::MAX, 0.0), |(least, most), y| (least.min(y), most.max(y)))
}

/// The highest of the second half does not exceed the highest of the first by more than `slack`.
fn flat(samples: &[Sample], slack: f64, y: impl Fn(&Sample) -> f64) -> bool {
    let (earlier, later) = samples.split_at(samples.len() / 2);
    range(later, &y).1 <= range(earlier, &y).1 + slack
}

/// Runs for `SOAK_SECONDS`, which script/check-deep sets; else just long enough to see that it works.
#[test]
fn s_12_stress_a_soak_leaks_nothing() {
    let seconds = std::env::var("SOAK_SECONDS").unwrap_or_else(|_| "8".to_owned());
    let duration = Duration::from_secs(seconds.parse().unwrap());
    let (home, database) = (Home::new(), Database::migrated("soak"));
    let server = Process::serve(&home, &[&database.both()[..], &[("LOG_LEVEL", "info")]].concat());
    let admin = Session::open(&database.admin_url);
    let sign_in = |run| Load::start_again(&Client::signed_in(&server.address(), home.path()), run);
    let (mut load, mut signed_in, mut run) = (sign_in(0), Instant::now(), 0);
    let (begun, mut samples, mut requests) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < duration {
        thread::sleep(SAMPLE);
        samples.push(look(server.pid(), &admin, &database.app(), begun));
        let seen = load.take();
        requests += seen.len();
        assert!(seen.iter().all(Seen::succeeded), "{}", summary(&seen));
        if signed_in.elapsed() > TOKEN_LIFE {
            run += 1;
            (load, signed_in) = (sign_in(run), Instant::now());
        }
    }
    drop(load);
    let warm = &samples[samples.len() / 3..];
    let growth = slope(warm, |sample| sample.rss);
    let ((rss, rss_most), (files, files_most), (threads, threads_most), (few, most)) = (
        range(warm, |s| s.rss / 1024.0),
        range(warm, |s| s.files),
        range(warm, |s| s.threads),
        range(warm, |s| s.connections),
    );
    println!(
        "deep: S-12: {} s, {requests} requests ({:.0} a second, none failed): RSS {rss:.1} to {rss_most:.1} MiB, slope \
         {growth:.0} KiB a minute; files {files} to {files_most}, threads {threads} to {threads_most}, connections {few} \
         to {most}",
        duration.as_secs(),
        requests as f64 / duration.as_secs_f64()
    );
    assert!(duration < JUDGED || growth < SLOPE, "memory grows by {growth:.0} KiB a minute: {samples:#?}");
    assert!(flat(warm, 12.0, |s| s.files), "file descriptors: {samples:#?}"); // a client's connection is one for a moment
    assert!(flat(warm, 4.0, |s| s.threads), "threads: {samples:#?}");
    assert!(flat(warm, 6.0, |s| s.connections) && most <= 21.0, "connections: {samples:#?}");
    assert_eq!(server.stop("TERM").code, 0);
}
