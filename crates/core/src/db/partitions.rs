//! Partitions of the tables that grow with time: what has become of them in one round of `app.maintain_partitions`, which
//! makes those of the next months and days and drops those that are over.

use serde::Serialize;
use tokio_util::task::TaskTracker;

use super::connect::connection::Connection;
use super::owner::{connect, explain};
use crate::from_row;
use crate::lifecycle::StartError;

/// Makes and drops partitions; `$1` is for how many days finished jobs are kept.
pub(crate) const MAINTAIN: &str = "select part, outcome from app.maintain_partitions($1)";

/// What has become of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionOutcome {
    /// The partition, or the table of all of them.
    #[serde(rename = "partition")]
    pub part: String,
    /// `made`, `dropped`, `locked`, `occupied` or `filled`, as the function says it.
    pub outcome: String,
}
from_row!(PartitionOutcome { part, outcome });

impl PartitionOutcome {
    /// What was not done and what to do about it; `None` for what was done.
    pub fn trouble(&self) -> Option<&'static str> {
        match (self.outcome.as_str(), self.part.as_str()) {
            ("made" | "dropped", _) => None,
            ("locked", _) => Some(
                "could not be locked within two seconds, and is left for the next time: see in pg_stat_activity which \
                 transaction has been open for long, and run 'erp-backend db maintain' when it is over",
            ),
            ("occupied", _) => Some(
                "was not made, since the default partition holds rows of its time already: they are found as before, and \
                 nothing needs to be done",
            ),
            ("filled", "job_done_default") => Some(
                "holds jobs that ended on a day without a partition, and these are not dropped after JOB_RETENTION_DAYS: \
                 once nobody needs them, say 'truncate public.job_done_default' as the owner",
            ),
            _ => Some(
                "holds rows of a time without a partition: they are found as before; find out why no job of the schedule \
                 'maintenance.partitions' has run in time, with 'erp-backend db maintain' and in the log",
            ),
        }
    }
}

/// One round, on a connection of its own, as the system's login or as the owner.
///
/// # Errors
/// As the connection or the database is refused.
pub async fn maintain_partitions(
    connection: &Connection,
    job_days: u32,
    tasks: &TaskTracker,
) -> Result<Vec<PartitionOutcome>, StartError> {
    let client = connect(connection, tasks).await?;
    let days = i32::try_from(job_days).unwrap_or(i32::MAX);
    let rows = client.query(MAINTAIN, &[&days]).await.map_err(|error| explain(connection, error))?;
    Ok(rows.iter().map(|row| PartitionOutcome { part: row.get(0), outcome: row.get(1) }).collect())
}
