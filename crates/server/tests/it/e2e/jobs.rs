//! Jobs from the outside: the worker as a process of its own, and what an operator does at a terminal.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::database::Database;
use super::process::{Ended, Home, Process, eventually, run};

const ACME: &str = "0190163d-8694-739b-aea5-966c26f8ad01";
const GLOBEX: &str = "0190163d-8694-739b-aea5-966c26f8ad02";

/// A migrated database with two tenants.
fn scene(name: &str) -> (Home, Database) {
    let (home, database) = (Home::new(), Database::migrated(name));
    database
        .run(&format!("insert into tenants (id, slug) values ('{ACME}', 'acme'), ('{GLOBEX}', 'globex')"));
    (home, database)
}

fn jobs(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["jobs"], arguments].concat(), &database.both()[..1])
}

/// Writes so many jobs of a tenant and kind.
fn write(database: &Database, table: &str, tenant: &str, kind: &str, count: u32) {
    let (more, value) = match table {
        "job_dead" => (", died_at, error", ", now(), 'core.external_failed'"),
        "job_running" => (", worker, began_at", ", gen_random_uuid(), now()"),
        _ => ("", ""),
    };
    database.run(&format!(
        "insert into {table} (tenant_id, id, kind, priority, attempt, attempts, principal, origin, args, enqueued_at{more}) \
         select '{tenant}', gen_random_uuid(), '{kind}', 1, 1, 1, gen_random_uuid(), 'req_test', '{{\"salary\": 9}}', \
         now() - interval '1 hour'{value} from generate_series(1, {count})"
    ));
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn worker(home: &Home, database: &Database) -> (Process, String) {
    let [url, _] = database.both();
    let process = Process::start(
        home,
        &["worker"],
        &[url, ("PORT", "0"), ("HOST", "127.0.0.1"), ("LOG_FORMAT", "json")],
    );
    let line: Value = serde_json::from_str(&process.line("Worker started")).unwrap();
    let address = line["address"].as_str().unwrap().to_owned();
    eventually("it has a lease", || database.value("select count(*) from job_workers") != "0");
    (process, address)
}

#[test]
fn a_worker_answers_probes_and_serves_no_api_and_leaves_when_it_is_asked_to() {
    let (home, database) = scene("worker");
    let (process, address) = worker(&home, &database);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(get(&address, path).starts_with("HTTP/1.1 200"), "{path}");
    }
    for path in ["/api/v1/items", "/api/v1/me", "/api/v1/jobs"] {
        assert!(get(&address, path).starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(get(&address, "/metrics").contains("\njobs_slots 10\n"));
    let ended = process.stop("TERM");
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert_eq!(database.value("select count(*) from job_workers"), "0", "it has given back its lease");
}

#[test]
fn a_worker_without_slots_is_refused() {
    let (home, database) = scene("no_slots");
    let ended = run(&home, &["worker"], &[database.both()[0], ("JOB_WORKERS", "0")]);
    assert_eq!(ended.code, 78, "{ended:#?}");
    assert!(ended.err.iter().any(|line| line.contains("JOB_WORKERS is 0")), "{ended:#?}");
}

#[test]
fn the_jobs_of_a_worker_that_was_killed_go_to_others() {
    let (home, database) = scene("killed_worker");
    let (killed, _) = worker(&home, &database);
    write(&database, "job_running", ACME, "tests.errand", 3);
    database.run("update job_running set attempts = 2, worker = (select id from job_workers)");
    killed.signal("KILL");
    drop(killed.wait());
    let (second, _) = worker(&home, &database);
    eventually("its jobs are ready again", || database.value("select count(*) from job_ready") == "3");
    assert_eq!(database.value("select string_agg(distinct error, ',') from job_ready"), "its worker died");
    assert_eq!(second.stop("TERM").code, 0);
}

#[test]
fn an_operator_lists_and_shows_jobs_across_tenants() {
    let (home, database) = scene("jobs_list");
    write(&database, "job_dead", ACME, "billing.remind", 2);
    write(&database, "job_ready", GLOBEX, "catalog.import", 1);
    let all = jobs(&home, &database, &["list"]);
    assert_eq!((all.code, all.out.len()), (0, 3), "{all:#?}");
    let dead = jobs(&home, &database, &["list", "--tenant", "acme", "--state", "dead", "--json"]);
    let dead: Value = serde_json::from_str(&dead.out.join("\n")).unwrap();
    assert_eq!(dead.as_array().map(Vec::len), Some(2));
    assert_eq!((&dead[0]["tenant"], &dead[0]["kind"]), (&"acme".into(), &"billing.remind".into()));
    assert!(
        !dead.to_string().contains("salary"),
        "arguments are shown only where they are asked for: {dead}"
    );
    let id = dead[0]["id"].as_str().unwrap();
    let shown = jobs(&home, &database, &["show", id, "--contents"]);
    assert!(shown.code == 0 && shown.out.join("").contains("salary"), "{shown:#?}");
    assert_eq!(jobs(&home, &database, &["list", "--older-than", "2h"]).out, ["No job matches."]);
    assert_eq!(jobs(&home, &database, &["list", "--tenant", "nobody"]).code, 2);
    assert_eq!(jobs(&home, &database, &["list", "--older-than", "soon"]).code, 2);
    assert_eq!(jobs(&home, &database, &["show", ACME]).code, 1, "there is no such job");
}

#[test]
fn an_operator_sees_when_the_clock_enqueues_what_and_hears_of_a_kind_that_is_misspelt() {
    let (home, database) = scene("jobs_schedules");
    let none = jobs(&home, &database, &["schedules"]);
    assert!(none.code == 0 && none.out[0].starts_with("No schedule is noted yet"), "{none:#?}");
    database.run("insert into job_schedules (name, spec, next_at) values ('billing.nightly', '30 2 * * * UTC', '2031-02-03T02:30Z')");
    let one = jobs(&home, &database, &["schedules"]);
    assert!(one.out[0].ends_with("next 2031-02-03T02:30:00Z  last never"), "{one:#?}");
    let json: Value =
        serde_json::from_str(&jobs(&home, &database, &["schedules", "--json"]).out.join("")).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["lastAt"]), (&"billing.nightly".into(), &Value::Null));
    let unknown = jobs(&home, &database, &["pause", "--kind", "billing.remnid"]);
    assert!(unknown.code == 0 && unknown.err.join("").contains("no kind 'billing.remnid'"), "{unknown:#?}");
    let known = jobs(&home, &database, &["pause", "--kind", "maintenance.keys"]);
    assert!(known.code == 0 && known.err.is_empty(), "{known:#?}");
}

