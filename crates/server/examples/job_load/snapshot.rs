//! Somebody holds an old snapshot, so that nothing dead can be cleared away: how claims and throughput bear that.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use erp_core::bootstrap::Context;
use erp_testkit::{Bound, Database, Measurement, report};
use tokio_postgres::Client;

use crate::database::number;
use crate::process::{ask, buckets, settings, start};
use crate::product::measured;

/// Jobs a second that are enqueued.
const PACE: u32 = 800;
const QUIET: Duration = Duration::from_secs(120);

/// So many minutes of it, 10 without a number.
pub(crate) async fn measure(minutes: &str) -> io::Result<()> {
    let held = Duration::from_secs_f64(60.0 * minutes.parse().unwrap_or(10.0));
    let database = Database::create(&measured()).await;
    let (root, holder) = (database.superuser().await, database.superuser().await);
    let context = start(settings(&database, 10)).await?;
    stretch(&context, &database, &root, Duration::from_secs(10)).await?;
    let quiet = stretch(&context, &database, &root, QUIET).await?;
    let begin = "begin isolation level repeatable read; select count(*) from tenants";
    holder.batch_execute(begin).await.map_err(io::Error::other)?;
    stretch(&context, &database, &root, held.saturating_sub(QUIET)).await?;
    let last = stretch(&context, &database, &root, QUIET.min(held)).await?;
    holder.batch_execute("commit").await.map_err(io::Error::other)?;
    context.shut_down(false).await;
    database.remove();
    let rows = [
        Measurement { name: "p99 of a claim, quiet", value: 1000.0 * quiet.claim, unit: "ms", bound: None },
        Measurement {
            name: "p99 of a claim in the last minutes",
            value: 1000.0 * last.claim,
            unit: "ms",
            bound: None,
        },
        Measurement::at_most("the same to the quiet one", last.claim / quiet.claim, "times", 2.0),
        Measurement::at_least("throughput to the quiet one", 100.0 * last.rate / quiet.rate, "%", 95.0),
        Measurement {
            name: "jobs a second, quiet",
            value: quiet.rate,
            unit: "jobs/s",
            bound: Some(Bound::AtLeast(0.95 * f64::from(PACE))),
        },
    ];
    write!(io::stdout(), "deep: ")?;
    report(&rows, true)
}

/// How the queue fared for some time.
struct Stretch {
    /// The 99th percentile of claims, in seconds.
    claim: f64,
    /// Jobs done in a second.
    rate: f64,
}

async fn stretch(
    context: &Context,
    database: &Database,
    root: &Client,
    time: Duration,
) -> io::Result<Stretch> {
    const DONE: &str = "select count(*)::float8 from job_done";
    let (before, from, begun) =
        (buckets(context, "jobs_claim_duration_seconds"), number(root, DONE).await?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    while begun.elapsed() < time {
        ticks.tick().await;
        ask(context, database, PACE / 40, 4).await?;
    }
    let took = begun.elapsed().as_secs_f64();
    let rate = (number(root, DONE).await? - from) / took;
    let after = buckets(context, "jobs_claim_duration_seconds");
    let counts: Vec<(f64, f64)> =
        after.iter().zip(&before).map(|((bound, now), (_, then))| (*bound, now - then)).collect();
    Ok(Stretch { claim: quantile(&counts, 0.99), rate })
}

/// Of a cumulative histogram, even within a bucket, as Prometheus reckons.
fn quantile(buckets: &[(f64, f64)], quantile: f64) -> f64 {
    let rank = quantile * buckets.last().map_or(0.0, |(_, count)| *count);
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && count > &below {
            return lower + (bound - lower) * (rank - below) / (count - below);
        }
        (lower, below) = (*bound, *count);
    }
    f64::NAN
}
