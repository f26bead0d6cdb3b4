//! How fast, how soon and how much more with more processes.

use std::io;
use std::time::{Duration, Instant};

use erp_core::bootstrap::Context;
use erp_testkit::{Database, Measurement};
use tokio::process::Child;
use tokio_postgres::Client;

use crate::database::{LIMIT, done, fill, number};
use crate::peer;
use crate::process::{ask, child, figure, request, settings, start};
use crate::product::measured;

/// No-ops that are there, in turn with graphile-worker: the better of three rounds each.
pub(crate) async fn burn_down() -> io::Result<Vec<Measurement>> {
    let (mut ours, mut theirs) = (0.0_f64, None);
    for _ in 0..3 {
        ours = ours.max(burn_down_ours(100_000).await?);
        theirs = peer::burn_down(100_000).await?.map(|rate| theirs.unwrap_or(rate).max(rate));
    }
    let mut rows =
        vec![Measurement::at_least("no-ops that were there, one process", ours, "jobs/s", 10_000.0)];
    if let Some(theirs) = theirs {
        rows.push(Measurement {
            name: "the same of graphile-worker",
            value: theirs,
            unit: "jobs/s",
            bound: None,
        });
        rows.push(Measurement {
            name: "ours to graphile-worker's",
            value: ours / theirs,
            unit: "times",
            bound: None,
        });
    }
    Ok(rows)
}

async fn burn_down_ours(count: u32) -> io::Result<f64> {
    let database = Database::create(&measured()).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.nothing", 20, count / 20).await?;
    let begun = Instant::now();
    let context = start(settings(&database, 10)).await?;
    done(&root, count).await?;
    let took = begun.elapsed().as_secs_f64();
    context.shut_down(false).await;
    database.remove();
    Ok(f64::from(count) / took)
}

