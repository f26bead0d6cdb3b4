//! A transaction that is dropped at any await point leaves neither itself nor its tenant behind (T-04, S-06).

use std::pin::pin;
use std::task::Poll;

use erp_core::db::Db;
use erp_core::from_row;
use erp_core::shared::TenantId;
use erp_testkit::{PROBE, TestApp};

struct Seen {
    tenant_id: TenantId,
}
from_row!(Seen { tenant_id });

const READ: &str = "select tenant_id from items";
const ADD: &str = "insert into items (id, sku, name) values (gen_random_uuid(), gen_random_uuid()::text, 'cancelled') \
    returning tenant_id";

/// Polls `work` at most `times` times, each time that it was woken, and drops it then.
async fn poll_at_most<T>(times: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = times;
    std::future::poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn read(db: &Db, caller: &erp_core::auth::Caller) -> Vec<Seen> {
    db.tenant_read(caller).last().rows(READ, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_04_stress_a_transaction_dropped_at_any_await_point_leaves_nothing() {
    let app = TestApp::builder().module(&PROBE).setting("DATABASE_MAX_CONNECTIONS", "2").start().await;
    let (alice, bob) = (app.caller(&app.alice()).await, app.caller(&app.bob()).await);
    let db = &app.edge().app.db;
    let mut dropped = 0;
    for round in 0..400 {
        let times = round % 7;
        let outcome = match round % 3 {
            0 => poll_at_most(times, read(db, &alice)).await.map(drop),
            1 => {
                let add = async {
                    let _: Seen = db.tenant(&alice).last().row(ADD, &[]).await.unwrap();
                };
                Box::pin(poll_at_most(times, add)).await
            }
            _ => {
                let add_and_read = async {
                    let mut tx = db.tenant(&alice);
                    let _: Vec<Seen> = tx.rows(ADD, &[]).await.unwrap();
                    let _: Vec<Seen> = tx.rows(READ, &[]).await.unwrap();
                    tx.commit().await.unwrap();
                };
                poll_at_most(times, Box::pin(add_and_read)).await
            }
        };
        dropped += usize::from(outcome.is_none());
        let seen = read(db, &bob).await;
        assert_eq!(seen.len(), 3, "round {round}");
        assert!(seen.iter().all(|row| row.tenant_id == bob.tenant()), "round {round}: a foreign row");
    }
    assert!((50..400).contains(&dropped), "{dropped} of 400 were dropped half-way");
    // A row is there with its audit row, or neither.
    let orphans: i64 = app
        .sql()
        .query_one(
            "select (select count(*) from items where name = 'cancelled') \
             - (select count(*) from audit_log where action = 'item.created' and after ->> 'name' = 'cancelled')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(orphans, 0);
    app.finish().await;
}
