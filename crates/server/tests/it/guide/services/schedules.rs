//! The section "Schedules".

use std::time::Duration;

use erp_core::error::Result;
use erp_core::jobs::{Job, JobKind, MissedRuns, Schedule};
use erp_core::module::Module;
use erp_testkit::TestApp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

erp_core::system_work! {
    /// What the section's module does as the system.
    SYSTEM {
        CLOSING = "billing-close": "Closes the days of all tenants, at night when nobody is there.";
    }
}

#[derive(Serialize, Deserialize)]
struct Close {
    days: u32,
}

static CLOSE: JobKind<Close> =
    JobKind::<Close>::new("billing.close", "Closes days.", |job, args| Box::pin(close(job, args)))
        .system(&CLOSING);

static NIGHTLY: Schedule = Schedule::for_each_tenant(
    "billing.nightly",
    "Closes yesterday.",
    "30 2 * * *",
    &CLOSE,
    &Close { days: 1 },
)
.zone("Europe/Zurich")
.missed(MissedRuns::All { at_most: 7 });

static BILLING: Module =
    Module { name: "billing", jobs: &[&CLOSE], schedules: &[&NIGHTLY], system: SYSTEM, ..Module::BARE };

async fn close(job: &Job, Close { days }: Close) -> Result<()> {
    let run = job.scheduled_at().map(|run| run.to_string());
    job.result(&(days, run))
}

const FIRE: &str = "
update job_schedules set next_at = now() where name = 'billing.nightly';
";

#[tokio::test]
async fn the_module_of_the_section_on_schedules_runs() {
    let app = TestApp::builder().module(&BILLING).setting("JOB_WORKERS", "1").start().await;
    let holds = async |sql: &str| app.sql().query_one(sql, &[]).await.unwrap().get::<_, bool>(0);
    let until = async |sql: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(sql).await {
            assert!(Instant::now() < deadline, "it has not come to {sql}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    until("select count(*) = 1 from job_schedules where name = 'billing.nightly' and next_at > now()").await;
    app.sql().batch_execute(FIRE).await.unwrap();
    let done = "select count(*) = (select count(*) from tenants where status = 'active') and count(*) > 1
        from job_done where kind = 'billing.close' and result -> 0 = '1' and result ->> 1 is not null";
    until(done).await;
    app.finish().await;
}
