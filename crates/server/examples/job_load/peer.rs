//! graphile-worker, in the same run: bench/peers/graphile-worker.

use std::io;
use std::path::Path;
use std::process::Stdio;

use erp_testkit::Database;
use tokio::process::Command;

const FOLDER: &str = "bench/peers/graphile-worker";

/// How many no-ops a second one process of it burns down; `None` where its packages are not installed.
pub(crate) async fn burn_down(count: u32) -> io::Result<Option<f64>> {
    if !Path::new(FOLDER).join("node_modules").is_dir() {
        return Ok(None);
    }
    let database = Database::empty().await;
    let url = format!("{}/{}", server_url(), database.name);
    let mut node = Command::new("node");
    node.args(["burn-down.js", &url, &count.to_string()]).current_dir(FOLDER).stderr(Stdio::inherit());
    let output = node.output().await?;
    database.remove();
    let printed = String::from_utf8_lossy(&output.stdout);
    let rate = printed.trim().parse().map_err(|_| io::Error::other("graphile-worker told no rate"))?;
    Ok(Some(rate))
}

/// The superuser's, without the database: it makes a schema of its own.
#[allow(clippy::disallowed_methods)] // a bench's environment, where with-postgres says it
fn server_url() -> String {
    let url = std::env::var("TEST_DATABASE_URL").unwrap_or_default();
    url.rsplit_once('/').map(|(server, _)| server.to_owned()).unwrap_or(url)
}
