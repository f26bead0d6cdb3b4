//! The limit of failed sign-ins (A-07).

use erp_core::auth::Role;
use erp_testkit::{Builder, TestApp};
use http::Request;
use jiff::SignedDuration;
use serde_json::json;

use super::{HERE, THERE, Told, ask};

fn app() -> Builder {
    TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5")
}

/// A sign-in as the owner of a tenant, from an address.
async fn sign_in(app: &TestApp, address: &str, tenant: &str, password: Option<&str>) -> Told {
    let owner = &app.person(tenant, Role::Owner).credential;
    let password = password.unwrap_or(&owner.password);
    let body = json!({ "tenant": tenant, "email": owner.email, "password": password });
    let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
    ask(app, address, request, body.to_string()).await
}

const WRONG: Option<&str> = Some("wrong");

#[tokio::test]
async fn a_07_the_sixth_failed_sign_in_is_refused() {
    let app = app().start().await;
    for left in [4, 3, 2, 1, 0] {
        let told = sign_in(&app, HERE, "acme", WRONG).await;
        assert_eq!((told.status, told.left()), (401, ("sign-in".to_owned(), left, 900)));
        assert_eq!(told.entry("ratelimit-policy").1, [("q".to_owned(), 5), ("w".to_owned(), 900)]);
    }
    for password in [WRONG, None] {
        let told = sign_in(&app, HERE, "acme", password).await;
        assert_eq!((told.status, told.json()["violated-policies"].clone()), (429, json!(["sign-in"])));
        let wait: u64 = told.header("retry-after").parse().unwrap();
        assert!(wait > 0 && wait <= 900, "{wait}");
    }
    let refusals = app.log().with_message("Sign-in refused: too many have failed");
    assert!(refusals.len() == 2 && refusals[0]["severity"] == "HIGH", "{refusals:?}");
    app.clock().advance(SignedDuration::from_secs(899));
    assert_eq!(sign_in(&app, HERE, "acme", None).await.status, 429);
    app.clock().advance(SignedDuration::from_secs(1));
    assert_eq!(sign_in(&app, HERE, "acme", None).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_07_no_quarter_of_an_hour_holds_more_than_five_failures() {
    let app = app().start().await;
    let mut checked = Vec::new();
    for minute in 0..60_u32 {
        if sign_in(&app, HERE, "acme", WRONG).await.status == 401 {
            checked.push(minute);
        }
        app.sql().batch_execute("delete from auth.sign_in_runs").await.unwrap(); // the address's failures alone
        app.clock().advance(SignedDuration::from_secs(60));
    }
    let most = checked.iter().map(|from| checked.iter().filter(|at| (*from..from + 15).contains(at)).count());
    assert!(most.max() == Some(5) && checked.len() > 15, "{checked:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_07_the_networks_of_one_site_of_ipv6_fail_together() {
    let app = app().start().await;
    let mut checked = 0;
    for number in 0..60 {
        let body =
            json!({ "tenant": "acme", "email": format!("{number}@acme.example"), "password": "wrong" });
        let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
        let told = ask(&app, &format!("2001:db8:1:{number:x}::1"), request, body.to_string()).await;
        checked += u32::from(told.status == 401);
    }
    assert_eq!(checked, 20, "four times what one network may");
    assert_eq!(sign_in(&app, "2001:db8:2::1", "acme", WRONG).await.status, 401);
    app.finish().await;
}

#[tokio::test]
async fn a_07_a_lock_out_reaches_nobody_elsewhere_and_no_other_tenant() {
    let app = app().start().await;
    for _ in 0..6 {
        sign_in(&app, HERE, "acme", WRONG).await;
    }
    assert_eq!(sign_in(&app, HERE, "acme", None).await.status, 429);
    assert_eq!(sign_in(&app, THERE, "acme", None).await.status, 200, "the same account from elsewhere");
    assert_eq!(sign_in(&app, THERE, "globex", None).await.status, 200, "another tenant's from elsewhere");
    let told = sign_in(&app, THERE, "globex", WRONG).await;
    assert_eq!((told.status, told.left().1), (401, 4), "and it has all its attempts");
    app.finish().await;
}

#[tokio::test]
async fn a_07_only_failures_count_and_a_success_gives_back_its_own() {
    let app = app().start().await;
    for _ in 0..20 {
        let told = sign_in(&app, HERE, "acme", None).await;
        assert_eq!((told.status, told.left().0.as_str()), (200, "default"));
    }
    for _ in 0..4 {
        assert_eq!(sign_in(&app, HERE, "acme", WRONG).await.status, 401);
    }
    assert_eq!(sign_in(&app, HERE, "acme", None).await.status, 200);
    assert_eq!(sign_in(&app, HERE, "acme", WRONG).await.status, 401, "the fifth failure");
    assert_eq!(sign_in(&app, HERE, "acme", WRONG).await.status, 429);
    app.finish().await;
}

#[tokio::test]
async fn a_07_what_is_no_sign_in_does_not_count() {
    let app = app().start().await;
    for (body, status) in [("{", 400), ("{}", 422), (r#"{"tenant":1}"#, 422)] {
        for _ in 0..10 {
            let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
            assert_eq!(ask(&app, HERE, request, body).await.status, status, "{body}");
        }
    }
    assert_eq!(sign_in(&app, HERE, "acme", WRONG).await.left().1, 4);
    app.finish().await;
}

/// A password takes tens of milliseconds to hash, in which all guesses would otherwise be let in.
#[tokio::test]
async fn a_07_parallel_guesses_do_not_pass_together() {
    let app = app().start().await;
    let guesses = (0..100).map(|_| sign_in(&app, HERE, "acme", WRONG));
    let answers = futures_util::future::join_all(guesses).await;
    assert_eq!(answers.iter().filter(|told| told.status == 401).count(), 5);
    assert_eq!(answers.iter().filter(|told| told.status == 429).count(), 95);
    app.finish().await;
}

#[tokio::test]
async fn a_07_the_general_limit_does_not_change_that_of_sign_ins() {
    let app = app().setting("RATE_LIMIT_MAX", "1000").setting("RATE_LIMIT_WINDOW", "1s").start().await;
    let told = sign_in(&app, HERE, "acme", WRONG).await;
    assert_eq!(told.entry("ratelimit-policy").1, [("q".to_owned(), 5), ("w".to_owned(), 900)]);
    app.finish().await;
}

#[tokio::test]
async fn a_07_what_we_could_not_decide_does_not_count() {
    let app = app().start().await;
    app.expect_errors();
    let lock = app.database().superuser().await;
    lock.batch_execute("alter table tenants rename to away").await.unwrap();
    for _ in 0..10 {
        assert_eq!(sign_in(&app, HERE, "acme", None).await.status, 500);
    }
    lock.batch_execute("alter table away rename to tenants").await.unwrap();
    let failures = "select sum(failures) from auth.sign_in_runs";
    let failures: i64 = app.sql().query_one(failures, &[]).await.unwrap().get(0);
    assert_eq!(failures, 0, "nor to the account");
    let told = sign_in(&app, HERE, "acme", WRONG).await;
    assert_eq!((told.status, told.left().1), (401, 4));
    app.finish().await;
}
