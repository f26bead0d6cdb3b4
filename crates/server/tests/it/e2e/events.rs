//! Events and webhooks from the outside: what an operator does at a terminal, and workers that are killed again and again
//! between the COMMIT of an event and the answer of its endpoint (W-04).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use erp_core::config::WebhookSettings;
use erp_core::shared::{Secret, SystemRng};
use erp_core::webhooks::{SecretSeal, SigningSecret};
use serde_json::{Value, json};

use super::super::deep;
use super::database::Database;
use super::process::{Ended, Home, Process, eventually, run};

const ACME: &str = "0190163d-8694-739b-aea5-966c26f8ad01";
const WEBHOOK: &str = "0190163d-8694-739b-aea5-966c26f8ad11";
const WEBHOOK_SECRET: &str = "q8Zr5Xw2Nk7Lm3Vt9Bc4Hd6Jf1Gs0PyAeU";

fn scene(name: &str) -> (Home, Database) {
    let (home, database) = (Home::new(), Database::migrated(name));
    database.run(&format!("insert into tenants (id, slug) values ('{ACME}', 'acme')"));
    (home, database)
}

fn events(home: &Home, database: &Database, arguments: &[&str]) -> Ended {
    run(home, &[&["events"], arguments].concat(), &database.both()[..1])
}

#[test]
fn an_operator_sees_where_a_subscriber_has_stopped_and_lets_it_go_on() {
    let (home, database) = scene("event_operator");
    let stop = format!(
        "insert into events (tenant_id, id, name, aggregate, aggregate_id, payload, origin, number, emitted_at)
           select '{ACME}', gen_random_uuid(), 'kills.happened', 'kill', gen_random_uuid(), '{{}}', 'test', n,
             '2026-01-01'::timestamptz + n * interval '1 hour' from generate_series(1, 9) n;
         insert into event_heads (tenant_id, number) values ('{ACME}', 9);
         insert into event_cursors (tenant_id, subscriber, number, failures, error, stopped_at)
           values ('{ACME}', 'webhooks.fan_out', 5, 10, 'core.internal', now())"
    );
    database.run(&stop);
    let listed = events(&home, &database, &["list"]);
    assert_eq!(listed.code, 1, "it is a finding: {listed:#?}");
    for part in ["acme", "webhooks.fan_out", "stopped", "5 of 9", "10 failures", "core.internal"] {
        assert!(listed.out.join("\n").contains(part), "{part}: {listed:#?}");
    }
    let cursor = || {
        database.value("select number || ' ' || failures || ' ' || (stopped_at is null) from event_cursors")
    };
    let jobs = || {
        database
            .value("select count(*) from job_ready where kind = 'webhooks.fan_out' and system = 'webhooks'")
    };
    assert_eq!(events(&home, &database, &["skip", "--subscriber", "webhooks.fan_out"]).code, 0);
    assert_eq!((cursor().as_str(), jobs().as_str()), ("6 0 true", "1"));
    let replay = [
        "replay",
        "--subscriber",
        "webhooks.fan_out",
        "--tenant",
        "acme",
        "--since",
        "2026-01-01T03:00:00Z",
        "--json",
    ];
    let replayed = events(&home, &database, &replay);
    let told: Value = serde_json::from_str(&replayed.out.join("\n")).unwrap();
    assert_eq!((replayed.code, told), (0, json!({ "matched": 1, "moved": 1 })));
    assert_eq!((cursor().as_str(), jobs().as_str()), ("2 0 true", "1"));
    let audited = database.value(&format!("select string_agg(action || ' ' || actor, ', ' order by seq) from audit_log where tenant_id = '{ACME}'"));
    assert_eq!(audited, "event_cursor.skipped system:jobs, event_cursor.replayed system:jobs");
    let well = events(&home, &database, &["list", "--failing", "--json"]);
    assert_eq!((well.code, well.out.join("").as_str()), (0, "[]"));
}

/// An endpoint that takes everything, and notes what came: the event's aggregate and its number there.
struct TakingEndpoint {
    port: u16,
    taken: Arc<Mutex<Vec<(String, u64, u64)>>>,
}

impl TakingEndpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<Vec<_>>>::default();
        let noting = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noting = Arc::clone(&noting);
                thread::spawn(move || take(&stream, &noting));
            }
        });
        Self { port, taken }
    }
}

