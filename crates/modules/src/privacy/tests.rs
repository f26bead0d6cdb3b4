//! Privacy over HTTP: which consent counts; what is exported of a subject; and that of an erased one nothing is left but what a law wants.

use erp_modules::privacy::facade::consented;
use erp_testkit::{Actor, Fixture, PROBE, Prepared, TestApp};
use serde_json::{Value, json};

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /api/v1/consent-purposes", |_| {
        Box::pin(async {
            let name = format!("purpose-{}", uuid::Uuid::now_v7());
            Prepared::body(json!({ "name": name, "text": "Something", "asksAnew": true }))
        })
    }),
    Fixture::new("POST /api/v1/consents", |setup| {
        Box::pin(async move {
            let name = format!("purpose-{}", uuid::Uuid::now_v7());
            let purpose = json!({ "name": name, "text": "Something", "asksAnew": true });
            setup.colleague().post("/api/v1/consent-purposes", purpose).await.assert(201);
            Prepared::body(consent(&name, 1, true))
        })
    }),
    Fixture::new("POST /api/v1/privacy/exports", |setup| {
        Box::pin(async move { Prepared::body(json!({ "subject": setup.make("/api/v1/suppliers").await })) })
    }),
    Fixture::new("POST /api/v1/privacy/erasures", |setup| {
        Box::pin(async move {
            Prepared::body(json!({ "subject": setup.make("/api/v1/suppliers").await, "reason": "objection" }))
        })
    })
    .answers(202),
];

const SUBJECT: &str = "customer-4711";

fn consent(purpose: &str, revision: i64, given: bool) -> Value {
    json!({ "subject": SUBJECT, "purpose": purpose, "revision": revision, "given": given, "evidence": "Said on the telephone" })
}

async fn ask(actor: &Actor<'_>, text: &str, asks_anew: bool) -> Value {
    let purpose = json!({ "name": "newsletter", "text": text, "asksAnew": asks_anew });
    actor.post("/api/v1/consent-purposes", purpose).await.assert(201).json()
}

async fn say(actor: &Actor<'_>, revision: i64, given: bool) {
    actor.post("/api/v1/consents", consent("newsletter", revision, given)).await.assert(201);
}

/// What a module would get.
async fn counts(app: &TestApp, actor: &Actor<'_>) -> bool {
    let caller = app.caller(actor).await;
    let mut tx = app.edge().app.db.tenant_read(&caller);
    let counts = consented(&mut tx, SUBJECT, "newsletter").await.unwrap();
    tx.commit().await.unwrap();
    counts
}

#[tokio::test]
async fn the_latest_word_counts_until_a_version_asks_anew() {
    let app = TestApp::builder().module(&PROBE).start().await;
    let (alice, bob) = (app.alice(), app.bob());
    assert_eq!(ask(&alice, "Once a month", true).await["revision"], 1);
    assert!(!counts(&app, &alice).await, "nobody has said anything");
    say(&alice, 1, true).await;
    assert!(counts(&app, &alice).await);
    assert!(!counts(&app, &bob).await, "what is agreed to in one tenant is no other's matter");

    assert_eq!(ask(&alice, "Once a month, at most", false).await["revision"], 2);
    assert!(counts(&app, &alice).await, "the meaning has not changed");
    assert_eq!(ask(&alice, "Each day", true).await["revision"], 3);
    assert!(!counts(&app, &alice).await, "that is something else");
    say(&alice, 3, true).await;
    assert!(counts(&app, &alice).await);
    say(&alice, 3, false).await;
    assert!(!counts(&app, &alice).await, "it was withdrawn");
    app.finish().await;
}

