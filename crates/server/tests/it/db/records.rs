//! What the house keeps of a record, so that no module can forget it: version and time, the audit row, COMMIT.

use erp_core::answer::{NoContent, Refusing};
use erp_core::db::{Migration, Sample};
use erp_core::error::Result;
use erp_core::extract::{Json, Path};
use erp_core::factory::modules;
use erp_core::input;
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, Tenant};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;
use http::Request;
use serde_json::json;

static FORGETFUL: Module = Module {
    name: "forgetful",
    errors: ERRORS,
    routes,
    migrations: &[Migration {
        name: "0001_part_lists",
        sql: PART_LISTS,
        after: &["catalog/0001_items"],
        was: &[],
    }],
    samples: &[Sample { table: "part_lists", insert: PART_LIST }],
    ..Module::BARE
};

erp_core::error_codes! {
    /// The codes of the test's module.
    pub(super) ERRORS in codes {
        NO_ITEM = "forgetful.no_item", 422, "No such item", on part_lists [part_lists_item_fkey at "/lines/*/itemId"];
            "There is no such item.";
            "Name one that there is.";
        NO_PARENT = "forgetful.no_parent", 422, "No such parent", on part_lists [part_lists_parent_fkey at "/parentId"];
            "There is no such parent.";
            "Name one that there is.";
    }
}

/// A table with two foreign keys.
const PART_LISTS: &str = "create table public.part_lists (id uuid not null, parent uuid, item uuid);
    select app.tenant_table('public.part_lists', unaudited => 'for a test');
    select app.tenant_reference('public.part_lists', 'item', 'public.items');
    select app.tenant_reference('public.part_lists', 'parent', 'public.part_lists', on_delete => 'cascade');";
const PART_LIST: &str = "insert into public.part_lists (id) values ('00000000-0000-7000-8000-00000000ca77');";

input! {
    /// A list of parts.
    Parts {
        parent_id: Option<Id<Tenant>>,
        #[serde(default)]
        lines: Vec<Id<Tenant>>,
    }
}

/// All lines in one statement; a refusal of a foreign key names the line.
async fn parts(call: Call, Json(parts): Json<Parts>) -> Result<NoContent> {
    let sql = "insert into part_lists (id, parent, item) select gen_random_uuid(), $1, item from unnest($2::uuid[]) item";
    let inserted = call.tenant().last().rows::<()>(sql, &[&parts.parent_id, &parts.lines]).await;
    match inserted {
        Ok(_) => Ok(NoContent),
        Err(error) => Err(call.locate(error, "select id from items where id = any ($1)", &parts.lines).await),
    }
}

async fn secretive() -> Result<NoContent> {
    Err(erp_core::error::Error::new(&codes::NO_ITEM))
}

async fn open() -> Result<NoContent, Refusing<codes::NO_ITEM>> {
    Err(erp_core::error::Error::new(&codes::NO_ITEM))?
}
const RENAME: &str = "update items set name = name || '!' where sku like 'R-%' returning id";

fn routes() -> Routes {
    Routes::new()
        .post("/test/forget", Access::SignedIn, forget)
        .post("/test/refuse", Access::SignedIn, refuse)
        .post("/test/try-out", Access::SignedIn, try_out)
        .post("/test/approve", Access::SignedIn, approve)
        .post("/test/fail", Access::SignedIn, fail)
        .post("/test/parts", Access::SignedIn, parts)
        .post("/test/secretive", Access::SignedIn, secretive)
        .doc(Operation::new("secretive", "Refuse without saying so"))
        .post("/test/open", Access::SignedIn, open)
        .doc(Operation::new("open", "Refuse as the contract says"))
        .get("/test/pairs/{tenant}/parts/{part}", Access::SignedIn, pair)
}

async fn forget(call: Call) -> Result<NoContent> {
    call.tenant().rows::<()>(RENAME, &[]).await?;
    Ok(NoContent)
}

async fn refuse(call: Call) -> Result<NoContent> {
    call.tenant().rows::<()>(RENAME, &[]).await?;
    Err(erp_core::error::Error::new(&erp_core::error::codes::CONFLICT))
}

async fn try_out(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant();
    tx.rows::<()>(RENAME, &[]).await?;
    tx.rollback();
    Ok(NoContent)
}

