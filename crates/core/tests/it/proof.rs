//! The isolation proof: a healthy schema passes, and each sabotage is found by name, with its fix.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use erp_core::db::Sample;
use erp_core::db::proof::{Mode, ProvenLogin, Report, Verdict, checks, prove, reference};

use crate::database::{Database, with_database, with_locale};

/// Sabotages, proves, and expects exactly the findings `(check, object)`; each names a fix.
async fn expect(db: &Database, sql: &str, wanted: &[(&str, &str)]) {
    if let Some(difference) = differs(db, sql, wanted).await {
        panic!("{difference}");
    }
}

async fn differs(db: &Database, sql: &str, wanted: &[(&str, &str)]) -> Option<String> {
    db.sabotage(sql).await;
    let report = db.prove().await;
    let wanted: BTreeSet<_> = wanted.iter().map(|(check, object)| (*check, db.fill(object))).collect();
    let found: BTreeSet<_> = report.findings.iter().map(|f| (f.check, f.object.clone())).collect();
    assert_eq!(report.passed(), found.is_empty());
    for finding in &report.findings {
        assert!(!finding.fix.is_empty() && !finding.fix.contains('{'), "{finding:?}");
    }
    (found != wanted).then(|| format!("\n== {sql}\n-- expected {wanted:?}\n{}", report.matrix()))
}

#[tokio::test]
async fn a_healthy_schema_passes_and_nothing_of_the_proof_survives() {
    with_database(async |db| {
        let client = db.runtime().await;
        let first = prove(&client, ProvenLogin::Runtime, &db.samples).await.unwrap();
        assert_eq!(first.findings, []);
        assert_eq!(first.mode, Mode::Full);
        assert!(first.relations.iter().all(|v| v.select != Verdict::Untried && v.delete != Verdict::Untried), "{}", first.matrix());
        let again = prove(&client, ProvenLogin::Runtime, &db.samples).await.unwrap();
        assert_eq!(first.hash(), again.hash());

        let settings = "select name, setting from pg_settings where source = 'session' and name <> 'application_name'
            union all select 'app.tenant_id', current_setting('app.tenant_id', true) where current_setting('app.tenant_id', true) <> ''
            union all select 'app.proof_plan', 'kept' where current_setting('app.proof_plan', true) <> ''";
        let left = client.query(settings, &[]).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        let rows = "select (select count(*) from items) + (select count(*) - 1 from memberships) + (select count(*) - 1 from audit_log)
            + (select count(*) from tenant_profiles) + (select coalesce(sum(seq), 0)::bigint - 1 from audit_heads)";
        let count: i64 = db.superuser().await.query_one(rows, &[]).await.unwrap().get(0);
        assert_eq!(count, 0);
    })
    .await;
}

/// A database or role may quote all identifiers, or read backslashes in strings, for the sake of other programs.
#[tokio::test]
async fn the_proof_reads_the_same_whatever_the_role_has_set() {
    with_database(async |db| {
        for setting in
            ["quote_all_identifiers = on", "standard_conforming_strings = off", "datestyle = 'German'"]
        {
            db.cluster(&[&db.fill(&format!("alter role {{rt}} set {setting}"))]).await;
            let findings = db.prove().await.findings;
            assert_eq!(findings, [], "{setting}");
            db.cluster(&[&db.fill("alter role {rt} reset all")]).await;
        }
    })
    .await;
}

