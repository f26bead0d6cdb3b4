//! Schedules: for whom they fire, how often, and by which clock. The process's clock is months behind the database's in all
//! of these tests.

use erp_core::jobs::{JobKind, MissedRuns, Schedule};
use erp_core::module::Module;
use erp_testkit::TestApp;
use jiff::SignedDuration;
use serde_json::json;

use super::{until, value};

static CLOCK: Module = Module {
    name: "clock",
    jobs: &[&TICK],
    schedules: &[&EACH, &PLATFORM, &ALL, &SKIPPED],
    system: SYSTEM,
    ..Module::BARE
};

erp_core::system_work! {
    /// What the test's module does as the system.
    SYSTEM {
        TICKING = "clock-tick": "Ticks.";
    }
}

static TICK: JobKind<u32> = JobKind::<u32>::new("clock.tick", "Ticks.", |job, number| {
    Box::pin(async move {
        job.result(&(
            number,
            job.call.caller.actor().to_string(),
            job.scheduled_at().map(|run| run.to_string()),
        ))
    })
})
.system(&TICKING);

static EACH: Schedule = Schedule::for_each_tenant("clock.each", "Ticks.", "0 0 1 1 *", &TICK, &1);
static PLATFORM: Schedule =
    Schedule::for_platform("clock.platform", "Ticks.", "30 12 * * *", &TICK, &2).zone("Pacific/Chatham");
static ALL: Schedule = Schedule::for_platform("clock.all", "Ticks.", "30 12 * * *", &TICK, &3)
    .missed(MissedRuns::All { at_most: 3 });
static SKIPPED: Schedule =
    Schedule::for_each_tenant("clock.skipped", "Ticks.", "0 0 1 1 *", &TICK, &4).missed(MissedRuns::Skipped);

/// The product with the test's module; all its schedules have begun.
async fn working() -> TestApp {
    let app = TestApp::builder().module(&CLOCK).setting("JOB_WORKERS", "2").start().await;
    until(&app, "select count(*) = 4 from job_schedules where name like 'clock.%' and next_at > now()").await;
    app
}

async fn set_next(app: &TestApp, name: &str, at: &str) {
    let sql = format!("update job_schedules set next_at = date_trunc('second', {at}) where name = '{name}'");
    app.sql().batch_execute(&sql).await.expect("the test's SQL");
}

