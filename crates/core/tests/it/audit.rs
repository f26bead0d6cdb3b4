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
        .query("select seq - 1, action, before, after from audit_log where action <> 'canary.sample' order by seq", &[])
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
async fn u01_f77_the_runtime_role_adds_by_functions_and_reads_and_nothing_else() {
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
            "update audit_heads set seq = seq + 1, last_at = clock_timestamp()",
            "insert into audit_log (seq, at, actor, action, resource) values (4711, now(), 'somebody', 'item.created', 'item')",
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

/// Every kind of column that the trigger's function writes a comparison for.
#[tokio::test]
async fn u06_each_type_is_compared_as_it_is_and_text_byte_by_byte() {
    with_database(async |db| {
        db.sabotage(
            "create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
            create domain short as text check (length(value) < 9); create type mood as enum ('good', 'bad');
            create type pair as (a json, b int);
            create table odd (id uuid not null, folded text collate any_case, blank char(4), code short, words text[] collate any_case,
              place point, raw json, doc jsonb, mood mood, span int4range, both_of pair, bytes bytea, amount numeric, \"Mixed \"\"Name\" text);
            select app.tenant_table('odd', audit_as => 'odd')",
        )
        .await;
        let client = db.runtime().await;
        let id = "00000000-0000-7000-8000-000000000001";
        run(&client, &format!("insert into odd values ('{id}', 'a', 'a', 'x', '{{a}}', '(1,2)', '{{\"a\":1}}', '{{\"a\":1}}', 'good', '[1,3)', null, '\\x00', 1.50, 'q')"))
            .await
            .unwrap();
        let changes = [
            ("folded = 'A'", json!({"folded": "A"})),
            ("folded = 'A'", Value::Null),
            ("code = 'X'", json!({"code": "X"})),
            ("words = '{A}'", json!({"words": ["A"]})),
            ("place = '(1,3)'", json!({"place": "(1,3)"})),
            ("place = '(1,3)'", Value::Null),
            ("raw = '{\"a\": 1}'", json!({"raw": {"a": 1}})),
            ("doc = '{\"a\": 1}'", Value::Null),
            ("mood = 'bad', span = '[1,4)'", json!({"mood": "bad", "span": "[1,4)"})),
            ("both_of = row('[1]'::json, 2)", json!({"both_of": {"a": [1], "b": 2}})),
            ("both_of = row('[1]'::json, 2)", Value::Null),
            ("bytes = '\\x01'", json!({"bytes": "\\x01"})),
            ("amount = 1.5", Value::Null),
            ("amount = 9007199254740993.25", json!({"amount": 9_007_199_254_740_993.25})),
            ("\"Mixed \"\"Name\" = null", json!({"Mixed \"Name": null})),
        ];
        let mut expected: Vec<Value> = Vec::new();
        for (change, after) in changes {
            run(&client, &format!("update odd set {change}")).await.unwrap();
            expected.extend((after != Value::Null).then_some(after));
        }
        let told: Vec<Value> = log(db).await.into_iter().skip(1).map(|row| row.3.unwrap()).collect();
        assert_eq!(told, expected);
    })
    .await;
}

/// A table of more columns than a function takes arguments, and one whose name leaves no room for another word.
#[tokio::test]
async fn u05_wide_tables_and_long_names_are_audited() {
    with_database(async |db| {
        let columns: Vec<String> = (0..130).map(|n| format!("c{n} int")).collect();
        let long = "a".repeat(63);
        db.sabotage(&format!(
            "create table wide (id uuid not null, {}); select app.tenant_table('wide', audit_as => 'wide');
            create table {long} (id uuid not null); select app.tenant_table('{long}', audit_as => 'long')",
            columns.join(", ")
        ))
        .await;
        let client = db.runtime().await;
        run(&client, "insert into wide (id, c0, c129) values (gen_random_uuid(), 1, 2)").await.unwrap();
        run(&client, &format!("insert into {long} (id) values (gen_random_uuid())")).await.unwrap();
        let log = log(db).await;
        let after = log[0].3.as_ref().unwrap();
        assert_eq!(
            (after.as_object().unwrap().len(), &after["c0"], &after["c129"]),
            (131, &json!(1), &json!(2))
        );
        assert_eq!(log[1].1, "long.created");
        let findings = db.prove().await.findings;
        assert!(findings.iter().all(|finding| finding.check == "C-04 sample-missing"), "{findings:?}");
    })
    .await;
}

/// A migration that adds a column and fills it in: the entries tell of the column.
#[tokio::test]
async fn u05_a_column_is_audited_from_the_migration_on_that_adds_it() {
    with_database(async |db| {
        let client = db.runtime().await;
        run(&client, ITEM).await.unwrap();
        db.sabotage(
            "alter table items add column shelf text; alter table items drop column description;
            select app.for_each_tenant('update items set shelf = ''B4''')",
        )
        .await;
        assert_eq!(log(db).await[1].3, Some(json!({"shelf": "B4"})));
        assert_eq!(db.prove().await.findings, []);
        run(&client, "update items set shelf = 'B5'").await.unwrap();
        assert_eq!(log(db).await[2].2, Some(json!({"shelf": "B4"})));
    })
    .await;
}

#[tokio::test]
async fn u03_times_of_a_tenants_entries_never_decrease() {
    with_database(async |db| {
        let client = db.runtime().await;
        run(&client, ITEM).await.unwrap();
        // The clock was ahead once, and has been set back.
        let admin = db.superuser().await;
        let ahead = format!("update audit_heads set last_at = now() + interval '1 hour' where tenant_id = '{TENANT}'");
        admin.batch_execute(&ahead).await.unwrap();
        run(&client, "update items set name = 'Other'").await.unwrap();
        run(&client, "select app.audit('sign-in', 'session', null)").await.unwrap();
        let sql = "select count(distinct at) = 2 and max(at) > now() + interval '50 minutes' and bool_and(at = later) from (
            select at, max(at) over (order by seq) as later from audit_log where action <> 'canary.sample') l";
        assert!(admin.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    })
    .await;
}

/// What is sealed of a personal value is a commitment, before its erasure and after it.
#[tokio::test]
async fn a_personal_value_can_be_erased_and_its_commitment_stays() {
    with_database(async |db| {
        db.sabotage("create table cards (id uuid not null, owner text, number text); select app.tenant_table('cards', audit_as => 'card');
            select app.personal('cards', 'owner', 'identity', 'who holds the card', 'contract', 'as long as the card')").await;
        let client = db.runtime().await;
        for owner in ["'Ann'", "null", "'Ann'"] {
            run(&client, &format!("insert into cards (id, owner, number) values (gen_random_uuid(), {owner}, '4711')")).await.unwrap();
        }
        let told: Vec<Value> = log(db).await.into_iter().map(|row| row.3.unwrap()["owner"].clone()).collect();
        assert_eq!(told, [json!({"personal": "Ann"}), Value::Null, json!({"personal": "Ann"})]);
        let admin = db.superuser().await;
        let committed = "select app.committed(after, salt, 'after') from audit_log where after is not null order by seq";
        let before: Vec<Value> = admin.query(committed, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert!(before[0]["owner"]["commitment"].as_str().is_some_and(|hash| hash.len() == 64), "{before:?}");
        assert_ne!(before[0]["owner"], before[2]["owner"], "equal values have commitments that tell nothing of it");
        assert_eq!(before[1]["owner"], Value::Null);
        assert_eq!(before[0]["number"], "4711");
        admin.batch_execute("update audit_log set after = app.committed(after, salt, 'after'), salt = null").await.unwrap();
        let after: Vec<Value> = admin.query(committed, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(after, before);
        let missing = db.superuser().await.batch_execute("select app.personal('cards', 'owners', 'identity', 'x', 'contract', 'y')").await;
        assert!(missing.unwrap_err().as_db_error().unwrap().message().contains("there is no column owners"));
    })
    .await;
}