/// Turkish and Azeri have another lower case for I: no check may overlook what is written in capitals, or find what is
/// right.
#[tokio::test]
async fn t_12_the_proof_is_as_strict_in_a_database_of_a_turkish_locale() {
    const SNEAK: &str = "create function app.sneak() returns void language sql
        as $$SELECT SET_CONFIG('APP.TENANT_ID', '', TRUE)$$; grant execute on function app.sneak() to {rt}";
    const SEEN: &str = "drop function app.sneak();
        create view public.seen with (security_invoker = TRUE) as select id from items; grant select on seen to {rt}";
    for locale in ["tr-TR", "az-AZ"] {
        let options = format!("locale 'C.UTF-8' locale_provider icu icu_locale '{locale}'");
        with_locale(&options, async |db| {
            expect(db, "", &[]).await;
            expect(db, SNEAK, &[("T-12 function-context", "app.sneak()")]).await;
            expect(db, SEEN, &[]).await;
            let revoke = "drop view seen; revoke insert on items from {rt}";
            let report = [("T-10 table-grants", "public.items")];
            db.sabotage(revoke).await;
            let found = db.prove().await.findings;
            let found: Vec<_> = found.iter().map(|f| (f.check, f.object.as_str())).collect();
            assert!(report.iter().all(|one| found.contains(one)), "{found:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn t01_a_runtime_role_that_is_or_becomes_more_is_refused() {
    with_database(async |db| {
        for attribute in ["superuser", "bypassrls", "createrole", "createdb", "replication"] {
            db.sabotage(&db.fill(&format!("reset role; alter role {{rt}} {attribute}"))).await;
            let report = db.prove().await;
            let found = report.findings.iter().find(|f| f.check == "T-01 role-attributes").expect(attribute);
            assert_eq!((found.object.as_str(), found.detail.as_str()), (db.runtime.as_str(), attribute.to_uppercase().as_str()));
            let past_policies = ["superuser", "bypassrls"].contains(&attribute);
            assert_eq!(report.relations.iter().any(|v| v.select == Verdict::Leaks), past_policies, "{}", report.matrix());
            assert_eq!(report.findings.len() == 1, !past_policies, "{}", report.matrix());
            db.sabotage(&format!("reset role; {}", found.fix)).await;
        }
        db.sabotage("reset role; grant {own} to {rt}").await;
        let report = db.prove().await;
        assert!(report.findings.iter().any(|f| f.check == "T-01 role-membership" && f.object == db.owner), "{}", report.matrix());
        db.sabotage("reset role; revoke {own} from {rt}").await;
        expect(db, "reset role; alter table items owner to {rt}", &[("T-01 role-owns", "table public.items"),
            ("T-10 forbidden-grants", "public.items")]).await;
        expect(db, "reset role; alter table items owner to {own}; revoke all on items from {rt}; grant select, insert, update, delete on items to {rt}; alter schema app owner to {rt}", &[("T-01 role-owns", "schema app"), ("T-10 schema-create", "app")]).await;
    })
    .await;
}

#[tokio::test]
async fn t02_every_tenant_table_and_partition_is_enabled_and_forced() {
    with_database(async |db| {
        expect(db, "alter table items no force row level security", &[("T-02 force-rls", "public.items")]).await;
        expect(db, "alter table items force row level security;
            alter table audit_log_default no force row level security", &[("T-02 force-rls", "public.audit_log_default")]).await;
        expect(db, "alter table audit_log_default force row level security;
            create table audit_log_1999 partition of audit_log for values from ('1999-01-01') to ('2000-01-01')",
            &[("T-02 force-rls", "public.audit_log_1999"), ("T-06 policy-missing", "public.audit_log_1999")]).await;
        expect(db, "select app.isolate('audit_log_1999')", &[]).await;
        expect(db, "alter table items disable row level security", &[
            ("T-02 force-rls", "public.items"), ("T-03 live-unset-select", "public.items"), ("T-03 live-unset-insert", "public.items"),
            ("T-06 live-select", "public.items"), ("T-06 live-update", "public.items"), ("T-06 live-delete", "public.items"),
            ("T-06 live-insert", "public.items"), ("T-06 live-move", "public.items"),
        ]).await;
    })
    .await;
}

#[tokio::test]
async fn t03_without_a_tenant_there_is_nothing_and_no_error() {
    with_database(async |db| {
        let bare = "drop policy tenant on items; create policy tenant on items using
            (tenant_id = current_setting('app.tenant_id', true)::uuid)";
        expect(db, bare, &[("T-06 policy-canonical", "public.items"), ("T-03 live-unset-select", "public.items"), ("T-03 live-unset-insert", "public.items")]).await;
        let open = "drop policy tenant on items; create policy tenant on items using (current_setting('app.tenant_id', true) is null
            or tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)";
        db.sabotage(open).await;
        let root = db.superuser().await;
        root.batch_execute("set session_replication_role = replica; insert into items (id, sku, sku_folded, name, tenant_id) select gen_random_uuid(), 'x', 'x', 'x', id from tenants").await.unwrap();
        let report = db.prove().await;
        assert!(report.findings.iter().any(|f| f.check == "T-03 live-unset-select" && f.detail.contains("touched 1")), "{}", report.matrix());
    })
    .await;
}

/// What the table-driven sabotages do: the statement, and the findings that must come of it, no more and no less.
type Sabotage<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Runs the sabotages one after the other, each in a copy of one migrated database.
async fn each(sabotages: &[Sabotage<'_>]) {
    with_database(async |db| {
        let differences = differences_alone(db, sabotages).await;
        assert!(differences.is_empty(), "{differences}");
    })
    .await;
}

/// The same for sabotages that do not touch what the others do: those of different objects share a copy, and one proof
/// has to find them all, and nothing else. Where it does not, each is tried alone, to tell which of them it was.
async fn together(sabotages: &[Sabotage<'_>]) {
    with_database(async |db| {
        let mut differences = String::new();
        for batch in of_different_objects(sabotages) {
            let copy = db.copy().await;
            let sql: Vec<_> = batch.iter().map(|(sql, _)| *sql).collect();
            let (last, before) = sql.split_last().expect("a batch has a first sabotage");
            for sql in before {
                copy.sabotage(sql).await;
            }
            let wanted: Vec<_> = batch.iter().flat_map(|(_, wanted)| wanted.iter().copied()).collect();
            if let Some(difference) = differs(&copy, last, &wanted).await {
                differences += &differences_alone(db, &batch).await;
                differences += &format!("\n== {} sabotages in one database: {difference}", batch.len());
            }
            copy.drop_copy().await;
        }
        assert!(differences.is_empty(), "{differences}");
    })
    .await;
}

/// How the proof of each sabotage, in a copy of its own, differs from what is wanted.
async fn differences_alone(db: &Database, sabotages: &[Sabotage<'_>]) -> String {
    let mut differences = String::new();
    for (sql, wanted) in sabotages {
        let copy = db.copy().await;
        differences.extend(differs(&copy, sql, wanted).await);
        copy.drop_copy().await;
    }
    differences
}

/// Batches in which no object is wanted by two sabotages: none can stand in for another that was overlooked.
fn of_different_objects<'a>(sabotages: &[Sabotage<'a>]) -> Vec<Vec<Sabotage<'a>>> {
    let mut batches: Vec<(BTreeSet<&str>, Vec<Sabotage<'a>>)> = Vec::new();
    for (sql, wanted) in sabotages {
        let objects: BTreeSet<_> = wanted.iter().map(|(_, object)| *object).collect();
        let place = batches.iter().position(|(taken, _)| taken.is_disjoint(&objects));
        let place = place.unwrap_or_else(|| {
            batches.push(Default::default());
            batches.len() - 1
        });
        batches[place].0.extend(objects);
        batches[place].1.push((*sql, *wanted));
    }
    batches.into_iter().map(|(_, batch)| batch).collect()
}

#[tokio::test]
async fn t06_policies_are_the_canonical_one_and_no_other() {
    const ITEMS: (&str, &str) = ("T-06 policy-canonical", "public.items");
    const MISSING: (&str, &str) = ("T-06 policy-missing", "public.items");
    each(&[
        ("create policy extra on items using (tenant_id is not null)", &[
            ITEMS, ("T-03 live-unset-insert", "public.items"), ("T-03 live-unset-select", "public.items"), ("T-06 live-select", "public.items"), ("T-06 live-update", "public.items"),
            ("T-06 live-delete", "public.items"), ("T-06 live-insert", "public.items"), ("T-06 live-move", "public.items")]),
        ("create policy extra on items for select using (name = 'x')", &[ITEMS]),
        ("create policy extra on items as restrictive using (true)", &[ITEMS]),
        ("alter policy tenant on items with check (true)", &[ITEMS, ("T-03 live-unset-insert", "public.items"), ("T-06 live-insert", "public.items"),]),
        ("alter policy tenant on items using (true)", &[ITEMS, ("T-03 live-unset-select", "public.items"), ("T-06 live-select", "public.items"), ("T-06 live-update", "public.items"), ("T-06 live-delete", "public.items")]),
        ("alter policy tenant on items to {own}", &[ITEMS, MISSING, ("C-02 live-sample", "public.items")]),
        ("drop policy tenant on audit_log_default; create policy tenant on audit_log_default using (true)", &[("T-06 policy-canonical", "public.audit_log_default")]),
        ("drop policy tenant on items; create policy tenant on items for select using (tenant_id = nullif((select current_setting('app.tenant_id', true)), '')::uuid)",
            &[ITEMS, MISSING, ("C-02 live-sample", "public.items")]),
        ("create policy all_people on users for select using (true)", &[("T-06 policy-members", "public.users"), ("T-03 live-unset-select", "public.users"), ("T-06 live-select", "public.users")]),
        ("create policy w on users for update using (true)", &[("T-06 policy-members", "public.users")]),
        ("alter policy owner on users to public", &[("T-06 policy-members", "public.users"), ("T-03 live-unset-select", "public.users"), ("T-06 live-select", "public.users")]),
        ("alter table users no force row level security", &[("T-02 force-rls", "public.users")]),
    ])
    .await;
}

/// Items of which one sees one's own.
const NARROW: &str =
    "alter table items add column if not exists maker uuid; select app.compile_audit('items');
    select app.row_condition('items', owner => 'maker', lifted_by => 'specimen.item.read_all'); ";

#[tokio::test]
async fn t06_a_row_condition_is_the_registered_one_and_tried_with_a_colleague() {
    const ITEMS: (&str, &str) = ("T-06 policy-canonical", "public.items");
    const GONE: (&str, &str) = ("T-06 policy-rows", "public.items");
    const SEEN: (&str, &str) = ("T-06 live-rows", "public.items");
    let narrowed: [(&str, &[(&str, &str)]); 9] = [
        ("select true", &[]),
        ("drop policy rows on items", &[GONE, SEEN]),
        ("alter policy rows on items using (true) with check (true)", &[ITEMS, GONE, SEEN]),
        ("alter policy rows on items with check (true)", &[ITEMS, GONE, SEEN]),
        ("alter policy rows on items using (maker is not null)", &[ITEMS, GONE, SEEN]),
        ("alter policy rows on items to {own}", &[ITEMS, GONE, SEEN]),
        (
            "drop policy rows on items; create policy rows on items to {rt} using (maker is not null)",
            &[
                ITEMS,
                GONE,
                SEEN,
                ("T-03 live-unset-select", "public.items"),
                ("T-06 live-select", "public.items"),
                ("T-06 live-update", "public.items"),
                ("T-06 live-delete", "public.items"),
                ("T-06 live-move", "public.items"),
            ],
        ),
        ("alter table items alter column maker drop default", &[("C-02 live-sample", "public.items")]),
        // Somebody narrows what the registry knows nothing of: a table that is empty to everybody is no proof of anything.
        (
            "update app.relations set row_condition = null, row_owner = null, row_lifted_by = null where relation = 'public.items'",
            &[ITEMS],
        ),
    ];
    let owned: Vec<_> = narrowed.iter().map(|(sql, wanted)| (format!("{NARROW}{sql}"), *wanted)).collect();
    let cases: Vec<_> = owned.iter().map(|(sql, wanted)| (sql.as_str(), *wanted)).collect();
    each(&cases).await;
}

#[tokio::test]
async fn a_row_condition_says_what_is_wrong_with_it() {
    const NO_SUCH: &str =
        "select app.row_condition('items', owner => 'maker', lifted_by => 'specimen.item.read_all')";
    const ODD_NAME: &str = "select app.row_condition('items', owner => 'id', lifted_by => 'Everything')";
    const HALF: &str = "select app.row_condition('items', owner => 'id', lifted_by => 'a.b.c', by => 'id')";
    const SHARED: &str = "select app.row_condition('tenants', owner => 'id', lifted_by => 'a.b.c')";
    with_database(async |db| {
        for (sql, said) in [
            (NO_SUCH, "there is no column public.items.maker of type uuid"),
            (ODD_NAME, "Everything is not the name of a permission"),
            (HALF, "by and members belong together"),
            (SHARED, "it is not a tenant's table"),
        ] {
            let refused = db
                .superuser()
                .await
                .batch_execute(&db.fill(&format!("set app.runtime_role = '{{rt}}'; {sql}")))
                .await
                .unwrap_err();
            let message = refused.as_db_error().unwrap().message().to_owned();
            assert!(message.starts_with("row_condition(") && message.ends_with(said), "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn t08_foreign_keys_carry_the_tenant() {
    together(&[
        ("create table lines (id uuid not null, item uuid); select app.tenant_table('lines', audit_as => 'line');
          create unique index only_ids on items (id); alter table lines add foreign key (item) references items (id)", &[
            ("T-08 fk-composite", "public.lines"), ("T-09 unique-spans-tenants", "public.items"), ("C-04 sample-missing", "public.lines")]),
        ("create table lines (id uuid not null, item uuid); select app.tenant_table('lines', audit_as => 'line');
          alter table lines add foreign key (tenant_id, item) references items (tenant_id, id)", &[("C-04 sample-missing", "public.lines")]),
        ("alter table items add column maker uuid references users (id); select app.compile_audit('items')", &[("T-08 fk-people", "public.items")]),
        ("alter table items add column t2 uuid, add foreign key (t2, id) references items (tenant_id, id); select app.compile_audit('items')", &[("T-08 fk-composite", "public.items")]),
    ])
    .await;
}

#[tokio::test]
async fn t09_nothing_unique_spans_tenants() {
    const ITEMS: (&str, &str) = ("T-09 unique-spans-tenants", "public.items");
    each(&[
        ("alter table items add unique (sku)", &[ITEMS]),
        ("create unique index on items (lower(name), (tenant_id::text))", &[ITEMS]),
        ("create unique index on items (name) include (tenant_id)", &[ITEMS]),
        ("create unique index on items (name) where quantity > 5", &[ITEMS]),
        ("alter table items add exclude using btree (sku with =)", &[ITEMS]),
        ("alter table items add column no bigint generated always as identity; select app.compile_audit('items')", &[("T-09 shared-sequence", "public.items")]),
        ("create sequence s; alter table items add column no bigint default nextval('s'); select app.compile_audit('items')", &[("T-09 shared-sequence", "public.items"), ("C-02 live-sample", "public.items")]),
        ("alter table items drop constraint items_pkey, drop constraint items_sku_key, drop constraint items_sku_folded_key; drop index items_created_at_idx, items_name_idx; create index on items (tenant_id) where quantity > 0",
            &[("T-07 leading-index", "public.items")]),
    ])
    .await;
}

#[tokio::test]
async fn t10_the_runtime_role_holds_what_is_registered_and_nothing_else() {
    together(&[
        ("grant truncate on items to {rt}", &[("T-10 forbidden-grants", "public.items")]),
        ("grant references on items to {rt}", &[("T-10 forbidden-grants", "public.items")]),
        ("grant trigger on items to public", &[("T-10 forbidden-grants", "public.items"), ("T-10 public-grants", "public.items")]),
        ("grant select on items to {rt} with grant option", &[("T-10 forbidden-grants", "public.items")]),
        ("grant update on audit_log to {rt}", &[("T-10 table-grants", "public.audit_log")]),
        ("grant delete on memberships to {rt}", &[("T-10 table-grants", "public.memberships")]),
        ("grant insert on tenants to {rt}", &[("T-10 shared-writable", "public.tenants"), ("T-10 live-write", "public.tenants"), ("T-12 function-context", "app.audit_head()")]),
        ("grant update on users to {rt}", &[("T-10 shared-writable", "public.users"), ("T-10 live-write", "public.users")]),
        ("grant select (email) on users to {rt}", &[("T-10 column-grants", "public.users")]),
        ("grant update (role) on memberships to public", &[("T-10 column-grants", "public.memberships"), ("T-10 public-grants", "public.memberships")]),
        ("grant select on audit_log_default to {rt}", &[("T-02 partition-grants", "public.audit_log_default")]),
        ("create sequence s; grant usage on sequence s to {rt}", &[("T-10 sequence-grants", "public.s")]),
        ("grant create on schema public to {rt}", &[("T-10 schema-create", "public")]),
        ("grant create on schema app to public", &[("T-10 schema-create", "app")]),
        ("reset role; grant temporary on database {db} to {rt}", &[("T-10 database-create", "{db}")]),
        ("reset role; grant create on database {db} to public", &[("T-10 database-create", "{db}")]),
        ("create table open (id uuid); grant select on open to {rt}", &[("R-01 unregistered", "public.open")]),
        ("create table forgotten (id uuid)", &[("R-05 unregistered-table", "public.forgotten")]),
        ("create table hidden (id uuid); select app.private_table('hidden', 'x')", &[]),
        ("reset role; create table an_administrators (id uuid)", &[]),
        ("reset role; create schema side; create table side.open (id uuid); grant insert on side.open to {rt}", &[("R-01 unregistered", "side.open")]),
        ("reset role; select lo_create(4711); grant select on large object 4711 to {rt}", &[("T-12 large-objects", "large object 4711")]),
    ])
    .await;
    each(&[
        ("grant update, delete on app.relations to {rt}", &[("T-10 shared-writable", "app.relations"), ("T-10 live-write", "app.relations")]),
        ("alter default privileges grant select on tables to {rt}", &[("T-10 default-privileges", "objects of {own}")]),
        ("create table hidden (id uuid); select app.private_table('hidden', 'x'); grant select on hidden to {rt}", &[("R-01 unregistered", "public.hidden")]),
        ("create table open (id uuid); grant select (id) on open to public", &[("R-01 unregistered", "public.open"), ("T-10 column-grants", "public.open")]),
        ("alter table items rename to things", &[("C-03 live-untried", "public.items"), ("R-02 registered-missing", "public.items"), ("R-01 unregistered", "public.things")]),
        ("delete from app.relations where relation = 'public.items'", &[("R-01 unregistered", "public.items"), ("T-12 definer-trigger", "public.items")]),
        ("update app.relations set kind = 'shared-read', privileges = '{select}' where relation = 'public.items'", &[
            ("R-03 registered-kind", "public.items"), ("T-10 shared-writable", "public.items"), ("T-10 live-write", "public.items")]),
    ])
    .await;
}

#[tokio::test]
async fn t15_the_runtime_role_sees_nothing_of_what_postgresql_keeps_for_itself() {
    together(&[
        ("reset role; grant select on pg_statistic to {rt}", &[("T-15 catalogue-access", "pg_statistic")]),
        (
            "reset role; grant select on pg_statistic_ext_data to public",
            &[("T-15 catalogue-access", "pg_statistic_ext_data")],
        ),
        (
            "reset role; grant select (stavalues1) on pg_statistic to {rt}",
            &[("T-15 catalogue-access", "pg_statistic")],
        ),
        (
            "reset role; grant select (rolpassword) on pg_authid to public",
            &[("T-15 catalogue-access", "pg_authid")],
        ),
        (
            "reset role; grant update (relrowsecurity) on pg_class to {rt}",
            &[("T-15 catalogue-access", "pg_class")],
        ),
        (
            "reset role; grant execute on function pg_read_file(text) to {rt}",
            &[("T-15 restricted-functions", "pg_read_file(text)")],
        ),
        (
            "reset role; grant execute on function pg_stat_reset() to public",
            &[("T-15 restricted-functions", "pg_stat_reset()")],
        ),
    ])
    .await;
}

/// All of this server's, such as pg_monitor, pg_read_all_stats and those that a later version brings.
#[tokio::test]
async fn t15_no_predefined_role_is_open_to_the_runtime_role() {
    with_database(async |db| {
        let sql = r"select rolname::text from pg_roles where rolname like 'pg\_%' and rolname <> 'pg_database_owner'";
        let rows = db.superuser().await.query(sql, &[]).await.unwrap();
        let roles: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(roles.len() > 9 && roles.contains(&"pg_monitor".to_owned()), "{roles:?}");
        for role in roles {
            db.sabotage(&format!("reset role; grant {role} to {}", db.runtime)).await;
            let report = db.prove().await;
            let found = report.findings.iter().find(|f| f.check == "T-01 role-membership" && f.object == role);
            assert_eq!(found.map(|f| &*f.fix), Some(&*format!("revoke {role} from {}", db.runtime)), "{}", report.matrix());
            db.sabotage(&format!("reset role; revoke {role} from {}", db.runtime)).await;
        }
        assert_eq!(db.prove().await.findings, []);
    })
    .await;
}

#[tokio::test]
async fn t10_the_runtime_role_cannot_switch_triggers_off() {
    with_database(async |db| {
        let wanted = [
            ("T-10 live-triggers-off", "the server"),
            ("T-10 parameter-grants", "parameter session_replication_role"),
        ];
        expect(db, "reset role; grant set on parameter session_replication_role to {rt}", &wanted).await;
        expect(db, "reset role; revoke set on parameter session_replication_role from {rt}", &[]).await;
    })
    .await;
}

#[tokio::test]
async fn t11_views_read_with_the_callers_rights() {
    together(&[
        ("create view v as select * from items; grant select on v to {rt}", &[("T-11 view-invoker", "public.v")]),
        ("create view v with (security_invoker = false) as select 1 as x; grant select (x) on v to {rt}", &[("T-11 view-invoker", "public.v"), ("T-10 column-grants", "public.v")]),
        ("create view invoker with (security_invoker) as select * from items; grant select on invoker to {rt}", &[]),
        ("create materialized view m as select * from items; grant select on m to {rt}", &[("T-11 materialized-view", "public.m")]),
        ("create table sink (x text); select app.shared_table('sink', 'x'); create rule spy as on insert to items do also insert into sink values (new.name)", &[("T-11 rule", "public.items")]),
    ])
    .await;
}

#[tokio::test]
async fn t12_no_code_runs_with_other_rights() {
    together(&[
        ("create function f() returns int language sql security definer as 'select 1'; grant execute on function f to {rt}", &[("T-12 definer-function", "public.f()")]),
        ("create function app.open(uuid) returns int language sql security definer as 'select 1'; grant execute on function app.open to public", &[("T-12 definer-function", "app.open(uuid)")]),
        ("create function nobodys() returns int language sql security definer as 'select 1'", &[]),
        // The one that is excepted: the system's alone, by its whole name, with its search path pinned.
        ("create function app.f() returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1'; grant execute on function app.f to {sys}", &[("T-12 definer-function", "app.f()")]),
        ("create function app.maintain_partitions(bigint) returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1'; grant execute on function app.maintain_partitions(bigint) to {sys}", &[("T-12 definer-function", "app.maintain_partitions(bigint)")]),
        ("alter function app.maintain_partitions(int) reset search_path", &[("T-12 definer-function", "app.maintain_partitions(integer)")]),
        ("alter function app.maintain_partitions(int) set search_path = public, pg_catalog, pg_temp", &[("T-12 definer-function", "app.maintain_partitions(integer)")]),
        ("grant execute on function app.maintain_partitions(int) to {rt}", &[("T-12 definer-function", "app.maintain_partitions(integer)")]),
        ("grant execute on function app.maintain_partitions(int) to public", &[("T-12 definer-function", "app.maintain_partitions(integer)")]),
        ("create function definer() returns trigger language plpgsql security definer as 'begin return new; end'; create trigger t before insert on items for each row execute function definer()",
            &[("T-12 definer-trigger", "public.items")]),
        ("reset role; create function f() returns int language sql set app.tenant_id = '00000000-0000-7000-8000-00000000c001' as 'select 1'; grant execute on function f to {rt}", &[("T-12 function-context", "public.f()")]),
        ("create function f() returns trigger language plpgsql as $$begin perform set_config('app.tenant_id', new.tenant_id::text, true); return new; end$$;
          create trigger t before insert on items for each row execute function f()", &[
            ("T-12 function-context", "public.f()"), ("T-03 live-unset-insert", "public.items"), ("T-06 live-insert", "public.items")]),
        // Its body is not text: pg_proc.prosrc is empty.
        ("create function atomic(t uuid) returns text language sql begin atomic select set_config('app.tenant_id', t::text, true); end; grant execute on function atomic to {rt}", &[("T-12 function-context", "public.atomic(uuid)")]),
        ("reset role; create function leaks(text) returns bool language sql leakproof as 'select true'; revoke execute on function leaks from public", &[("T-12 leakproof", "public.leaks(text)")]),
        ("reset role; create function f() returns int language internal as 'pg_backend_pid'", &[("T-12 untrusted-language", "public.f()")]),
        ("reset role; create extension pg_trgm schema public", &[("T-12 extension-public", "pg_trgm")]),
        ("reset role; create schema ext; create extension dblink schema ext", &[("T-12 extension-outward", "dblink")]),
        ("reset role; create foreign data wrapper w; create server s foreign data wrapper w; grant usage on foreign server s to {rt}", &[("T-12 foreign-access", "server s")]),
        ("reset role; create foreign data wrapper w2; create server s2 foreign data wrapper w2; create foreign table ft (id uuid) server s2; grant select on ft to {rt}", &[("T-12 foreign-table", "public.ft")]),
        ("create table child () inherits (items)", &[("T-02 force-rls", "public.child"), ("T-02 inheritance", "public.child"), ("T-07 leading-index", "public.child"), ("T-06 policy-missing", "public.child")]),
        ("alter table items alter tenant_id drop default", &[("T-02 tenant-column", "public.items"), ("C-02 live-sample", "public.items")]),
        ("create table nullable (id uuid, tenant_id uuid)", &[("T-02 tenant-column", "public.nullable"), ("T-02 force-rls", "public.nullable"), ("T-06 policy-missing", "public.nullable"), ("T-07 leading-index", "public.nullable")]),
        ("create function swallow() returns trigger language plpgsql as 'begin return null; end'; create trigger t before insert on items for each row execute function swallow()", &[("C-03 live-untried", "public.items")]),
        ("revoke insert on items from {rt}", &[("T-10 table-grants", "public.items"), ("C-02 live-sample", "public.items")]),
        ("create table disguised (org uuid references tenants); select app.shared_table('disguised', 'x')", &[("R-04 disguised-tenant", "public.disguised")]),
    ])
    .await;
    each(&[
        ("reset role; create function f() returns event_trigger language plpgsql as 'begin end'; create event trigger e on ddl_command_end execute function f()", &[("T-12 event-trigger", "e")]),
        ("alter table items disable trigger audit", &[("U-05 trigger-disabled", "public.items")]),
        ("drop trigger audit on items", &[("U-05 audit-trigger", "public.items")]),
        ("reset role; alter table items add column shelf text", &[("U-05 audit-trigger", "public.items")]),
        ("reset role; create or replace function app.audit_of_items() returns trigger language plpgsql as 'begin return null; end'", &[("U-05 audit-trigger", "public.items")]),
        ("drop trigger audit on items; create constraint trigger audit after insert on items deferrable initially deferred
            for each row execute function app.audit_of_items('item', '{id}', '{}')", &[("U-05 audit-trigger", "public.items")]),
        ("reset role; alter database {db} set app.tenant_id = '00000000-0000-7000-8000-00000000c001'", &[("T-01 role-settings", "database {db}"), ("T-04 preset-context", "app.tenant_id")]),
        ("reset role; alter role {rt} in database {db} set row_security = off", &[("T-01 role-settings", "{rt}"), ("T-04 preset-context", "row_security")]),
        ("update tenants set status = 'active' where slug = 'canary-one'", &[("C-01 canary-reserved", "canary-one")]),
        ("reset role; alter table items owner to postgres", &[("T-01 owner-attributes", "public.items")]),
        ("drop table app.relations", &[("R-00 registry", "app.relations")]),
        ("reset role; set allow_system_table_mods = on; create function pg_catalog.f() returns int language sql as 'select 1'", &[("T-12 catalogue-shadow", "f()")]),
        ("reset role; create function f(text) returns uuid language sql as 'select null::uuid'; revoke execute on function f from public; create cast (text as uuid) with function f(text)", &[("T-12 catalogue-shadow", "cast (text as uuid)")]),
        ("reset role; create function f(uuid, uuid) returns bool language sql as 'select true'; create operator public.= (leftarg = uuid, rightarg = uuid, function = f)", &[("T-12 catalogue-shadow", "operator public.=(uuid,uuid)")]),
        ("revoke select on app.relations from {rt}", &[("R-00 registry", "app.relations")]),
    ])
    .await;
}

#[tokio::test]
async fn t07_the_tenant_is_read_once_and_serves_as_an_index_condition() {
    with_database(async |db| {
        let client = db.runtime().await;
        client.batch_execute("set enable_seqscan = off").await.unwrap();
        for sql in [
            "select * from items where id = gen_random_uuid()",
            "select * from items order by created_at desc, id limit 50",
        ] {
            let plan: Vec<String> = client
                .query(&format!("explain {sql}"), &[])
                .await
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            let plan = plan.join("\n");
            assert!(plan.contains("InitPlan"), "{plan}");
            assert!(
                plan.contains("Index Cond: ((tenant_id = ") || plan.contains("Index Cond: (tenant_id = "),
                "{plan}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_only_server_is_proven_in_part() {
    with_database(async |db| {
        db.sabotage("reset role; alter database {db} set default_transaction_read_only = on").await;
        let report = db.prove().await;
        assert_eq!((report.mode, report.passed()), (Mode::Partial, true), "{}", report.matrix());
        assert!(report.one_line().contains("read-only"), "{}", report.one_line());
    })
    .await;
}

#[tokio::test]
async fn a_locked_table_is_inconclusive_and_never_a_pass() {
    with_database(async |db| {
        let mut migration = db.superuser().await;
        let lock = migration.transaction().await.unwrap();
        lock.batch_execute("lock table items in access exclusive mode").await.unwrap();
        let report = db.prove().await;
        assert!(!report.passed() && report.inconclusive(), "{}", report.matrix());
        assert_eq!(
            report.findings.iter().map(|f| (f.check, f.object.as_str())).collect::<Vec<_>>(),
            [("C-03 live-untried", "public.items")]
        );
        lock.rollback().await.unwrap();
        assert!(db.prove().await.passed());
    })
    .await;
}

#[tokio::test]
async fn proofs_of_several_instances_do_not_disturb_each_other() {
    with_database(async |db| {
        let proofs = futures_util::future::join_all((0..8).map(|_| db.prove())).await;
        assert!(
            proofs.iter().all(Report::passed),
            "{:?}",
            proofs.iter().map(Report::one_line).collect::<Vec<_>>()
        );
    })
    .await;
}

#[tokio::test]
async fn fifty_tables_are_proven_quickly() {
    with_database(async |db| {
        let mut samples = db.samples.clone();
        for n in 0..50 {
            let table: &str = format!("extra_{n}").leak();
            let made = format!(
                "create table {table} (id uuid not null, name text); select app.tenant_table('{table}', audit_as => 'thing')"
            );
            db.sabotage(&made).await;
            let insert = format!(
                "insert into {table} (id, name) values ('00000000-0000-7000-8000-00000000ca11', 'x')"
            )
            .leak();
            samples.push(Sample { table, insert });
        }
        for (what, samples) in [("50 more tables", &samples)] {
            let client = db.runtime().await;
            let mut quickest = Duration::MAX;
            for _ in 0..5 {
                let begun = Instant::now();
                let report = prove(&client, ProvenLogin::Runtime, samples).await.unwrap();
                assert!(report.passed(), "{}", report.matrix());
                quickest = quickest.min(begun.elapsed());
                println!("{what}: {:?}", begun.elapsed());
            }
            println!("deep: {what}: {quickest:.1?}, the quickest of 5");
            assert!(quickest < Duration::from_secs(2), "{quickest:?}");
        }
    })
    .await;
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/isolation.md");
    let rendered = reference();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == rendered, "docs/reference/isolation.md is stale: run the tests with BLESS=1");
}

#[test]
fn every_check_has_its_own_id() {
    let ids: Vec<_> = checks().map(|check| check.id).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
}

/// The system's login has as much as was said of it, and the proof that is made as it finds more and less.
#[tokio::test]
async fn t_01_t_10_the_systems_login_is_proven_as_strictly_as_the_runtime_role() {
    with_database(async |db| {
        for (sql, wanted) in [
            ("", &[][..]),
            ("reset role; alter role {sys} createdb", &[("T-01 role-attributes", "{sys}")]),
            (
                "reset role; alter role {sys} nocreatedb; set role {own}; grant select on items to {sys}",
                &[("T-10 table-grants", "public.items")],
            ),
            (
                "revoke select on items from {sys}; grant update on tenants to {sys}",
                &[
                    ("T-10 shared-writable", "public.tenants"),
                    ("T-10 live-write", "public.tenants"),
                    ("T-12 function-context", "app.audit_head()"), // the trigger of tenants, which it could set off
                ],
            ),
            (
                "revoke update on tenants from {sys}; revoke update on idempotency_keys from {sys}",
                &[
                    ("T-10 table-grants", "public.idempotency_keys"),
                    ("T-06 live-update", "public.idempotency_keys"),
                ],
            ),
            (
                "grant update on idempotency_keys to {sys}; create table public.keys (key text);
                select app.private_table('public.keys', 'nobody''s'); grant select on keys to {sys}",
                &[("R-01 unregistered", "public.keys")],
            ),
            ("select app.system_access('public.keys', '{select,insert}', 'looks keys up')", &[]),
            ("revoke insert on keys from {sys}", &[("T-10 private-grants", "public.keys")]),
        ] {
            expect(db, sql, wanted).await;
        }
    })
    .await;
}

/// A policy of its own opens a tenants' table to the system's login alone, and only where that is registered.
#[tokio::test]
async fn t_06_the_systems_policy_is_for_its_login_and_where_the_registry_says_so() {
    with_database(async |db| {
        let opened = "select app.system_access('public.items', '{select}', 'looks for it in all tenants', across => true)";
        expect(db, opened, &[]).await;
        let row = "set app.tenant_id = '00000000-0000-7000-8000-00000000c001'; set row_security = on;
            set app.actor = 'test'; insert into items (id, sku, name) values (gen_random_uuid(), 'A', 'A')";
        db.sabotage(row).await;
        let count = async |client: &tokio_postgres::Client| -> i64 {
            client.query_one("select count(*) from items", &[]).await.unwrap().get(0)
        };
        assert_eq!(count(&db.system().await).await, 1, "the system sees the rows of all tenants");
        assert_eq!(count(&db.runtime().await).await, 0, "and the runtime role nobody's");
        let refused = db.system().await.batch_execute("delete from items").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "with the commands that were named, and no other");

        let canonical = ("T-06 policy-canonical", "public.items");
        for sql in [
            "alter policy system on items to {sys}, {rt}",
            "alter policy system on items to public",
            "alter policy system on items to {rt}",
            "alter policy system on items to {own}",
            "alter policy system on items to {sys} using (true)",
            "select app.open_across('public.items'); alter policy system on items with check (true)",
        ] {
            let found = {
                db.sabotage(sql).await;
                db.prove().await.findings
            };
            let found: BTreeSet<_> = found.iter().map(|f| (f.check, f.object.as_str())).collect();
            assert!(found.contains(&canonical), "{sql}: {found:?}");
        }
        let back = "select app.system_access('public.items', '{select}', 'looks for it in all tenants', across => true)";
        expect(db, back, &[]).await;
        let silent = "update app.relations set system_across = false where relation = 'public.items'";
        db.sabotage(silent).await;
        let found = db.prove().await.findings;
        assert!(found.iter().any(|f| (f.check, f.object.as_str()) == canonical), "{found:?}");
        // Said again, it is for the named tenant only.
        expect(db, "select app.system_access('public.items', '{select}', 'looks in one tenant')", &[]).await;
        assert_eq!(count(&db.system().await).await, 0);
    })
    .await;
}

/// Whatever a statement forgets to say.
#[tokio::test]
async fn t_17_within_one_tenant_the_system_reaches_that_tenants_rows_only() {
    with_database(async |db| {
        let opened = "select app.system_access('public.items', '{select,insert,update,delete}', 'test', across => true)";
        expect(db, opened, &[]).await;
        let row = "set app.tenant_id = '00000000-0000-7000-8000-00000000c001'; set row_security = on;
            set app.actor = 'test'; insert into items (id, sku, name) values (gen_random_uuid(), 'A', 'A')";
        db.sabotage(row).await;
        let system = db.system().await;
        system.batch_execute("set app.actor = 'test'").await.unwrap();
        let name = async |tenant: &str| {
            system.execute("select set_config('app.tenant_id', $1, false)", &[&tenant]).await.unwrap();
        };
        let touched = async |sql: &str| system.execute(sql, &[]).await.unwrap();
        name("00000000-0000-7000-8000-00000000c002").await;
        for sql in ["select from items", "update items set name = 'B'", "delete from items"] {
            assert_eq!(touched(sql).await, 0, "within another tenant: {sql}");
        }
        let foreign = "insert into items (id, tenant_id, sku, name) values \
            (gen_random_uuid(), '00000000-0000-7000-8000-00000000c001', 'C', 'C')";
        let refused = system.execute(foreign, &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501");
        name("00000000-0000-7000-8000-00000000c001").await;
        assert_eq!(touched("update items set name = 'B'").await, 1, "within its own");
        name("").await;
        assert_eq!(touched("select from items").await, 1, "outside of any");
    })
    .await;
}

#[tokio::test]
async fn the_constructor_of_the_systems_access_says_what_it_does_not_take() {
    with_database(async |db| {
        for (call, hint) in [
            ("'pg_class', '{select}', 'x'", "Hand it to"),
            ("'public.items', '{}', 'x'", "Name some of"),
            ("'public.items', '{truncate}', 'x'", "Name some of"),
            ("'public.tenants', '{select,update}', 'x'", "Say"),
            ("'public.tenants', '{select}', 'x', across => true", "Leave across out"),
        ] {
            let root = db.superuser().await;
            let sql = db.fill(&format!("set app.system_role = '{{sys}}'; select app.system_access({call})"));
            let error = root.batch_execute(&sql).await.unwrap_err();
            let told = error.as_db_error().unwrap();
            assert!(told.message().starts_with("system_access("), "{told:?}");
            assert!(told.hint().unwrap_or_default().starts_with(hint), "{call}: {told:?}");
        }
    })
    .await;
}
