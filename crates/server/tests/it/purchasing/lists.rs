//! Lists of orders show their suppliers' names, are narrowed by state and supplier, and go on at their cursor.

use std::collections::BTreeSet;

use erp_testkit::TestApp;
use serde_json::json;

use super::*;

/// The texts of a field in all pages of two.
async fn pages(actor: &Actor<'_>, query: &str, field: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = actor.get(&format!("{ORDERS}?limit=2{query}{cursor}")).await.assert(200).json();
        found.extend(
            page["items"].as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["nextCursor"].as_str() else { return found };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn orders_are_listed_by_state_and_supplier_page_by_page() {
    let app = TestApp::start().await;
    let (alice, other) = (app.alice(), approver(&app).await);
    let a = item(&alice, "L-1", 0).await;
    let (works, forge) = (supplier(&alice, "Works").await, supplier(&alice, "Forge, \"the\" one").await);
    let mut ids = Vec::new();
    for number in 0..7 {
        // All in the same instant, since the clock of tests stands: the id decides.
        let of = if number % 2 == 0 { &works } else { &forge };
        ids.push(made(&alice, ORDERS, order(of, &[(&a, 1)])).await);
    }
    for id in &ids[..3] {
        step(&other, id, "approve", &[]).await.assert(200);
    }
    let all = pages(&alice, "", "number").await;
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 7, "each once: {all:?}");
    let ascending: Vec<String> = (1..=7).map(|number| format!("PO-2026-{number:05}")).collect();
    assert_eq!(pages(&alice, "&sort=number", "number").await, ascending);
    let descending: Vec<String> = ascending.iter().rev().cloned().collect();
    assert_eq!(pages(&alice, "&sort=-number", "number").await, descending);
    assert_eq!(pages(&alice, "&status=approved&sort=number", "number").await, ascending[..3]);
    let of_forge = format!("&supplierId={forge}&sort=number");
    assert_eq!(pages(&alice, &of_forge, "supplier").await, vec!["Forge, \"the\" one"; 3]);
    let both = format!("&supplierId={works}&status=approved&sort=number");
    assert_eq!(pages(&alice, &both, "number").await, ["PO-2026-00001", "PO-2026-00003"]);
    for wrong in ["status=lost", "supplierId=x", "supplier=Works", "sort=supplier"] {
        alice.get(&format!("{ORDERS}?{wrong}")).await.assert(422).problem("core.invalid");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_list_of_orders_is_exported_with_the_joined_names() {
    let app = TestApp::start().await;
    let alice = app.alice();
    let a = item(&alice, "L-1", 0).await;
    for name in ["Works", "=Forge"] {
        let of = supplier(&alice, name).await;
        made(&alice, ORDERS, order(&of, &[(&a, 1), (&a, 2)])).await;
    }
    let export = async |kind: &str, query: &str| {
        let request = http::Request::get(format!("{ORDERS}?sort=number{query}")).header("accept", kind);
        alice.request(request.body("").unwrap()).await.assert(200).text()
    };
    let lines = export("application/x-ndjson", "").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let page = alice.get(&format!("{ORDERS}?sort=number")).await.assert(200).json();
    assert_eq!(json!(lines), page["items"], "the same as the page has, a line for each order");
    let csv = export("text/csv", "&status=draft").await;
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("id,number,status,supplierId,supplier,"), "{csv}");
    assert!(rows.len() == 3 && rows[1].contains(",Works,") && rows[2].contains(",\"'=Forge\","), "{csv}");
    assert_eq!(export("text/csv", "&status=received").await.lines().count(), 1, "the header alone");
    app.finish().await;
}
