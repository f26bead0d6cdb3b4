//! Limits that instances share through Redis: a real one, which is killed, stopped and filled.

use std::time::{Duration, Instant};

use erp_core::auth::Role;
use erp_core::factory::AppOptions;
use erp_core::module::Access;
use erp_testkit::{Builder, Redis, TestApp};
use http::Request;
use serde_json::json;

use super::{HERE, Told, ask, get};

/// Redis's own clock counts, so that a window must be long enough for nothing to come back during a test.
const DAY: &str = "24h";

async fn nothing() {}

fn instance(redis: &Redis, max: u32) -> Builder {
    let options = AppOptions::new().custom_routes(|routes| routes.get("/open", Access::Public, nothing));
    TestApp::builder()
        .options(options)
        .setting("REDIS_URL", &redis.url())
        .setting("RATE_LIMIT_MAX", &max.to_string())
        .setting("RATE_LIMIT_WINDOW", DAY)
        .setting("RATE_LIMIT_AUTH_MAX", "5")
        .setting("RATE_LIMIT_AUTH_WINDOW", DAY)
        .setting("SPEED_LIMIT_STEP", "0")
}

/// An instance that waits for a Redis on a busy machine.
fn patient(redis: &Redis, max: u32) -> Builder {
    instance(redis, max).setting("REDIS_TIMEOUT", "10s")
}

async fn passed(app: &TestApp, requests: usize) -> usize {
    let mut passed = 0;
    for _ in 0..requests {
        passed += usize::from(get(app, HERE, "/open", None).await.status == 200);
    }
    passed
}

async fn wrong_password(app: &TestApp) -> Told {
    let owner = &app.person("acme", Role::Owner).credential;
    let body = json!({ "tenant": "acme", "email": owner.email, "password": "wrong" });
    let request = Request::post("/api/v1/auth/login").header("content-type", "application/json");
    ask(app, HERE, request, body.to_string()).await
}

