use erp_testkit::TestApp;
use http::Request;
use serde_json::{Value, json};

use super::{IBAN, PATH, minute, supplier, told, value};

const OTHER: &str = "GB82WEST12345698765432";

#[tokio::test]
async fn c_01_a_column_holds_ciphertexts_and_its_owner_reads_it_in_every_form() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let path = supplier(&alice, "Steel", Some(IBAN)).await;
    supplier(&alice, "Wood", None).await;
    let stored = value(&app, "select array[iban, iban_index] from suppliers where iban is not null").await;
    let (sealed, index) = (stored[0].as_str().unwrap(), stored[1].as_str().unwrap());
    assert!(sealed.starts_with("v1:") && sealed.len() == 3 + 67, "{sealed}");
    assert!(index.starts_with("v1:") && index.len() == 3 + 22, "{index}");
    assert_eq!(alice.get(&path).await.assert(200).json()["iban"], IBAN);
    for form in ["application/json", "application/x-ndjson", "text/csv"] {
        let list = Request::get(PATH).header("accept", form).body("").unwrap();
        let text = alice.request(list).await.assert(200).text();
        assert!(text.contains(IBAN) && !text.contains("v1:") && text.contains("Wood"), "{form}: {text}");
    }
    // What the trigger of the audit log sees is the ciphertext, and nothing else has the value.
    let log = serde_json::to_string(&app.audit_of("acme").await).unwrap();
    assert!(log.contains(sealed) && !log.contains(IBAN), "{log}");
    let wrapped = value(&app, "select jsonb_agg(k) from tenant_keys k").await;
    assert!(wrapped[0]["wrapped_by"].as_str().unwrap().starts_with("env:"), "{wrapped}");
    let runtime = app.runtime_in("acme").await;
    for table in ["tenant_keys", "app.encrypted_columns"] {
        let refused = runtime.query(&format!("select * from {table}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{table}: requests have no use for it");
    }
    app.finish().await;
}

#[tokio::test]
async fn c_01_the_database_takes_nothing_but_a_ciphertext() {
    let app = TestApp::start().await;
    supplier(&app.alice(), "Steel", Some(IBAN)).await;
    let runtime = app.runtime_in("acme").await;
    for plain in
        [IBAN, "v1:", "v0:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "v1:DE02120300000000202051", ""]
    {
        let change = format!("update suppliers set iban = '{plain}'");
        let refused = runtime.batch_execute(&change).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23514", "{plain}");
    }
    // One of them without the other would be found, and not read; or read, and not found.
    let alone = runtime.batch_execute("update suppliers set iban_index = null").await.unwrap_err();
    assert_eq!(alone.code().unwrap().code(), "23514");
    app.finish().await;
}

#[tokio::test]
async fn an_account_is_found_by_its_blind_index_within_its_tenant_and_not_by_the_ciphertext() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    for by in [&alice, &bob] {
        supplier(by, "Steel", Some(IBAN)).await;
        supplier(by, "Wood", Some(OTHER)).await;
    }
    let found = |list: Value| {
        let names =
            list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    for by in [&alice, &bob] {
        let list = by.get(&format!("{PATH}?iban={IBAN}")).await.assert(200).json();
        assert_eq!(found(list), ["Steel"]);
    }
    let none = alice.get(&format!("{PATH}?iban=DE99999999999999999999")).await.assert(200).json();
    assert_eq!(found(none), [""; 0]);
    let csv = Request::get(format!("{PATH}?iban={OTHER}")).header("accept", "text/csv").body("").unwrap();
    let csv = alice.request(csv).await.assert(200).text();
    assert!(csv.contains(OTHER) && !csv.contains(IBAN), "{csv}");
    alice.get(&format!("{PATH}?sort=iban")).await.assert(422);
    let indexes = value(&app, "select count(distinct iban_index) from suppliers").await;
    assert_eq!(indexes, 4, "the same account has another index in each tenant");
    app.finish().await;
}

#[tokio::test]
async fn a_change_encrypts_anew_and_clears() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let path = supplier(&alice, "Steel", Some(IBAN)).await;
    let sealed = "select iban from suppliers where name = 'Steel'";
    let before = value(&app, sealed).await;
    let put = |iban: Value| json!({ "name": "Steel", "iban": iban });
    alice.put(&path, put(json!(IBAN))).await.assert(200);
    assert_ne!(value(&app, sealed).await, before, "the same value is another ciphertext each time");
    let changed = alice.put(&path, put(json!(OTHER))).await.assert(200).json();
    assert_eq!(changed["iban"], OTHER);
    alice.put(&path, put(json!("DE 02"))).await.assert(422);
    assert_eq!(alice.put(&path, put(Value::Null)).await.assert(200).json()["iban"], Value::Null);
    assert_eq!(
        value(
            &app,
            "select count(*) from suppliers where name = 'Steel' and iban is null and iban_index is null"
        )
        .await,
        1
    );
    app.finish().await;
}