async fn approve(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant().action("item.approved");
    tx.rows::<()>(RENAME, &[]).await?;
    tx.rows::<()>("update tenant_profiles set name = name || '!' returning 1", &[]).await?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn fail(call: Call) -> Result<NoContent> {
    call.tenant().rows::<()>("select 1 / (select count(*) from items where false)", &[]).await?;
    Ok(NoContent)
}

async fn pair(_: Call, Path((tenant, part)): Path<(Id<Tenant>, i64)>) -> String {
    format!("{tenant} {part}")
}

async fn app() -> TestApp {
    let app = Box::pin(TestApp::builder().module(&FORGETFUL).start()).await;
    app.alice().post("/api/v1/items", json!({ "sku": "R-1", "name": "One" })).await.assert(201);
    app
}

const UNCOMMITTED: &str = "A change was rolled back under an answer of success";

#[tokio::test]
async fn f55_a_forgotten_commit_is_an_error_in_the_log_and_fails_tests() {
    let app = app().await;
    app.expect_errors();
    app.alice().post("/test/refuse", json!({})).await.assert(409);
    app.alice().post("/test/try-out", json!({})).await.assert(204);
    app.alice().post("/test/approve", json!({})).await.assert(204);
    assert!(!app.log().text().contains(UNCOMMITTED), "refused, dropped on purpose, or committed");
    for key in [None, Some("k-1")] {
        let mut request = Request::post("/test/forget").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        app.alice().request(request.body("{}").unwrap()).await.assert(204);
    }
    let lines: Vec<_> = app.log().lines();
    let told = lines.iter().filter(|line| line["message"].as_str().unwrap().contains(UNCOMMITTED));
    let told: Vec<_> =
        told.map(|line| (line["level"].as_str().unwrap(), line["route"].as_str().unwrap())).collect();
    assert_eq!(told, [("error", "/test/forget"); 2], "once each, with a key and without");
    app.finish().await;
}

#[tokio::test]
async fn f56_a_table_says_whether_it_is_audited() {
    let app = TestApp::start().await;
    let sql = |arguments: &str| {
        format!("begin; create table t (id uuid not null); select app.tenant_table('t'{arguments}); rollback")
    };
    for silent in ["", ", audit_as => 't', unaudited => 'both'"] {
        let refused = app.sql().batch_execute(&sql(silent)).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!(refused.message(), "tenant_table(public.t): say whether changes are audited");
        assert!(refused.hint().unwrap().contains("audit_as => 'item'"), "{refused:?}");
        app.sql().batch_execute("rollback").await.unwrap();
    }
    app.finish().await;
}

/// `docs/reference/audit.md`: which tables are audited under which word, and which are not, with the reason.
#[tokio::test]
async fn f56_the_reference_of_audited_tables_is_up_to_date() {
    let app = TestApp::start().await;
    let sql = "select relation, unaudited, split_part(encode(t.tgargs, 'escape'), '\\000', 1), \
         split_part(encode(t.tgargs, 'escape'), '\\000', 3) \
         from app.relations r left join pg_trigger t on t.tgrelid = to_regclass(r.relation) and t.tgname = 'audit' \
         where kind = 'tenant' order by relation";
    let mut page = String::from(
        "# What is audited\n\n<!-- Generated from a migrated database: BLESS=1 script/test integration \
         the_reference_of_audited_tables writes it. -->\n\n\
         Each change of a row of these tables leaves a row in the audit log, in the same transaction: `item.created`, \
         `item.updated`, `item.deleted`, or the action that the transaction names. Values of masked columns never \
         reach the log.\n\n| table | word | masked | not audited, since |\n| --- | --- | --- | --- |\n",
    );
    for row in app.sql().query(sql, &[]).await.unwrap() {
        let (table, why): (String, Option<String>) = (row.get(0), row.get(1));
        let (word, masked): (Option<String>, Option<String>) = (row.get(2), row.get(3));
        assert_eq!(why.is_none(), word.is_some(), "{table}: audited, or a reason why not");
        let (word, why) = (word.map(|word| format!("`{word}`")).unwrap_or_default(), why.unwrap_or_default());
        let masked = masked.unwrap_or_default();
        let masked = masked.trim_matches(['{', '}']);
        page.push_str(&format!(
            "| `{}` | {word} | {masked} | {why} |\n",
            table.trim_start_matches("public.")
        ));
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/audit.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == page, "run BLESS=1 script/test integration the_reference_of_audited_tables");
    app.finish().await;
}

#[tokio::test]
async fn f61_a_refused_foreign_key_names_the_field() {
    let app = app().await;
    let alice = app.alice();
    let item = alice.get("/api/v1/items?q=R-1").await.json()["items"][0]["id"].clone();
    let unknown = "0190163d-8694-739b-aea5-966c26f8ad91";
    let theirs = app.bob().get("/api/v1/items?limit=1").await.json()["items"][0]["id"].clone();
    alice.post("/test/parts", json!({ "lines": [item, item] })).await.assert(204);
    let pointers = |problem: &serde_json::Value| {
        let errors = problem["errors"].as_array().unwrap().iter();
        errors.map(|one| one["pointer"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lines = json!({ "lines": [item, unknown, theirs, item] });
    let problem = alice.post("/test/parts", lines).await.assert(422).problem("forgetful.no_item");
    assert_eq!(pointers(&problem), ["/lines/1/itemId", "/lines/2/itemId"], "another tenant's item is none");
    let parent = json!({ "parentId": unknown, "lines": [item] });
    let problem = alice.post("/test/parts", parent).await.assert(422).problem("forgetful.no_parent");
    assert_eq!(pointers(&problem), ["/parentId"]);
    app.finish().await;
}

/// A refusal comes out of the handler's type, or the test that meets it fails.
#[tokio::test]
async fn a_refusal_that_the_contract_does_not_know_of_is_an_error_in_development() {
    let app = app().await;
    app.alice().post("/test/open", json!({})).await.assert(422).problem("forgetful.no_item");
    assert!(!app.log().text().contains("The contract does not say"));
    app.expect_errors();
    app.alice().post("/test/secretive", json!({})).await.assert(422).problem("forgetful.no_item");
    let lines: Vec<_> = app.log().lines();
    let told =
        lines.iter().find(|line| line["message"].as_str().unwrap().contains("The contract does not say"));
    assert_eq!(told.unwrap()["route"], "/test/secretive");
    app.finish().await;
}

#[tokio::test]
async fn f60_a_reference_between_tenants_tables_is_made_in_one_way() {
    let app = app().await;
    for (call, says) in [
        ("'public.items', 'id', 'public.tenants'", "public.tenants is not a tenant's table"),
        ("'public.part_lists', 'item', 'public.items', 'set null'", "on_delete is 'set null'"),
    ] {
        let sql = format!("begin; select app.tenant_reference({call})");
        let refused = app.sql().batch_execute(&sql).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert!(refused.message().ends_with(says) && refused.hint().is_some(), "{refused:?}");
        app.sql().batch_execute("rollback").await.unwrap();
    }
    let orphan =
        "begin; alter table part_lists drop constraint part_lists_item_fkey; drop index part_lists_item_idx;";
    let insert = "insert into part_lists (id, item) values (gen_random_uuid(), gen_random_uuid());";
    let again = "set local app.tenant_id = ''; select app.tenant_reference('part_lists', 'item', 'items')";
    let tenant = format!("set local app.tenant_id = '{}';", app.tenant_id("acme"));
    let refused = app.sql().batch_execute(&format!("{orphan}{tenant}{insert}{again}")).await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().ends_with("1 rows refer to nothing"), "{refused:?}");
    app.sql().batch_execute("rollback").await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn f63_a_fault_shows_its_cause_in_one_line() {
    let app = app().await;
    app.expect_errors();
    let answer = app.alice().post("/test/fail", json!({})).await;
    let told = answer.to_string();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("500 Internal Server Error: core.internal") && told.contains("division by zero"),
        "{told}"
    );
    app.finish().await;
}

#[tokio::test]
async fn f64_a_transaction_names_its_action_for_the_rows_of_its_word() {
    let app = app().await;
    app.alice().post("/test/approve", json!({})).await.assert(204);
    let audit = app.audit_of("acme").await;
    let actions: Vec<&str> = audit.iter().rev().take(2).map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["tenant.updated", "item.approved"]);
    assert_eq!(audit[audit.len() - 2]["after"]["name"], "One!");
    app.finish().await;
}

/// No statement mentions `version` and `updated_at`; one that does cannot set them either.
#[tokio::test]
async fn a_table_keeps_version_and_time_of_its_rows() {
    let app = app().await;
    let read = async || {
        let sql = "select version, updated_at::text, name from items where sku = 'R-1'";
        let row = app.sql().query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1), row.get::<_, String>(2))
    };
    let made = read().await;
    for same in ["name = name", "version = 7, updated_at = '2000-01-01', name = 'One'"] {
        app.execute_in("acme", &format!("update items set {same} where sku = 'R-1'")).await;
    }
    let (version, updated_at, _) = read().await;
    assert_eq!((made.0, version), (1, 2), "the second is a change, whatever it changes");
    assert!(updated_at > made.1, "{updated_at} {}", made.1);
    app.execute_in("acme", "update items set name = 'Two' where sku = 'R-1'").await;
    assert_eq!((read().await.0, read().await.2), (3, "Two".to_owned()));
    app.finish().await;
}