async fn metric(app: &TestApp, name: &str) -> f64 {
    let text = app.anonymous().get("/metrics").await.assert(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

/// Waits until the instance asks Redis again.
async fn until_shared(app: &TestApp) {
    let begun = Instant::now();
    while metric(app, "rate_limit_fallback").await > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "Redis is not asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the check `redis` of `/health/detailed` passes, and what it says.
async fn redis_check(app: &TestApp) -> (bool, String) {
    let health = app.anonymous().get("/health/detailed").await.assert(200).json();
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "redis").unwrap();
    assert_eq!(
        (&check["required"], &health["status"] == "ok"),
        (&json!(false), check["passed"] == true),
        "{health:#}"
    );
    (check["passed"] == true, check["details"]["failure"].to_string())
}

/// How many connections it has taken so far.
fn connections(redis: &Redis) -> u32 {
    let stats = redis.command("INFO stats");
    let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn l_04_a_cluster_is_named_and_not_asked_four_times_a_second() {
    if !Redis::is_installed("a node of a Redis Cluster (L-04)") {
        return;
    }
    let names = ["one", "two"].map(|name| format!("erp-nodes-{name}-{}.conf", std::process::id()));
    let node = |name: &str| {
        Redis::start(&[
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            name,
            "--cluster-require-full-coverage",
            "no",
        ])
    };
    let (one, two) = (node(&names[0]), node(&names[1]));
    one.command("CLUSTER ADDSLOTSRANGE 0 8191");
    two.command("CLUSTER ADDSLOTSRANGE 8192 16383");
    let (_, port) =
        two.url().trim_end_matches("/0").rsplit_once(':').map(|(_, port)| ((), port.to_owned())).unwrap();
    one.command(&format!("CLUSTER MEET 127.0.0.1 {port}"));
    let begun = Instant::now();
    // The key's slot is 12182: a node that has heard of the other one sends us there.
    while !one.command("GET foo").starts_with("-MOVED") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", one.command("CLUSTER NODES"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let app = patient(&one, 4).setting("INSTANCES", "2").start().await;
    assert_eq!(passed(&app, 5).await, 2);
    let (passed_check, failure) = redis_check(&app).await;
    assert!(!passed_check && failure.contains("a node of a Redis Cluster"), "{failure}");
    let before = connections(&one);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(connections(&one) <= before + 2, "one more is this question's own");
    let log = app.log().text();
    assert_eq!(log.matches("a node of a Redis Cluster").count(), 1, "{log}");
    assert!(!log.contains("Redis answers"), "{log}");
    app.finish().await;
    drop((one, two));
    names.iter().for_each(|name| drop(std::fs::remove_file(std::path::Path::new("/tmp").join(name))));
}

#[tokio::test]
async fn l_04_a_user_of_few_rights_is_served_or_told_what_it_lacks() {
    if !Redis::is_installed("Redis with users of few rights (L-04)") {
        return;
    }
    let redis = Redis::start(&[]);
    let rights = "~erp:rl:* +time +get +set +del";
    for (user, more, served) in [
        ("all", "+eval +evalsha +script|load", true),
        ("unloaded", "+eval +evalsha", true),
        ("by-text", "+eval", true),
        ("loaded", "+eval +script|load", true),
        ("no-script", "", false),
        ("no-set", "+eval +evalsha +script|load -set", false),
    ] {
        redis.command(&format!("ACL SETUSER {user} on >kR4-vX9_mT2 {rights} {more}"));
        let url = redis.url().replace("redis://", &format!("redis://{user}:kR4-vX9_mT2@"));
        let app = patient(&redis, 4).setting("REDIS_URL", &url).setting("INSTANCES", "2").start().await;
        redis.command("SCRIPT FLUSH");
        assert_eq!(passed(&app, 5).await, if served { 4 } else { 2 }, "{user}: {}", app.log().text());
        let (passed_check, failure) = redis_check(&app).await;
        assert_eq!(passed_check, served, "{user}: {failure}");
        assert!(
            served || failure.contains("+eval +evalsha +script|load +time +get +set +del"),
            "{user}: {failure}"
        );
        let before = connections(&redis);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(connections(&redis) <= before + 2, "{user}");
        app.finish().await;
        redis.command("FLUSHALL");
    }
}

#[tokio::test]
async fn l_01_two_instances_let_exactly_as_many_pass_as_the_limit_says() {
    if !Redis::is_installed("two instances with one limit (L-01)") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (patient(&redis, 100).start().await, patient(&redis, 100).start().await);
    let (first, second) = (one.anonymous(), two.anonymous());
    let answers = (0..300).map(|number| if number % 2 == 0 { &first } else { &second }.get("/open"));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 100);
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 200);
    assert!(answers.iter().all(|answer| answer.headers.contains_key("ratelimit")));
    assert_eq!(metric(&one, "rate_limit_store_errors_total").await, 0.0);
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn a_07_instances_share_failed_sign_ins_and_what_is_given_back() {
    if !Redis::is_installed("sign-ins of two instances (A-07)") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (patient(&redis, 1000).start().await, patient(&redis, 1000).start().await);
    for (app, left) in [(&one, 4), (&two, 3), (&one, 2), (&two, 1)] {
        let told = wrong_password(app).await;
        assert_eq!((told.status, told.left().1), (401, left));
    }
    let owner = &one.person("acme", Role::Owner).credential;
    let right = json!({ "tenant": "acme", "email": owner.email, "password": owner.password });
    one.anonymous().post("/api/v1/auth/login", right).await.assert(200); // from another address
    assert_eq!(wrong_password(&one).await.status, 401);
    let told = wrong_password(&two).await;
    assert_eq!((told.status, told.json()["violated-policies"].clone()), (429, json!(["sign-in"])));
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn one_request_is_one_script_call_and_its_keys_tell_nobody_who_it_was() {
    if !Redis::is_installed("what Redis is told (T-18)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis, 1000).start().await;
    let alice = app.alice();
    get(&app, HERE, "/api/v1/me", Some(alice.token())).await;
    let calls = || {
        let stats = redis.command("INFO commandstats");
        let of = |name: &str| {
            let line =
                stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).unwrap_or_default();
            line.split(['=', ',']).nth(1).and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0)
        };
        of("evalsha") + of("eval")
    };
    let before = calls();
    for _ in 0..10 {
        assert_eq!(get(&app, HERE, "/api/v1/me", Some(alice.token())).await.status, 200);
        assert_eq!(get(&app, HERE, "/open", None).await.status, 200);
    }
    assert_eq!(calls() - before, 20);
    wrong_password(&app).await;
    let keys = redis.command("KEYS *");
    let tenant = app.tenant_id("acme");
    let names: Vec<&str> =
        keys.lines().filter(|line| line.starts_with("erp:") && !line.ends_with("{probe}")).collect();
    assert_eq!(names.len(), 5, "{keys}: an address, two of a tenant, two of a sign-in");
    assert_eq!(
        names.iter().filter(|name| name.starts_with(&format!("erp:rl:{{{tenant}}}:default:"))).count(),
        2
    );
    let owner = app.person("acme", Role::Owner);
    for telling in [HERE, "c0000201", &owner.credential.email, &owner.user_id.to_string()] {
        assert!(!keys.contains(telling), "{telling}: {keys}");
    }
    for name in names {
        let left = redis.command(&format!("PTTL {name}"));
        assert!(
            left.trim_start_matches(':').trim().parse::<i64>().is_ok_and(|left| left > 0),
            "{name}: {left}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn l_04_without_redis_each_instance_has_its_share_and_the_sign_in_its_whole_limit() {
    if !Redis::is_installed("Redis that is killed (L-04)") {
        return;
    }
    let mut redis = Redis::start(&[]);
    let app = patient(&redis, 100).setting("INSTANCES", "4").start().await;
    assert_eq!(passed(&app, 10).await, 10);
    redis.kill();
    let begun = Instant::now();
    assert_eq!(passed(&app, 60).await, 25, "a fourth of 100");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(get(&app, HERE, "/open", None).await.entry("ratelimit-policy").1[0].1, 25);
    for status in [429, 429] {
        assert_eq!(wrong_password(&app).await.status, status, "its address has no request left");
    }
    let errors = metric(&app, "rate_limit_store_errors_total").await;
    assert!(errors > 0.0);
    assert_eq!(metric(&app, "rate_limit_fallback").await, 1.0);
    let (passed_check, failure) = redis_check(&app).await;
    assert!(!passed_check && failure.contains("does not answer"), "{failure}");
    tokio::time::sleep(Duration::from_secs(1)).await; // four attempts to connect, and no decision
    assert_eq!(metric(&app, "rate_limit_store_errors_total").await, errors);
    redis.restart();
    until_shared(&app).await;
    assert_eq!(passed(&app, 120).await, 100, "it is as empty as it was before");
    app.finish().await;
}

#[tokio::test]
async fn l_04_the_sign_in_stays_limited_without_redis() {
    if !Redis::is_installed("sign-ins without Redis (L-04)") {
        return;
    }
    let mut redis = Redis::start(&[]);
    let app = patient(&redis, 1000).setting("INSTANCES", "10").start().await;
    redis.kill();
    for status in [401, 401, 401, 401, 401, 429, 429] {
        assert_eq!(wrong_password(&app).await.status, status);
    }
    app.finish().await;
}

#[tokio::test]
async fn l_04_a_hung_redis_costs_one_wait_and_not_one_a_request() {
    if !Redis::is_installed("Redis that hangs (L-04)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = instance(&redis, 1_000_000).start().await;
    until_shared(&app).await;
    redis.pause();
    let mut durations = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(get(&app, HERE, "/open", None).await.status, 200);
        durations.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    durations.sort_unstable();
    let p99 = durations[durations.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(50), "p99 {p99:?} of {} requests", durations.len());
    let slow = durations.iter().filter(|took| **took >= Duration::from_millis(35)).count();
    assert!(slow <= 3, "{slow} of {} waited for Redis", durations.len());
    let complaints = app.log().with_message("Redis does not answer: each instance limits by itself");
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    redis.resume();
    until_shared(&app).await;
    app.finish().await;
}

#[tokio::test]
async fn l_04_a_redis_that_takes_no_writes_is_none() {
    if !Redis::is_installed("Redis as a replica, and full (L-04)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis, 6).setting("INSTANCES", "2").start().await;
    assert_eq!(passed(&app, 1).await, 1);
    redis.command("REPLICAOF 127.0.0.1 1");
    assert_eq!(passed(&app, 5).await, 3);
    redis.command("REPLICAOF NO ONE");
    until_shared(&app).await;
    assert_eq!(passed(&app, 6).await, 5, "one was counted there before");
    redis.command("CONFIG SET maxmemory 1");
    assert_eq!(get(&app, super::THERE, "/open", None).await.entry("ratelimit-policy").1[0].1, 3);
    redis.command("CONFIG SET maxmemory 0");
    until_shared(&app).await;
    redis.command("SCRIPT FLUSH");
    assert_eq!(get(&app, super::THERE, "/open", None).await.entry("ratelimit-policy").1[0].1, 6);
    assert_eq!(metric(&app, "rate_limit_fallback").await, 0.0, "a script that was forgotten is sent again");
    app.finish().await;
}

#[tokio::test]
async fn l_04_a_wrong_password_leaves_each_instance_to_itself() {
    if !Redis::is_installed("Redis with a password (L-04)") {
        return;
    }
    let redis = Redis::start(&["--requirepass", "right"]);
    let with = |password: &str| redis.url().replace("redis://", &format!("redis://:{password}@"));
    let app = patient(&redis, 4)
        .setting("REDIS_URL", &with("wrong-secret"))
        .setting("INSTANCES", "2")
        .start()
        .await;
    assert_eq!(passed(&app, 5).await, 2);
    let log = app.log().text();
    assert!(log.contains("refuses the user or the password") && !log.contains("wrong-secret"), "{log}");
    app.finish().await;
    let app = patient(&redis, 4).setting("REDIS_URL", &with("right")).setting("INSTANCES", "2").start().await;
    assert_eq!(passed(&app, 5).await, 4);
    app.finish().await;
}

/// As Redis's clock leaves the moments of failures when it is set back by an hour.
#[tokio::test]
async fn a_07_a_redis_whose_clock_was_set_back_refuses_an_address_for_one_window_at_most() {
    if !Redis::is_installed("failures, and a Redis whose clock is set back (A-07)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis, 1000).start().await;
    assert_eq!(wrong_password(&app).await.status, 401);
    let keys = redis.command("KEYS erp:rl:{failures}:*");
    let names: Vec<&str> = keys.lines().filter(|line| line.starts_with("erp:")).collect();
    assert_eq!(names.len(), 2, "{keys}");
    let ahead = redis.command("TIME").split("\r\n").nth(2).unwrap().parse::<u64>().unwrap() + 3600;
    for name in &names {
        redis.command(&format!("SET {name} {} PX 99999999", vec![format!("{ahead}000000"); 30].join(",")));
    }
    let told = wrong_password(&app).await;
    let wait: u64 = told.header("retry-after").parse().unwrap();
    assert!(told.status == 429 && wait <= 24 * 3600, "{wait}");
    for name in names {
        let kept = redis.command(&format!("GET {name}"));
        assert!(!kept.contains(&ahead.to_string()), "counted by the new time from now on: {kept}");
    }
    app.finish().await;
}

/// A script's clock cannot be set: the counters are moved an hour ahead instead, which is how they look when Redis's clock
/// was set back by an hour.
#[tokio::test]
async fn l_01_a_redis_whose_clock_was_set_back_refuses_for_one_window_at_most() {
    if !Redis::is_installed("Redis whose clock is set back (L-01)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis, 10).setting("RATE_LIMIT_WINDOW", "1s").start().await;
    assert_eq!(passed(&app, 3).await, 3);
    let time = redis.command("TIME");
    let seconds: u64 = time.split("\r\n").nth(2).and_then(|seconds| seconds.parse().ok()).unwrap();
    let back = (seconds + 3600) * 1_000_000;
    let keys = redis.command("KEYS erp:rl:*:default:*");
    let key = keys.lines().find(|line| line.starts_with("erp:")).unwrap_or_else(|| panic!("{keys}"));
    redis.command(&format!("SET {key} {back} PX 3600000"));
    let begun = Instant::now();
    assert_eq!(get(&app, HERE, "/open", None).await.status, 429, "for a moment");
    let left = redis.command(&format!("PTTL {key}"));
    assert!(left.trim_start_matches(':').trim().parse::<u64>().is_ok_and(|left| left <= 1000), "{left}");
    while get(&app, HERE, "/open", None).await.status == 429 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is refused for longer than a window");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.finish().await;
}
