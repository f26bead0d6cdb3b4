//! What failed sign-ins do to an account, a tenant and an address: those who guess are shut out, and the owner never is.
//!
//! Pauses are differences of the database's times, so that the rows are made older instead of waiting.

use erp_core::auth::Role;
use erp_testkit::{Builder, TestApp};
use futures_util::future::join_all;
use http::Request;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{HERE, THERE, Told, ask};

const WRONG: &str = "wrong";
const NEW: &str = "another horse battery staple";

/// Ten failures in a row are free, and 300 in a tenant; an address may fail at 20 accounts a day.
fn app() -> Builder {
    TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5")
}

/// A sign-in from an address, and from a device that is known or is not.
async fn try_in(
    app: &TestApp,
    from: &str,
    (tenant, email): (&str, &str),
    password: &str,
    device: &Value,
) -> Told {
    let mut body = json!({ "tenant": tenant, "email": email, "password": password });
    if !device.is_null() {
        body["deviceToken"] = device.clone();
    }
    let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
    ask(app, from, request, body.to_string()).await
}

async fn stranger(app: &TestApp, from: &str, at: (&str, &str), password: &str) -> Told {
    try_in(app, from, at, password, &Value::Null).await
}

/// An address that nobody has used.
fn fresh(number: usize) -> String {
    format!("198.51.{}.{}", 100 + number / 250, number % 250)
}

fn wait(told: &Told) -> u64 {
    told.header("retry-after").parse().unwrap()
}

/// As if so much time had gone by.
async fn age(app: &TestApp, time: &str) {
    let sql = format!(
        "update auth.sign_in_runs set last_at = last_at - interval '{time}', told_at = told_at - interval '{time}'; \
         update auth.sign_in_pairs set at = at - interval '{time}'"
    );
    app.sql().batch_execute(&sql).await.unwrap();
}

async fn number(app: &TestApp, sql: &str) -> i64 {
    app.sql().query_one(&format!("select count(*) {sql}"), &[]).await.unwrap().get(0)
}

/// Fails at an account from as many addresses, each after the pause of the one before.
async fn fail(app: &TestApp, at: (&str, &str), addresses: std::ops::Range<usize>) {
    for from in addresses {
        age(app, "900 s").await;
        assert_eq!(stranger(app, &fresh(from), at, WRONG).await.status, 401, "{from}");
    }
}

