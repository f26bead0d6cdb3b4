//! An import whose worker is killed, again and again.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use super::super::deep;
use super::database::Database;
use super::http::Client;
use super::process::{Home, Process, eventually};

#[test]
fn s_11_stress_rows_of_an_import_are_there_once_however_often_its_worker_is_killed() {
    let (kills, rows) = if deep() { (100, 30_000) } else { (4, 1_000) };
    let (home, database) = (Home::new(), Database::migrated("import_kills"));
    let variables = [&database.both()[..], &[("LOG_LEVEL", "info"), ("JOB_WORKERS", "2")]].concat();
    let mut server = Process::serve(&home, &variables);
    let client = Client::signed_in(&server.address(), home.path());
    let mut file = String::from("sku,name,quantity\n");
    (0..rows).for_each(|row| _ = writeln!(file, "ROW-{row},Item {row},{row}"));
    let begun = client.upload("/api/v1/items/imports", "text/csv", &file).unwrap();
    assert_eq!(begun.status, 202, "{begun:?}");
    let running = "select count(*) from job_running";
    let over = "select count(*) from job_done where kind = 'catalog.import_items'";
    let kept = "select count(*) from items where sku like 'ROW-%'";
    for kill in 0..kills {
        eventually("it runs", || database.value(running) == "1" || database.value(over) == "1");
        assert_eq!(database.value(over), "0", "it was over after {kill} kills");
        // A job that takes its workers down each time is dead after twelve of them, unless it has kept something in between:
        // so every fourth kill comes later than the next rows that are kept.
        if kill % 4 == 3 {
            let before = database.value(kept);
            eventually("it keeps some rows", || database.value(kept) != before);
        }
        thread::sleep(Duration::from_millis(kill * 37 % 80));
        server.signal("KILL");
        assert_eq!(server.wait().code, -9);
        // Its lease is over at once, and not in ten seconds: what comes then is another test's.
        database.run("update job_workers set beat = now() - interval '1 hour'");
        server = Process::serve(&home, &variables);
    }
    while database.value(over) == "0" {
        let before = database.value(kept);
        eventually("it goes on", || database.value(over) == "1" || database.value(kept) != before);
    }
    assert_eq!(server.stop("TERM").code, 0);
    let count = |sql: &str| database.value(sql);
    assert_eq!(
        count("select count(*) || ' ' || sum(quantity) from items where sku like 'ROW-%'"),
        format!("{rows} {}", (0..rows).sum::<u32>())
    );
    let audited = "select count(*) || ' ' || count(distinct resource_id) from audit_log where action = 'item.created' and after ->> 'sku' like 'ROW-%'";
    assert_eq!(count(audited), format!("{rows} {rows}"), "each row of the audit log once");
    let told = count(
        "select result ->> 'rows' || ' ' || (result ->> 'created') || ' ' || attempt from job_done where kind = 'catalog.import_items'",
    );
    println!(
        "deep: {kills} kills, {rows} rows: each there and audited once; rows, created, attempts: {told}"
    );
    assert!(told.starts_with(&format!("{rows} {rows} ")), "{told}");
}
