//! What the queue of jobs can do, with PostgreSQL on the same machine: `script/bench jobs [MEASURE…] [--json]`. With `kills`
//! and `snapshot`, what becomes of it while workers are killed, and while somebody holds an old snapshot for ten minutes:
//! `script/check-deep`.
//!
//! Each measure has a database of its own, and processes of its own where it says so: this program again, with `work`.

mod create;
mod database;
mod idle;
mod kills;
mod measures;
mod peer;
mod process;
mod product;
mod snapshot;

use std::io;

use erp_testkit::report;

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).cloned().unwrap_or_default();
    match argument(0).as_str() {
        "work" => return process::work(argument(1)).await,
        "creates" => return create::some(&argument(1), &argument(2)).await,
        "kills" => return kills::measure().await,
        "snapshot" => return snapshot::measure(&argument(1)).await,
        _ => {}
    }
    let named = arguments.iter().filter(|argument| *argument != "--json").collect::<Vec<_>>();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|given| *given == name);
    let mut rows = Vec::new();
    if wanted("burn-down") {
        rows.extend(measures::burn_down().await?);
    }
    if wanted("one-by-one") {
        rows.extend(measures::one_by_one().await?);
    }
    if wanted("newcomer") {
        rows.extend(measures::newcomer().await?);
    }
    if wanted("idle") {
        rows.extend(idle::measure().await?);
    }
    if wanted("processes") {
        rows.push(measures::many_processes().await?);
    }
    if wanted("create") {
        rows.extend(create::measure().await?);
    }
    report(&rows, arguments.iter().any(|argument| argument == "--json"))
}
