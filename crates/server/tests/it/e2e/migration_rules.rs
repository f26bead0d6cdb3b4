//! What a migration may rely on: a statement that forgot its tenant fails, times get their bounds, what cannot run in a
//! transaction runs outside, and what was stored before a rule is carried over.

use std::thread;

use erp_core::db::{CORE, Migrated, Migration, Namespace, Owner, Schema, State, Status};
use erp_core::lifecycle::StartError;
use erp_modules::PRODUCT;
use tokio_util::task::TaskTracker;

use super::database::{Database, Session};
use super::http::Client;
use super::one_list;
use super::process::{Home, Process, run};

/// The product with one more module, which has these migrations.
pub(super) fn and_later(migrations: &[Migration]) -> Schema {
    let later = Namespace::of("later", migrations);
    Schema::new(PRODUCT.namespaces().chain([later])).unwrap()
}

/// A file of that module.
pub(super) fn file(name: &'static str, sql: &'static str) -> Migration {
    Migration { name, sql, after: &[], was: &[] }
}

/// Applies what is pending.
pub(super) fn migrate(database: &Database, schema: &Schema) -> Result<Migrated, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let owner = Owner::connect(&database.owner_url.parse().unwrap(), &TaskTracker::new()).await?;
        owner.migrate(schema, &database.logins()).await
    })
}

/// The state of every migration.
pub(super) fn status(database: &Database, schema: &Schema) -> Vec<Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let owner = Owner::connect(&database.owner_url.parse().unwrap(), &TaskTracker::new()).await.unwrap();
        owner.status(schema).await.unwrap()
    })
}

/// What a later version of the product would add.
pub(super) fn later(database: &Database, sql: &'static str) -> Result<(), StartError> {
    migrate(database, &and_later(&[file("0001_later", sql)])).map(drop)
}

#[test]
fn a_backfill_without_a_tenant_fails_and_one_tenant_by_tenant_is_done_and_audited() {
    let (home, database) = (Home::new(), Database::empty("backfill"));
    drop(Process::serve(&home, &database.both()));
    let sum = || database.value("select sum(quantity) from items").parse::<u64>().unwrap();
    let before = sum();
    for sql in [
        "update public.items set quantity = quantity + 1",
        "delete from public.items",
        "insert into public.items (id, sku, name) values (gen_random_uuid(), 'x', 'x')",
        "insert into public.items (id, tenant_id, sku, name) select gen_random_uuid(), id, 'x', 'x' from tenants",
        "select count(*) from public.items",
    ] {
        let error = later(&database, sql).unwrap_err();
        assert!(error.message.contains("app.for_each_tenant"), "{sql}: {error}");
    }
    assert_eq!(sum(), before);
    let sql = "select app.for_each_tenant('update public.items set quantity = quantity + 1');
        insert into public.tenants (id, slug) values (gen_random_uuid(), 'initech');";
    later(&database, sql).unwrap();
    assert_eq!(sum(), before + 6);
    let audited =
        "select count(*) from audit_log where action = 'item.updated' and actor = 'system:migration'";
    assert_eq!(database.value(audited), "6");
    let heads =
        "select count(*) from tenants t left join audit_heads h on h.tenant_id = t.id where h.seq is null";
    assert_eq!(database.value(heads), "0", "the new tenant has its head");
    let gapless = "select bool_and(h.seq = (select count(*) from audit_log l where l.tenant_id = h.tenant_id)) from audit_heads h";
    assert_eq!(database.value(gapless), "true");
}

#[test]
fn a_time_that_a_migration_adds_has_its_bounds() {
    let database = Database::migrated("added_time");
    let sql = "alter table items add column sold_out_at timestamptz, add column day date;
        create table public.orders (id uuid not null, due date);
        select app.tenant_table('public.orders', audit_as => 'order');";
    later(&database, sql).unwrap();
    let bounds = "select string_agg(conrelid::regclass || '.' || conname, ' ' order by conname collate \"C\")
        from pg_constraint where conname in ('sold_out_at_years', 'day_years', 'due_years')
          and conrelid in ('items'::regclass, 'orders'::regclass)";
    assert_eq!(database.value(bounds), "items.day_years orders.due_years items.sold_out_at_years");
    let open =
        "insert into orders (id, tenant_id, due) select gen_random_uuid(), id, 'infinity' from tenants";
    assert!(Session::open(&database.admin_url).try_run(open).is_err());
}

/// A migration that makes a table with these columns.
macro_rules! orders {
    ($columns:literal) => {
        concat!(
            "create table public.orders (id uuid not null, ",
            $columns,
            "); select app.tenant_table('public.orders', audit_as => 'order');"
        )
    };
}