#[tokio::test]
async fn c_02_a_ciphertext_that_was_copied_to_another_row_or_tenant_is_an_error_and_a_security_event() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let mine = supplier(&alice, "Steel", Some(IBAN)).await;
    let other = supplier(&alice, "Wood", Some(OTHER)).await;
    let theirs = supplier(&bob, "Steel", Some(OTHER)).await;
    app.expect_errors();
    let copy = |to: &str, from: &str| {
        let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        format!(
            "update suppliers t set iban = f.iban, iban_index = f.iban_index from suppliers f where t.id = '{}' and f.id = '{}'",
            id(to),
            id(from)
        )
    };
    app.execute_in("acme", &copy(&other, &mine)).await;
    let refused = alice.get(&other).await.assert(500);
    refused.problem("core.unreadable");
    alice.get(PATH).await.assert(500).problem("core.unreadable");
    let entry = told(&app, "core.decryption_failed").await;
    assert_eq!(
        (&entry["outcome"], &entry["resource"], &entry["details"]["reason"], &entry["details"]["column"]),
        (&json!("failure"), &json!("suppliers"), &json!("altered"), &json!("iban"))
    );
    let line = app.log().lines().into_iter().find(|line| line["action"] == "core.decryption_failed").unwrap();
    assert_eq!((&line["severity"], &line["table"]), (&json!("HIGH"), &json!("suppliers")), "{line}");
    assert_eq!(alice.get(&mine).await.assert(200).json()["iban"], IBAN, "the others are read");
    app.execute_in("globex", &copy(&theirs, &mine)).await;
    bob.get(&theirs).await.assert(500).problem("core.unreadable");
    // One entry, and not one for each attempt: a list of damaged rows must not fill the log.
    let entries = app.audit_of("acme").await;
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "core.decryption_failed").count(), 1);
    app.finish().await;
}

#[tokio::test]
async fn c_05_a_flipped_bit_in_the_database_releases_nothing() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let path = supplier(&alice, "Steel", Some(IBAN)).await;
    app.expect_errors();
    let sealed =
        value(&app, "select iban from suppliers where iban is not null").await.as_str().unwrap().to_owned();
    for at in 3..sealed.len() {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        app.execute_in("acme", &format!("update suppliers set iban = '{changed}' where iban is not null"))
            .await;
        let answer = alice.get(&path).await.assert(500);
        answer.problem("core.unreadable");
        let text = answer.text();
        assert!(!text.contains("DE02"), "{at}: {text}");
    }
    app.execute_in("acme", &format!("update suppliers set iban = '{sealed}' where iban is not null")).await;
    assert_eq!(alice.get(&path).await.assert(200).json()["iban"], IBAN);
    app.finish().await;
}

#[tokio::test]
async fn c_04_a_destroyed_key_opens_nothing_on_any_instance_and_others_are_unaffected() {
    let app = TestApp::start().await;
    let second = TestApp::builder().beside(&app).start().await;
    let (mine, theirs) =
        (supplier(&app.alice(), "Steel", Some(IBAN)).await, supplier(&app.bob(), "Steel", Some(OTHER)).await);
    let token = app.alice().token().to_owned();
    let beside = second.anonymous().with_token(&token);
    assert_eq!(beside.get(&mine).await.assert(200).json()["iban"], IBAN);
    for app in [&app, &second] {
        app.expect_errors();
    }
    let tenant = app.tenant_id("acme");
    let destroy =
        "update tenant_keys set wrapped = null, wrapped_by = null, destroyed_at = now() where tenant = $1";
    app.sql().execute(destroy, &[&tenant]).await.unwrap();
    for app in [&app, &second] {
        app.clock().advance(minute());
    }
    for by in [&app.alice(), &beside] {
        by.get(&mine).await.assert(500).problem("core.unreadable");
        by.post(PATH, json!({ "name": "Wood", "iban": OTHER })).await.assert(500).problem("core.unreadable");
        by.post(PATH, json!({ "name": "Tin" })).await; // without an account nothing is encrypted
    }
    assert_eq!(app.bob().get(&theirs).await.assert(200).json()["iban"], OTHER);
    let back = app
        .sql()
        .execute(
            "update tenant_keys set wrapped = 'AAAAAAAAAAAAAAAAAAAAAA', wrapped_by = 'env:00000000', \
        destroyed_at = null where tenant = $1",
            &[&tenant],
        )
        .await;
    assert_eq!(back.unwrap_err().code().unwrap().code(), "42501", "a tombstone stays one");
    second.finish().await;
    app.finish().await;
}