#[tokio::test]
async fn a_path_has_several_parameters() {
    let app = app().await;
    let path = "/test/pairs/0190163d-8694-739b-aea5-966c26f8ad91/parts/7";
    assert_eq!(app.alice().get(path).await.assert(200).text(), "0190163d-8694-739b-aea5-966c26f8ad91 7");
    for bad in ["/test/pairs/x/parts/7", "/test/pairs/0190163d-8694-739b-aea5-966c26f8ad91/parts/x"] {
        app.alice().get(bad).await.assert(404).problem("core.not_found");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_constraint_that_a_code_tells_of_is_there() {
    let app = TestApp::start().await;
    // A unique index over an expression breaks as a constraint does, and is none. PostgreSQL names the table without its schema.
    let sql = "select count(distinct name) from (select conrelid, conname from pg_constraint \
        union all select i.indrelid, c.relname from pg_index i join pg_class c on c.oid = i.indexrelid where i.indisunique) k (relation, name) \
        join pg_class t on t.oid = k.relation where t.relname = $1 and k.name = $2";
    let mut names = Vec::new();
    for constraint in modules(&PRODUCT).flat_map(|module| module.errors).flat_map(|code| code.constraints) {
        let found = app.sql().query_one(sql, &[&constraint.table, &constraint.name]).await.unwrap();
        assert_eq!(found.get::<_, i64>(0), 1, "{}: there is no {}", constraint.table, constraint.name);
        names.push(constraint.name);
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(all >= 2 && names.len() == all, "a constraint has one code: {names:?}");
    app.finish().await;
}