#[tokio::test]
async fn t_20_a_run_is_a_job_in_each_active_tenant_for_the_work_of_its_kind() {
    let app = working().await;
    app.sql()
        .batch_execute("update tenants set status = 'suspended' where slug = 'globex'")
        .await
        .expect("the test's SQL");
    let active = value(&app, "select to_jsonb(count(*)) from tenants where status = 'active'").await;
    set_next(&app, "clock.each", "now()").await;
    until(&app, &format!("select count(*) = {active} from job_done where kind = 'clock.tick'")).await;
    let run = value(
        &app,
        "select to_jsonb(to_char(last_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')) from job_schedules
         where name = 'clock.each'",
    )
    .await;
    let results =
        value(&app, "select jsonb_agg(distinct result) from job_done where kind = 'clock.tick'").await;
    assert_eq!(results, json!([[1, "system:clock-tick", run]]), "each knows which run it is");
    let alike = "select count(*) = count(distinct tenant_id) and count(distinct unique_key) = 1
          and bool_and(origin = 'schedule:' || unique_key) and bool_and(substr(id::text, 15, 1) = '7')
        from job_done where kind = 'clock.tick'";
    until(&app, alike).await;
    let suspended = "select to_jsonb(count(*)) from job_done j join tenants t on t.id = j.tenant_id where t.slug = 'globex'";
    assert_eq!(value(&app, suspended).await, 0);
    until(&app, "select next_at = make_timestamptz(extract(year from now() at time zone 'UTC')::int + 1, 1, 1, 0, 0, 0, 'UTC')
        from job_schedules where name = 'clock.each'").await;
    app.finish().await;
}

#[tokio::test]
async fn missed_runs_come_as_the_schedule_says_whatever_the_processs_clock_says() {
    let app = working().await;
    app.clock().advance(SignedDuration::from_hours(1));
    let noon = "(now() at time zone 'UTC')::date::timestamp at time zone 'UTC' - interval '11.5 hours'";
    for (name, at) in [
        ("clock.platform", "now() - interval '9 days'"),
        ("clock.all", &format!("{noon} - interval '9 days'")),
        ("clock.skipped", "now() - interval '2 minutes'"),
    ] {
        set_next(&app, name, at).await;
    }
    app.clock().advance(SignedDuration::from_hours(-2));
    until(&app, "select bool_and(next_at > now()) from job_schedules").await;
    until(&app, "select count(*) >= 4 from job_done where kind = 'clock.tick'").await;
    let runs = value(
        &app,
        "select jsonb_object_agg(n, runs) from (
           select result -> 0 #>> '{}' as n, count(*) as runs from job_done where kind = 'clock.tick' group by 1) r",
    )
    .await;
    assert_eq!(runs, json!({"2": 1, "3": 3}), "once; the last three; none");
    let last = "select count(distinct result ->> 2) = 3 and max((result ->> 2)::timestamptz) > now() - interval '1 day'
        from job_done where result -> 0 = '3'";
    until(&app, last).await;
    let in_its_zone =
        "select to_jsonb(to_char((result ->> 2)::timestamptz at time zone 'Pacific/Chatham', 'HH24:MI'))
        from job_done where result -> 0 = '2'";
    assert_eq!(value(&app, in_its_zone).await, "12:30");
    assert_eq!(value(&app, "select to_jsonb(count(*)) from job_ready").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_run_whose_job_is_still_there_is_not_enqueued_twice() {
    let app = working().await;
    let there = "insert into job_keys (kind, key, job) values ('clock.tick', 'clock.each@2026-01-01T00:00:00Z', gen_random_uuid())";
    app.execute_in("acme", there).await;
    let active = value(&app, "select to_jsonb(count(*)) from tenants where status = 'active'").await;
    set_next(&app, "clock.each", "'2026-01-01T00:00:00Z'::timestamptz").await;
    until(&app, &format!("select count(*) = {active} - 1 from job_done where kind = 'clock.tick'")).await;
    let twice = "select to_jsonb(count(*)) from job_done j join tenants t on t.id = j.tenant_id where t.slug = 'acme'";
    assert_eq!(value(&app, twice).await, 0);
    app.finish().await;
}

/// More than the thousand lanes that the process which fires wakes itself, and more than one look finds.
#[tokio::test]
async fn a_run_for_a_thousand_tenants_is_one_statement_and_each_gets_its_job() {
    let app = working().await;
    let tenants = "insert into tenants (id, slug, status)
        select gen_random_uuid(), 'many-' || n, 'active' from generate_series(1, 1000) n";
    app.sql().batch_execute(tenants).await.expect("the test's SQL");
    set_next(&app, "clock.each", "now()").await;
    let all = "select count(*) = (select count(*) from tenants where status = 'active')
        and count(*) = count(distinct tenant_id) from job_done where kind = 'clock.tick'";
    until(&app, all).await;
    app.finish().await;
}

#[tokio::test]
async fn what_another_version_of_the_product_has_noted_is_left_to_it() {
    let app = working().await;
    let other = "update job_schedules set spec = '0 1 * * * UTC', next_at = now() - interval '1 hour' where name = 'clock.all'";
    app.sql().batch_execute(other).await.expect("the test's SQL");
    set_next(&app, "clock.platform", "now()").await;
    until(&app, "select count(*) = 1 from job_done where kind = 'clock.tick'").await;
    until(&app, "select next_at < now() and last_at is null from job_schedules where name = 'clock.all'")
        .await;
    app.finish().await;
}

#[tokio::test]
async fn keys_that_have_expired_are_removed_each_night() {
    let app = working().await;
    let keys = "insert into idempotency_keys (principal, route, key, fingerprint, claim, claimed_until, expires_at)
        select 'p', 'r', k, '', gen_random_uuid(), now(), now() + k::interval from unnest('{-1 s,1 day}'::text[]) k";
    app.execute_in("acme", keys).await;
    app.execute_in("globex", keys).await;
    set_next(&app, "maintenance.keys", "now()").await;
    until(
        &app,
        "select count(*) = 2 and bool_and(key = '1 day') from idempotency_keys where principal = 'p'",
    )
    .await;
    app.finish().await;
}
