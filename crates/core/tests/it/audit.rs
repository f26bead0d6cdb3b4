//! What the audit trigger writes, and what the runtime role cannot do to it.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::database::{Database, with_database};

const TENANT: &str = "00000000-0000-7000-8000-00000000c001";
const ITEM: &str = "insert into items (id, sku, name) values (gen_random_uuid(), 'A', 'Anvil')";

/// Runs `sql` in one transaction of the tenant, as the driver does.
async fn run(client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    let begin = format!("begin; set local app.tenant_id = '{TENANT}'; set local app.actor = 'system:test'");
    let outcome = client.batch_execute(&format!("{begin}; {sql}; commit")).await;
    if outcome.is_err() {
        client.batch_execute("rollback").await.unwrap();
    }
    outcome
}

async fn log(db: &Database) -> Vec<(i64, String, Option<Value>, Option<Value>)> {
    let rows = db
        .superuser()
        .await
        .query("select seq, action, before, after from audit_log order by seq", &[])
        .await;
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

#[tokio::test]
async fn u06_a_change_is_written_once_with_what_changed_and_nothing_else() {
    with_database(async |db| {
        db.sabotage("create table cards (id uuid not null, owner text, number text); select app.tenant_table('cards', audit_as => 'card', masked => '{number}')").await;
        let client = db.runtime().await;
        run(&client, "insert into cards (id, owner, number) values ('00000000-0000-7000-8000-000000000001', 'Ann', '4711')").await.unwrap();
        run(&client, "update cards set number = '4712', owner = 'Ann'").await.unwrap();
        run(&client, "update cards set owner = owner").await.unwrap();
        run(&client, "delete from cards").await.unwrap();
        let id = "00000000-0000-7000-8000-000000000001";
        assert_eq!(log(db).await, [
            (1, "card.created".to_owned(), None, Some(json!({"id": id, "owner": "Ann", "number": "[masked]"}))),
            (2, "card.updated".to_owned(), Some(json!({"number": "[masked]"})), Some(json!({"number": "[masked]"}))),
            (3, "card.deleted".to_owned(), Some(json!({"id": id, "owner": "Ann", "number": "[masked]"})), None),
        ]);
    })
    .await;
}

#[tokio::test]
async fn u05_u03_a_rollback_leaves_no_row_and_no_gap_also_among_many_writers() {
    with_database(async |db| {
        let workers = (0..6).map(|worker| async move {
            let client = db.runtime().await;
            for n in 0..12 {
                let sql = ITEM.replace("'A'", &format!("'{worker}-{n}'"));
                let failing = n % 3 == 0;
                let outcome = run(&client, &if failing { format!("{sql}; select 1 / 0") } else { sql }).await;
                assert_eq!(outcome.is_err(), failing);
            }
        });
        futures_util::future::join_all(workers).await;
        let seqs: Vec<i64> = log(db).await.iter().map(|row| row.0).collect();
        assert_eq!(seqs, (1..=6 * 8).collect::<Vec<i64>>());
    })
    .await;
}

#[tokio::test]
async fn u01_the_runtime_role_adds_and_reads_and_nothing_else() {
    with_database(async |db| {
        let client = db.runtime().await;
        run(&client, ITEM).await.unwrap();
        run(&client, "select app.audit('sign-in', 'session', null, outcome => 'denied')").await.unwrap();
        for sql in [
            "update audit_log set actor = 'x'",
            "delete from audit_log",
            "truncate audit_log",
            "select * from audit_log_default",
            "update audit_heads set seq = 0",
            "insert into audit_heads (seq) values (7)",
            "delete from audit_heads",
            "alter table audit_log disable trigger all",
        ] {
            let refused = run(&client, sql).await.unwrap_err();
            assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{sql}");
        }
        let unset = client.batch_execute("select app.audit('a', 'b', 'c')").await.unwrap_err();
        assert!(unset.as_db_error().unwrap().message().contains("no tenant is set"));
        assert_eq!(log(db).await.len(), 2);
    })
    .await;
}