fn take(stream: &TcpStream, taken: &Mutex<Vec<(String, u64, u64)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or_default() == 0 {
                return;
            }
            let Some((name, value)) = line.trim().split_once(':') else {
                if line.trim().is_empty() { break } else { continue }
            };
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => id = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let data = &body["data"];
        taken.lock().unwrap().push((id, data["aggregate"].as_u64().unwrap(), data["step"].as_u64().unwrap()));
        thread::sleep(Duration::from_millis(5));
        if (&*stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The endpoint in the database, with a secret that the workers can open.
fn endpoint(database: &Database, port: u16) {
    let uuid = |text: &str| *uuid::Uuid::try_parse(text).unwrap().as_bytes();
    let settings =
        WebhookSettings { secret: Some(Secret::new(WEBHOOK_SECRET.to_owned())), secret_previous: None };
    let rng = SystemRng::new();
    let place = [uuid(ACME), uuid(WEBHOOK)].concat();
    let sealed =
        SecretSeal::of(&settings).unwrap().seal(&rng, &place, &SigningSecret::generate(&rng)).unwrap();
    let sealed: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    database.run(&format!(
        "begin; set local app.tenant_id = '{ACME}'; insert into webhooks (tenant_id, id, url, events) values ('{ACME}', '{WEBHOOK}', 'http://127.0.0.1:{port}/', '{{kills.happened}}');
         insert into webhook_secrets (tenant_id, webhook_id, sealed) values ('{ACME}', '{WEBHOOK}', '\\x{sealed}');
         insert into webhook_health (tenant_id, webhook_id) values ('{ACME}', '{WEBHOOK}'); commit"
    ));
}

/// The next steps of five aggregates, each in a transaction of its own.
fn emit(database: &Database, step: u64) {
    for aggregate in 0..5 {
        database.run(&format!(
            "begin; set local app.tenant_id = '{ACME}'; select app.emit(jsonb_build_array(jsonb_build_object('id', gen_random_uuid(), \
             'name', 'kills.happened', 'aggregate', 'kill', 'aggregate_id', '0190163d-8694-739b-aea5-966c26f8ad2{aggregate}', \
             'payload', '{{\"aggregate\": {aggregate}, \"step\": {step}}}'::jsonb, 'origin', 'test'))); commit"
        ));
    }
}

#[test]
fn w_04_kill_9_between_commit_and_send_loses_no_event_and_keeps_the_order_of_each_aggregate() {
    let (home, database) = scene("webhook_kills");
    let taking = TakingEndpoint::start();
    endpoint(&database, taking.port);
    let rounds: u64 = if deep() { 50 } else { 2 };
    let variables = [
        database.both()[0],
        ("PORT", "0"),
        ("HOST", "127.0.0.1"),
        ("LOG_FORMAT", "json"),
        ("OUTBOUND_ALLOW", "127.0.0.1"),
        ("WEBHOOK_SECRET", WEBHOOK_SECRET),
    ];
    let mut step = 0;
    for round in 0..rounds {
        let worker = Process::start(&home, &["worker"], &variables);
        worker.line("Worker started");
        for _ in 0..4 {
            emit(&database, step);
            step += 1;
        }
        thread::sleep(Duration::from_millis(round * 37 % 230));
        worker.signal("KILL");
        worker.wait();
        // Its lease would end after ten seconds.
        database.run("update job_workers set beat = now() - interval '1 minute'");
    }
    let worker = Process::start(&home, &["worker"], &variables);
    let all = step * 5;
    let delivered = || -> u64 {
        let count = database.value("select count(*) from webhook_deliveries where status = 'succeeded'");
        count.parse().unwrap()
    };
    let mut seen = delivered();
    while seen < all {
        eventually("more is delivered", || delivered() > seen);
        seen = delivered();
    }
    assert_eq!(worker.stop("TERM").code, 0);
    let taken = taking.taken.lock().unwrap();
    let ids: BTreeSet<&str> = taken.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids.len() as u64, all, "each event under one id, however often it was sent");
    let mut first_of_each: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (_, aggregate, step) in taken.iter() {
        let steps = first_of_each.entry(*aggregate).or_default();
        if !steps.contains(step) {
            steps.push(*step);
        }
    }
    for (aggregate, steps) in first_of_each {
        assert_eq!(steps, (0..step).collect::<Vec<_>>(), "aggregate {aggregate}");
    }
}
