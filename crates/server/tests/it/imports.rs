//! Items from files: what comes of good rows and of bad ones, for whom, and after a crash.

use erp_core::auth::Permission;
use erp_testkit::{Actor, Answer, Fixture, Prepared, TestApp};
use http::Request;
use serde_json::{Value, json};

use crate::jobs::{beside, until};

const IMPORTS: &str = "/api/v1/items/imports";
const READ: &str = "catalog.item.read";
const WRITE: &str = "catalog.item.write";

pub(crate) const FIXTURES: &[Fixture] = &[Fixture::new("POST /api/v1/items/imports", |setup| {
    let file = format!("sku,name\nSWEPT-{},Swept\n", setup.number());
    Box::pin(async move { Prepared::file(&file) })
})];

async fn importing() -> TestApp {
    TestApp::builder().setting("JOB_WORKERS", "2").start().await
}

async fn send(actor: &Actor<'_>, path: &str, media_type: &str, text: &str) -> Answer {
    let request = Request::post(path).header("content-type", media_type).body(text.to_owned());
    actor.request(request.expect("a request")).await
}

/// The job of an import, once it is over.
async fn over(app: &TestApp, actor: &Actor<'_>, begun: Answer) -> Value {
    let id = begun.assert(202).json()["jobId"].as_str().expect("an id").to_owned();
    until(app, &format!("select exists (select from job_done where id = '{id}') or exists (select from job_dead where id = '{id}')")).await;
    actor.get(&format!("/api/v1/jobs/{id}")).await.assert(200).json()
}

async fn result(app: &TestApp, actor: &Actor<'_>, begun: Answer) -> Value {
    let job = over(app, actor, begun).await;
    assert_eq!(job["state"], "done", "{job:#}");
    let path = format!("/api/v1/jobs/{}/result", job["id"].as_str().expect("an id"));
    actor.get(&path).await.assert(200).json()["result"].clone()
}

fn counts(result: &Value) -> [u64; 5] {
    ["rows", "created", "changed", "unchanged", "rejected"]
        .map(|name| result[name].as_u64().expect("a count"))
}

async fn rejections(actor: &Actor<'_>, result: &Value) -> String {
    let id = result["rejections"].as_str().expect("a file");
    actor.get(&format!("/api/v1/files/{id}/content")).await.assert(200).text()
}

/// The actions of the audit log on items, with how often.
async fn audited(app: &TestApp) -> Value {
    let sql =
        "select coalesce(jsonb_object_agg(action, n), '{}') from (select action, count(*) as n from audit_log
        where resource = 'item' group by action) a";
    app.sql().query_one(sql, &[]).await.expect("the test's SQL").get(0)
}

#[tokio::test]
async fn rows_are_created_changed_or_left_by_their_key_and_each_is_audited_once() {
    let app = importing().await;
    let alice = app.alice();
    alice.post("/api/v1/items", json!({ "sku": "OLD-1", "name": "Old", "quantity": 1 })).await.assert(201);
    alice.post("/api/v1/items", json!({ "sku": "OLD-2", "name": "Same", "quantity": 2 })).await.assert(201);
    let before = audited(&app).await;
    let file = "\u{feff}sku;name;quantity;description\r\nold-1;New;10;\r\nOLD-2;Same;2;\r\nNEW-1;\"a;b\";7;'=1+1\r\n;;;\r\n";
    let made = result(&app, &alice, send(&alice, IMPORTS, "text/csv", file).await).await;
    assert_eq!(counts(&made), [3, 1, 1, 1, 0], "{made:#}");
    assert_eq!((&made["dryRun"], &made["rejections"]), (&json!(false), &Value::Null));
    let items = alice.get("/api/v1/items?q=-1&sort=sku").await.assert(200).json();
    let shown = |index: usize| {
        let item = &items["items"][index];
        (item["sku"].clone(), item["name"].clone(), item["quantity"].clone(), item["description"].clone())
    };
    assert_eq!(shown(0), (json!("NEW-1"), json!("a;b"), json!(7), json!("=1+1")));
    assert_eq!(shown(1), (json!("old-1"), json!("New"), json!(10), Value::Null));
    let after = audited(&app).await;
    let more = |action: &str| after[action].as_u64().unwrap_or(0) - before[action].as_u64().unwrap_or(0);
    assert_eq!((more("item.created"), more("item.updated")), (1, 1), "{after}");
    app.finish().await;
}

