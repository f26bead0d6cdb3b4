//! When a change shows: once it is committed, and never before or without that.

use std::pin::pin;
use std::time::Duration;

use erp_core::error::{Error, codes};
use futures_util::poll;
use tokio::sync::oneshot;

use super::*;

const HEAD: &str = "select 1 from audit_heads where tenant_id = $1 for update";
const WAITING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

#[tokio::test]
async fn a_change_shows_after_its_commit_and_not_before() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    assert_eq!(count(&app, &alice, "INV").await, 0);
    let mut tx = db(&app).tenant(&alice);
    tx.invalidate(&ITEMS);
    tx.rows::<()>(ADD, &[&"INV-1"]).await.unwrap();
    assert_eq!(count(&app, &alice, "INV").await, 0);
    assert_eq!(metric(&app, "cache_hits_total{cache=\"kept.totals\",tier=\"process\"}"), 1.0, "kept still");
    tx.commit().await.unwrap();
    assert_eq!(count(&app, &alice, "INV").await, 1);
    // Without a tag it is not heard of: what a cache has is as old as its time says.
    db(&app).tenant(&alice).last().rows::<()>(ADD, &[&"INV-2"]).await.unwrap();
    assert_eq!(count(&app, &alice, "INV").await, 1);
    let mut tx = db(&app).tenant(&alice);
    tx.invalidate(&TOTALS); // by the cache itself, and nothing else
    tx.commit().await.unwrap();
    assert_eq!(count(&app, &alice, "INV").await, 2);
    app.finish().await;
}

#[tokio::test]
async fn a_change_that_is_rolled_back_dropped_or_refused_leaves_what_is_kept() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    add(&app, &alice, "INV-1").await;
    assert_eq!(count(&app, &alice, "INV").await, 1);
    let begin = async || {
        let mut tx = db(&app).tenant(&alice);
        tx.invalidate(&ITEMS);
        tx.rows::<()>(ADD, &[&"INV-2"]).await.unwrap();
        tx
    };
    begin().await.rollback();
    drop(begin().await);
    let mut tx = db(&app).tenant(&alice);
    tx.invalidate(&ITEMS);
    tx.last().rows::<()>(ADD, &[&"INV-1"]).await.unwrap_err(); // there is one
    let mut tx = begin().await;
    tx.rows::<()>(ADD, &[&"INV-1"]).await.unwrap_err();
    tx.commit().await.unwrap_err();
    app.assert_connections_are_clean().await;
    assert_eq!(count(&app, &alice, "INV").await, 1);
    assert_eq!(metric(&app, "cache_load_duration_seconds_count{cache=\"kept.totals\"}"), 1.0);
    app.expect_errors();
    app.finish().await;
}

#[tokio::test]
async fn a_change_of_one_tenant_or_one_tag_leaves_the_others() {
    let app = builder().start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    assert_eq!(
        (*number(&app, &alice, "k", 1).await.unwrap(), *number(&app, &bob, "k", 2).await.unwrap()),
        (1, 2)
    );
    let mut tx = db(&app).tenant(&bob);
    tx.invalidate(&ITEMS);
    tx.commit().await.unwrap();
    let mut tx = db(&app).tenant(&alice);
    tx.invalidate(&OTHERS);
    tx.commit().await.unwrap();
    assert_eq!(
        (*number(&app, &alice, "k", 3).await.unwrap(), *number(&app, &bob, "k", 4).await.unwrap()),
        (1, 4)
    );
    app.finish().await;
}

#[tokio::test]
async fn what_changes_while_it_is_loaded_is_not_kept_and_not_told_to_those_who_come_later() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    let (open, gate) = oneshot::channel::<()>();
    let (loaded, has_loaded) = oneshot::channel::<()>();
    let slow = caches(&app).value(&alice, &NUMBERS, &"k", async move |db, caller| {
        let all = "select count(*) as items from items where sku like 'INV%'";
        let found = db.tenant_read(&caller).last().row::<Total>(all, &[]).await?;
        let _ = loaded.send(()); // the old number is read, and not told yet
        gate.await.map_err(Error::internal)?;
        Ok(found.items)
    });
    let mut slow = Box::pin(slow);
    assert!(poll!(&mut slow).is_pending());
    has_loaded.await.unwrap();
    add(&app, &alice, "INV-1").await;
    // Somebody who comes after the commit must see it, though the load of before is still under way.
    assert_eq!(*number(&app, &alice, "k", 1).await.unwrap(), 1);
    open.send(()).unwrap();
    assert_eq!(*slow.await.unwrap(), 0, "who asked before may have the old one");
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 1, "which is not kept");
    assert_eq!(metric(&app, "cache_values_refused_total{cache=\"kept.numbers\",reason=\"changed\"}"), 1.0);
    app.finish().await;
}

