//! Answers that come later and later (L-06).

use std::sync::Arc;
use std::time::{Duration, Instant};

use erp_core::factory::AppOptions;
use erp_core::module::Access;
use erp_testkit::{Builder, TestApp};

use super::{HERE, THERE, get};

async fn nothing() {}

fn app(max: u32, step: &str) -> Builder {
    let options = AppOptions::new().custom_routes(|routes| routes.get("/open", Access::Public, nothing));
    let app = TestApp::builder().options(options).setting("RATE_LIMIT_MAX", &max.to_string());
    app.setting("SPEED_LIMIT_STEP", step).setting("SPEED_LIMIT_MAX_DELAY", "20s")
}

async fn timed(app: &TestApp, address: &str, path: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let told = get(app, address, path, None).await;
    (told.status, begun.elapsed())
}

#[tokio::test]
async fn above_half_of_the_limit_each_answer_comes_later() {
    let app = app(8, "100ms").start().await;
    for used in 1..=8u32 {
        let (status, took) = timed(&app, HERE, "/open").await;
        let delay = Duration::from_millis(100) * used.saturating_sub(4);
        assert!(status == 200 && took >= delay, "{used}: {status} in {took:?}");
        assert!(used > 4 || took < Duration::from_millis(100), "{used}: {took:?}");
    }
    let (status, took) = timed(&app, HERE, "/open").await;
    assert!(status == 429 && took < Duration::from_millis(400), "a refusal comes at once: {took:?}");
    let metrics = app.anonymous().get("/metrics").await.text();
    assert!(metrics.contains("\nrate_limit_delayed_total 4\n"), "{metrics}");
    app.finish().await;
}

#[tokio::test]
async fn an_address_that_is_refused_often_is_answered_later() {
    let app = app(40, "50ms").start().await;
    for _ in 0..15 {
        get(&app, HERE, "/nowhere", None).await; // 5 more than half of what is tolerated
    }
    let token = app.alice().token().to_owned();
    let begun = Instant::now();
    assert_eq!(get(&app, HERE, "/api/v1/me", Some(&token)).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(get(&app, THERE, "/api/v1/me", Some(&token)).await.status, 200);
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    app.finish().await;
}

#[tokio::test]
async fn l_06_beyond_the_sleepers_requests_are_refused_at_once_and_do_not_count() {
    let app = app(400, "10s").setting("RATE_LIMIT_WINDOW", "24h").start().await;
    for _ in 0..200 {
        assert_eq!(get(&app, HERE, "/open", None).await.status, 200);
    }
    let sleepers = (0..13).map(|_| get(&app, HERE, "/open", None)); // an eighth of 100
    let sleeping = futures_util::future::join_all(sleepers);
    let excess = async {
        tokio::task::yield_now().await; // the sleepers are asleep: they are polled first
        let begun = Instant::now();
        for _ in 0..10 {
            let told = get(&app, HERE, "/open", None).await;
            let wait: i64 = told.header("retry-after").parse().unwrap();
            assert_eq!(told.status, 429);
            assert_eq!(told.left().1, 400 - 213, "what found no place to wait at is not charged");
            assert!(wait > 20 && wait >= told.entry("ratelimit").1[1].1, "H-06: not before `t`: {wait}");
        }
        assert_eq!(get(&app, THERE, "/open", None).await.status, 200, "others are not held up");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    };
    tokio::select! {
        biased;
        _ = sleeping => panic!("they sleep for 10 s and more"),
        () = excess => {}
    }
    // The sleepers have hung up: their places are free.
    let freed = tokio::time::timeout(Duration::from_millis(200), get(&app, HERE, "/open", None)).await;
    assert!(freed.is_err(), "it sleeps, and is not refused");
    app.finish().await;
}

#[tokio::test]
async fn l_06_strangers_of_many_networks_leave_a_member_a_place_to_wait_at() {
    let app = app(100, "10s").setting("RATE_LIMIT_WINDOW", "24h").start().await;
    let alice = app.alice();
    for _ in 0..59 {
        // 41 of 100 left, as if 59 had been used: nobody waits for what is noted here.
        app.edge().app.limits.charge(&charges(&app)).await;
    }
    let networks: Vec<String> = (0..20).map(|number| format!("198.51.100.{number}")).collect();
    for network in &networks {
        for _ in 0..50 {
            assert_eq!(get(&app, network, "/open", None).await.status, 200);
        }
    }
    let rush = networks.iter().flat_map(|network| (0..20).map(|_| get(&app, network, "/open", None)));
    let rush = futures_util::future::join_all(rush);
    let member = async {
        tokio::task::yield_now().await;
        let waits = tokio::time::timeout(
            Duration::from_millis(300),
            get(&app, THERE, "/api/v1/me", Some(alice.token())),
        );
        assert!(waits.await.is_err(), "it waits, and is not refused");
    };
    tokio::select! {
        biased;
        _ = rush => panic!("some of them sleep for 10 s and more"),
        () = member => {}
    }
    app.finish().await;
}

/// The counter of acme's owner.
fn charges(app: &TestApp) -> [erp_core::limits::Charge; 1] {
    let owner = app.person("acme", erp_core::auth::Role::Owner);
    let quota = erp_core::limits::Quota::new(100, Duration::from_secs(24 * 3600));
    let whom = erp_core::limits::Whom::Member(owner.tenant_id, owner.user_id.into());
    [app.edge().app.limits.counter(&erp_core::limits::DEFAULT, quota, whom)]
}

#[tokio::test]
async fn who_is_held_back_holds_no_connection_and_a_stop_wakes_it() {
    let app = app(10, "10s").setting("DATABASE_MAX_CONNECTIONS", "1").start().await;
    for _ in 0..5 {
        assert_eq!(get(&app, HERE, "/api/v1/me", None).await.status, 401);
    }
    let (edge, token) = (Arc::clone(app.edge()), app.alice().token().to_owned());
    let sleeper = {
        let peer = erp_core::middleware::Peer { address: HERE.parse().unwrap(), tls: false };
        let request = http::Request::get("/open").body(axum::body::Body::empty()).unwrap();
        tokio::spawn(edge.handle(peer, request))
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!sleeper.is_finished());
    assert_eq!(get(&app, THERE, "/api/v1/me", Some(&token)).await.status, 200);
    let begun = Instant::now();
    app.finish().await;
    assert_eq!(sleeper.await.unwrap().status(), 200, "it is answered, and at once");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