#[tokio::test]
async fn a_05_guesses_from_many_addresses_at_one_account_get_longer_and_longer_pauses() {
    let app = app().start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let at = ("acme", owner.email.as_str());
    let mut checked = 0;
    for from in 0..60 {
        checked += u32::from(stranger(&app, &fresh(from), at, WRONG).await.status == 401);
    }
    assert_eq!(checked, 10);
    for (from, pause) in [(100, 1), (101, 2), (102, 4), (103, 8)] {
        age(&app, &format!("{} s", pause * 2)).await; // of the ones before
        assert_eq!(stranger(&app, &fresh(from), at, WRONG).await.status, 401);
        let told = stranger(&app, &fresh(from), at, WRONG).await;
        assert!(told.status == 429 && (1..=2 * pause).contains(&wait(&told)), "{told:?}");
    }
    let globex = &app.person("globex", Role::Owner).credential.email;
    assert_eq!(
        stranger(&app, THERE, ("globex", globex), WRONG).await.status,
        401,
        "another tenant's is another account"
    );
    for from in 200..220 {
        age(&app, "900 s").await;
        assert_eq!(
            stranger(&app, &fresh(from), at, WRONG).await.status,
            401,
            "never longer than a quarter of an hour (A-06)"
        );
    }
    assert_eq!(stranger(&app, THERE, at, &owner.password).await.status, 429);
    age(&app, "900 s").await;
    assert_eq!(stranger(&app, THERE, at, &owner.password).await.status, 200);
    for from in 300..310 {
        assert_eq!(
            stranger(&app, &fresh(from), at, WRONG).await.status,
            401,
            "a success ends the run of failures"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_05_a_long_run_shuts_strangers_out_until_one_succeeds_and_no_clock_ends_it() {
    let app = app().setting("IDENTITY_LOCK_OUT_AFTER", "12").start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let at = ("acme", owner.email.as_str());
    let device = stranger(&app, HERE, at, &owner.password).await.json()["deviceToken"].clone();
    fail(&app, at, 0..12).await;
    for time in ["0 s", "30 days", "-3650 days"] {
        age(&app, time).await;
        for password in [WRONG, &owner.password] {
            let told = stranger(&app, THERE, at, password).await;
            assert_eq!(
                (told.status, told.json()["code"].clone()),
                (429, json!("identity.locked_out")),
                "{time}"
            );
            assert_eq!(wait(&told), 900);
        }
    }
    assert_eq!(
        try_in(&app, HERE, at, WRONG, &device).await.status,
        401,
        "the device is known, and its password is wrong"
    );
    assert_eq!(try_in(&app, HERE, at, &owner.password, &device).await.status, 200);
    assert_eq!(stranger(&app, THERE, at, &owner.password).await.status, 200, "it is open again");
    app.finish().await;
}

#[tokio::test]
async fn a_05_a_clock_that_is_set_back_locks_nobody_for_longer_than_a_try() {
    let app = app().start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let at = ("acme", owner.email.as_str());
    for from in 0..10 {
        assert_eq!(stranger(&app, &fresh(from), at, WRONG).await.status, 401);
    }
    assert_eq!(stranger(&app, THERE, at, WRONG).await.status, 429);
    age(&app, "-10 years").await;
    assert_eq!(stranger(&app, THERE, at, WRONG).await.status, 401, "what is yet to come delays nobody");
    let told = stranger(&app, THERE, at, WRONG).await;
    assert!(told.status == 429 && wait(&told) <= 2, "and the pause is that of the run: {told:?}");
    app.finish().await;
}

/// an attacker in the owner's own office, who uses up all that the address may do.
#[tokio::test]
async fn a_06_a_known_device_gets_in_while_its_address_and_its_account_are_hammered() {
    let app = app().start().await;
    let (owner, member) =
        (&app.person("acme", Role::Owner).credential, &app.person("acme", Role::Member).credential);
    let at = ("acme", owner.email.as_str());
    let mine = stranger(&app, HERE, at, &owner.password).await.json()["deviceToken"].clone();
    let others =
        stranger(&app, HERE, ("acme", &member.email), &member.password).await.json()["deviceToken"].clone();
    for _ in 0..6 {
        stranger(&app, HERE, at, WRONG).await;
    }
    for from in 0..10 {
        stranger(&app, &fresh(from), at, WRONG).await;
    }
    for device in [Value::Null, json!("erd_forged"), others] {
        assert_eq!(try_in(&app, HERE, at, &owner.password, &device).await.status, 429, "{device}");
    }
    for _ in 0..3 {
        assert_eq!(try_in(&app, HERE, at, &owner.password, &mine).await.status, 200);
        for from in 20..40 {
            stranger(&app, &fresh(from), at, WRONG).await;
        }
    }
    // Who has stolen the device guesses no more than a stranger does, wherever from.
    let mut checked = 0;
    for from in 50..70 {
        checked += u32::from(try_in(&app, &fresh(from), at, WRONG, &mine).await.status == 401);
    }
    assert_eq!(checked, 5);
    app.finish().await;
}

#[tokio::test]
async fn a_06_the_link_of_a_mail_and_a_session_stay_open_and_open_the_account() {
    let app = app().setting("IDENTITY_LOCK_OUT_AFTER", "10").start().await;
    let (owner, member) =
        (&app.person("acme", Role::Owner).credential, &app.person("acme", Role::Member).credential);
    let session = stranger(&app, HERE, ("acme", &member.email), &member.password).await.json();
    fail(&app, ("acme", &owner.email), 0..10).await;
    fail(&app, ("acme", &member.email), 20..30).await;
    assert_eq!(stranger(&app, THERE, ("acme", &owner.email), &owner.password).await.status, 429);

    let forgot = json!({ "tenant": "acme", "email": owner.email });
    app.anonymous().post("/api/v1/auth/password/forgot", forgot).await.assert(202);
    let mails =
        format!("from mails where template = 'identity.password_reset' and recipient = '{}'", owner.email);
    app.until(&format!("select count(*) = 1 {mails}"), "select to_jsonb(0)").await;
    let text: String = app.sql().query_one(&format!("select text {mails}"), &[]).await.unwrap().get(0);
    let token = text.split_once("/password?token=").unwrap().1.lines().next().unwrap();
    let reset = json!({ "token": token, "password": NEW });
    app.anonymous().post("/api/v1/auth/password/reset", reset).await.assert(204);
    assert_eq!(stranger(&app, THERE, ("acme", &owner.email), NEW).await.status, 200);

    let me = app.anonymous().with_token(session["accessToken"].as_str().unwrap());
    let change = json!({ "currentPassword": member.password, "newPassword": NEW });
    me.post("/api/v1/auth/password/change", change).await.assert(204);
    assert_eq!(stranger(&app, THERE, ("acme", &member.email), NEW).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_05_a_session_guesses_its_own_password_no_more_often_than_a_stranger() {
    let app = app().start().await;
    let member = &app.person("acme", Role::Member).credential;
    let session = stranger(&app, HERE, ("acme", &member.email), &member.password).await.json();
    let me = app.anonymous().with_token(session["accessToken"].as_str().unwrap());
    let mut checked = 0;
    for _ in 0..30 {
        checked +=
            u32::from(me.post("/api/v1/auth/step-up", json!({ "password": WRONG })).await.status == 401);
    }
    assert_eq!(checked, 5);
    app.finish().await;
}

#[tokio::test]
async fn a_05_an_address_that_can_be_written_in_several_ways_is_one_account() {
    let app = app().start().await;
    app.expect_errors(); // no mail can be sent to such an address
    let owner = &app.person("acme", Role::Owner).credential;
    let accented = "update auth.people set email = 'jos\u{e9}.ren\u{e9}@acme.example' where email = $1";
    app.sql().execute(accented, &[&owner.email]).await.unwrap();
    let ways = [
        "jos\u{e9}.ren\u{e9}@acme.example",
        "jose\u{301}.ren\u{e9}@acme.example",
        " JOSE\u{301}.RENE\u{301}@ACME.EXAMPLE\u{a0}",
    ];
    let mut checked = 0;
    for from in 0..30 {
        checked +=
            u32::from(stranger(&app, &fresh(from), ("acme", ways[from % 3]), WRONG).await.status == 401);
    }
    assert_eq!(checked, 10);
    age(&app, "900 s").await;
    for way in ways {
        assert_eq!(stranger(&app, THERE, (" Acme ", way), &owner.password).await.status, 200, "{way}");
    }
    app.finish().await;
}

/// Two instances that have no Redis: the state is in PostgreSQL, and an attempt is charged before it is looked at.
#[tokio::test]
async fn a_05_instances_without_redis_share_what_has_failed_and_parallel_guesses_do_not_pass_together() {
    let here = app().start().await;
    let there = app().beside(&here).start().await;
    let owner = &here.person("acme", Role::Owner).credential;
    let at = ("acme", owner.email.as_str());
    let guesses = (0..60).map(|from| {
        let app = if from % 2 == 0 { &here } else { &there };
        async move { stranger(app, &fresh(from), at, WRONG).await.status }
    });
    let answers = join_all(guesses).await;
    assert_eq!(answers.iter().filter(|status| **status == 401).count(), 10, "{answers:?}");
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
    age(&here, "900 s").await;
    assert_eq!(stranger(&there, THERE, at, &owner.password).await.status, 200);
    assert_eq!(stranger(&here, HERE, at, WRONG).await.status, 401, "and what a success ends");
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_05_strangers_who_fail_all_over_a_tenant_wait_and_its_people_and_other_tenants_do_not() {
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "1").start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let device =
        stranger(&app, HERE, ("acme", &owner.email), &owner.password).await.json()["deviceToken"].clone();
    for tenant in ["acme", "no-such-tenant"] {
        for number in 0..60 {
            let email = format!("p{number}@acme.example");
            assert_eq!(stranger(&app, &fresh(number), (tenant, &email), WRONG).await.status, 401, "{number}");
            app.clock().advance(SignedDuration::from_secs(900));
        }
        let told = stranger(&app, THERE, (tenant, "q@acme.example"), WRONG).await;
        assert!(told.status == 429 && (1..=900).contains(&wait(&told)), "{tenant}: {told:?}");
    }
    assert_eq!(stranger(&app, THERE, ("acme", &owner.email), &owner.password).await.status, 429);
    assert_eq!(try_in(&app, HERE, ("acme", &owner.email), &owner.password, &device).await.status, 200);
    let globex = &app.person("globex", Role::Owner).credential;
    assert_eq!(stranger(&app, THERE, ("globex", &globex.email), &globex.password).await.status, 200);
    age(&app, "-1 day").await;
    assert_eq!(
        stranger(&app, THERE, ("acme", &owner.email), &owner.password).await.status,
        200,
        "a clock was set back"
    );
    app.finish().await;
}

#[tokio::test]
async fn a_05_an_address_that_tries_the_accounts_of_many_has_to_wait_for_the_day_and_nobody_else() {
    let app = app().start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    let device =
        stranger(&app, HERE, ("acme", &owner.email), &owner.password).await.json()["deviceToken"].clone();
    for number in 0..20 {
        // Of several tenants; the window of the address is over each time.
        let (tenant, email) = (["acme", "globex"][number % 2], format!("p{number}@acme.example"));
        assert_eq!(stranger(&app, HERE, (tenant, &email), WRONG).await.status, 401, "{number}");
        app.clock().advance(SignedDuration::from_secs(900));
    }
    let told = stranger(&app, HERE, ("acme", &owner.email), &owner.password).await;
    assert!(told.status == 429 && wait(&told) == 900, "{told:?}");
    assert_eq!(app.log().with_message("An address tries the accounts of many: it has to wait").len(), 1);
    assert_eq!(try_in(&app, HERE, ("acme", &owner.email), &owner.password, &device).await.status, 200);
    assert_eq!(stranger(&app, THERE, ("acme", &owner.email), &owner.password).await.status, 200);
    age(&app, "1 day").await;
    assert_eq!(stranger(&app, HERE, ("acme", &owner.email), &owner.password).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_05_who_mistypes_one_password_often_is_no_thief_of_many() {
    let app = app().start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    for _ in 0..25 {
        assert_eq!(stranger(&app, HERE, ("acme", &owner.email), WRONG).await.status, 401);
        age(&app, "900 s").await;
        app.clock().advance(SignedDuration::from_secs(900));
    }
    assert_eq!(stranger(&app, HERE, ("acme", &owner.email), &owner.password).await.status, 200);
    for _ in 0..30 {
        assert_eq!(stranger(&app, HERE, ("acme", &owner.email), &owner.password).await.status, 200);
    }
    assert_eq!(number(&app, "from auth.sign_in_pairs").await, 0, "who has come in is no stranger");
    assert_eq!(number(&app, "from auth.sign_in_runs where failures > 0").await, 0);
    app.finish().await;
}

#[tokio::test]
async fn the_owner_is_told_once_of_many_failures_and_again_when_strangers_are_shut_out() {
    let here = app().setting("IDENTITY_LOCK_OUT_AFTER", "15").start().await;
    let there = app().setting("IDENTITY_LOCK_OUT_AFTER", "15").beside(&here).start().await;
    let owner = &here.person("acme", Role::Owner).credential;
    let at = ("acme", owner.email.as_str());
    let told = "from mails where template = 'identity.failed_tries'";
    let guesses = (0..40).map(|from| {
        let app = if from % 2 == 0 { &here } else { &there };
        async move { stranger(app, &fresh(from), at, WRONG).await }
    });
    join_all(guesses).await;
    here.until(&format!("select count(*) = 1 {told}"), "select to_jsonb(0)").await;
    fail(&there, at, 100..102).await; // makes what was told half an hour older, too
    for from in 40..60 {
        stranger(&here, &fresh(from), ("acme", "nobody@acme.example"), WRONG).await;
    }
    // A success begins another run: of that nobody is told within the day.
    age(&here, "900 s").await;
    assert_eq!(stranger(&here, THERE, at, &owner.password).await.status, 200);
    fail(&here, at, 200..214).await;
    assert_eq!(number(&here, told).await, 1);
    fail(&here, at, 214..215).await;
    here.until(&format!("select count(*) = 2 {told}"), "select to_jsonb(0)").await;
    let row = here
        .sql()
        .query_one(&format!("select recipient, text {told} order by queued_at desc limit 1"), &[])
        .await
        .unwrap();
    let (recipient, text): (String, String) = (row.get(0), row.get(1));
    assert!(recipient == owner.email && text.starts_with("15 sign-ins in a row"), "{text}");
    assert!(text.contains("only devices on which you have signed in before"), "{text}");
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn what_is_known_of_failures_is_forgotten_at_night_but_for_accounts_that_are_shut() {
    let app = app().setting("JOB_WORKERS", "2").start().await;
    let rows = "insert into auth.sign_in_runs (key, failures, since, last_at) select gen_random_uuid(), f, now(), now() - t::interval \
          from (values (1, '1 hour'), (99, '2 days'), (100, '2 days'), (100, '31 days')) r (f, t); \
        insert into auth.sign_in_pairs select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() - t::interval \
          from (values ('1 hour'), ('2 days')) r (t); \
        update job_schedules set next_at = date_trunc('second', now()) where name = 'identity.forget_failures'";
    app.until(
        "select count(*) = 1 from job_schedules where name = 'identity.forget_failures'",
        "select to_jsonb(0)",
    )
    .await;
    app.sql().batch_execute(rows).await.unwrap();
    let left = "select (select array_agg(failures order by failures) from auth.sign_in_runs) = '{1,100}' \
        and (select count(*) from auth.sign_in_pairs) = 1";
    app.until(left, "select to_jsonb(array_agg(failures)) from auth.sign_in_runs").await;
    app.finish().await;
}

#[tokio::test]
async fn t_18_what_is_counted_tells_nobody_whom_and_metrics_tell_how_many() {
    let app = app().start().await;
    let owner = &app.person("acme", Role::Owner).credential;
    for _ in 0..6 {
        stranger(&app, HERE, ("acme", &owner.email), WRONG).await;
    }
    let rows = "select (select string_agg(r::text, ' ') from auth.sign_in_runs r) || (select string_agg(p::text, ' ') from auth.sign_in_pairs p)";
    let rows: String = app.sql().query_one(rows, &[]).await.unwrap().get(0);
    for personal in [HERE, &owner.email, "acme"] {
        assert!(!rows.contains(personal), "{rows}");
    }
    let metrics = app.anonymous().get("/metrics").await.assert(200).text();
    for line in
        ["identity_sign_ins_total{outcome=\"failed\"} 5", "identity_sign_ins_refused_total{by=\"address\"} 1"]
    {
        assert!(metrics.contains(line), "{line}");
    }
    app.finish().await;
}