#[test]
fn a_column_that_holds_no_decimal_exactly_is_refused() {
    let database = Database::migrated("inexact");
    for (sql, kind) in [
        (orders!("total real"), "real"),
        (orders!("total double precision not null"), "double precision"),
        (orders!("total float"), "double precision"),
        (orders!("total float4[]"), "real[]"),
        (orders!("total money"), "money"),
        (concat!("create domain public.amount as real;", orders!("total public.amount")), "amount"),
        ("alter table public.items add column total real", "real"),
    ] {
        let error = later(&database, sql).unwrap_err();
        let refused = format!("the column total is of the type {kind}, which does not hold decimals exactly");
        assert!(error.message.contains(&refused), "{sql}: {error}");
        assert!(error.to_string().contains("total_minor bigint"), "{error}");
    }
    later(&database, orders!("rate numeric(9, 6), counts bigint[], note text")).unwrap();
}

#[test]
fn money_that_a_migration_adds_has_its_check() {
    let database = Database::migrated("added_money");
    let sql = concat!(
        "alter table items add column price_minor bigint, add column price_currency text;",
        orders!("total_minor bigint, total_currency text, fee_minor bigint, base_currency text")
    );
    later(&database, sql).unwrap();
    let checks = "select string_agg(conrelid::regclass || '.' || conname, ' ' order by conname collate \"C\")
        from pg_constraint where conname like '%\\_money' and conrelid::regclass::text in ('items', 'orders')";
    assert_eq!(database.value(checks), "items.price_money orders.total_money");
    for sql in [
        "alter table items add column fee_minor int, add column fee_currency text",
        "alter table items add column fee_minor numeric, add column fee_currency text",
        "alter table items add column fee_minor bigint, add column fee_currency char(3)",
    ] {
        let error = later(&Database::migrated("odd_money"), sql).unwrap_err();
        assert!(
            error.to_string().contains("Write \"fee_minor bigint\" and \"fee_currency text\""),
            "{error}"
        );
    }
}

#[test]
fn rows_of_before_a_rule_are_carried_over() {
    let (home, database) = (Home::new(), Database::empty("carried"));
    one_list::migrate(&database, 6);
    database.run(
        "insert into tenants (id, slug) values ('0190163d-8694-739b-aea5-966c26f8ad91', 'initech');
         select set_config('app.tenant_id', '0190163d-8694-739b-aea5-966c26f8ad91', false);
         insert into items (id, sku, name, quantity, created_at) values
           ('00000000-0000-7000-8000-000000000001', 'BOLT', 'a', 9223372036854775807, 'infinity'),
           ('00000000-0000-7000-8000-000000000002', 'bolt', 'b', 1, '9999-12-31 23:59:59.999999+00'),
           ('00000000-0000-7000-8000-000000000003', 'Nut', 'c', 2, '-infinity'),
           ('00000000-0000-7000-8000-000000000004', 'old', 'd', 3, '1900-01-01+00')",
    );
    let server = Process::serve(&home, &database.both());
    let stored = "select string_agg(sku || ' ' || quantity || ' ' || extract(year from created_at), ', ' order by name)
        from items where tenant_id = '0190163d-8694-739b-aea5-966c26f8ad91'";
    let carried = "BOLT 9007199254740991 9998, bolt 1 9998, Nut 2 1, old 3 1900";
    assert_eq!(database.value(stored), carried);
    // The old twin is left alone, also when something else of it changes; a new one is refused.
    let tenant = "select set_config('app.tenant_id', '0190163d-8694-739b-aea5-966c26f8ad91', false)";
    database.run(&format!("{tenant}; update items set quantity = 7 where sku = 'bolt'"));
    let twin = "insert into items (id, sku, name) values (gen_random_uuid(), 'Bolt', 'x')";
    assert!(Session::open(&database.admin_url).try_run(&format!("{tenant}; {twin}")).is_err());
    // Seen in a list of the people who can sign in.
    database.run(&format!("{tenant}; delete from items where sku = 'bolt'"));
    database.run(&format!(
        "{tenant}; alter table items disable trigger audit;
         update items set tenant_id = (select id from tenants where slug = 'acme')
         where tenant_id = '0190163d-8694-739b-aea5-966c26f8ad91'"
    ));
    let client = Client::signed_in(&server.address(), home.path());
    for sort in ["createdAt", "-createdAt"] {
        let page = client.get(&format!("/api/v1/items?sort={sort}")).unwrap();
        assert_eq!((page.status, page.json()["items"].as_array().unwrap().len()), (200, 6), "{page:?}");
    }
}

const CONCURRENTLY: &str = "-- outside a transaction
-- Finds items by their name; none is there twice.
create unique index concurrently if not exists items_once_idx
  on public.items (tenant_id, name);
