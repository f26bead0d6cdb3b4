//! The numbers of orders have no gaps, whatever happens at the same time.

use erp_testkit::TestApp;
use futures_util::future::join_all;

use super::*;

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| format!("PO-2026-{number:05}")).collect()
}

#[tokio::test]
async fn twenty_orders_at_the_same_time_have_numbers_without_gap_or_duplicate() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "N-1", 0).await);
    let create = async || {
        let made = alice.post(ORDERS, order(&of, &[(&a, 1)])).await.assert(201).json();
        made["number"].as_str().unwrap().to_owned()
    };
    let mut taken = join_all((0..20).map(|_| create())).await;
    taken.sort_unstable();
    assert_eq!(taken, numbers(1..=20));
    let (of, a) = (supplier(&bob, "Works").await, item(&bob, "N-1", 0).await);
    let theirs = bob.post(ORDERS, order(&of, &[(&a, 1)])).await.assert(201).json();
    assert_eq!(theirs["number"], "PO-2026-00001", "another tenant counts by itself");
    app.finish().await;
}

/// An order that is refused has taken its number before its lines were looked at.
#[tokio::test]
async fn a_refused_order_leaves_no_gap() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "N-1", 0).await);
    let attempts = (0..20).map(async |attempt| {
        let wanted = if attempt % 2 == 0 { UNKNOWN } else { &a };
        let answer = alice.post(ORDERS, order(&of, &[(&a, 1), (wanted, 1)])).await;
        if attempt % 2 == 0 {
            answer.assert(422).problem("purchasing.no_item");
            return None;
        }
        Some(answer.assert(201).json()["number"].as_str().unwrap().to_owned())
    });
    let mut taken: Vec<String> = join_all(attempts).await.into_iter().flatten().collect();
    taken.sort_unstable();
    assert_eq!(taken, numbers(1..=10));
    app.finish().await;
}

#[tokio::test]
async fn an_order_cannot_be_deleted_nor_numbered_by_its_author() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let (of, a) = (supplier(&alice, "Works").await, item(&alice, "N-1", 0).await);
    let id = made(&alice, ORDERS, order(&of, &[(&a, 1)])).await;
    alice.delete(&format!("{ORDERS}/{id}")).await.assert(405);
    for name in ["number", "status", "createdBy"] {
        let mut body = order(&of, &[(&a, 1)]);
        body[name] = "draft".into();
        let problem = alice.post(ORDERS, body).await.assert(422).problem("core.invalid");
        assert_eq!(pointers(&problem), [format!("/{name}")]);
    }
    app.finish().await;
}
