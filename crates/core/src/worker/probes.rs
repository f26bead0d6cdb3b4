//! Whether anybody works on jobs, and whether the clock enqueues them: what `/health/detailed` tells. Neither makes a process
//! unready, since requests are served without.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::QUEUE;
use super::upkeep::LEASE;
use crate::app::{App, Probe};
use crate::auth::Trace;
use crate::error::{Error, Result};
use crate::from_row;

/// How late a schedule may be, in seconds: a worker looks once a second.
const LATE: f64 = 60.0;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        name: "workers",
        required: false,
        timeout: Duration::from_secs(2),
        check: |app| workers(app).boxed(),
    },
    Probe {
        name: "scheduler",
        required: false,
        timeout: Duration::from_secs(2),
        check: |app| scheduler(app).boxed(),
    },
];

const WORKERS: &str = "select exists (select from job_ready) as waits, \
     exists (select from job_workers where beat > now() - $1 * interval '1 second') as works";
const OVERDUE: &str = "select name from job_schedules where next_at < now() - $1 * interval '1 second' order by next_at limit 1";

struct QueueHealth {
    waits: bool,
    works: bool,
}
from_row!(QueueHealth { waits, works });

struct OverdueSchedule {
    name: String,
}
from_row!(OverdueSchedule { name });

/// Jobs that wait while nobody works would wait for ever.
async fn workers(app: &App) -> Result<()> {
    let system = app.queue(&QUEUE);
    let state: QueueHealth = system.begin(&Trace::new("health")).last().row(WORKERS, &[&LEASE]).await?;
    match state {
        QueueHealth { waits: true, works: false } => Err(Error::unavailable().because(
            "jobs wait, and no process works on them: start one with JOB_WORKERS above 0, or 'erp-backend worker'",
        )),
        _ => Ok(()),
    }
}

async fn scheduler(app: &App) -> Result<()> {
    let system = app.queue(&QUEUE);
    let overdue: Option<OverdueSchedule> =
        system.begin(&Trace::new("health")).last().optional(OVERDUE, &[&LATE]).await?;
    match overdue {
        Some(OverdueSchedule { name }) => {
            let what = format!("the schedule '{name}' is overdue: no process with workers fires it");
            Err(Error::unavailable().because(what))
        }
        None => Ok(()),
    }
}
