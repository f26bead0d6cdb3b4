//! How many instructions a job adds to the request that enqueues it: this program under callgrind, which counts the same on
//! a busy machine.

use std::io;

use erp_testkit::{Database, Measurement};
use tokio::process::Command;

use crate::process::{request, settings, start};
use crate::product::measured;

/// What is done once, such as the start, is in both counts, and subtracted.
const FEW: u32 = 100;
const MANY: u32 = 600;

/// How much more a create takes that enqueues a job, or emits an event, which the same process then numbers, in percent.
pub(crate) async fn measure() -> io::Result<[Measurement; 2]> {
    Database::create(&measured()).await.remove(); // the template of all others is made once, and counts for none
    let plain = instructions("plain").await?;
    let with_job = 100.0 * (instructions("job").await? / plain - 1.0);
    let with_event = 100.0 * (instructions("event").await? / plain - 1.0);
    Ok([
        Measurement::at_most("instructions that a job adds to the create of an item", with_job, "%", 10.0),
        Measurement::at_most("instructions that an event adds to it, numbered", with_event, "%", 25.0),
    ])
}

/// Creates so many items, by requests of their own.
pub(crate) async fn some(count: &str, with: &str) -> io::Result<()> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let database = Database::create(&measured()).await;
    let context = start(settings(&database, 0)).await?;
    let path = match with {
        "job" => "/bench/items/job",
        "event" => "/bench/items/event",
        _ => "/bench/items",
    };
    for number in 0..count {
        request(&context, &database, path, &serde_json::json!({"number": number})).await?;
    }
    context.shut_down(false).await;
    database.remove();
    Ok(())
}

/// Of one create.
async fn instructions(how: &str) -> io::Result<f64> {
    let (few, many) = (counted(FEW, how).await?, counted(MANY, how).await?);
    Ok((many - few) / f64::from(MANY - FEW))
}

/// What callgrind counts of this whole program while it creates so many.
async fn counted(count: u32, how: &str) -> io::Result<f64> {
    let program = std::env::current_exe()?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program).args(["creates", &count.to_string(), how]);
    let output = valgrind.output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, number)| number.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| io::Error::other(told.into_owned()))
}