#[tokio::test]
async fn rejected_rows_say_what_is_wrong_and_come_back_to_be_corrected() {
    let app = importing().await;
    let alice = app.alice();
    let file = "sku,name,quantity\nA-1,Good,1\nA-2,,2\nA-3,Bad,many\nA-4,Good,4\nA-5,Too many,9007199254740992\n\
        A-6,\"=cmd|' /C calc'!A0\",6\na-1,Good again,3\n";
    let made = result(&app, &alice, send(&alice, IMPORTS, "text/csv", file).await).await;
    assert_eq!(counts(&made), [7, 3, 1, 0, 3], "{made:#}");
    let told = rejections(&alice, &made).await;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "row,errors,sku,name,quantity"), "{told}");
    for (line, begins, says) in [(1, "3,", "/name"), (2, "4,", "/quantity"), (3, "6,", "/quantity")] {
        assert!(lines[line].starts_with(begins) && lines[line].contains(says), "{told}");
    }
    let corrected =
        told.replace(",A-2,,2", ",A-2,Good,2").replace(",many", ",3").replace("9007199254740992", "5");
    let made = result(&app, &alice, send(&alice, IMPORTS, "text/csv", &corrected).await).await;
    assert_eq!(counts(&made), [3, 3, 0, 0, 0], "{made:#}");
    app.finish().await;
}

#[tokio::test]
async fn what_the_database_refuses_is_the_rejection_of_its_row_alone() {
    let app = importing().await;
    let alice = app.alice();
    let rows = "alter table items add constraint items_no_13 check (quantity <> 13)";
    app.sql().batch_execute(rows).await.expect("the test's SQL");
    let before = audited(&app).await["item.created"].as_u64().expect("those of the seed");
    let mut file = String::from("sku,name,quantity\n");
    (0..250).for_each(|n| file += &format!("N-{n:03},Item {n},{n}\n"));
    let made = result(&app, &alice, send(&alice, IMPORTS, "text/csv", &file).await).await;
    assert_eq!(counts(&made), [250, 249, 0, 0, 1], "{made:#}");
    assert!(
        rejections(&alice, &made).await.contains("15,"),
        "the row of a spreadsheet, where the header is the first"
    );
    assert_eq!(audited(&app).await["item.created"].as_u64().expect("some"), before + 249);
    app.finish().await;
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_writes_nothing() {
    let app = importing().await;
    let alice = app.alice();
    let file = "sku,name,quantity\nBOLT-M8,Changed,1\nD-1,New,1\nD-2,,1\n";
    let path = format!("{IMPORTS}?dryRun=true");
    let tried = result(&app, &alice, send(&alice, &path, "text/csv", file).await).await;
    assert_eq!((counts(&tried), &tried["dryRun"]), ([3, 1, 1, 0, 1], &json!(true)), "{tried:#}");
    assert!(rejections(&alice, &tried).await.contains("D-2"));
    let found = alice.get("/api/v1/items?q=D-1").await.assert(200).json();
    assert_eq!(found["items"], json!([]));
    assert_eq!(audited(&app).await.get("item.updated"), None);
    app.finish().await;
}

#[tokio::test]
async fn json_lines_are_bodies() {
    let app = importing().await;
    let alice = app.alice();
    let file = "{\"sku\":\"J-1\",\"name\":\"One\"}\r\n\n[1]\n{\"sku\":\"J-2\"}\n{\"sku\":\"J-3\",\"name\":\"x\",\"colour\":1}\n\
        {\"sku\":\"J-4\",\"name\":\"Four\",\"quantity\":4}";
    let made = result(&app, &alice, send(&alice, IMPORTS, "application/x-ndjson", file).await).await;
    assert_eq!(counts(&made), [5, 2, 0, 0, 3], "{made:#}");
    let told = rejections(&alice, &made).await;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[0]["row"], &lines[2]["row"]), (3, &json!(3), &json!(5)));
    assert_eq!(lines[1]["errors"][0]["pointer"], "/name");
    assert_eq!(lines[2]["value"]["colour"], 1);
    let again = told.replace("\"sku\":\"J-2\"", "\"sku\":\"J-2\",\"name\":\"Two\"");
    let made = result(&app, &alice, send(&alice, IMPORTS, "application/x-ndjson", &again).await).await;
    assert_eq!(counts(&made), [3, 1, 0, 0, 2], "what came back is read as the row that it holds: {made:#}");
    app.finish().await;
}

#[tokio::test]
async fn an_export_can_be_imported_and_changes_nothing() {
    let app = importing().await;
    let alice = app.alice();
    let odd = json!({ "sku": "X-1", "name": "+49 \"quoted\", in two", "description": "=1; and more" });
    alice.post("/api/v1/items", odd).await.assert(201);
    let export = alice
        .request(Request::get("/api/v1/items").header("accept", "text/csv").body("").expect("a request"))
        .await
        .assert(200)
        .text();
    let made = result(&app, &alice, send(&alice, IMPORTS, "text/csv", &export).await).await;
    assert_eq!(counts(&made), [4, 0, 0, 4, 0], "{made:#}\n{export}");
    app.finish().await;
}

