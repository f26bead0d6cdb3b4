//! What the house keeps of a record, so that no module can forget it: version and time, the audit row, COMMIT.

use erp_core::answer::NoContent;
use erp_core::error::Result;
use erp_core::extract::Path;
use erp_core::factory::modules;
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::Call;
use erp_core::shared::{Id, Tenant};
use erp_modules::PRODUCT;
use erp_testkit::TestApp;
use http::Request;
use serde_json::json;

static FORGETFUL: Module = Module { name: "forgetful", routes, ..Module::BARE };
const RENAME: &str = "update items set name = name || '!' where sku like 'R-%' returning id";

fn routes() -> Routes {
    Routes::new()
        .post("/test/forget", Access::SignedIn, forget)
        .post("/test/refuse", Access::SignedIn, refuse)
        .post("/test/try-out", Access::SignedIn, try_out)
        .post("/test/approve", Access::SignedIn, approve)
        .post("/test/fail", Access::SignedIn, fail)
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
    let sql = "select count(*) from pg_constraint where conrelid = to_regclass($1) and conname = $2";
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