#[tokio::test]
async fn what_was_said_is_evidence_that_is_exported_and_never_changed() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    ask(&alice, "Once a month", true).await;
    say(&alice, 1, true).await;
    say(&alice, 1, false).await;
    alice
        .post("/api/v1/consents", consent("newsletter", 2, true))
        .await
        .assert(422)
        .problem("privacy.no_purpose");
    bob.post("/api/v1/consents", consent("newsletter", 1, true))
        .await
        .assert(422)
        .problem("privacy.no_purpose");

    let csv = http::Request::get("/api/v1/consents?subject=customer-4711").header("accept", "text/csv");
    let history = alice.request(csv.body(String::new()).unwrap()).await.assert(200).text();
    assert_eq!(history.lines().count(), 3, "{history}");
    assert!(history.contains("Said on the telephone"), "{history}");
    let audit = app.audit_of("acme").await;
    let told: Vec<&Value> = audit.iter().filter(|row| row["action"] == "consent.created").collect();
    assert_eq!(told.len(), 2, "{audit:#?}");
    assert_eq!(told[0]["after"]["given"], true);
    assert_eq!(told[1]["after"]["evidence"], json!({ "personal": "Said on the telephone" }));

    let runtime = app.runtime_in("acme").await;
    for sql in
        ["update consents set given = true", "delete from consents", "update consent_purposes set text = 'x'"]
    {
        let refused = runtime.batch_execute(sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
    }
    app.finish().await;
}

/// The product with workers, which erase and export.
async fn working() -> TestApp {
    TestApp::builder().setting("JOB_WORKERS", "2").start().await
}

/// Something that nobody else has.
const CANARY: &str = "kanarienvogel";

