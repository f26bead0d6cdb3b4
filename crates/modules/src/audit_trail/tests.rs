//! Proofs over HTTP: for auditors, of their own tenant, and as others verify them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use erp_core::audit::note::Checkpoint;
use erp_core::audit::tree::{leaf_hash, root_by_inclusion};
use erp_testkit::{Fixture, Prepared, Setup, Sweep, TestApp};
use serde_json::json;

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("GET /api/v1/audit/checkpoint", |setup| {
        Box::pin(async move {
            sealed(setup).await;
            Prepared::default()
        })
    }),
    Fixture::new("GET /api/v1/audit/{seq}/proof", |setup| {
        Box::pin(async move {
            sealed(setup).await;
            Prepared::at(["1"])
        })
    })
    .except(&[(Sweep::Isolation, "every tenant has a row 1; its tests show that each proves its own")]),
    Fixture::new("GET /api/v1/reports/{name}", |_| Box::pin(async { Prepared::at(["exports"]) })).except(&[
        (
            Sweep::Isolation,
            "every tenant has the same reports; their tests show that each is on its own rows",
        ),
    ]),
    Fixture::new("GET /api/v1/audit/alerts/{id}", |setup| {
        Box::pin(async move { Prepared::at([alert(setup).await]) })
    }),
    Fixture::new("POST /api/v1/audit/alerts/{id}/acknowledge", |setup| {
        Box::pin(async move { Prepared::at([alert(setup).await]).with(json!({ "note": "It was planned." })) })
    }),
    Fixture::new("POST /api/v1/audit/holds", |setup| {
        Box::pin(async move {
            Prepared::body(json!({ "reason": format!("Case {}", setup.number()), "resource": "item" }))
        })
    }),
    Fixture::new("POST /api/v1/audit/holds/{id}/release", |setup| {
        Box::pin(async move { Prepared::at([setup.make("/api/v1/audit/holds").await]) })
    }),
];

/// An alert, as rules leave it.
async fn alert(setup: &Setup<'_>) -> String {
    let id = format!("00000000-0000-7000-8000-{:012}", setup.number());
    let sql = format!(
        "insert into audit_alerts (id, rule, severity, about, key, began_at, last_at, numbers, rows) \
         values ('{id}', 'probing', 'low', 'Something.', 'somebody', now(), now(), '{{\"count\": 20}}', '{{1}}')"
    );
    setup.app().execute_in(setup.tenant(), &sql).await;
    id
}

/// A tenant with a row that is sealed.
async fn sealed(setup: &Setup<'_>) {
    setup.make("/api/v1/items").await;
    setup.app().seal_audit().await;
}

async fn item(app: &TestApp, sku: &str) {
    app.alice().post("/api/v1/items", json!({ "sku": sku, "name": "It", "quantity": 1 })).await.assert(201);
}

#[tokio::test]
async fn an_auditor_gets_the_bytes_of_an_entry_and_the_way_to_the_signed_root() {
    let app = TestApp::start().await;
    app.alice().get("/api/v1/audit/checkpoint").await.assert(409).problem("audit_trail.not_sealed");
    for nth in 0..20 {
        item(&app, &format!("P-{nth}")).await;
    }
    app.seal_audit().await;
    let checkpoint = app.alice().get("/api/v1/audit/checkpoint").await.assert(200).json();
    let note = checkpoint["checkpoint"].as_str().unwrap();
    let keys = app.audit_keys();
    let signed: Checkpoint = keys.open(note).unwrap();
    assert_eq!(Some(signed.origin.as_str()), checkpoint["origin"].as_str());
    assert!(signed.origin.ends_with(&app.tenant_id("acme").to_string()), "{}", signed.origin);
    let last = i64::try_from(signed.size).unwrap() - 1;
    for seq in 1..=last {
        let proven = app.alice().get(&format!("/api/v1/audit/{seq}/proof")).await.assert(200).json();
        let (entry, text) = (proven["entry"].as_str().unwrap(), proven["proof"].as_str().unwrap());
        let (proof, of) = text.split_once("\n\n").unwrap();
        let mut lines = proof.lines();
        assert_eq!((lines.next(), of), (Some("c2sp.org/tlog-proof@v1"), note));
        assert_eq!(lines.next(), Some(format!("index {seq}").as_str()));
        let hashes: Vec<[u8; 32]> =
            lines.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
        let root = root_by_inclusion(leaf_hash(entry.as_bytes()), seq.unsigned_abs(), signed.size, &hashes);
        assert_eq!(root, Some(signed.root), "{seq}");
        assert!(entry.contains(&format!(r#""seq":"{seq}""#)), "{entry}");
    }
    // One that is not sealed yet, one that does not exist, and none at all.
    item(&app, "P-later").await;
    for seq in [format!("{}", last + 1), "9007199254740991".to_owned(), "0".to_owned(), "x".to_owned()] {
        app.alice().get(&format!("/api/v1/audit/{seq}/proof")).await.assert(404);
    }
    app.finish().await;
}

#[tokio::test]
async fn each_tenant_proves_its_own_rows_and_who_may_not_none() {
    let app = TestApp::start().await;
    item(&app, "OWN-1").await;
    app.bob().post("/api/v1/items", json!({ "sku": "BOB-1", "name": "It", "quantity": 1 })).await.assert(201);
    app.seal_audit().await;
    for (actor, tenant) in [(app.alice(), "acme"), (app.bob(), "globex")] {
        let proven = actor.get("/api/v1/audit/1/proof").await.assert(200).json();
        assert!(proven["entry"].as_str().unwrap().contains(&app.tenant_id(tenant).to_string()), "{proven}");
    }
    for path in ["/api/v1/audit/1/proof", "/api/v1/audit/checkpoint"] {
        app.max().get(path).await.assert(403);
        app.anonymous().get(path).await.assert(401);
    }
    app.finish().await;
}