#[test]
fn u_01_what_an_operator_does_to_many_jobs_is_confirmed_and_audited_in_their_tenant() {
    let (home, database) = scene("jobs_steer");
    write(&database, "job_dead", ACME, "billing.remind", 1500);
    write(&database, "job_dead", GLOBEX, "billing.remind", 1);
    write(&database, "job_ready", ACME, "billing.remind", 2);
    let asked = jobs(&home, &database, &["retry", "--tenant", "acme"]);
    assert_eq!(asked.code, 2, "{asked:#?}");
    assert!(asked.err.iter().any(|line| line.contains("1500 jobs match")), "{asked:#?}");
    assert_eq!(database.value("select count(*) from job_dead"), "1501", "nothing was done");
    assert_eq!(jobs(&home, &database, &["retry"]).code, 2, "not all jobs of all tenants by a slip");

    let done = jobs(&home, &database, &["retry", "--tenant", "acme", "--yes", "--json"]);
    assert_eq!((done.code, &*done.out.join("")), (0, r#"{"matched":1500,"retried":1500,"running":0}"#));
    assert_eq!(database.value("select count(*) from job_dead"), "1", "the other tenant's is left alone");
    let told = format!(
        "select string_agg(actor || ' ' || action || ' ' || (details ->> 'jobs'), ', ' order by seq) from audit_log \
         where tenant_id = '{ACME}'"
    );
    assert_eq!(database.value(&told), "system:jobs job.retried 1000, system:jobs job.retried 500");

    let cancelled =
        jobs(&home, &database, &["cancel", "--kind", "billing.remind", "--tenant", "acme", "--yes"]);
    assert_eq!(cancelled.out, ["Of 1502 jobs that match 1502 are cancelled."]);
    let id = database.value("select id from job_dead");
    assert_eq!(jobs(&home, &database, &["discard", &id]).code, 0, "one that is named is not asked about");
    assert_eq!(jobs(&home, &database, &["discard", &id]).code, 1);
    assert_eq!(
        database.value("select string_agg(distinct outcome, ',') from job_done"),
        "cancelled,discarded"
    );
    let other = format!("select string_agg(action, ',') from audit_log where tenant_id = '{GLOBEX}'");
    assert_eq!(database.value(&other), "job.discarded");
}

#[test]
fn an_operator_pauses_kinds_and_tenants_and_weighs_them() {
    let (home, database) = scene("jobs_pause");
    let succeed = |arguments: &[&str]| assert_eq!(jobs(&home, &database, arguments).code, 0, "{arguments:?}");
    succeed(&["pause", "--kind", "billing.remind"]);
    succeed(&["pause", "--tenant", "acme"]);
    succeed(&["weight", "--tenant", "acme", "3"]);
    assert_eq!(database.value("select kind || paused from job_kinds"), "billing.remindtrue");
    let steered = "select tenant || ' ' || paused || ' ' || weight from job_tenants";
    assert_eq!(database.value(steered), format!("{ACME} true 3"));
    succeed(&["resume", "--kind", "billing.remind"]);
    succeed(&["resume", "--tenant", "acme"]);
    assert_eq!(database.value("select kind || paused from job_kinds"), "billing.remindfalse");
    assert_eq!(database.value(steered), format!("{ACME} false 3"));
    let told = "select string_agg(action, ' ' order by seq) from audit_log where action like 'jobs.%'";
    assert_eq!(database.value(told), "jobs.paused jobs.weighed jobs.resumed");
    for wrong in [
        &["pause"][..],
        &["weight", "--tenant", "acme", "0"],
        &["pause", "--kind", "a.b", "--tenant", "acme"],
    ] {
        assert_eq!(jobs(&home, &database, wrong).code, 2, "{wrong:?}");
    }
}