/// Every column of every table that still has the canary, as text or within bytes.
async fn places_of_canary(app: &TestApp) -> Vec<String> {
    let find = "create or replace function pg_temp.places(word text) returns setof text language plpgsql as $$
        declare t record; n bigint;
        begin
          for t in select c.oid::regclass as name, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
            and not a.attisdropped where c.relkind = 'r' and c.relnamespace::regnamespace::text in ('public', 'app', 'auth')
          loop
            execute format('select count(*) from %s where position($1 in lower(%I::text)) > 0 or position($2 in %2$I::text) > 0',
              t.name, t.attname) into n using word, encode(word::bytea, 'hex');
            if n > 0 then return next t.name || '.' || t.attname; end if;
          end loop;
        end $$";
    app.sql().batch_execute(find).await.unwrap();
    let rows = app.sql().query("select pg_temp.places($1) order by 1", &[&CANARY]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn supplier(actor: &Actor<'_>) -> String {
    let new = json!({ "name": format!("Ann {CANARY}"), "email": format!("Ann@{CANARY}.example"), "iban": "DE02120300000000202051" });
    let request =
        http::Request::post("/api/v1/suppliers").header("idempotency-key", uuid::Uuid::now_v7().to_string());
    let request = request.header("content-type", "application/json").body(new.to_string()).unwrap();
    actor.request(request).await.assert(201).json()["id"].as_str().unwrap().to_owned()
}

async fn order_erasure(app: &TestApp, actor: &Actor<'_>, subject: &str) -> Value {
    let order = json!({ "subject": subject, "reason": "objection" });
    let made = actor.post("/api/v1/privacy/erasures", order).await.assert(202).json();
    let id = made["id"].as_str().unwrap();
    let done = format!("select done_at is not null from erasures where id = '{id}'");
    app.until(&done, "select to_jsonb(array_agg(j)) from (select kind, error from job_ready union all select kind, error from job_scheduled union all select kind, error from job_dead) j").await;
    actor.get(&format!("/api/v1/privacy/erasures/{id}")).await.assert(200).json()
}

#[tokio::test]
async fn of_an_erased_subject_nothing_is_left_in_any_column() {
    let app = working().await;
    let alice = app.alice();
    app.sql().batch_execute("alter table suppliers add column remark text").await.unwrap();
    let id = supplier(&alice).await;
    let change = json!({ "name": format!("Anna {CANARY}"), "email": format!("ann@{CANARY}.example") });
    alice.put(&format!("/api/v1/suppliers/{id}"), change).await.assert(200);
    app.execute_in("acme", &format!(
        "update suppliers set remark = 'calls himself {CANARY}' where id = '{id}'; \
         insert into mails (id, template, recipient, recipient_name, locale, subject, text, promotional, confidential, message_id, state, ended_at) \
           values (gen_random_uuid(), 'tests.letter', 'ann@{CANARY}.example', 'Ann {CANARY}', 'en', 'For {CANARY}', 'Dear {CANARY}', false, false, 'x@example.com', 'sent', now()); \
         insert into mail_suppressions (id, address, reason, mail) values (gen_random_uuid(), 'ann@{CANARY}.example', 'bounced', gen_random_uuid()); \
         insert into import_rejections (job, number, line, errors) values (gen_random_uuid(), 1, 'Ann;ANN@{CANARY}.example', '[]'); \
         insert into job_dead (id, kind, args, origin, attempts, enqueued_at, died_at, attempt, priority, system) \
           values (gen_random_uuid(), 'tests.write', '{{\"to\": \"ann@{CANARY}.example\"}}', 'test', 1, now(), now(), 1, 1, 'privacy')"
    )).await;
    app.seal_audit().await;
    let before = places_of_canary(&app).await;
    for place in [
        "suppliers.name",
        "suppliers.remark",
        "mails.text",
        "audit_log",
        "idempotency_keys.body",
        "import_rejections.line",
        "job_dead.args",
    ] {
        assert!(before.iter().any(|found| found.contains(place)), "{place}: {before:?}");
    }
    let sealed = "select string_agg(encode(leaf, 'hex'), ',' order by log, index) from audit_entries e where e.log < 1000000000 and e.tenant_id = $1";
    let leaves: String =
        app.sql().query_one(sealed, &[app.tenant_id("acme").as_uuid()]).await.unwrap().get(0);

    let order = json!({ "subject": id, "reason": "objection" });
    let outlook = alice.post("/api/v1/privacy/erasures?dryRun=true", order.clone()).await.assert(200).json();
    assert_eq!(places_of_canary(&app).await, before, "a dry run changes nothing");
    for path in ["/api/v1/privacy/erasures?dryRun=true", "/api/v1/privacy/erasures"] {
        app.bob().post(path, order.clone()).await.assert(404).problem("core.not_found");
    }
    app.bob().post("/api/v1/privacy/exports", json!({ "subject": id })).await.assert(404);

    let erasure = order_erasure(&app, &alice, &id).await;
    assert_eq!(places_of_canary(&app).await, Vec::<String>::new(), "{erasure:#}");
    assert_eq!(
        erasure["report"][0]["done"]["tables"], outlook["report"]["tables"],
        "the dry run has told the truth"
    );
    let receipt = app.audit_keys().open_statement(erasure["receipt"].as_str().unwrap()).unwrap();
    assert!(
        receipt.contains(&format!("subject {id}"))
            && receipt.contains("public.suppliers deleted 1 cleared 0"),
        "{receipt}"
    );
    app.seal_audit().await;
    let after: String = app.sql().query_one(sealed, &[app.tenant_id("acme").as_uuid()]).await.unwrap().get(0);
    assert!(after.starts_with(&leaves), "what was sealed stays as it was");
    alice.get(&format!("/api/v1/suppliers/{id}")).await.assert(404);
    app.finish().await;
}

#[tokio::test]
async fn an_address_is_mentioned_as_a_whole_and_not_as_a_part_of_another_ones() {
    let app = TestApp::start().await;
    for (text, is_mentioned) in [
        ("ann+erp@example.com", true),
        ("write to ann+erp@example.com.", true),
        ("{\"email\": \"ann+erp@example.com\"}", true),
        ("<ann+erp@example.com>;x@example.com", true),
        ("joann+erp@example.com", false),
        ("jo.ann+erp@example.com", false),
        ("ann+erp@example.com.au", false),
        ("ann+erp@example.community", false),
        ("annnerp@example.com", false),
        ("ann+erp@exampleecom", false),
    ] {
        let asked = "select app.mentions($1, 'ann+erp@example.com')";
        let found: bool = app.sql().query_one(asked, &[&text]).await.unwrap().get(0);
        assert_eq!(found, is_mentioned, "{text}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_law_keeps_what_it_must_and_nothing_else() {
    let app = working().await;
    let alice = app.alice();
    let id = supplier(&alice).await;
    let order = format!(
        "insert into purchase_orders (id, supplier_id, number, created_by, total_minor, total_currency) \
        values (gen_random_uuid(), '{id}', 'PO-1', gen_random_uuid(), 100, 'EUR')"
    );
    app.execute_in("acme", &order).await;
    let erasure = order_erasure(&app, &alice, &id).await;
    let suppliers = erasure["report"][0]["done"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .find(|table| table["table"] == "public.suppliers")
        .unwrap();
    assert_eq!(suppliers["kept"], json!(["iban", "iban_index", "name"]), "{erasure:#}");
    let left = alice.get(&format!("/api/v1/suppliers/{id}")).await.assert(200).json();
    assert_eq!((&left["email"], &left["iban"]), (&Value::Null, &json!("DE02120300000000202051")));
    assert!(
        erasure["receipt"].as_str().unwrap().contains("kept by law: vouchers are kept for ten years"),
        "{erasure:#}"
    );
    app.finish().await;
}

#[tokio::test]
async fn a_restored_database_is_not_ready_before_it_has_forgotten_again() {
    let app = working().await;
    let alice = app.alice();
    let id = supplier(&alice).await;
    let backup = format!("create table backup as select * from suppliers where id = '{id}'");
    app.sql().batch_execute(&backup).await.unwrap();
    order_erasure(&app, &alice, &id).await;
    app.anonymous().get("/readyz").await.assert(200);

    // What a backup from before brings back, and lacks.
    app.expect_errors();
    app.execute_in("acme", "insert into suppliers select * from backup; drop table backup; delete from app.known_erasures; delete from erasures where subject <> '00000000-0000-7000-8000-00000000ca54'").await;
    app.clock().advance(jiff::SignedDuration::from_secs(61));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await; // probes are asked once a second
    app.anonymous().get("/readyz").await.assert(503);
    let now = "update job_schedules set next_at = date_trunc('second', now()) where name = 'privacy.replay'";
    app.sql().batch_execute(now).await.unwrap();
    app.until(
        "select count(*) = 1 from app.known_erasures",
        "select to_jsonb(array_agg(j)) from job_ready j",
    )
    .await;
    alice.get(&format!("/api/v1/suppliers/{id}")).await.assert(404);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    app.anonymous().get("/readyz").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn an_export_has_what_is_held_of_a_subject_and_sums_that_fit() {
    let app = working().await;
    let (alice, bob) = (app.alice(), app.bob());
    let id = supplier(&alice).await;
    let begun = alice.post("/api/v1/privacy/exports", json!({ "subject": id })).await.assert(202).json();
    let done = format!("select exists (select from job_done where id = '{}')", begun["id"].as_str().unwrap());
    app.until(&done, "select to_jsonb(array_agg(j)) from job_ready j").await;
    let result =
        alice.get(&format!("/api/v1/jobs/{}/result", begun["id"].as_str().unwrap())).await.assert(200).json();
    let file = format!("/api/v1/files/{}/content", result["result"]["file"].as_str().unwrap());
    bob.get(&file).await.assert(404);
    let text = alice.get(&file).await.assert(200).text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = &lines.iter().find(|line| line["table"] == "public.suppliers").unwrap()["row"];
    assert_eq!(row["iban"], "DE02120300000000202051", "what is encrypted is opened: {text}");
    assert_eq!(row["email"], format!("Ann@{CANARY}.example"));
    assert!(row.get("iban_index").is_none(), "{text}");
    let manifest = &lines.last().unwrap()["manifest"];
    assert_eq!(
        (&manifest["tables"][0]["table"], &manifest["tables"][0]["rows"]),
        (&json!("public.suppliers"), &json!(1))
    );
    let member = app.person("acme", erp_core::auth::Role::Member).user_id;
    let refused = alice.post("/api/v1/privacy/exports", json!({ "subject": member })).await.assert(409);
    refused.problem("privacy.no_subject_of_tenant");
    app.finish().await;
}
