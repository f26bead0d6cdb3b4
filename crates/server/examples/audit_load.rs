//! Makes rows of one tenant's audit log, seals them, and says how long searches take: `script/bench seed audit ROWS [--json]`.
//!
//! Exit 1: a bound was missed. Those of searches hold for ten million rows, and less.

use std::io;
use std::time::Instant;

use erp_testkit::{Measurement, TestApp, report};

/// How many rows one statement makes.
const BATCH: u32 = 50_000;
const SEARCHES: [(&str, &str); 7] = [
    ("search: somebody frequent", "actor=actor+7"),
    ("search: somebody who did one thing, long ago", "actor=somebody+rare"),
    ("search: somebody who did nothing", "actor=nobody"),
    ("search: one action", "action=item.updated"),
    ("search: one person and one action, never together", "actor=actor+7&action=seldom.done"),
    ("search: one thing", "resource=item&resourceId=id+4711"),
    (
        "search: a text within an hour",
        "text=name+of+77&since=2026-01-01T00:00:00Z&until=2026-01-01T01:00:00Z",
    ),
];
/// 2,000 people, 200 actions, things that are touched about three times; the last one of all is the first row that somebody rare made.
/// It writes rows of acme as the owner's function does, without a call for each.
const FILL: &str = "with head as (update audit_heads set seq = seq + {rows}, last_at = greatest(last_at, '2026-01-01'::timestamptz + ({first} + {rows}) * interval '1 second') \
       where tenant_id = (select id from tenants where slug = 'acme') returning tenant_id, seq - {rows} as seq) \
     insert into audit_log (tenant_id, seq, at, actor, action, resource, resource_id, after, correlation_id, client_ip) \
     select h.tenant_id, h.seq + g, '2026-01-01'::timestamptz + ({first} + g) * interval '1 second', \
       case when {first} + g = 5000 then 'somebody rare' else 'actor ' || (hashint8({first} + g) & 2047) % 2000 end, \
       case when g % 10007 = 0 and (hashint8({first} + g) & 2047) % 2000 <> 7 then 'seldom.done' \
         else (array['item.updated', 'item.created', 'order.approved', 'order.updated'])[1 + g % 4] end, \
       'item', 'id ' || ({first} + g) / 3, \
       jsonb_build_object('name', 'The name of ' || g, 'quantity', g), 'req_' || g, '192.0.2.1' \
     from head h, generate_series(1, {rows}) g";

#[tokio::main]
async fn main() -> io::Result<()> {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let app = TestApp::builder().setting("AUDIT_SEAL_INTERVAL", "1h").start().await;
    let mut measured = Box::pin(fill(&app, rows)).await?;
    for (name, query) in SEARCHES {
        measured.push(Measurement::at_most(name, search(&app, query).await, "ms", 100.0));
    }
    app.finish().await;
    report(&measured, std::env::args().any(|argument| argument == "--json"))
}

/// Makes the rows and seals them, in turn, so that both work on rows that are in memory.
async fn fill(app: &TestApp, rows: u32) -> io::Result<Vec<Measurement>> {
    let (mut made, mut making, mut sealing) = (0, 0.0, 0.0);
    while made < rows {
        let batch = BATCH.min(rows - made);
        let sql = FILL.replace("{rows}", &batch.to_string()).replace("{first}", &made.to_string());
        let begun = Instant::now();
        app.sql().batch_execute(&sql).await.map_err(io::Error::other)?;
        making += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let outcome = app.seal_audit().await;
        sealing += begun.elapsed().as_secs_f64();
        if outcome.failed > 0 {
            return Err(io::Error::other("a log could not be sealed"));
        }
        made += batch;
    }
    app.sql()
        .batch_execute("vacuum (analyze) audit_log, audit_blocks, audit_logs")
        .await
        .map_err(io::Error::other)?;
    let size = "select pg_total_relation_size('audit_blocks')::float8 / 1048576";
    let size = app.sql().query_one(size, &[]).await.map_err(io::Error::other)?.get(0);
    let rows = f64::from(rows);
    Ok(vec![
        Measurement { name: "rows made a second", value: rows / making, unit: "rows/s", bound: None },
        Measurement::at_least("rows sealed and made searchable a second", rows / sealing, "rows/s", 2000.0),
        Measurement {
            name: "made and sealed in",
            value: (making + sealing) / 60.0,
            unit: "min",
            bound: None,
        },
        Measurement { name: "the filters", value: size, unit: "MB", bound: None },
    ])
}

/// The slowest of nine of an owner's searches, after one that fills the caches.
async fn search(app: &TestApp, query: &str) -> f64 {
    let mut slowest = 0.0_f64;
    for nth in 0..10 {
        let begun = Instant::now();
        app.alice().get(&format!("/api/v1/audit?{query}")).await.assert(200);
        slowest = if nth == 0 { 0.0 } else { slowest.max(begun.elapsed().as_secs_f64() * 1000.0) };
    }
    slowest
}
