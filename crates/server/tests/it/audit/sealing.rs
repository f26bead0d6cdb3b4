//! What is sealed: everything once, whatever happens meanwhile.

use std::time::{Duration, Instant};

use erp_testkit::TestApp;

use super::{NOTHING, fill, found, operator, tenant, verified};
use crate::deep;

const OTHER_KEY: &str = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";

#[tokio::test]
async fn a_row_is_sealed_once_and_its_tree_grows_by_whole_tiles() {
    let app = TestApp::start().await;
    for last in [40, 41, 255, 256, 257, 511, 512, 1023, 1024, 1300] {
        fill(&app, last).await;
        let outcome = app.seal_audit().await;
        assert_eq!((outcome.failed, outcome.unfinished), (0, 0), "{outcome:?}");
        assert_eq!(app.seal_audit().await.sealed, 0, "nothing is new");
        let logs = verified(&app, &[]).await;
        assert!(logs[0].is_clean() && logs[0].size == u64::from(last) + 1, "{logs:#?}");
    }
    let tiles =
        "select count(*) from audit_tiles t join tenants n on n.id = t.tenant_id where n.slug = 'acme'";
    assert_eq!(app.sql().query_one(tiles, &[]).await.unwrap().get::<_, i64>(0), 5, "1301 entries");
    app.finish().await;
}

