//! Schedules and `db maintain`, by processes as they are deployed.

use std::time::Duration;

use serde_json::Value;

use super::database::{Database, Session};
use super::process::{Ended, Home, Process, eventually, run};

/// The processes have folders of their own, and one database.
const KEY: &str = "AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGh8gISI=";

fn worker(database: &Database) -> Vec<(&'static str, &str)> {
    let more = [("JOB_WORKERS", "2"), ("SHUTDOWN_DRAIN_DELAY", "0s"), ("ENCRYPTION_KEY", KEY)];
    database.both().into_iter().chain(more).collect()
}

#[test]
fn of_several_processes_one_fires_each_run_and_another_expression_begins_anew() {
    let database = Database::migrated("schedules");
    let homes: Vec<Home> = (0..3).map(|_| Home::new()).collect();
    let processes: Vec<Process> = homes.iter().map(|home| Process::serve(home, &worker(&database))).collect();
    eventually("the schedules have begun", || {
        database.value("select count(*) >= 2 and bool_and(next_at > now()) from job_schedules") == "true"
    });
    let fired = "select bool_and(next_at > now()) from job_schedules";
    for _ in 0..5 {
        database.run("update job_schedules set next_at = date_trunc('second', clock_timestamp())");
        eventually("they have fired", || database.value(fired) == "true");
        std::thread::sleep(Duration::from_millis(1100)); // the next run has another time
    }
    let jobs = |kind: &str| {
        let all = ["ready", "running", "scheduled", "dead", "done"]
            .map(|table| format!("select tenant_id, unique_key from job_{table} where kind = '{kind}'"));
        let all = all.join(" union all ");
        database.value(&format!(
            "select count(*) || ' of ' || count(distinct (tenant_id, unique_key)) from ({all}) j"
        ))
    };
    assert_eq!(jobs("maintenance.partitions"), "5 of 5");
    let tenants: u32 =
        database.value("select count(*) from tenants where status = 'active'").parse().unwrap();
    assert_eq!(jobs("maintenance.keys"), format!("{0} of {0}", 5 * tenants));
    for process in processes {
        assert_eq!(process.stop("TERM").code, 0);
    }
    database.run("update job_schedules set spec = 'as it was before', next_at = now() - interval '1 day', last_at = null");
    let home = Home::new();
    let process = Process::serve(&home, &worker(&database));
    eventually("it begins anew", || {
        database.value("select bool_and(next_at > now() and spec like '% UTC') from job_schedules") == "true"
    });
    assert_eq!(database.value("select count(*) from job_schedules where last_at is not null"), "0");
    assert_eq!(jobs("maintenance.partitions"), "5 of 5", "what it began with has not fired");
    assert_eq!(process.stop("TERM").code, 0);
}

fn maintain(database: &Database) -> (Ended, Vec<(String, String)>) {
    let ended = run(&Home::new(), &["db", "maintain", "--json"], &database.both());
    let told: Vec<Value> =
        serde_json::from_str(&ended.out.join("\n")).unwrap_or_else(|_| panic!("{ended:#?}"));
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    (ended, told.iter().map(|row| (text(row, "partition"), text(row, "outcome"))).collect())
}

fn made(part: &str, outcome: &str) -> (String, String) {
    (part.to_owned(), outcome.to_owned())
}

/// The name of the partition so many days from today.
fn part(database: &Database, days: i32) -> String {
    let day = format!("(now() at time zone 'UTC')::date + {days}");
    database.value(&format!("select 'job_done_' || to_char({day}, 'YYYY_MM_DD')"))
}

#[test]
fn db_maintain_makes_partitions_ahead_drops_old_ones_and_keeps_the_proof() {
    let database = Database::migrated("maintain");
    assert_eq!(maintain(&database).1, [], "the migrations have made all");
    let (ahead, old, kept) = (part(&database, 3), part(&database, -9), part(&database, -5));
    let month = database
        .value("select 'audit_log_' || to_char(now() at time zone 'UTC' + interval '12 months', 'YYYY_MM')");
    let owner = Session::open(&database.owner_url);
    owner.run(&format!(
        "drop table {ahead}; drop table {month};
         create table {old} partition of job_done for values from ('{0} 00:00Z') to ('{1} 00:00Z'); select app.isolate('{old}');
         create table {kept} partition of job_done for values from ('{2} 00:00Z') to ('{3} 00:00Z'); select app.isolate('{kept}');",
        old[9..].replace('_', "-"),
        part(&database, -8)[9..].replace('_', "-"),
        kept[9..].replace('_', "-"),
        part(&database, -4)[9..].replace('_', "-"),
    ));
    let reader = Session::open(&database.owner_url);
    reader.run(&format!("begin; lock table {old} in access share mode"));
    let (ended, told) = maintain(&database);
    assert_eq!(told, [made(&month, "made"), made(&ahead, "made"), made(&old, "locked")], "{ended:#?}");
    assert_eq!(ended.code, 1, "something is left to be done");
    let said = run(&Home::new(), &["db", "maintain"], &database.both());
    assert!(said.out.iter().any(|line| line.contains(&old) && line.contains("two seconds")), "{said:#?}");
    reader.run("commit");
    assert_eq!(maintain(&database).1, [made(&old, "dropped")]);
    let (ended, told) = maintain(&database);
    assert_eq!((ended.code, told), (0, Vec::new()));
    assert_eq!(
        database.value(&format!("select to_regclass('{kept}') is not null and to_regclass('{old}') is null")),
        "true"
    );
    let proof = run(&Home::new(), &["doctor", "isolation"], &database.both());
    assert_eq!(proof.code, 0, "{proof:#?}");
}

#[test]
fn db_maintain_tells_of_rows_without_a_partition_and_what_to_do() {
    let database = Database::migrated("maintain_default");
    let tomorrow = part(&database, 1);
    database.run(&format!("drop table {tomorrow}"));
    let done = "insert into job_done (tenant_id, id, kind, priority, attempt, attempts, system, origin, args, enqueued_at, outcome, finished_at)
        select id, gen_random_uuid(), 'a.b', 1, 1, 1, 'x', 'x', '{}', now(), 'succeeded', now() + interval '1 day' from tenants limit 1";
    database.run(done);
    let (ended, told) = maintain(&database);
    assert_eq!(told, [made(&tomorrow, "occupied"), made("job_done_default", "filled")], "{ended:#?}");
    let said = run(&Home::new(), &["db", "maintain"], &database.both());
    assert_eq!(said.code, 1);
    assert!(said.out.iter().any(|line| line.contains("truncate public.job_done_default")), "{said:#?}");
    database.run("truncate job_done_default");
    assert_eq!(maintain(&database).1, [made(&tomorrow, "made")]);
}
