//! Sign-in: one answer for every failure, an audit row for each try, and the password nowhere.

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use serde_json::{Value, json};

async fn sign_in(app: &TestApp, tenant: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "tenant": tenant, "email": email, "password": password });
    app.anonymous().post("/api/v1/auth/login", body).await
}

/// Disables acme's member, ends its reader's membership, takes a password away, and closes a tenant.
async fn bar_from_signing_in(app: &TestApp, member: &str) {
    app.sql()
        .execute("update auth.people set disabled_at = now() where email = $1", &[&member])
        .await
        .unwrap();
    let ended = format!(
        "update memberships set ended_at = now() where user_id = '{}'",
        app.person("acme", Role::ReadOnly).user_id
    );
    app.execute_in("acme", &ended).await;
    app.execute_in("globex", "delete from auth.passwords w using auth.people p where p.id = w.person_id and p.email like 'reader@globex%'").await;
    app.sql()
        .batch_execute(
            "insert into tenants (id, slug, status) values (gen_random_uuid(), 'closed', 'closed')",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slug_and_an_address_are_known_in_any_case() {
    let app = TestApp::start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    for (tenant, email) in [("Acme", owner.email.clone()), (" ACME ", owner.email.to_uppercase())] {
        let token = sign_in(&app, tenant, &email, &owner.password).await.assert(200).json();
        let bearer = format!("Bearer {}", token["accessToken"].as_str().unwrap());
        let request = http::Request::get("/api/v1/me").header("x-tenant-id", "ACME");
        let request = request.header("authorization", bearer).body(String::new()).unwrap();
        app.anonymous().request(request).await.assert(200);
    }
    app.finish().await;
}

/// The two logins have no right in common by accident: what takes people from one of them leaves the other what it had.
#[tokio::test]
async fn t_17_sign_in_is_the_work_of_the_systems_login_and_requests_are_not() {
    let app = TestApp::start().await;
    app.expect_errors();
    let owner = &app.person("acme", Role::Owner).credential;
    let sign_in = async || sign_in(&app, "acme", &owner.email, &owner.password).await.status;
    app.alice().get("/api/v1/me").await.assert(200);
    app.sql().batch_execute("revoke select on auth.people from erp_system").await.unwrap();
    assert_eq!(sign_in().await, 500);
    app.alice().get("/api/v1/me").await.assert(200);
    let swapped = "grant select on auth.people to erp_system; revoke select on memberships from erp_app";
    app.sql().batch_execute(swapped).await.unwrap();
    assert_eq!(sign_in().await, 200);
    app.alice().get("/api/v1/me").await.assert(500);
    app.finish().await;
}

#[tokio::test]
async fn a_08_every_failure_has_the_same_answer() {
    let app = TestApp::start().await;
    let credential = |role| &app.person("acme", role).credential;
    let (owner, member, reader) =
        (credential(Role::Owner), credential(Role::Member), credential(Role::ReadOnly));
    bar_from_signing_in(&app, &member.email).await;
    let failures = [
        ("no-such-tenant", owner.email.as_str(), owner.password.as_str()),
        ("acme", "nobody@acme.example", &owner.password),
        ("acme", &owner.email, "wrong"),
        ("acme", &owner.email, ""),
        ("acme", &owner.email, &owner.password[1..]),
        ("globex", &owner.email, &owner.password),
        ("acme", &member.email, &member.password),
        ("acme", &reader.email, &reader.password),
        ("globex", "reader@globex.example", "x"),
        ("closed", &owner.email, &owner.password),
        ("canary-one", "canary@erp.invalid", ""),
        ("canary-two", "canary@erp.invalid", "canary"),
        ("acme", "not an address", "x"),
        ("ACME'; --", "a\u{0}b", "x"),
        ("-", "", ""), // without a tenant it is no sign-in, and the answer says what is missing
    ];
    let mut answers = Vec::new();
    for (tenant, email, password) in failures {
        let answer = sign_in(&app, tenant, email, password).await.assert(401);
        answer.problem("identity.sign_in_failed");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        let (status, mut body) = answer.comparable();
        body.as_object_mut().unwrap().remove("debug");
        answers.push((status, body));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let upper = owner.email.to_uppercase();
    sign_in(&app, "acme", &upper, &owner.password).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn u_05_success_and_failure_are_audited() {
    let app = TestApp::start().await;
    let olivia = app.person("acme", Role::Owner);
    let before = app.audit_of("acme").await.len();
    let (email, password) = (&olivia.credential.email, &olivia.credential.password);
    sign_in(&app, "acme", email, password).await.assert(200);
    sign_in(&app, "acme", email, "wrong").await.assert(401);
    sign_in(&app, "acme", "nobody@acme.example", "wrong").await.assert(401);
    app.edge().app.write_denials().await;
    let mut rows = app.audit_of("acme").await.split_off(before);
    rows.sort_by_key(|row| (row["outcome"] != "success", row["resource_id"].is_null()));
    let told: Vec<[&Value; 4]> = rows
        .iter()
        .map(|row| [&row["action"], &row["actor"], &row["outcome"], &row["resource_id"]])
        .collect();
    let (action, actor, who) = (json!("identity.sign_in"), json!("system:sign-in"), json!(olivia.user_id));
    assert_eq!(
        told,
        [
            [&action, &actor, &json!("success"), &who],
            [&action, &actor, &json!("failure"), &who],
            [&action, &actor, &json!("failure"), &Value::Null],
        ]
    );
    let lines = app.log().with_message("Sign-in failed");
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(
            (&line["action"], &line["ip"]),
            (&json!("identity.sign_in"), &json!("127.0.0.1")),
            "{line}"
        );
        assert!(line["account"].is_string() && line["tenantId"].is_string(), "{line}");
    }
    assert!(lines[0]["userId"] == json!(olivia.user_id) && lines[0]["account"] != lines[1]["account"]);
    app.finish().await;
}

/// An attacker fills the security log, which is a stream, and neither the audit log nor the time of its head.
#[tokio::test]
async fn u_05_a_storm_of_failures_is_few_audit_rows_and_one_of_them_tells_of_the_lock_out() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5").start().await;
    let olivia = app.person("acme", Role::Owner);
    let before = app.audit_of("acme").await.len();
    for number in 0..40 {
        let email =
            if number < 3 { olivia.credential.email.clone() } else { format!("{number}@acme.example") };
        sign_in(&app, "acme", &email, "wrong").await;
    }
    app.edge().app.write_denials().await;
    let rows = app.audit_of("acme").await.split_off(before);
    let mut told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["action"].as_str().unwrap(),
                row["resource_id"].is_string(),
                row["details"]["count"].as_u64(),
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("identity.lock_out", false, Some(1)),
            ("identity.sign_in", false, Some(2)),
            ("identity.sign_in", true, Some(3))
        ]
    );
    let refused = app.log().with_message("Sign-in refused: too many have failed");
    assert!(!refused.is_empty());
    for line in refused {
        assert!(
            line["account"].is_string() && line["action"] == "identity.sign_in" && line["ip"].is_string(),
            "{line}"
        );
    }
    app.edge().app.write_denials().await;
    assert_eq!(app.audit_of("acme").await.len(), before + 3, "each is written once");
    app.finish().await;
}