alter table public.items alter column quantity set statistics 500;
";

#[test]
fn a_migration_outside_a_transaction_goes_on_after_a_failure_and_leaves_no_invalid_index() {
    let database = Database::migrated("concurrently");
    database.run(
        "begin; set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
         insert into items (id, sku, name) select gen_random_uuid(), 'A-' || n, 'same' from generate_series(1, 2) n;
         commit",
    );
    let error = later(&database, CONCURRENTLY).unwrap_err();
    for part in ["later/0001_later", "can be run again", "create unique index concurrently"] {
        assert!(error.message.contains(part), "no {part:?} in {error}");
    }
    let valid = "select coalesce(bool_and(indisvalid)::text, 'none') from pg_index
        where indexrelid = to_regclass('public.items_once_idx')";
    assert_eq!(database.value(valid), "false", "PostgreSQL leaves it behind");
    database.run("begin; set local app.tenant_id = '00000000-0000-7000-8000-00000000c001'; update items set name = sku; commit");
    later(&database, CONCURRENTLY).unwrap();
    assert_eq!(database.value(valid), "true");
    assert_eq!(database.value("select count(*) from app.migrations where name = 'later/0001_later'"), "1");
    later(&database, CONCURRENTLY).unwrap();
}

#[test]
fn s_10_instances_that_migrate_at_once_do_not_wait_for_each_other_in_a_circle() {
    let database = Database::migrated("circle");
    thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| later(&database, CONCURRENTLY))).collect();
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    assert_eq!(database.value("select count(*) from app.migrations where name = 'later/0001_later'"), "1");
}