#[tokio::test]
async fn what_was_rolled_back_leaves_no_trace_and_what_is_under_way_waits() {
    let app = TestApp::start().await;
    fill(&app, 50).await;
    let mut open = app.runtime_in("acme").await;
    let held = open.transaction().await.unwrap();
    held.batch_execute("select app.audit('test.held', 'thing', '1')").await.unwrap();
    app.seal_audit().await;
    assert_eq!(verified(&app, &[]).await[0].size, 51, "what is not committed is not there");
    held.rollback().await.unwrap();
    fill(&app, 51).await;
    app.seal_audit().await;
    let logs = verified(&app, &[]).await;
    assert!(logs[0].is_clean() && logs[0].size == 52, "{logs:#?}");
    app.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_changes_no_order() {
    let app = TestApp::start().await;
    fill(&app, 100).await;
    app.seal_audit().await;
    fill(&app, 200).await;
    let back = "update audit_log set at = at - interval '1 hour' where action = 'test.done' and seq > 100";
    app.sql().execute(back, &[]).await.unwrap();
    app.seal_audit().await;
    fill(&app, 300).await;
    app.seal_audit().await;
    let logs = verified(&app, &[]).await;
    assert!(logs[0].is_clean() && logs[0].size == 301, "{logs:#?}");
    app.finish().await;
}

#[tokio::test]
async fn two_sealers_at_once_make_one_log() {
    let app = TestApp::start().await;
    let other = TestApp::builder().beside(&app).start().await;
    for round in 1..=8 {
        fill(&app, round * 300).await;
        let (one, two) = tokio::join!(app.seal_audit(), other.seal_audit());
        assert_eq!((one.failed, two.failed), (0, 0), "{one:?} {two:?}");
    }
    app.seal_audit().await;
    let logs = verified(&app, &[]).await;
    assert!(logs[0].is_clean() && logs[0].size == 2401, "{logs:#?}");
    other.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn another_key_takes_over_all_logs_and_the_one_before_can_go() {
    let app = TestApp::start().await;
    fill(&app, 50).await;
    app.seal_audit().await;
    let before = "0JmRzU1r8sQ2v0gk3mPwq5nX7yBd9eLf4hTa6cVuW1o=";
    let rotated = TestApp::builder().beside(&app).setting("AUDIT_SIGNING_KEY", OTHER_KEY);
    let rotated = rotated.setting("AUDIT_SIGNING_KEY_PREVIOUS", before).start().await;
    let outcome = rotated.seal_audit().await;
    assert_eq!((outcome.failed, outcome.sealed), (0, 0), "{outcome:?}");
    assert_eq!(found(&rotated, &[]).await, NOTHING);
    rotated.finish().await;
    let alone = TestApp::builder().beside(&app).setting("AUDIT_SIGNING_KEY", OTHER_KEY).start().await;
    assert_eq!(found(&alone, &[]).await, NOTHING, "it is signed with the new key");
    assert_eq!(found(&app, &[]).await, [("checkpoint_forged", 0)], "the old key alone knows it no more");
    alone.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn no_login_of_the_product_changes_what_is_sealed() {
    let app = TestApp::start().await;
    fill(&app, 300).await;
    app.seal_audit().await;
    let runtime = app.runtime_in("acme").await;
    let system = app.database().system().await;
    for table in ["audit_logs", "audit_entries", "audit_tiles", "audit_checkpoints", "audit_prunings"] {
        let seen: i64 =
            runtime.query_one(&format!("select count(*) from {table}"), &[]).await.unwrap().get(0);
        assert!(seen < 400, "{table}: its own tenant's");
        for sql in [
            format!("insert into {table} select * from {table}"),
            format!("update {table} set log = 7"),
            format!("delete from {table}"),
        ] {
            let refused = runtime.execute(&sql, &[]).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
        }
        let refused = system.execute(&format!("delete from {table}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{table}");
    }
    for table in ["audit_entries", "audit_tiles", "audit_prunings"] {
        let refused = system.execute(&format!("update {table} set log = 7"), &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{table}");
    }
    app.finish().await;
}

/// U-03: many writers of one tenant, a third of whose transactions are rolled back, while two instances seal.
#[tokio::test]
async fn u_03_stress_many_writers_leave_no_gap_fork_or_duplicate() {
    let (writers, appends) = if deep() { (64, 100) } else { (16, 20) };
    let app = TestApp::start().await;
    let other = TestApp::builder().beside(&app).start().await;
    let head = || async {
        let sql =
            "select h.seq from audit_heads h join tenants t on t.id = h.tenant_id where t.slug = 'acme'";
        app.sql().query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = head().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let mut client = app.runtime_in("acme").await;
        tasks.spawn(async move {
            let mut kept = 0;
            for nth in 0..appends {
                let tx = client.transaction().await.unwrap();
                tx.batch_execute(&format!("select app.audit('test.append', 'thing', '{writer}-{nth}')"))
                    .await
                    .unwrap();
                if (writer * 7 + nth * 3) % 10 < 3 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                    kept += 1;
                }
            }
            kept
        });
    }
    let mut kept = 0_i64;
    while !tasks.is_empty() {
        let (one, two) = tokio::join!(app.seal_audit(), other.seal_audit());
        assert_eq!((one.failed, two.failed), (0, 0), "{one:?} {two:?}");
        while let Some(done) = tasks.try_join_next() {
            kept += done.unwrap();
        }
    }
    app.seal_audit().await;
    assert_eq!(head().await - before, kept);
    let logs = verified(&app, &[]).await;
    assert!(logs[0].is_clean() && i64::try_from(logs[0].size).unwrap() == before + kept + 1, "{logs:#?}");
    other.finish().await;
    app.finish().await;
}

/// U-06: a long log is sealed, verified and proven in time. The deep profile takes a million entries.
#[tokio::test]
async fn u_06_stress_a_long_log_is_sealed_verified_and_proven_in_time() {
    let entries = if deep() { 1_000_000 } else { 66_000 };
    let app = TestApp::start().await;
    let mut last = 0;
    while last < entries {
        last = entries.min(last + 20_000);
        fill(&app, last).await;
    }
    let begun = Instant::now();
    let outcome = app.seal_audit().await;
    let sealing = begun.elapsed();
    assert!(outcome.sealed > u64::from(entries), "{outcome:?}");
    let begun = Instant::now();
    let logs = verified(&app, &[]).await;
    let verifying = begun.elapsed();
    assert!(logs[0].is_clean() && logs[0].size == u64::from(entries) + 1, "{logs:#?}");
    let operator = operator(&app);
    let acme = tenant(&operator, "acme").await;
    let mut proving = Duration::ZERO;
    for nth in 0..20 {
        let seq = i64::from(entries / 20 * nth + 7);
        let begun = Instant::now();
        assert!(operator.prove(&acme, seq).await.unwrap().is_some());
        proving = proving.max(begun.elapsed());
    }
    operator.close().await;
    let a_second = f64::from(entries) / sealing.as_secs_f64();
    println!(
        "{entries} entries: sealed at {a_second:.0} a second, verified in {verifying:?}, slowest proof {proving:?}"
    );
    assert!(a_second > 2000.0 && proving.as_millis() < 1000, "{a_second} {proving:?}");
    app.finish().await;
}

/// What a load of 2,000 rows a second in one tenant has come to.
struct Measured {
    rows: usize,
    /// The 99th percentile of what a transaction of ten rows took.
    p99: Duration,
    /// How old the oldest row was that was not sealed, in seconds.
    oldest: f64,
}

async fn load(app: &TestApp, seconds: u64) -> Measured {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = app.runtime_in("acme").await;
        writers.spawn(async move {
            let (mut took, mut beat) = (Vec::new(), tokio::time::interval(Duration::from_millis(40)));
            let ten = "select app.audit('test.load', 'thing', g::text) from generate_series(1, 10) g";
            while Instant::now() < until {
                beat.tick().await;
                let begun = Instant::now();
                client.batch_execute(ten).await.unwrap();
                took.push(begun.elapsed());
            }
            took
        });
    }
    let age = "select coalesce(extract(epoch from clock_timestamp() - min(r.at)), 0)::float8 from audit_logs l \
        join tenants t on t.id = l.tenant_id and t.slug = 'acme' join audit_log r on r.tenant_id = l.tenant_id \
        and r.at >= l.last_at and r.seq > l.first_seq + l.size - 2 where l.is_open";
    let mut oldest = 0.0_f64;
    while Instant::now() < until {
        oldest = oldest.max(app.sql().query_one(age, &[]).await.unwrap().get(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut took: Vec<Duration> = writers.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    Measured { rows: took.len() * 10, p99: took[took.len() * 99 / 100], oldest }
}

/// Two thousand rows a second: how long they wait for the sealer, and what it costs that a snapshot is held open beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stress_rows_are_sealed_within_two_seconds_also_beside_an_open_snapshot() {
    let seconds = if deep() { 300 } else { 4 };
    let app = TestApp::builder().setting("AUDIT_SEAL_INTERVAL", "1s").start().await;
    load(&app, 2).await; // what is new is sealed first
    let quiet = load(&app, seconds).await;
    let reader = app.runtime_in("acme").await;
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from audit_heads")
        .await
        .unwrap();
    let beside = load(&app, seconds).await;
    reader.batch_execute("rollback").await.unwrap();
    for (what, Measured { rows, p99, oldest }) in [("quiet", &quiet), ("beside an open snapshot", &beside)] {
        let rate = *rows as u64 / seconds;
        println!(
            "deep: sealing, {what}: {rate} rows a second for {seconds} s, 99 % of transactions of ten within {p99:.1?}, oldest unsealed row {oldest:.2} s"
        );
    }
    app.seal_audit().await;
    assert!(verified(&app, &[]).await[0].is_clean());
    if deep() {
        assert!(quiet.oldest <= 2.5 && beside.oldest <= 2.5, "{} {}", quiet.oldest, beside.oldest);
        assert!(beside.p99 <= quiet.p99 * 2, "{:?} {:?}", quiet.p99, beside.p99);
    }
    app.finish().await;
}
