//! Sessions: kept up by refresh tokens, each of which is good once, and ended everywhere within five seconds.

use erp_core::auth::Role;
use erp_testkit::TestApp;
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{items, refresh, sign_in, tokens};

/// How long an instance may believe what it has read.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

fn secret(tokens: &Value) -> &str {
    tokens["refreshToken"].as_str().unwrap()
}

/// Lets `seconds` pass for what the database notes of sessions.
async fn age(app: &TestApp, seconds: u32) {
    let sql = format!(
        "update sessions set rotated_at = rotated_at - interval '{seconds} s', idle_at = idle_at - interval '{seconds} s', \
         expires_at = expires_at - interval '{seconds} s'"
    );
    app.sql().batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn r_01_a_token_that_was_used_before_ends_its_session() {
    let app = TestApp::start().await;
    let first = tokens(&app, "acme", Role::Owner).await;
    let second = refresh(&app, &first).await.assert(200).json();
    assert_ne!(secret(&first), secret(&second));
    assert_eq!(items(&app, &second).await, 200);
    let third = refresh(&app, &second).await.assert(200).json();
    refresh(&app, &first).await.assert(401).problem("identity.session_ended");
    // Of this instance at once, of others within five seconds.
    assert_eq!(items(&app, &third).await, 401);
    refresh(&app, &third).await.assert(401).problem("identity.session_ended");
    let told = app.audit_of("acme").await;
    let reuse: Vec<_> = told.iter().filter(|entry| entry["action"] == "identity.token_reuse").collect();
    assert_eq!(reuse.len(), 1, "{told:?}");
    let message = "A refresh token was used twice: its session has ended";
    assert_eq!(app.log().with_message(message).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn r_02_who_has_not_got_the_answer_gets_the_same_again_for_ten_seconds() {
    let app = TestApp::start().await;
    let first = tokens(&app, "acme", Role::Owner).await;
    let second = refresh(&app, &first).await.assert(200).json();
    age(&app, 9).await;
    let again = refresh(&app, &first).await.assert(200).json();
    assert_eq!(secret(&again), secret(&second));
    assert_eq!((items(&app, &second).await, items(&app, &again).await), (200, 200));
    age(&app, 2).await;
    refresh(&app, &first).await.assert(401);
    refresh(&app, &second).await.assert(401).problem("identity.session_ended");
    app.finish().await;
}

#[tokio::test]
async fn r_03_twenty_who_refresh_at_the_same_time_get_one_successor() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let first = tokens(&here, "acme", Role::Owner).await;
    let all = join_all((0..20).map(|n| refresh(if n % 2 == 0 { &here } else { &there }, &first))).await;
    let mut secrets: Vec<String> =
        all.into_iter().map(|answer| secret(&answer.assert(200).json()).to_owned()).collect();
    secrets.dedup();
    assert_eq!(secrets.len(), 1);
    refresh(&here, &json!({ "refreshToken": secrets[0] })).await.assert(200);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn r_03_after_sign_out_no_refresh_that_came_at_the_same_time_is_alive() {
    let app = TestApp::start().await;
    let credential = &app.person("acme", Role::Owner).credential;
    for _ in 0..10 {
        let begun = sign_in(&app, "acme", &credential.email, &credential.password).await.json();
        let bearer = app.anonymous().with_token(begun["accessToken"].as_str().unwrap());
        let (refreshed, out) =
            tokio::join!(refresh(&app, &begun), bearer.post("/api/v1/auth/logout", json!({})));
        out.assert(204);
        if refreshed.status == 200 {
            let refreshed = refreshed.json();
            assert_eq!(items(&app, &refreshed).await, 401);
            refresh(&app, &refreshed).await.assert(401);
        }
        refresh(&app, &begun).await.assert(401);
    }
    app.finish().await;
}

#[tokio::test]
async fn r_01_garbage_ends_nobodys_session() {
    let app = TestApp::start().await;
    let first = tokens(&app, "acme", Role::Owner).await;
    let second = refresh(&app, &first).await.assert(200).json();
    let good = secret(&first);
    // The same session and generation, and another secret.
    let guessed = format!("{}{}", &good[..60], "A".repeat(good.len() - 60));
    for bad in ["", "ert_", "x", &guessed, &good[..good.len() - 1], &format!("{good}A")] {
        refresh(&app, &json!({ "refreshToken": bad })).await.assert(401).problem("identity.session_ended");
    }
    // An access token is no refresh token, and the other way round (J-03).
    refresh(&app, &json!({ "refreshToken": first["accessToken"] })).await.assert(401);
    app.anonymous().with_token(good).get("/api/v1/items").await.assert(401);
    refresh(&app, &second).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn r_04_a_session_ends_when_it_is_left_unused_and_after_its_time_however_often_it_is_used() {
    let app = TestApp::start().await;
    let idle = tokens(&app, "acme", Role::Owner).await;
    age(&app, 7 * 86_400 + 1).await;
    refresh(&app, &idle).await.assert(401);
    let mut kept = tokens(&app, "acme", Role::Owner).await;
    for _ in 0..5 {
        age(&app, 6 * 86_400 - 1).await;
        kept = refresh(&app, &kept).await.assert(200).json();
    }
    age(&app, 7).await;
    refresh(&app, &kept).await.assert(401);
    app.clock().advance(FRESH);
    assert_eq!(items(&app, &kept).await, 401, "its access token ends with it");
    app.finish().await;
}

#[tokio::test]
async fn r_04_of_tokens_only_a_hash_is_kept() {
    let app = TestApp::start().await;
    let first = tokens(&app, "acme", Role::Owner).await;
    let second = refresh(&app, &first).await.assert(200).json();
    let dump = app.sql().query_one("select string_agg(s::text, ' ') from sessions s", &[]).await.unwrap();
    let dump: String = dump.get(0);
    for token in [secret(&first), secret(&second)] {
        assert!(!dump.contains(&token[token.len() - 20..]), "{dump}");
    }
    app.finish().await;
}

#[tokio::test]
async fn j_05_sign_out_is_everywhere_within_five_seconds_without_redis() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let begun = tokens(&here, "acme", Role::Owner).await;
    let other = tokens(&here, "acme", Role::Owner).await;
    assert_eq!((items(&here, &begun).await, items(&there, &begun).await), (200, 200));
    let bearer = here.anonymous().with_token(begun["accessToken"].as_str().unwrap());
    bearer.post("/api/v1/auth/logout", json!({})).await.assert(204);
    assert_eq!(items(&here, &begun).await, 401);
    there.clock().advance(FRESH);
    assert_eq!(items(&there, &begun).await, 401);
    refresh(&there, &begun).await.assert(401);
    assert_eq!(items(&there, &other).await, 200, "of another session");
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_10_people_see_and_end_their_own_sessions_and_administrators_anybodys() {
    let app = TestApp::start().await;
    let (mine, second) = (tokens(&app, "acme", Role::Member).await, tokens(&app, "acme", Role::Member).await);
    let me = app.anonymous().with_token(mine["accessToken"].as_str().unwrap());
    let listed = me.get("/api/v1/auth/sessions").await.assert(200).json();
    let listed = listed["sessions"].as_array().unwrap();
    assert_eq!(listed.len(), 3, "and the one that tests have");
    let current: Vec<_> = listed.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!((&current[0]["methods"], &current[0]["address"]), (&json!(["pwd"]), &json!("127.0.0.1")));
    let other = listed.iter().find(|session| session["current"] == false).unwrap();
    let path = |session: &Value| format!("/api/v1/auth/sessions/{}", session["id"].as_str().unwrap());

    // Somebody else's is not there, unless one may end it.
    let owners = tokens(&app, "acme", Role::Owner).await;
    let owner = app.anonymous().with_token(owners["accessToken"].as_str().unwrap());
    let listed = owner.get("/api/v1/auth/sessions").await.json();
    let theirs = path(&listed["sessions"][0]);
    me.delete(&theirs).await.assert(404);
    app.bob().delete(&path(other)).await.assert(404);
    me.delete(&path(other)).await.assert(204);
    me.delete(&path(other)).await.assert(404);
    assert_eq!((items(&app, &second).await, items(&app, &mine).await), (401, 200));
    owner.delete(&path(current[0])).await.assert(204);
    assert_eq!(items(&app, &mine).await, 401);
    app.finish().await;
}

#[tokio::test]
async fn sign_out_everywhere_ends_the_sessions_of_all_tenants_and_tells_their_auditors() {
    let app = TestApp::start().await;
    let person = app.person("acme", Role::Member);
    app.join("globex", person.user_id, Role::ReadOnly).await;
    let credential = &person.credential;
    let here = sign_in(&app, "acme", &credential.email, &credential.password).await.assert(200).json();
    let there = sign_in(&app, "globex", &credential.email, &credential.password).await.assert(200).json();
    let somebody = tokens(&app, "globex", Role::Owner).await;
    let me = app.anonymous().with_token(here["accessToken"].as_str().unwrap());
    me.post("/api/v1/auth/logout-all", json!({})).await.assert(204);
    assert_eq!((items(&app, &here).await, items(&app, &there).await), (401, 401));
    assert_eq!(items(&app, &somebody).await, 200);
    for tenant in ["acme", "globex"] {
        let told = app.audit_of(tenant).await;
        let ended: Vec<_> =
            told.iter().filter(|entry| entry["action"] == "identity.sessions_ended").collect();
        assert_eq!(ended.len(), 1, "{tenant}: {told:?}");
        let ended = ended[0]["details"]["sessions"].as_array().unwrap().len();
        assert_eq!(ended, if tenant == "acme" { 2 } else { 1 }, "in acme the one that tests have, too");
    }
    app.finish().await;
}

#[tokio::test]
async fn one_session_too_many_ends_the_one_that_was_used_longest_ago() {
    let app = TestApp::builder().setting("IDENTITY_SESSIONS_PER_PERSON", "2").start().await;
    let first = tokens(&app, "acme", Role::Owner).await;
    age(&app, 1).await;
    let second = tokens(&app, "acme", Role::Owner).await;
    let third = tokens(&app, "acme", Role::Owner).await;
    app.clock().advance(FRESH);
    let alive = [items(&app, &first).await, items(&app, &second).await, items(&app, &third).await];
    assert_eq!(alive, [401, 200, 200]);
    app.finish().await;
}

/// What an instance shows of sessions that are alive.
async fn shown(app: &TestApp) -> Option<i64> {
    let scraped = app.anonymous().get("/metrics").await.assert(200).text();
    let series = |by: &str| {
        let name = format!("sessions_active{{by=\"{by}\"}} ");
        scraped.lines().find_map(|line| line.strip_prefix(&name)?.parse::<i64>().ok())
    };
    Some(series("token")? + series("cookie")?)
}

#[tokio::test]
async fn each_instance_shows_how_many_sessions_are_alive_on_all() {
    let app = TestApp::start().await;
    let other = TestApp::builder().beside(&app).start().await;
    let mine = tokens(&app, "acme", Role::Owner).await;
    tokens(&other, "globex", Role::Owner).await;
    let mine = other.anonymous().with_token(mine["accessToken"].as_str().unwrap());
    let alive =
        "select count(*) from sessions where revoked_at is null and idle_at > now() and expires_at > now()";
    mine.post("/api/v1/auth/logout", Value::Null).await.assert(204);
    let wanted: i64 = app.sql().query_one(alive, &[]).await.unwrap().get(0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while (shown(&app).await, shown(&other).await) != (Some(wanted), Some(wanted)) {
        let (here, there) = (shown(&app).await, shown(&other).await);
        assert!(std::time::Instant::now() < deadline, "{here:?} {there:?}, not {wanted}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    other.finish().await;
    app.finish().await;
}