#[tokio::test]
async fn a_commit_that_nobody_hears_of_makes_values_worthless_too() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    assert_eq!(count(&app, &alice, "INV").await, 0);
    let mut other = app.database().superuser().await;
    let lock = other.transaction().await.unwrap();
    lock.query_one(HEAD, &[&app.tenant_id("acme")]).await.unwrap();
    {
        let mut adding = pin!(add(&app, &alice, "INV-1"));
        // COMMIT writes the audit row, for which it waits.
        while app.sql().query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(poll!(&mut adding).is_pending());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(count(&app, &alice, "INV").await, 0);
    } // its request is dropped
    lock.commit().await.unwrap();
    app.assert_connections_are_clean().await;
    let there: i64 =
        app.sql().query_one("select count(*) from items where sku = 'INV-1'", &[]).await.unwrap().get(0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while count(&app, &alice, "INV").await != there {
        assert!(tokio::time::Instant::now() < deadline, "it was committed, and the old number is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        metric(&app, "cache_load_duration_seconds_count{cache=\"kept.totals\"}"),
        2.0,
        "it was loaded anew"
    );
    app.finish().await;
}

#[tokio::test]
async fn under_an_idempotency_key_a_change_shows_to_itself_at_once_and_to_others_with_its_commit() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    assert_eq!(count(&app, &alice, "INV").await, 0);
    let deferral = db(&app).defer();
    let keyed = deferral.of(&alice);
    add(&app, &keyed, "INV-1").await;
    assert_eq!(count(&app, &keyed, "INV").await, 1, "the request sees what it has changed");
    assert_eq!(count(&app, &alice, "INV").await, 0, "and nobody else");
    assert!(deferral.commit("select 1", &[]).await.unwrap());
    assert_eq!(count(&app, &alice, "INV").await, 1);
    let deferral = db(&app).defer();
    add(&app, &deferral.of(&alice), "INV-2").await;
    drop(deferral);
    app.assert_connections_are_clean().await;
    assert_eq!(count(&app, &alice, "INV").await, 1);
    assert_eq!(metric(&app, "cache_load_duration_seconds_count{cache=\"kept.totals\"}"), 2.0);
    app.finish().await;
}

#[tokio::test]
async fn several_changes_under_one_idempotency_key_show_together() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    assert_eq!((count(&app, &alice, "INV").await, *number(&app, &alice, "k", 1).await.unwrap()), (0, 1));
    let deferral = db(&app).defer();
    let keyed = deferral.of(&alice);
    add(&app, &keyed, "INV-1").await;
    let _ = db(&app).tenant_read(&keyed).last().rows::<Total>(COUNT, &[&"INV"]).await.unwrap();
    drop(db(&app).tenant_read(&keyed)); // a look that is left has nothing to do with it
    let mut tx = db(&app).tenant(&keyed);
    tx.invalidate(&NUMBERS);
    tx.commit().await.unwrap();
    assert_eq!(*number(&app, &alice, "k", 2).await.unwrap(), 1);
    assert!(deferral.commit("select 1", &[]).await.unwrap());
    assert_eq!((count(&app, &alice, "INV").await, *number(&app, &alice, "k", 2).await.unwrap()), (1, 2));
    app.finish().await;
}

#[tokio::test]
async fn a_change_that_was_tried_again_shows_once_it_is_committed() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    assert_eq!(count(&app, &alice, "INV").await, 0);
    let fails_once = "create sequence public.tries; grant usage on sequence public.tries to erp_app; \
        create function public.fail_once() returns trigger language plpgsql as $$ begin \
        if nextval('public.tries') = 1 then raise exception 'again' using errcode = '40001'; end if; return new; end $$; \
        create trigger fail_once before insert on items for each row execute function public.fail_once()";
    app.sql().batch_execute(fails_once).await.unwrap();
    add(&app, &alice, "INV-1").await;
    assert_eq!(count(&app, &alice, "INV").await, 1);
    app.finish().await;
}

#[tokio::test]
async fn t_18_no_write_transaction_reads_what_is_kept() {
    let app = builder().start().await;
    let alice = app.caller(&app.alice()).await;
    number(&app, &alice, "k", 1).await.unwrap();
    let deferral = db(&app).defer();
    let keyed = deferral.of(&alice);
    assert_eq!(*number(&app, &keyed, "k", 2).await.unwrap(), 2);
    assert_eq!(*number(&app, &alice, "k", 3).await.unwrap(), 1, "what it has read is not kept");
    let error = caches(&app).value(&keyed, &NUMBERS, &"k", async |_, _| Err(Error::new(&codes::CONFLICT)));
    assert_eq!(error.await.unwrap_err().code(), &codes::CONFLICT);
    drop(deferral);
    app.finish().await;
}