#[tokio::test]
async fn a_file_whose_columns_do_not_fit_is_refused_at_once_and_not_kept() {
    let app = importing().await;
    let alice = app.alice();
    for (file, says) in [
        ("", "empty"),
        ("sku,name,colour\nA,B,red\n", "'colour'"),
        ("name\nB\n", "'sku'"),
        ("sku,name,sku\nA,B,C\n", "twice"),
        ("just a line\n", "just a line"),
    ] {
        let problem = send(&alice, IMPORTS, "text/csv", file).await.assert(422).problem("imports.columns");
        assert!(problem["detail"].as_str().expect("a detail").contains(says), "{problem}");
    }
    let left = "select (select count(*) = 0 from files) and (select count(*) = 0 from job_ready)";
    until(&app, left).await;
    send(&alice, IMPORTS, "text/csv", "PK\u{3}\u{4}\u{0}").await.any_problem();
    send(&alice, IMPORTS, "application/pdf", "sku,name\n").await.any_problem();
    app.finish().await;
}

#[tokio::test]
async fn t_18_an_import_its_job_and_its_rejections_are_its_tenants() {
    let app = importing().await;
    let (alice, bob) = (app.alice(), app.bob());
    let begun = send(&alice, IMPORTS, "text/csv", "sku,name\nT-1,Ours\nT-2,\n").await;
    let job = begun.json()["jobId"].as_str().expect("an id").to_owned();
    let made = result(&app, &alice, begun).await;
    bob.get(&format!("/api/v1/jobs/{job}")).await.assert(404);
    let file = made["rejections"].as_str().expect("a file");
    bob.get(&format!("/api/v1/files/{file}/content")).await.assert(404);
    assert_eq!(bob.get("/api/v1/items?q=T-1").await.assert(200).json()["items"], json!([]));
    app.finish().await;
}

/// Somebody who has lost the permission between the upload and the job changes nothing (T-20).
#[tokio::test]
async fn t_20_an_import_is_made_with_the_permission_that_its_sender_has_then() {
    let app = TestApp::start().await; // nobody works yet
    let permission = |name: &str| -> &'static Permission {
        let all = app.product().modules.iter().flat_map(|module| module.permissions.iter());
        all.copied().find(|one| one.name == name).expect("the permission")
    };
    let reader = app.someone("acme", &[permission(READ)]).await;
    send(&reader, IMPORTS, "text/csv", "sku,name\nP-1,No\n").await.assert(403).problem("core.forbidden");
    let writer = app.someone("acme", &[permission(READ), permission(WRITE)]).await;
    let begun = send(&writer, IMPORTS, "text/csv", "sku,name\nP-2,Late\n").await.assert(202).json();
    let id = writer.id().expect("a person").to_string();
    app.execute_in("acme", &format!("delete from grants where principal_id = '{id}'")).await;
    let worker = beside(&app, "2").await;
    let job = begun["jobId"].as_str().expect("an id");
    until(&app, &format!("select exists (select from job_dead where id = '{job}') or exists (select from job_scheduled where id = '{job}')")).await;
    assert_eq!(app.alice().get("/api/v1/items?q=P-2").await.assert(200).json()["items"], json!([]));
    assert!(worker.shut_down(false).await);
    app.finish().await;
}

/// What an attempt has kept before it died is not written again.
#[tokio::test]
async fn s_11_an_import_goes_on_behind_the_last_rows_that_were_kept() {
    let app = TestApp::start().await; // nobody works yet
    let alice = app.alice();
    let mut file = String::from("sku,name\n");
    (0..250).for_each(|n| file += &format!("K-{n:03},Item\n"));
    let begun = send(&alice, IMPORTS, "text/csv", &file).await.assert(202);
    let kept =
        r#"update job_ready set state = '{"rows":200,"created":200,"changed":0,"unchanged":0,"rejected":0}'"#;
    app.execute_in("acme", kept).await;
    let worker = beside(&app, "1").await;
    let made = result(&app, &alice, begun).await;
    assert_eq!(counts(&made), [250, 250, 0, 0, 0], "{made:#}");
    let rows = "select count(*) = 50 and min(sku) = 'K-200' from items where sku like 'K-%'";
    until(&app, rows).await;
    assert!(worker.shut_down(false).await);
    app.finish().await;
}