#[test]
fn a_checkout_with_other_line_ends_has_the_same_migrations() {
    let database = Database::migrated("line_ends");
    #[allow(clippy::disallowed_methods)] // a migration's text lives as long as the program
    let with_crlf =
        |migration: &Migration| Migration { sql: migration.sql.replace('\n', "\r\n").leak(), ..*migration };
    let modules: Vec<(&str, Vec<Migration>)> = PRODUCT
        .modules
        .iter()
        .map(|module| (module.name, module.migrations.iter().map(with_crlf).collect()))
        .collect();
    let theirs = modules.iter().map(|(name, migrations)| Namespace::of(name, migrations));
    let (ours, other) = (PRODUCT.schema().unwrap(), Schema::new(theirs).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let applied = |schema: &Schema| {
        runtime.block_on(async {
            let owner =
                Owner::connect(&database.owner_url.parse().unwrap(), &TaskTracker::new()).await.unwrap();
            let status = owner.status(schema).await.unwrap();
            status.iter().filter(|row| row.state == State::Applied).count()
        })
    };
    let all = ours.migrations().len();
    assert_eq!(applied(&other), all);
    // What a binary of before has written, that was built from such a checkout.
    let (name, text) =
        ("catalog/0001_items", modules.iter().find(|(name, _)| *name == "catalog").unwrap().1[0].sql);
    let theirs: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let sql =
        format!("update app.migrations set checksum = encode(sha256(decode('{theirs}', 'hex')), 'hex')");
    database.run(&format!("{sql} where name = '{name}'"));
    assert_eq!(applied(&ours), all);
    database.run(&format!("update app.migrations set checksum = 'other' where name = '{name}'"));
    assert_eq!(applied(&ours), all - 1);
}

/// What must be in the message that refuses `sql`.
fn refused(database: &Database, sql: &'static str, parts: &[&str]) {
    let error = later(database, sql).unwrap_err();
    for part in parts {
        assert!(error.message.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(database.value("select count(*) from app.migrations where name = 'later/0001_later'"), "0");
}

#[test]
fn f59_a_table_that_nobody_registered_is_refused_with_the_line_to_write() {
    let database = Database::migrated("forgotten");
    let line = "select app.tenant_table('public.ships', audit_as => 'ship')";
    let parts = ["later/0001_later", "public.ships", line, "app.private_table"];
    refused(&database, "create table public.ships (id uuid not null);", &parts);
    assert_eq!(database.value("to_regclass('public.ships') is null"), "true", "it was rolled back");
    refused(
        &database,
        "-- outside a transaction\ncreate table if not exists public.ships (id uuid not null);\n",
        &parts,
    );
    let registered = [
        "select app.tenant_table('public.ships', audit_as => 'ship');",
        "select app.shared_table('public.ships', 'x');",
        "select app.private_table('public.ships', 'x');",
    ];
    for (number, register) in registered.into_iter().enumerate() {
        let database = Database::migrated(&format!("remembered_{number}"));
        #[allow(clippy::disallowed_methods)] // a migration's text lives as long as the program
        let sql = format!("create table public.ships (id uuid not null);\n{register}").leak();
        later(&database, sql).unwrap();
    }
}

/// One that came another way, such as by a version that did not look.
#[test]
fn f59_a_table_that_nobody_registered_is_found_at_the_start_and_by_db_migrate() {
    let database = Database::migrated("forgotten_before");
    database.run(&format!("set role {}; create table public.ships (id uuid not null)", database.owner()));
    let said = |arguments: &[&str]| {
        let ended = run(&Home::new(), arguments, &database.both());
        assert_eq!(ended.code, 77, "{ended:#?}");
        [ended.out, ended.err].concat().join("\n")
    };
    for arguments in [&["db", "migrate"][..], &[]] {
        let said = said(arguments);
        for part in ["R-05", "public.ships", "select app.tenant_table('public.ships', audit_as => '…')"] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }
    database.run(&format!(
        "set role {0}; set app.runtime_role = '{1}'; select app.private_table('public.ships', 'an operator''s own')",
        database.owner(),
        database.app()
    ));
    drop(Process::serve(&Home::new(), &database.both()));
}

#[test]
fn f60_a_foreign_key_without_the_tenant_is_told_what_the_house_wants() {
    let database = Database::migrated("foreign_key");
    let pair = "select app.tenant_reference('public.order_lines', 'item_id', 'public.items')";
    for sql in [
        "create table public.lines (id uuid not null, item_id uuid references public.items (id));",
        "create table public.lines (id uuid not null, item_id uuid);
         select app.tenant_table('public.lines', audit_as => 'line');
         alter table public.lines add foreign key (item_id) references public.items (id);",
        "create table public.lines (id uuid not null, item_id uuid);
         select app.tenant_table('public.lines', audit_as => 'line');
         alter table public.lines add foreign key (tenant_id, item_id) references public.items (tenant_id, id);",
    ] {
        refused(&database, sql, &[pair]);
    }
    let early = "create table public.lines (id uuid not null, item_id uuid,
        foreign key (tenant_id, item_id) references public.items (tenant_id, id));";
    refused(&database, early, &["app.tenant_table adds the column tenant_id"]);
    let keyed = "create table public.lines (id uuid primary key);
        select app.tenant_table('public.lines', audit_as => 'line');";
    refused(&database, keyed, &["already has a primary key", "tenant_table makes the key (tenant_id, id)"]);
}

/// As `docs/reference/migrations.md` says under "Before 0.1.0".
#[test]
fn a_migration_of_before_audit_was_asked_for_is_carried_over_by_hand() {
    const THINGS: &str =
        "create table public.things (id uuid not null); select app.tenant_table('public.things');";
    const EDITED: &str = "create table public.things (id uuid not null);
        select app.tenant_table('public.things', audit_as => 'thing');";
    const NEXT: &str = "drop trigger if exists audit on public.things;
        create constraint trigger audit after insert or update or delete on public.things deferrable initially deferred
          for each row execute function app.audit_change('thing', '{id}', '{}');";
    let schema = |core: &'static [Migration], migrations: &[Migration]| {
        let things = Namespace::of("things", migrations);
        Schema::on(Namespace { migrations: core, ..CORE }, [things]).unwrap()
    };
    let [old, edited, next] = [("0001_things", THINGS), ("0001_things", EDITED), ("0002_audit", NEXT)]
        .map(|(name, sql)| file(name, sql));
    let (before, after) = (schema(&CORE.migrations[..4], &[old]), schema(CORE.migrations, &[edited, next]));
    let (database, fresh) = (Database::empty("before_audit"), Database::empty("after_audit"));
    migrate(&database, &before).unwrap();
    migrate(&database, &schema(CORE.migrations, &[old])).unwrap();

    let error = migrate(&fresh, &schema(CORE.migrations, &[old])).unwrap_err();
    assert!(error.message.contains("under \"Before 0.1.0\""), "{error}");
    migrate(&fresh, &after).unwrap();
    let error = migrate(&database, &after).unwrap_err();
    assert!(error.message.contains("things/0001_things"), "{error}");
    let told = format!(
        "update app.migrations set checksum = '{}' where name = 'things/0001_things'",
        edited.checksum()
    );
    database.run(&told);
    assert_eq!(migrate(&database, &after).unwrap().applied, ["things/0002_audit"]);
    let triggers = "select string_agg(pg_get_triggerdef(oid), ';' order by tgname) from pg_trigger
        where tgrelid = 'public.things'::regclass and not tgisinternal";
    assert!(fresh.value(triggers).contains("app.audit_of_things"));
    assert_eq!(database.value(triggers), fresh.value(triggers));
}
