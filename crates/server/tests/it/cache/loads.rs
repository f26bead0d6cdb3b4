//! One load for all who ask at a time, whatever becomes of them or of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use erp_core::cache::ResultCache;
use erp_core::error::{Error, codes};
use futures_util::future::join_all;
use futures_util::{FutureExt as _, poll};
use tokio::sync::{Notify, oneshot};

use super::*;

/// The same as [`COUNT`], and no other test's.
const COLD: &str = "select count(*) as items from items where sku like $1 || '%' and 'cold' = 'cold'";

#[tokio::test]
async fn s_09_two_hundred_parallel_reads_of_a_cold_key_are_one_query() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let calls = async || app.database().calls("%items where sku like%").await;
    let before = calls().await;
    let asked = || caches(&app).query(&alice, &TOTALS, COLD, ("",));
    let answers = join_all((0..200).map(|_| asked())).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap()[0].items > 0));
    assert_eq!(calls().await - before, 1);
    assert_eq!(metric(&app, "cache_misses_total{cache=\"kept.totals\"}"), 200.0);
    assert_eq!(metric(&app, "cache_load_duration_seconds_count{cache=\"kept.totals\"}"), 1.0);
    asked().await.unwrap();
    assert_eq!(metric(&app, "cache_hits_total{cache=\"kept.totals\",tier=\"process\"}"), 1.0);
    assert_eq!(calls().await - before, 1);
    app.finish().await;
}

#[tokio::test]
async fn s_09_who_leaves_neither_ends_the_load_nor_hangs_those_who_wait() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let loads = Arc::new(AtomicU32::new(0));
    let (open, gate) = oneshot::channel::<i64>();
    let counted = Arc::clone(&loads);
    let first = caches(&app).value(&alice, &NUMBERS, &"k", async move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        gate.await.map_err(Error::internal)
    });
    let mut first = Box::pin(first);
    assert!(poll!(&mut first).is_pending());
    let mut others = Box::pin(join_all((0..50).map(|_| number(&app, &alice, "k", 0))));
    assert!(poll!(&mut others).is_pending());
    drop(first); // its client has hung up
    open.send(7).unwrap();
    assert!(others.await.into_iter().all(|answer| *answer.unwrap() == 7));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    app.finish().await;
}

/// Says when it is dropped.
struct Told(Option<oneshot::Sender<()>>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.take().map(|told| told.send(()));
    }
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_any_more_is_given_up_and_its_key_is_free() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let (told, dropped) = oneshot::channel();
    let told = Told(Some(told));
    let begun = Arc::new(Notify::new());
    let beginning = Arc::clone(&begun);
    let asked = caches(&app).value(&alice, &NUMBERS, &"k", async move |_, _| {
        let _told = told;
        beginning.notify_one();
        std::future::pending::<Result<i64>>().await
    });
    let mut asked = Box::pin(asked);
    assert!(poll!(&mut asked).is_pending());
    begun.notified().await;
    drop(asked);
    dropped.await.unwrap();
    assert_eq!(*number(&app, &alice, "k", 3).await.unwrap(), 3);
    app.finish().await;
}

#[tokio::test]
async fn a_failure_is_everybodys_who_waits_and_is_not_kept() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let loads = Arc::new(AtomicU32::new(0));
    let asked = |_| {
        let loads = Arc::clone(&loads);
        caches(&app).value(&alice, &NUMBERS, &"k", async move |_, _| {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err::<i64, _>(Error::new(&codes::CONFLICT))
        })
    };
    let failed = join_all((0..50).map(asked)).await;
    assert!(failed.into_iter().all(|answer| answer.unwrap_err().code() == &codes::CONFLICT));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(*number(&app, &alice, "k", 3).await.unwrap(), 3);
    app.finish().await;
}

#[tokio::test]
async fn a_load_that_panics_is_an_error_for_all_and_leaves_no_stuck_entry() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let asked = |_| {
        caches(&app).value(&alice, &NUMBERS, &"k", async |_, _| {
            tokio::task::yield_now().await;
            panic!("by the test")
        })
    };
    let failed = join_all((0..50).map(asked)).await;
    let causes = failed.into_iter().map(|answer| answer.unwrap_err().cause().unwrap().to_string());
    let told = causes.filter(|cause| cause.contains("'kept.numbers' panicked: by the test")).count();
    assert_eq!(told, 1, "the log has the cause once");
    assert_eq!(*number(&app, &alice, "k", 3).await.unwrap(), 3);
    app.expect_errors();
    app.finish().await;
}

#[tokio::test]
async fn a_load_that_hangs_ends_with_the_time_of_a_request() {
    let app = builder().setting("REQUEST_TIMEOUT", "1s").start().await;
    let alice = app.caller(&app.alice()).await;
    let hangs = async |_, _| std::future::pending::<Result<i64>>().await;
    let error = caches(&app).value(&alice, &NUMBERS, &"k", hangs).await.unwrap_err();
    assert_eq!(error.code(), &codes::TIMEOUT);
    assert_eq!(*number(&app, &alice, "k", 3).await.unwrap(), 3);
    app.finish().await;
}

#[tokio::test]
async fn s_09_a_stampede_while_the_database_is_away_is_one_failure_for_all() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let away = format!("alter database {} with allow_connections false", app.database().name);
    let gone = "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('erp_app', 'erp_system') \
        and datname = $1";
    let postgres = app.database().beside().await;
    postgres.batch_execute(&away).await.unwrap();
    postgres.execute(gone, &[&app.database().name]).await.unwrap();
    let failed = join_all((0..200).map(|_| caches(&app).query(&alice, &TOTALS, COUNT, ("",)))).await;
    assert!(failed.into_iter().all(|answer| answer.unwrap_err().code().status == 503));
    assert_eq!(metric(&app, "cache_load_duration_seconds_count{cache=\"kept.totals\"}"), 1.0);
    postgres.batch_execute(&away.replace("false", "true")).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while caches(&app).query(&alice, &TOTALS, COUNT, ("",)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the failure is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.expect_errors();
    app.finish().await;
}

#[tokio::test]
async fn what_a_load_does_is_for_everybody_of_the_tenant_and_so_by_nobody() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let seen = caches(&app).value(&alice, &TEXTS, &"who", async |_, caller| {
        Ok(format!("{} {}", caller.actor(), caller.user().is_ok()))
    });
    assert_eq!(*seen.await.unwrap(), "system:cache false");
    app.finish().await;
}

#[tokio::test]
async fn a_cache_that_no_module_lists_is_a_fault_that_says_what_to_do() {
    static FORGOTTEN: ResultCache<i64> = ResultCache::new("kept.forgotten", "What no module lists.", MINUTE);
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let error = caches(&app).value(&alice, &FORGOTTEN, &(), async |_, _| Ok(1)).await.unwrap_err();
    assert!(error.cause().unwrap().to_string().contains("'kept.forgotten' stands in no module's `caches`"));
    app.finish().await;
}

#[tokio::test]
async fn the_first_poll_of_a_kept_value_has_it() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    number(&app, &alice, "k", 1).await.unwrap();
    let mut hit = number(&app, &alice, "k", 2).boxed_local();
    assert!(matches!(poll!(&mut hit), Poll::Ready(Ok(value)) if *value == 1));
    drop(hit);
    app.finish().await;
}