#[tokio::test]
async fn u_05_what_was_not_written_yet_is_written_at_the_stop() {
    let app = TestApp::start().await;
    sign_in(&app, "acme", "nobody@acme.example", "wrong").await.assert(401);
    let (database, id) = (app.database().superuser().await, app.tenant_id("acme"));
    app.edge().app.lifecycle.stop_background().cancel();
    let begun = std::time::Instant::now();
    let failures = "select count(*) from audit_log where tenant_id = $1 and outcome = 'failure'";
    while database.query_one(failures, &[&id]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "it is not written");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    app.finish().await;
}

/// A-08 without a clock: for every account, there or not, the same statements are sent and as many hashes are made.
#[tokio::test]
async fn a_08_every_failure_costs_the_same_statements_and_hashes() {
    let app = TestApp::builder().setting("DATABASE_LOGGING", "true").start().await;
    let credential = |role| &app.person("acme", role).credential;
    let (owner, member, reader) =
        (credential(Role::Owner), credential(Role::Member), credential(Role::ReadOnly));
    let globex = &app.person("globex", Role::Owner).credential;
    bar_from_signing_in(&app, &member.email).await;
    let cost = async |tenant: &str, email: &str, password: &str| {
        let (queries, hashes) = (app.log().with_message("Query").len(), app.edge().app.passwords.made());
        let status = sign_in(&app, tenant, email, password).await.status.as_u16();
        let sent = app.log().with_message("Query").split_off(queries);
        let sent: Vec<String> = sent.iter().map(|line| line["sql"].to_string()).collect();
        (status, sent, app.edge().app.passwords.made() - hashes)
    };
    // Of another system: "correct horse battery stäple" by PBKDF2.
    let foreign = "pbkdf2_sha256$1000$seasalt$603ieDNyKJZNvuZOW7/jEm04THNxl4bN9ChJnetSntI=";
    let given =
        "update auth.passwords set phc = $1 where person_id = (select id from auth.people where email = $2)";
    app.sql().execute(given, &[&foreign, &globex.email]).await.unwrap();
    let expected = cost("acme", &owner.email, "wrong").await;
    assert_eq!((expected.0, expected.1.len(), expected.2), (401, 4, 1));
    for (tenant, email, password) in [
        ("no-such-tenant", &*owner.email, &*owner.password),
        ("closed", &owner.email, &owner.password),
        ("acme", "nobody@acme.example", "wrong"),
        ("acme", &member.email, &member.password),
        ("acme", &reader.email, &reader.password),
        ("globex", "reader@globex.example", "x"),
        ("globex", &owner.email, &owner.password),
        ("globex", &globex.email, "wrong"),
        ("canary-one", "canary@erp.invalid", "canary"),
    ] {
        assert_eq!(cost(tenant, email, password).await, expected, "{tenant} {email}");
    }
    let long = "x".repeat(1025);
    for (tenant, email) in [("acme", &*owner.email), ("no-such-tenant", "nobody@acme.example")] {
        assert_eq!(cost(tenant, email, &long).await, (422, Vec::new(), 0), "{tenant} {email}");
    }
    app.finish().await;
}

