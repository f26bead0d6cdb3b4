//! What one process keeps: of whom, for how long, and how much.

use jiff::SignedDuration;

use super::*;

#[tokio::test]
async fn t_18_the_same_key_of_another_tenant_is_another_value() {
    let app = builder().start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    add(&app, &alice, "OWN-1").await;
    assert_eq!((count(&app, &alice, "OWN").await, count(&app, &bob, "OWN").await), (1, 0));
    assert_eq!((count(&app, &alice, "OWN").await, count(&app, &bob, "OWN").await), (1, 0));
    assert_eq!(metric(&app, "cache_hits_total{cache=\"kept.totals\",tier=\"process\"}"), 2.0);
    app.finish().await;
}

#[tokio::test]
async fn another_statement_another_value_or_another_cache_is_another_value() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    add(&app, &alice, "OWN-1").await;
    let two = "select 2 * count(*) as items from items where sku like $1 || '%'";
    assert_eq!(count(&app, &alice, "OWN").await, 1);
    assert_eq!(count(&app, &alice, "OWN-2").await, 0);
    assert_eq!(caches(&app).query(&alice, &TOTALS, two, ("OWN",)).await.unwrap()[0].items, 2);
    for (key, loaded) in [("1", 1), ("\"1\"", 2), ("1,2", 3), ("", 4)] {
        assert_eq!(*number(&app, &alice, key, loaded).await.unwrap(), loaded);
    }
    let key = ("1", "2");
    assert_eq!(*caches(&app).value(&alice, &NUMBERS, &key, async |_, _| Ok(5)).await.unwrap(), 5);
    let text = caches(&app).value(&alice, &TEXTS, &"1", async |_, _| Ok("one".to_owned()));
    assert_eq!(*text.await.unwrap(), "one");
    app.finish().await;
}

#[tokio::test]
async fn s_09_how_long_values_are_kept_varies_by_a_tenth() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let keys: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for key in &keys {
        number(&app, &alice, key, 1).await.unwrap();
    }
    let kept = async |loaded| {
        let mut kept = 0;
        for key in &keys {
            kept += u32::from(*number(&app, &alice, key, loaded).await.unwrap() == 1);
        }
        kept
    };
    app.clock().advance(SignedDuration::from_secs(53));
    assert_eq!(kept(2).await, 200, "54 s are nine tenths of a minute");
    app.clock().advance(SignedDuration::from_secs(7));
    let half = kept(3).await;
    assert!((40..160).contains(&half), "after a minute {half} of 200");
    app.clock().advance(SignedDuration::from_secs(7));
    assert_eq!(kept(4).await, 0, "66 s are eleven tenths");
    app.finish().await;
}

#[tokio::test]
async fn a_clock_that_jumps_back_keeps_nothing_longer() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    number(&app, &alice, "k", 1).await.unwrap();
    app.clock().advance(SignedDuration::from_hours(-24));
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 1);
    app.clock().advance(SignedDuration::from_secs(67));
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 2);
    app.finish().await;
}

#[tokio::test]
async fn one_of_several_instances_without_redis_keeps_values_for_five_seconds() {
    let app = builder().setting("INSTANCES", "2").start().await;
    let alice = app.caller(&app.alice()).await;
    number(&app, &alice, "k", 1).await.unwrap();
    app.clock().advance(SignedDuration::from_millis(4_900));
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 1);
    app.clock().advance(SignedDuration::from_millis(100));
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 2);
    app.finish().await;
}

#[tokio::test]
async fn without_memory_nothing_is_kept() {
    let app = builder().setting("CACHE_MEMORY", "0").start().await;
    let alice = app.caller(&app.alice()).await;
    for loaded in 1..4 {
        assert_eq!(*number(&app, &alice, "k", loaded).await.unwrap(), loaded);
    }
    assert_eq!(metric(&app, "cache_misses_total{cache=\"kept.numbers\"}"), 3.0);
    app.finish().await;
}

#[tokio::test]
async fn memory_is_bounded_and_a_huge_value_is_not_kept() {
    let app = builder().setting("CACHE_MEMORY", "1MiB").start().await;
    let alice = app.caller(&app.alice()).await;
    let text = async |key: u32, length: usize| {
        let load = async move |_, _| Ok("x".repeat(length));
        caches(&app).value(&alice, &TEXTS, &key, load).await.unwrap().len()
    };
    for _ in 0..2 {
        assert_eq!(text(0, 200 * 1024).await, 200 * 1024);
    }
    assert_eq!(metric(&app, "cache_values_refused_total{cache=\"kept.texts\",reason=\"too_large\"}"), 2.0);
    for key in 1..1000 {
        text(key, 10 * 1024).await;
    }
    let bytes = || metric(&app, "cache_bytes{cache=\"kept.texts\"}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while bytes() > 1024.0 * 1024.0 {
        assert!(tokio::time::Instant::now() < deadline, "{} bytes are kept", bytes());
        text(1, 10 * 1024).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bytes() > 500.0 * 1024.0, "{}", bytes());
    assert!(metric(&app, "cache_evictions_total{cache=\"kept.texts\"}") > 800.0);
    assert_eq!(metric(&app, "cache_max_bytes"), 1024.0 * 1024.0);
    app.finish().await;
}