pub(crate) async fn one_by_one() -> io::Result<[Measurement; 2]> {
    let count = 20_000;
    let database = Database::create(&measured()).await;
    let root = database.superuser().await;
    let context = start(settings(&database, 10)).await?;
    ask(&context, &database, 500, 8).await?;
    done(&root, 500).await?;
    let begun = Instant::now();
    ask(&context, &database, count, 8).await?;
    done(&root, count + 500).await?;
    let took = begun.elapsed().as_secs_f64();
    // At a pace that leaves room: how soon one begins, not how long a queue gets.
    root.batch_execute("delete from job_done").await.map_err(io::Error::other)?;
    for _ in 0..200 {
        ask(&context, &database, 1, 1).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done(&root, 200).await?;
    let waited =
        "select percentile_cont(0.95) within group (order by (result #>> '{}')::float8) / 1000 from job_done";
    let waited = number(&root, waited).await?;
    context.shut_down(false).await;
    database.remove();
    Ok([
        Measurement::at_least(
            "enqueued one by one to their completion",
            f64::from(count) / took,
            "jobs/s",
            2_500.0,
        ),
        Measurement::at_most("from before the commit to the start, p95", waited, "ms", 50.0),
    ])
}

/// A tenant that comes with one job after the other, while ten thousand have a hundred each: at first with short ones, and
/// then with some that are as long as the others'.
pub(crate) async fn newcomer() -> io::Result<[Measurement; 5]> {
    let database = Database::create(&measured()).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.sleep", 10_000, 100).await?;
    let context = start(settings(&database, 10)).await?;
    done(&root, 1_000).await?;
    let mut waits = Vec::new();
    for _ in 0..5 {
        ask(&context, &database, 1, 1).await?;
        waits.push(wait_of_next(&root, waits.len()).await?);
    }
    let rest = waits.iter().skip(1).copied().fold(0.0, f64::max);
    let mean = 1000.0 * figure(&context, "jobs_claim_duration_seconds_sum")
        / figure(&context, "jobs_claim_duration_seconds_count");
    let longest = "select 1000 * max(extract(epoch from finished_at - began_at)::float8) from job_done where kind = 'bench.stamp'";
    let longest = number(&root, longest).await?;
    let share = share_of_one_who_keeps_coming(&root, &context, &database).await?;
    context.shut_down(false).await;
    database.remove();
    let first = waits.first().copied().unwrap_or(f64::NAN);
    Ok([
        Measurement::at_most(
            "one job beside 10,000 tenants with 1,000,000, to its start",
            first,
            "ms",
            1000.0,
        ),
        Measurement::at_most("four more, each after the one before: the worst", rest, "ms", 1000.0),
        Measurement {
            name: "the longest of these, with the exchange that ends it",
            value: longest,
            unit: "ms",
            bound: None,
        },
        Measurement::at_most("a claim meanwhile, mean", mean, "ms", 5.0),
        Measurement::at_most(
            "who comes with one job of 20 ms after the other, to the mean of the others",
            share,
            "times",
            2.5,
        ),
    ])
}

/// How long the stamp after so many has waited, once it is there.
async fn wait_of_next(root: &Client, had: usize) -> io::Result<f64> {
    let waited = format!(
        "select (select (result #>> '{{}}')::float8 / 1000 from job_done where kind = 'bench.stamp'
          order by finished_at offset {had} limit 1)"
    );
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let waited = number(root, &waited).await?;
        if !waited.is_nan() {
            return Ok(waited);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(io::Error::other("the job has not come to an end"))
}

/// In a time in which the others have some more than one turn each, once it has used up what a newcomer may.
async fn share_of_one_who_keeps_coming(
    root: &Client,
    context: &Context,
    database: &Database,
) -> io::Result<f64> {
    let count = "select count(*)::float8 from job_done d join tenants t on t.id = d.tenant_id
        where kind = 'bench.sleep' and";
    let (own, others) =
        (format!("{count} t.slug not like 'bench-%'"), format!("{count} t.slug like 'bench-%'"));
    let (mut own_had, mut others_had) = (0.0, f64::NAN);
    let (mut enqueued, mut last) = (0.0, Instant::now());
    let deadline = last + LIMIT;
    let mut end = deadline;
    while Instant::now() < end {
        if number(root, &own).await? >= enqueued {
            request(context, database, "/bench/enqueue/sleep", &serde_json::json!({})).await?;
            (enqueued, last) = (enqueued + 1.0, Instant::now());
        } else if others_had.is_nan() && last.elapsed() > Duration::from_secs(2) {
            // It waits for its turn now.
            (own_had, others_had) = (number(root, &own).await?, number(root, &others).await?);
            end = deadline.min(Instant::now() + Duration::from_secs(75));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let others = (number(root, &others).await? - others_had) / 10_000.0;
    Ok((number(root, &own).await? - own_had) / others)
}

/// Jobs of 20 ms: how much more eight processes do than one.
pub(crate) async fn many_processes() -> io::Result<Measurement> {
    let mut rates = Vec::new();
    for (processes, each) in [(1u32, 200u32), (8, 1000)] {
        let database = Database::create(&measured()).await;
        let root = database.superuser().await;
        fill(&root, &database, "bench.sleep", 20, each).await?;
        let children: Vec<Child> = (0..processes).map(|_| child(&database)).collect::<io::Result<_>>()?;
        done(&root, 20 * each / 10).await?; // all have started
        let (from, begun) = (number(&root, "select count(*)::float8 from job_done").await?, Instant::now());
        done(&root, 20 * each * 9 / 10).await?;
        let to = number(&root, "select count(*)::float8 from job_done").await?;
        rates.push((to - from) / begun.elapsed().as_secs_f64());
        for mut child in children {
            drop(child.stdin.take()); // it ends by itself
            child.wait().await?;
        }
        database.remove();
    }
    let gain = rates.last().copied().unwrap_or(0.0) / rates.first().copied().unwrap_or(f64::NAN);
    Ok(Measurement::at_least("jobs of 20 ms: eight processes to one", gain, "times", 5.0))
}
