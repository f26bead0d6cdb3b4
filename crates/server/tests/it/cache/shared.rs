//! What instances share through Redis: a real one, which is killed, stopped and filled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use erp_testkit::Redis;
use jiff::SignedDuration;

use super::*;

fn instance(redis: &Redis) -> Builder {
    builder().setting("REDIS_URL", &redis.url())
}

/// An instance that waits for a Redis on a busy machine.
fn patient(redis: &Redis) -> Builder {
    instance(redis).setting("REDIS_TIMEOUT", "10s")
}

/// Looks again until it is so.
async fn wait_until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn shared_hits(app: &TestApp) -> f64 {
    metric(app, "cache_hits_total{cache=\"kept.numbers\",tier=\"redis\"}")
}

/// Lets so much time pass that Redis is asked again.
fn after_a_second(app: &TestApp) {
    app.clock().advance(SignedDuration::from_secs(1));
}

/// The values and generations in Redis.
fn keys(redis: &Redis) -> Vec<String> {
    let keys = redis.command("KEYS erp:cache:*");
    keys.lines().filter(|line| line.starts_with("erp:")).map(str::to_owned).collect()
}

#[tokio::test]
async fn t_18_what_redis_has_lies_under_its_tenant_and_tells_nobody_what_was_asked() {
    if !Redis::is_installed("what Redis keeps (T-18)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis).start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    number(&app, &alice, "my secret", 1).await.unwrap();
    number(&app, &bob, "my secret", 2).await.unwrap();
    wait_until("both are kept", async || {
        keys(&redis).iter().filter(|key| key.contains("kept.numbers:")).count() == 2
    })
    .await;
    let keys = keys(&redis);
    for tenant in ["acme", "globex"].map(|tenant| app.tenant_id(tenant)) {
        let of = |what: &str| {
            let start = format!("erp:cache:{{{tenant}}}:{what}");
            keys.iter().filter(|key| key.starts_with(&start)).count()
        };
        assert_eq!(
            (of("kept.numbers:"), of("generation:kept.items"), of("generation:kept.numbers")),
            (1, 1, 1)
        );
    }
    assert!(keys.iter().all(|key| !key.contains("secret")), "{keys:?}");
    for key in keys {
        let left = redis.command(&format!("PTTL {key}"));
        assert!(
            left.trim_start_matches(':').trim().parse::<i64>().is_ok_and(|left| left > 0),
            "{key}: {left}"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_value_that_one_instance_has_loaded_is_the_others_too() {
    if !Redis::is_installed("values of two instances") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (patient(&redis).start().await, patient(&redis).start().await);
    let (alice, same) = (one.caller(&one.alice()).await, two.caller(&two.alice()).await);
    assert_eq!(alice.tenant(), same.tenant(), "both databases are copies of one");
    number(&one, &alice, "k", 1).await.unwrap();
    wait_until("it is kept in Redis", async || keys(&redis).iter().any(|key| key.contains("kept.numbers:")))
        .await;
    assert_eq!(*number(&two, &same, "k", 2).await.unwrap(), 1);
    assert_eq!(*number(&two, &same, "k", 3).await.unwrap(), 1);
    assert_eq!((shared_hits(&two), metric(&two, "cache_misses_total{cache=\"kept.numbers\"}")), (1.0, 0.0));
    assert_eq!(metric(&two, "cache_hits_total{cache=\"kept.numbers\",tier=\"process\"}"), 1.0);
    // It is over for both at the same time: what is left of it came along.
    two.clock().advance(SignedDuration::from_secs(67));
    let left = redis.command(&format!("PTTL {}", value_key(&redis)));
    assert!(left.trim_start_matches(':').trim().parse::<i64>().unwrap() <= 66_000, "{left}");
    one.finish().await;
    two.finish().await;
}

/// The one value in Redis.
fn value_key(redis: &Redis) -> String {
    keys(redis).into_iter().find(|key| key.contains("kept.numbers:")).unwrap()
}

/// A transaction that changes nothing but what it says of a tag.
async fn changed(app: &TestApp, caller: &Caller) {
    let mut tx = db(app).tenant(caller);
    tx.invalidate(&ITEMS);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_change_on_one_instance_shows_on_the_other_within_a_second() {
    if !Redis::is_installed("a change that two instances hear of") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (patient(&redis).start().await, patient(&redis).start().await);
    let (alice, same) = (one.caller(&one.alice()).await, two.caller(&two.alice()).await);
    for loaded in 1..5 {
        assert_eq!(*number(&two, &same, "k", loaded).await.unwrap(), loaded);
        let kept = || redis.command(&format!("GET erp:cache:{{{}}}:generation:kept.items", alice.tenant()));
        let before = kept();
        assert_eq!(*number(&two, &same, "k", 99).await.unwrap(), loaded);
        changed(&one, &alice).await;
        wait_until("Redis hears of it", async || kept() != before).await;
        assert_eq!(*number(&two, &same, "k", 99).await.unwrap(), loaded, "not asked for a second");
        after_a_second(&two);
    }
    assert_eq!(*number(&two, &same, "k", 5).await.unwrap(), 5);
    // Where nothing has changed, the own copy is good for another second, and is not sent.
    for _ in 0..5 {
        after_a_second(&two);
        assert_eq!(*number(&two, &same, "k", 99).await.unwrap(), 5);
    }
    assert_eq!(metric(&two, "cache_load_duration_seconds_count{cache=\"kept.numbers\"}"), 5.0);
    assert_eq!(shared_hits(&two), 0.0);
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn what_redis_does_not_know_yet_is_not_believed_by_who_has_changed_it() {
    if !Redis::is_installed("a change that Redis has not heard of") {
        return;
    }
    let mut redis = Redis::start(&[]);
    let app = patient(&redis).start().await;
    let alice = app.caller(&app.alice()).await;
    number(&app, &alice, "k", 1).await.unwrap();
    wait_until("it is kept in Redis", async || keys(&redis).iter().any(|key| key.contains("kept.numbers:")))
        .await;
    redis.pause();
    changed(&app, &alice).await;
    redis.resume();
    for loaded in 2..20 {
        assert_ne!(*number(&app, &alice, "k", loaded).await.unwrap(), 1);
        changed(&app, &alice).await;
    }
    redis.kill();
    changed(&app, &alice).await;
    assert_eq!(*number(&app, &alice, "k", 20).await.unwrap(), 20);
    app.finish().await;
}

#[tokio::test]
async fn s_07_what_changes_while_redis_is_away_is_told_when_it_is_back() {
    if !Redis::is_installed("a change while Redis is away (S-07)") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (instance(&redis).start().await, instance(&redis).start().await);
    let (alice, same) = (one.caller(&one.alice()).await, two.caller(&two.alice()).await);
    number(&one, &alice, "k", 1).await.unwrap();
    wait_until("it is kept in Redis", async || keys(&redis).iter().any(|key| key.contains("kept.numbers:")))
        .await;
    redis.command("CLIENT PAUSE 1500 ALL");
    changed(&one, &alice).await;
    assert_eq!(*number(&one, &alice, "k", 2).await.unwrap(), 2);
    wait_until("the value of before is gone", async || {
        after_a_second(&two);
        *number(&two, &same, "k", 3).await.unwrap() != 1
    })
    .await;
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn s_07_no_read_waits_for_a_redis_that_is_killed_hung_full_a_replica_or_that_refuses_us() {
    if !Redis::is_installed("a cache whose Redis is ill (S-07)") {
        return;
    }
    for ill in ["killed", "hung", "full", "replica", "refusing", "stranger"] {
        let mut redis = Redis::start(&[]);
        let url = if ill == "stranger" {
            redis.command("CONFIG SET requirepass kR4-vX9_mT2");
            redis.url().replace("redis://", "redis://:wrong-secret@")
        } else {
            redis.url()
        };
        let app = builder().setting("REDIS_URL", &url).start().await;
        let alice = app.caller(&app.alice()).await;
        number(&app, &alice, "before", 1).await.unwrap();
        match ill {
            "killed" => redis.kill(),
            "hung" => redis.pause(),
            "full" => drop(redis.command("CONFIG SET maxmemory 1")),
            "replica" => drop(redis.command("REPLICAOF 127.0.0.1 1")),
            "refusing" => drop(redis.command("ACL SETUSER default -eval -evalsha")),
            _ => {}
        }
        let mut slowest = Duration::ZERO;
        for asked in 0..200_i64 {
            let begun = Instant::now();
            assert_eq!(*number(&app, &alice, &format!("{asked}"), asked).await.unwrap(), asked, "{ill}");
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_millis(100), "{ill}: {slowest:?}");
        changed(&app, &alice).await;
        assert_eq!(*number(&app, &alice, "7", 8).await.unwrap(), 8, "{ill}: an own change shows at once");
        app.clock().advance(SignedDuration::from_secs(5));
        assert_eq!(
            *number(&app, &alice, "7", 9).await.unwrap(),
            9,
            "{ill}: nobody can tell after five seconds"
        );
        if ill == "hung" {
            redis.resume();
        }
        app.expect_errors();
        app.finish().await;
    }
}

/// The generations and the value of a tenant in Redis, in this order.
fn of(redis: &Redis, caller: &Caller) -> [String; 3] {
    let start = format!("erp:cache:{{{}}}:", caller.tenant());
    let mut keys: Vec<String> = keys(redis).into_iter().filter(|key| key.starts_with(&start)).collect();
    keys.sort();
    keys.try_into().unwrap()
}

#[tokio::test]
async fn t_18_a_value_under_another_name_or_of_another_generation_is_a_miss() {
    if !Redis::is_installed("values that somebody else has put there (T-18)") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis).start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    number(&app, &bob, "k", 666).await.unwrap();
    number(&app, &alice, "k", 1).await.unwrap();
    wait_until("both are kept", async || {
        keys(&redis).iter().filter(|key| key.contains("kept.numbers:")).count() == 2
    })
    .await;
    let (hers, his) = (of(&redis, &alice), of(&redis, &bob));
    // Once the own copy is over, Redis is asked.
    let ask = async |loaded: i64| {
        app.clock().advance(SignedDuration::from_secs(67));
        *number(&app, &alice, "k", loaded).await.unwrap()
    };
    assert_eq!(ask(2).await, 1, "as it was put there");
    let copied: Vec<String> =
        his.iter().zip(&hers).map(|(from, to)| format!("COPY {from} {to} REPLACE")).collect();
    let [_, of_numbers, value] = &hers;
    let tampered: [(&str, &[String]); 7] = [
        ("another tenant's, with its generations", &copied),
        ("nonsense", &[format!("SET {value} nonsense")]),
        ("a list", &[format!("DEL {value}"), format!("LPUSH {value} 1")]),
        ("a generation that is a list", &[format!("DEL {of_numbers}"), format!("LPUSH {of_numbers} 1")]),
        ("another generation", &[format!("SET {of_numbers} 0123456789abcdef01234567")]),
        ("without the generation of all", &["DEL erp:cache:generation".to_owned()]),
        ("without anything", &["FLUSHALL".to_owned()]),
    ];
    for (number, (what, commands)) in tampered.into_iter().enumerate() {
        for command in commands {
            let answer = redis.command(command);
            assert!(!answer.starts_with('-'), "{command}: {answer}");
        }
        let loaded = 10 + i64::try_from(number).unwrap();
        assert_eq!(ask(loaded).await, loaded, "{what}");
        let ends = format!("\n{loaded}\r\n");
        wait_until(what, async || redis.command(&format!("GET {value}")).ends_with(&ends)).await;
        assert_eq!(ask(99).await, loaded, "{what}: the new one is good");
    }
    app.finish().await;
}

#[tokio::test]
async fn t_18_instances_with_another_secret_share_nothing() {
    if !Redis::is_installed("instances with another secret (T-18)") {
        return;
    }
    let redis = Redis::start(&[]);
    let (one, two) = (
        patient(&redis).start().await,
        patient(&redis).setting("JWT_SECRET", "p7Xc2Vb9Nm4Qw1Er6Ty3Ui8Op5As0DfGh").start().await,
    );
    let (alice, same) = (one.caller(&one.alice()).await, two.caller(&two.alice()).await);
    number(&one, &alice, "k", 1).await.unwrap();
    wait_until("it is kept in Redis", async || keys(&redis).iter().any(|key| key.contains("kept.numbers:")))
        .await;
    assert_eq!(*number(&two, &same, "k", 2).await.unwrap(), 2);
    one.finish().await;
    two.finish().await;
}

/// A type that one version of the product reads, and the next one does not.
#[derive(Debug, Serialize)]
struct Changing(i64);

static IS_NEWER: AtomicBool = AtomicBool::new(false);

impl<'de> Deserialize<'de> for Changing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        if IS_NEWER.load(Ordering::SeqCst) && number < 10 {
            return Err(serde::de::Error::custom("of the version before"));
        }
        Ok(Self(number))
    }
}

static CHANGING: ResultCache<Changing> =
    ResultCache::new("deployed.changing", "What changes its type.", MINUTE);
static DEPLOYED: Module = Module { name: "deployed", caches: &[&CHANGING], ..Module::BARE };

#[tokio::test]
async fn a_value_that_the_next_version_cannot_read_is_loaded_and_replaced() {
    if !Redis::is_installed("a deploy that changes a type") {
        return;
    }
    let redis = Redis::start(&[]);
    let app = patient(&redis).module(&DEPLOYED).start().await;
    let alice = app.caller(&app.alice()).await;
    let ask = async |loaded: i64| {
        app.clock().advance(SignedDuration::from_secs(67));
        caches(&app).value(&alice, &CHANGING, &(), async move |_, _| Ok(Changing(loaded))).await.unwrap().0
    };
    let is_kept = async |number: i64| {
        let ends = format!("\n{number}\r\n");
        let value =
            || keys(&redis).into_iter().find(|key| key.contains("deployed.changing:")).unwrap_or_default();
        wait_until("it is kept in Redis", async || {
            redis.command(&format!("GET {}", value())).ends_with(&ends)
        })
        .await;
    };
    assert_eq!(ask(1).await, 1);
    is_kept(1).await;
    assert_eq!(ask(2).await, 1);
    IS_NEWER.store(true, Ordering::SeqCst);
    assert_eq!(ask(11).await, 11);
    is_kept(11).await;
    assert_eq!(ask(12).await, 11);
    assert_eq!(
        metric(&app, "cache_values_refused_total{cache=\"deployed.changing\",reason=\"unreadable\"}"),
        1.0
    );
    app.finish().await;
}

#[tokio::test]
async fn a_user_of_redis_who_may_not_use_the_caches_keys_still_shares_limits() {
    if !Redis::is_installed("a user of few rights") {
        return;
    }
    let redis = Redis::start(&[]);
    redis.command("ACL SETUSER limited on >kR4-vX9_mT2 ~erp:rl:* +eval +evalsha +time +get +set +del");
    let url = redis.url().replace("redis://", "redis://limited:kR4-vX9_mT2@");
    let app = builder().setting("REDIS_TIMEOUT", "10s").setting("REDIS_URL", &url).start().await;
    let alice = app.caller(&app.alice()).await;
    for asked in 0..20 {
        assert_eq!(*number(&app, &alice, &asked.to_string(), asked).await.unwrap(), asked);
    }
    assert_eq!(metric(&app, "rate_limit_fallback"), 0.0);
    assert_eq!(metric(&app, "cache_store_errors_total"), 1.0, "it is left alone for a while");
    let said = app.log().text();
    assert!(
        said.contains("Redis refuses what the cache asks of it") && said.contains("~erp:cache:*"),
        "{said}"
    );
    app.finish().await;
}
