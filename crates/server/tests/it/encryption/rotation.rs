use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use erp_core::bootstrap::SecretOperator;
use erp_core::config::{Config, Layers, MapSource};
use erp_core::shared::SystemRng;
use erp_testkit::TestApp;

use super::{IBAN, PATH, minute, supplier, value};

const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";
const NEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What `secret` has in its hands, with these settings.
fn operator(app: &TestApp, settings: &[(&str, &str)]) -> SecretOperator {
    let roles = &app.database().roles;
    let urls = [
        ("APP_ENV", "development"),
        ("DATABASE_URL", roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", roles.system_url.as_str()),
    ];
    let all = urls.into_iter().chain(settings.iter().copied());
    let config = Config::load(&Layers::from(MapSource::environment(all))).unwrap();
    SecretOperator::open(&config, std::sync::Arc::new(SystemRng::new())).unwrap()
}

#[tokio::test]
async fn c_03_another_version_is_used_everywhere_and_the_rows_before_are_encrypted_anew_under_load() {
    let app = TestApp::builder().setting("JOB_WORKERS", "1").start().await;
    let second = TestApp::builder().beside(&app).setting("JOB_WORKERS", "0").start().await;
    let alice = app.alice();
    let beside = second.anonymous().with_token(alice.token());
    let mut paths = Vec::new();
    for number in 0..250 {
        paths.push(supplier(&alice, &format!("Supplier {number}"), Some(IBAN)).await);
    }
    let versions = value(
        &app,
        "select jsonb_agg(array[name, version::text, updated_at::text] order by id) from suppliers where name like 'Supplier %'",
    )
    .await;
    let operator = operator(&app, &[("ENCRYPTION_KEY", KEY)]);
    let tenant = app.tenant_id("acme");
    let (over, read) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async {
        for path in paths.iter().cycle() {
            for by in [&alice, &beside] {
                assert_eq!(by.get(path).await.assert(200).json()["iban"], IBAN);
            }
            let found = beside.get(&format!("{PATH}?iban={IBAN}&limit=1")).await.assert(200).json();
            assert_eq!(found["items"].as_array().unwrap().len(), 1, "it is found while its index moves");
            read.fetch_add(1, Ordering::Relaxed);
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    let rotation = async {
        assert_eq!(operator.rotate(tenant).await.unwrap(), Some(2));
        // It is announced: the job waits, and who knows it looks for what it would write, but writes with the one before.
        app.until("select count(*) = 1 from job_scheduled where kind = 'encryption.rewrap'", "select 1")
            .await;
        app.clock().advance(minute());
        supplier(&alice, "Early", Some(IBAN)).await;
        assert_eq!(value(&app, "select left(iban, 3) from suppliers where name = 'Early'").await, "v1:");
        // A minute later every process has read it again, and the job encrypts anew.
        second.clock().advance(minute());
        let later = "update tenant_keys set created_at = created_at - interval '45 seconds' where version = 2; \
                     update job_scheduled set run_at = now() where kind = 'encryption.rewrap'";
        app.sql().batch_execute(later).await.unwrap();
        app.clock().advance(minute());
        let old = "select count(*) = 0 from suppliers where iban like 'v1:%' or iban_index like 'v1:%'";
        app.until(old, "select jsonb_agg(distinct left(iban, 3)) from suppliers").await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, rotation);
    assert!(read.load(Ordering::Relaxed) > 0);
    let after = value(
        &app,
        "select jsonb_agg(array[name, version::text, updated_at::text] order by id) from suppliers where name like 'Supplier %'",
    )
    .await;
    assert_eq!(after, versions, "another ciphertext of the same value is no other version of the row");

    second.clock().advance(minute());
    supplier(&beside, "The next", Some(IBAN)).await;
    let sealed = value(&app, "select left(iban, 3) from suppliers where name = 'The next'").await;
    assert_eq!(sealed, "v2:", "the other instance writes with it, too");
    let (status, _) = operator.status(tenant).await.unwrap();
    assert_eq!(status.iter().map(|key| (key.version, key.rows)).collect::<Vec<_>>(), [(1, 0), (2, 252)]);

    // Not before no process can write with the version before.
    assert_eq!(operator.retire(tenant).await.unwrap(), [0; 0]);
    app.sql()
        .batch_execute("update tenant_keys set created_at = created_at - interval '2 minutes'")
        .await
        .unwrap();
    assert_eq!(operator.retire(tenant).await.unwrap(), [1]);
    operator.close().await;
    second.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn c_03_a_version_with_rows_is_not_retired_and_a_retired_one_opens_nothing() {
    let app = TestApp::builder().setting("JOB_WORKERS", "0").start().await;
    let alice = app.alice();
    let path = supplier(&alice, "Steel", Some(IBAN)).await;
    let operator = operator(&app, &[("ENCRYPTION_KEY", KEY)]);
    let tenant = app.tenant_id("acme");
    operator.rotate(tenant).await.unwrap();
    app.sql()
        .batch_execute("update tenant_keys set created_at = created_at - interval '2 minutes'")
        .await
        .unwrap();
    assert_eq!(operator.retire(tenant).await.unwrap(), [0; 0], "a row names it");
    app.sql().batch_execute("update tenant_keys set retired_at = now() where version = 1").await.unwrap();
    app.clock().advance(minute());
    app.expect_errors();
    alice.get(&path).await.assert(500).problem("core.unreadable");
    operator.close().await;
    app.finish().await;
}

#[tokio::test]
async fn c_03_another_encryption_key_wraps_data_keys_anew_and_touches_no_data() {
    let app =
        TestApp::builder().setting("JOB_WORKERS", "0").setting("ENCRYPTION_KEY_NEXT", NEXT).start().await;
    let path = supplier(&app.alice(), "Steel", Some(IBAN)).await;
    let data = "select jsonb_agg(s) from suppliers s";
    let before = value(&app, data).await;
    app.expect_errors();
    let stranger = operator(&app, &[("ENCRYPTION_KEY", NEXT)]);
    assert_eq!(stranger.rewrap().await.unwrap(), (0, 1), "without the key before nothing is opened");
    stranger.close().await;
    let operator = operator(&app, &[("ENCRYPTION_KEY", NEXT), ("ENCRYPTION_KEY_PREVIOUS", KEY)]);
    assert_eq!(operator.rewrap().await.unwrap(), (1, 0));
    assert_eq!(operator.rewrap().await.unwrap(), (0, 0));
    let (status, _) = operator.status(app.tenant_id("acme")).await.unwrap();
    assert_eq!(status[0].wrapped_by, operator.current());
    operator.close().await;
    assert_eq!(value(&app, data).await, before);
    app.clock().advance(minute());
    // An instance that knows the next key reads on; it has not been restarted.
    assert_eq!(app.alice().get(&path).await.assert(200).json()["iban"], IBAN);
    app.finish().await;
}
