//! S-11: kill -9 of the server, again and again, while clients write: what was acknowledged is there, whole, with its
//! audit rows, and the next start takes no time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::deep;
use super::database::Database;
use super::http::{Answer, Client};
use super::process::{Home, Process, eventually, run};

const WRITERS: usize = 4;
/// The longest that a start may take.
const START: Duration = Duration::from_secs(3);

/// What became of an item, as its client knows it. `None`: the answer never came.
struct Item {
    sku: String,
    patched: Option<bool>,
    deleted: Option<bool>,
}

/// Creates, changes and deletes items until the server is gone.
fn write(client: &Client, prefix: &str, stop: &AtomicBool) -> Vec<Item> {
    let mut items = Vec::new();
    for number in 0.. {
        let sku = format!("{prefix}-{number}");
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Some(created) = acknowledged(client.create_item(&sku), 201) else { break };
        let path = format!("/api/v1/items/{}", created.json()["id"].as_str().unwrap());
        let patched = acknowledged(client.patch(&path, &json!({ "quantity": 7 })), 200).map(|_| true);
        let mut item = Item { sku, patched, deleted: Some(false) };
        if item.patched.is_some() && number % 3 == 0 {
            item.deleted = acknowledged(client.delete(&path), 204).map(|_| true);
        }
        let gone = item.patched.is_none() || item.deleted.is_none();
        items.push(item);
        if gone {
            break;
        }
    }
    items
}

/// The answer, if it came; no other than `status` may come.
fn acknowledged(answer: io::Result<Answer>, status: u16) -> Option<Answer> {
    let answer = answer.ok()?;
    assert_eq!(answer.status, status, "{answer:?}");
    Some(answer)
}

#[test]
fn s_11_stress_kill_9_loses_no_acknowledged_write() {
    let (home, database) = (Home::new(), Database::migrated("kills"));
    let rounds = if deep() { 100 } else { 5 };
    // Sealed so often that a kill comes in the middle of it.
    let variables =
        [&database.both()[..], &[("LOG_LEVEL", "info"), ("AUDIT_SEAL_INTERVAL", "20ms")]].concat();
    let first = Process::serve(&home, &variables);
    let signed_in = Client::signed_in(&first.address(), home.path());
    assert_eq!(first.stop("TERM").code, 0);

    let (mut items, mut slowest) = (Vec::new(), Duration::ZERO);
    for round in 0..rounds {
        let begun = Instant::now();
        let server = Process::serve(&home, &variables);
        slowest = slowest.max(begun.elapsed());
        let (client, stop) = (signed_in.at(&server.address()), AtomicBool::new(false));
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (client, stop) = (&client, &stop);
                    scope.spawn(move || write(client, &format!("KILL-{round}-{writer}"), stop))
                })
                .collect();
            thread::sleep(Duration::from_millis(120 + (round * 37) % 230));
            server.signal("KILL");
            stop.store(true, Ordering::Relaxed);
            items.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        });
        assert_eq!(server.wait().code, -9);
    }
    let busy = format!("select count(*) from pg_stat_activity where usename = '{}'", database.app());
    eventually("the sessions of the killed end", || database.value(&busy) == "0");

    let kept = database.value("select jsonb_object_agg(sku, quantity) from items where sku like 'KILL-%'");
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let mut lost = Vec::new();
    for item in &items {
        let quantity = kept[&item.sku].as_i64();
        let fine = match (item.patched, item.deleted) {
            (_, Some(true)) => quantity.is_none(),
            (_, None) => matches!(quantity, None | Some(7)),
            (Some(_), _) => quantity == Some(7),
            (None, _) => matches!(quantity, Some(0 | 7)),
        };
        if !fine {
            lost.push(format!("{}: {quantity:?}", item.sku));
        }
    }
    let writes: usize = items
        .iter()
        .map(|item| 1 + usize::from(item.patched == Some(true)) + usize::from(item.deleted == Some(true)))
        .sum();
    // A row for each change that there was, and a change for each row; the sequence has no gap.
    let history = "select resource_id, count(*) filter (where action = 'item.created') c, \
        count(*) filter (where action = 'item.updated') u, count(*) filter (where action = 'item.deleted') d \
        from audit_log where resource = 'item' and (resource_id in (select resource_id from audit_log \
        where action = 'item.created' and after ->> 'sku' like 'KILL-%') or before ->> 'sku' like 'KILL-%') group by 1";
    let halves = database.value(&format!(
        "select count(*) from (select * from items where sku like 'KILL-%') i full join ({history}) h \
         on h.resource_id = i.id::text where i.id is null and (h.c, h.d) is distinct from (1, 1) \
         or i.id is not null and (h.c, h.u, h.d) is distinct from (1, i.version - 1, 0)"
    ));
    let gaps = database.value(
        "select coalesce(sum(gap), 0) from (select max(seq) - min(seq) + 1 - count(*) as gap from audit_log group by tenant_id) g",
    );
    println!(
        "deep: S-11: {rounds} kills -9 during writes of {WRITERS} clients: {writes} acknowledged, {} lost, {halves} \
         half-applied, {gaps} gaps in the audit log; slowest start {slowest:.2?}",
        lost.len()
    );
    assert_eq!(lost, Vec::<String>::new(), "lost writes");
    assert_eq!((halves.as_str(), gaps.as_str()), ("0", "0"), "audit rows are not business rows");
    let verified = run(&home, &["audit", "verify", "--tenant", "acme"], &variables);
    assert!(verified.code == 0 && verified.out[0].contains("verified"), "U-03: {verified:#?}");
    assert!(writes > usize::try_from(rounds).unwrap() * 4, "only {writes} writes");
    assert!(slowest <= START, "{slowest:?}");
}
