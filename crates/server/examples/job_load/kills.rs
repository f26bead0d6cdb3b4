//! Workers are killed, and every job has had its effect once.

use std::io::{self, Write as _};
use std::time::Duration;

use erp_testkit::Database;
use tokio::process::Child;

use crate::database::{done, fill, number};
use crate::process::child;
use crate::product::measured;

/// Kills workers a hundred times, and counts what each job has left: two marks and two audit rows, each once.
pub(crate) async fn measure() -> io::Result<()> {
    let (kills, jobs) = (100, 20_000);
    let database = Database::create(&measured()).await;
    let root = database.superuser().await;
    fill(&root, &database, "bench.mark", 20, jobs / 20).await?;
    let mut children: Vec<Child> = (0..4).map(|_| child(&database)).collect::<io::Result<_>>()?;
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let one = &mut children[kill % 4];
        one.kill().await?; // SIGKILL
        *one = child(&database)?;
    }
    done(&root, jobs).await?;
    let wrong = "select count(*)::float8 from (select job from marks group by job having count(*) <> 2) m";
    let (wrong, marks) =
        (number(&root, wrong).await?, number(&root, "select count(distinct job)::float8 from marks").await?);
    let audited =
        number(&root, "select count(*)::float8 from audit_log where action = 'mark.created'").await?;
    let again = number(&root, "select sum(attempt - 1)::float8 from job_done").await?;
    for mut child in children {
        drop(child.stdin.take());
        child.wait().await?;
    }
    database.remove();
    writeln!(
        io::stdout(),
        "deep: {kills} kills, {jobs} jobs, {again} attempts more, {marks} jobs with marks, {wrong} with other than two, \
         {audited} audit rows"
    )?;
    let right = wrong == 0.0 && marks == f64::from(jobs) && audited == 2.0 * f64::from(jobs);
    if right { Ok(()) } else { Err(io::Error::other("not every job had its effect once")) }
}
