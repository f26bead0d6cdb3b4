//! A superuser changes the past in every way that was thought of, and `verify` names the first entry with which something is wrong.

use erp_core::audit::note::Checkpoint;
use erp_testkit::TestApp;

use super::{NOTHING, fill, found, operator, tenant, verified};

/// What a log is made of, in acme and the platform.
const TABLES: [&str; 7] = [
    "audit_log",
    "audit_heads",
    "audit_logs",
    "audit_entries",
    "audit_tiles",
    "audit_checkpoints",
    "audit_prunings",
];
const ACME: &str = "(select id from tenants where slug = 'acme')";

/// As a superuser who lets no trigger stand in the way.
async fn tamper(app: &TestApp, sql: &str) {
    let whole = format!("begin; set local session_replication_role = replica; {sql}; commit");
    let whole = whole.replace("ACME", ACME);
    app.sql().batch_execute(&whole).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn remember(app: &TestApp) {
    let copies: String =
        TABLES.map(|table| format!("create table copy_{table} as select * from {table};")).concat();
    app.sql().batch_execute(&copies).await.unwrap();
}

async fn restore(app: &TestApp) {
    let back =
        TABLES.map(|table| format!("delete from {table}; insert into {table} select * from copy_{table}"));
    tamper(app, &back.join(";")).await;
}

/// Acme with 700 rows that were sealed in steps, the first 201 entries noted in the platform's log.
async fn sealed() -> TestApp {
    let app = TestApp::start().await;
    fill(&app, 200).await;
    app.seal_audit().await;
    app.anchor_audit().await;
    fill(&app, 700).await;
    app.seal_audit().await;
    assert_eq!(found(&app, &[]).await, NOTHING);
    app
}

#[tokio::test]
async fn u_02_what_a_superuser_changes_is_found_and_named() {
    let app = Box::pin(sealed()).await;
    remember(&app).await;
    for (sql, what, seq) in [
        // A byte.
        ("update audit_log set action = 'test.dome' where tenant_id = ACME and seq = 300", "row_changed", 300),
        ("update audit_entries set entry = replace(entry, 'test.done', 'test.dome') where tenant_id = ACME and index = 300", "entry_changed", 300),
        ("update audit_entries set leaf = sha256(leaf) where tenant_id = ACME and index = 300", "entry_changed", 300),
        // A number beyond 2^53, which a reader in JavaScript takes for the same.
        ("update audit_log set details = jsonb_set(details, '{n}', '9007199254740992') where tenant_id = ACME and seq = 300", "row_changed", 300),
        // A time, an actor, an outcome, a tenant.
        ("update audit_log set at = at - interval '1 microsecond' where tenant_id = ACME and seq = 300", "row_changed", 300),
        ("update audit_log set actor = 'nobody' where tenant_id = ACME and seq = 1", "row_changed", 1),
        ("update audit_log set outcome = 'failure' where tenant_id = ACME and seq = 700", "row_changed", 700),
        ("update audit_log set tenant_id = (select id from tenants where slug = 'globex') where tenant_id = ACME and seq = 300", "row_missing", 300),
        // One in the middle is deleted.
        ("delete from audit_log where tenant_id = ACME and seq = 300", "row_missing", 300),
        ("delete from audit_entries where tenant_id = ACME and index = 300", "entry_missing", 300),
        ("delete from audit_entries where tenant_id = ACME and index = 0", "entry_missing", 0),
        // Two are swapped.
        ("update audit_log set seq = 601 - seq where tenant_id = ACME and seq in (300, 301)", "row_changed", 300),
        ("update audit_entries set index = 100000 + index where tenant_id = ACME and index in (300, 301);
          update audit_entries set index = 100601 - index where tenant_id = ACME and index > 100000", "entry_moved", 300),
        // One is inserted.
        ("insert into audit_log (tenant_id, seq, at, actor, action, resource) select tenant_id, seq, at + interval '1 microsecond', actor, action, resource
          from audit_log where tenant_id = ACME and seq = 300", "row_added", 300),
        ("insert into audit_log (tenant_id, seq, at, actor, action, resource) select tenant_id, 900, at, actor, action, resource
          from audit_log where tenant_id = ACME and seq = 700", "row_added", 900),
        ("insert into audit_entries (tenant_id, log, index, leaf, entry) select tenant_id, log, index + 1, leaf, entry
          from audit_entries where tenant_id = ACME and index = 700", "entry_added", 701),
        // The tail is cut: of the rows, of the entries, and the head with it.
        ("delete from audit_log where tenant_id = ACME and seq > 690", "row_missing", 691),
        ("delete from audit_log where tenant_id = ACME and seq > 690; delete from audit_entries where tenant_id = ACME and index > 690", "entry_missing", 691),
        ("delete from audit_log where tenant_id = ACME and seq > 690; delete from audit_entries where tenant_id = ACME and index > 690;
          update audit_heads set seq = 690 where tenant_id = ACME", "entry_missing", 691),
        ("update audit_heads set seq = 690 where tenant_id = ACME", "head_set_back", 691),
        // A forged tombstone.
        ("update audit_entries set entry = null where tenant_id = ACME and index = 300", "removal_unsigned", 300),
        ("update audit_entries set entry = null where tenant_id = ACME and index = 300;
          insert into audit_prunings (tenant_id, log, first, last, note) values (ACME, 0, 300, 300, 'removed, believe me')", "removal_unsigned", 300),
        // A tile alone: proofs would not hold.
        ("update audit_tiles set hashes = set_byte(hashes, 40, 7) where tenant_id = ACME and level = 0 and index = 1", "tree_changed", 256),
        ("delete from audit_tiles where tenant_id = ACME and level = 0 and index = 1", "tree_changed", 256),
        // The checkpoint says another size.
        ("update audit_logs set note = replace(note, E'\\n701\\n', E'\\n601\\n') where tenant_id = ACME and is_open", "checkpoint_forged", 201),
        // Row, entry and leaf together: the range since the last checkpoint that agrees.
        ("update audit_log set action = 'test.dome' where tenant_id = ACME and seq = 300;
          update audit_entries set entry = replace(entry, 'test.done', 'test.dome') where tenant_id = ACME and index = 300;
          update audit_entries set leaf = sha256(decode('00', 'hex') || convert_to(entry, 'UTF8')) where tenant_id = ACME and index = 300", "history_changed", 201),
    ] {
        tamper(&app, sql).await;
        let found = found(&app, &[]).await;
        assert_eq!(found.first(), Some(&(what, seq)), "{sql}: {found:?}");
        restore(&app).await;
    }
    assert_eq!(super::found(&app, &[]).await, NOTHING, "all was put back");
    app.finish().await;
}

#[tokio::test]
async fn u_02_what_is_written_and_sealed_while_a_log_is_verified_is_no_finding() {
    let app = Box::pin(sealed()).await;
    let over = std::sync::atomic::AtomicBool::new(false);
    let people = async {
        let mut last = 700;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            last += 40;
            fill(&app, last).await;
            app.seal_audit().await;
            app.anchor_audit().await;
        }
        last
    };
    let auditor = async {
        for _ in 0..12 {
            assert_eq!(found(&app, &[]).await, NOTHING);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (last, ()) = tokio::join!(people, auditor);
    assert!(last > 900, "nobody wrote meanwhile: {last}");
    app.finish().await;
}

#[tokio::test]
async fn u_02_a_log_that_is_rebuilt_without_the_key_is_no_evidence() {
    let app = Box::pin(sealed()).await;
    let operator = operator(&app);
    let acme = tenant(&operator, "acme").await;
    let kept = operator.checkpoint(&acme).await.unwrap().unwrap();
    let kept = app.audit_keys().open(&kept.note).unwrap();
    operator.close().await;
    // Everything of the seals is gone, a row is another one, and another key signs it all anew.
    let sealed: Vec<String> =
        TABLES[2..].iter().map(|table| format!("delete from {table} where tenant_id = ACME")).collect();
    let change = "update audit_log set action = 'test.dome' where tenant_id = ACME and seq = 300";
    let platform = "update audit_entries set head_of = null where head_of = ACME";
    tamper(&app, &format!("{}; {change}; {platform}", sealed.join(";"))).await;
    let forger = TestApp::builder()
        .beside(&app)
        .setting("AUDIT_SIGNING_KEY", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")
        .start()
        .await;
    let outcome = forger.seal_audit().await;
    assert!(outcome.sealed > 700, "{outcome:?}");
    forger.finish().await;
    assert_eq!(found(&app, &[]).await, [("checkpoint_forged", 0)]);
    // The sealer, which has the key, does not go on with it.
    fill(&app, 701).await;
    let outcome = app.seal_audit().await;
    assert_eq!((outcome.failed, outcome.sealed), (1, 0), "{outcome:?}");
    // And who has kept a checkpoint sees which.
    let found = found(&app, std::slice::from_ref(&kept)).await;
    assert!(found.contains(&("history_changed", 0)), "{found:?}");
    app.expect_errors();
    app.finish().await;
}

/// The state in which a log was signed once is put back, with all that belongs to it.
async fn shrink(app: &TestApp) {
    tamper(app, "delete from audit_log where tenant_id = ACME and seq > 100; delete from audit_entries where tenant_id = ACME and index > 100;
        delete from audit_tiles where tenant_id = ACME; delete from audit_checkpoints where tenant_id = ACME;
        update audit_heads set seq = 100 where tenant_id = ACME;
        delete from audit_logs where tenant_id = ACME; insert into audit_logs select * from early where tenant_id = ACME").await;
}

#[tokio::test]
async fn u_02_a_log_that_shrinks_to_what_was_signed_once_is_found_and_is_never_signed_on() {
    let app = TestApp::start().await;
    fill(&app, 100).await;
    app.seal_audit().await;
    app.sql().batch_execute("create table early as select * from audit_logs").await.unwrap();
    fill(&app, 300).await;
    app.seal_audit().await;
    let kept: Checkpoint = {
        let operator = operator(&app);
        let acme = tenant(&operator, "acme").await;
        let kept = operator.checkpoint(&acme).await.unwrap().unwrap();
        operator.close().await;
        app.audit_keys().open(&kept.note).unwrap()
    };
    // Nobody outside knows: the database alone cannot tell. Who has kept a checkpoint can.
    shrink(&app).await;
    assert_eq!(found(&app, &[]).await, NOTHING);
    assert_eq!(found(&app, std::slice::from_ref(&kept)).await, [("log_shrunk", 101)]);
    app.finish().await;

    let app = TestApp::start().await;
    fill(&app, 100).await;
    app.seal_audit().await;
    app.sql().batch_execute("create table early as select * from audit_logs").await.unwrap();
    fill(&app, 300).await;
    app.seal_audit().await;
    app.anchor_audit().await;
    shrink(&app).await;
    assert_eq!(found(&app, &[]).await, [("log_shrunk", 101)], "the platform's log knows");
    // A shrink is not laundered by the next seal.
    fill(&app, 400).await;
    let outcome = app.seal_audit().await;
    assert_eq!((outcome.failed, outcome.sealed), (1, 0), "{outcome:?}");
    assert_eq!(found(&app, &[]).await.first(), Some(&("log_shrunk", 101)));
    // An operator who knows why opens a new log, and it holds what was signed.
    let operator = operator(&app);
    let acme = tenant(&operator, "acme").await;
    let origin =
        operator.reopen(&acme, "The database was restored", Some(&kept_of(&app).await)).await.unwrap();
    operator.close().await;
    assert!(origin.ends_with("/1"), "{origin}");
    let outcome = app.seal_audit().await;
    assert_eq!((outcome.failed, outcome.unfinished), (0, 0), "{outcome:?}");
    let logs = verified(&app, &[]).await;
    assert_eq!(logs.len(), 2);
    assert!(logs[1].is_clean() && logs[1].size == 302, "300 rows, and that it was opened: {logs:#?}");
    assert!(logs[0].is_clean() && logs[0].lost == 200, "the new log says what was lost: {logs:#?}");
    app.expect_errors();
    app.finish().await;
}

/// What the platform's log knows of acme.
async fn kept_of(app: &TestApp) -> Checkpoint {
    let sql = format!("select entry from audit_entries where head_of = {ACME} order by index desc limit 1");
    let entry: String = app.sql().query_one(&sql, &[]).await.unwrap().get(0);
    erp_core::audit::entry::head(&entry).unwrap()
}

#[tokio::test]
async fn a_row_that_vanishes_before_it_is_sealed_is_told_for_ever() {
    let app = TestApp::start().await;
    fill(&app, 40).await;
    tamper(&app, "delete from audit_log where tenant_id = ACME and seq = 5").await;
    assert_eq!(app.seal_audit().await.failed, 0);
    assert_eq!(found(&app, &[]).await, [("row_missing_before_sealing", 5)]);
    fill(&app, 43).await;
    app.seal_audit().await;
    // Nobody mends it by putting something in its place.
    tamper(&app, "insert into audit_log (tenant_id, seq, at, actor, action, resource) select tenant_id, 5, at, actor, action, resource
        from audit_log where tenant_id = ACME and seq = 4").await;
    assert_eq!(found(&app, &[]).await[0], ("row_missing_before_sealing", 5));
    app.finish().await;
}
