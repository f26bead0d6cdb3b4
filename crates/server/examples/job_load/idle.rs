//! What a worker costs that has nothing to do, among ten thousand tenants: itself and PostgreSQL together.

use std::io;
use std::time::{Duration, Instant};

use erp_testkit::{Database, Measurement};
use tokio_postgres::Client;

use crate::database::{fill, number};
use crate::process::{settings, start};
use crate::product::measured;

const WATCHED: Duration = Duration::from_secs(20);

/// With nothing queued, and with a million jobs of a kind that is paused: those it has to look past.
pub(crate) async fn measure() -> io::Result<[Measurement; 2]> {
    let database = Database::create(&measured()).await;
    let root = database.superuser().await;
    let server = number(&root, "select pg_backend_pid()::float8").await?;
    let postmaster = parent_of(server as u32)?;
    let context = start(settings(&database, 10)).await?;
    let nothing = share_of_a_core(&root, postmaster).await?;
    let pause = "insert into job_kinds (kind, paused) values ('bench.sleep', true)
        on conflict (kind) do update set paused = true";
    root.batch_execute(pause).await.map_err(io::Error::other)?;
    fill(&root, &database, "bench.sleep", 10_000, 100).await?;
    let paused = share_of_a_core(&root, postmaster).await?;
    context.shut_down(false).await;
    database.remove();
    Ok([
        Measurement::at_most("an idle worker and PostgreSQL, nothing queued", nothing, "% core", 10.0),
        Measurement::at_most("the same beside 1,000,000 jobs that are paused", paused, "% core", 10.0),
    ])
}

/// After a pause in which what came before ends.
async fn share_of_a_core(root: &Client, postmaster: u32) -> io::Result<f64> {
    root.batch_execute("checkpoint").await.map_err(io::Error::other)?;
    tokio::time::sleep(WATCHED).await;
    let (before, begun) = (spent(postmaster)?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    Ok(100.0 * (spent(postmaster)? - before) / begun.elapsed().as_secs_f64())
}

/// Seconds of processor time of this process and of PostgreSQL's that live.
fn spent(postmaster: u32) -> io::Result<f64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(fields) = stat(pid) else { continue }; // it has ended
        let ours = pid == std::process::id() || pid == postmaster || fields[1] == u64::from(postmaster);
        ticks += if ours { fields[11] + fields[12] } else { 0 };
    }
    Ok(ticks as f64 / 100.0)
}

fn parent_of(pid: u32) -> io::Result<u32> {
    u32::try_from(stat(pid)?[1]).map_err(io::Error::other)
}

/// The fields of /proc/PID/stat after the program's name (proc(5)): the second is the parent, the twelfth and thirteenth are
/// the ticks in user and in kernel mode.
fn stat(pid: u32) -> io::Result<Vec<u64>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = line.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    Ok(fields.map(|field| field.parse().unwrap_or(0)).collect())
}