#[tokio::test]
async fn o_02_credentials_are_in_no_log_and_no_audit_row() {
    let app = TestApp::start().await;
    let olivia = &app.person("acme", Role::Owner).credential;
    let token = sign_in(&app, "acme", &olivia.email, &olivia.password).await.assert(200).json();
    let token = token["accessToken"].as_str().unwrap();
    let wrong = "canary-password-in-a-failure";
    sign_in(&app, "acme", &olivia.email, wrong).await.assert(401);
    let malformed =
        format!("{{\"tenant\":\"acme\",\"email\":\"x\",\"password\":\"{wrong}\",\"password\":\"{wrong}\"");
    let request = http::Request::post("/api/v1/auth/login").header("content-type", "application/json");
    let answer = app.anonymous().request(request.body(malformed).unwrap()).await;
    assert!(answer.status.is_client_error() && !answer.text().contains(wrong), "{answer}");
    let bearer = app.anonymous().with_token(token);
    bearer.get("/api/v1/me").await.assert(200);
    bearer.get("/nowhere").await.assert(404);
    let audit = serde_json::to_string(&app.audit_of("acme").await).unwrap();
    let metrics = app.anonymous().get("/metrics").await.assert(200).text();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [&olivia.password, wrong, token, signature, "$argon2id", erp_testkit::JWT_SECRET] {
        for (place, text) in [("log", &app.log().text()), ("audit", &audit), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "the {place} shows {secret}");
        }
    }
    app.finish().await;
}
