//! Whom a request is put down to: the peer, or the client that a trusted proxy names (L-02).

use erp_testkit::{Answer, TestApp};
use http::Request;
use serde_json::json;

const WARNING: &str =
    "Forwarding headers are not believed: if this peer is a proxy of yours, set TRUSTED_PROXIES";

/// Creates an item with these headers, and returns the address in the audit row and that in the log line.
async fn put_down_to(app: &TestApp, sku: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut request = Request::post("/api/v1/items").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "sku": sku, "name": "An item", "quantity": 1 }).to_string();
    let answer: Answer = app.alice().request(request.body(body).unwrap()).await.assert(201);
    let id = answer.header("x-request-id");
    let rows = app.audit_of("acme").await;
    let row = rows.iter().find(|row| row["correlation_id"] == id).expect("the change has an audit row");
    let lines = app.log().with_message("POST /api/v1/items 201");
    let line = lines.iter().find(|line| line["correlationId"] == id).expect("the request has a line");
    (row["client_ip"].as_str().unwrap().to_owned(), line["ip"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn l_02_a_stranger_forges_no_address() {
    let app = TestApp::builder().setting("TRUSTED_PROXIES", "10.0.0.0/8").start().await;
    let forged = [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("x-real-ip", "192.0.2.1"),
        ("x-client-ip", "192.0.2.1"),
        ("true-client-ip", "192.0.2.1"),
    ];
    for (number, header) in forged.into_iter().enumerate() {
        let found = put_down_to(&app, &format!("F-{number}"), &[header]).await;
        assert_eq!(found, ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()), "{header:?}");
    }
    assert_eq!(app.log().with_message(WARNING).len(), 1, "once a minute is enough");
    app.finish().await;
}

#[tokio::test]
async fn l_02_behind_a_trusted_proxy_log_and_audit_name_the_client() {
    let app = TestApp::builder().setting("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8").start().await;
    let ways: [(&[(&str, &str)], &str); 5] = [
        (&[("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.7")], "192.0.2.1"),
        (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
        (&[("forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https")], "2001:db8::7"),
        (&[("x-real-ip", "6.6.6.6")], "127.0.0.1"),
        (&[("x-forwarded-for", "6.6.6.6, unknown")], "127.0.0.1"),
    ];
    for (number, (headers, client)) in ways.into_iter().enumerate() {
        let found = put_down_to(&app, &format!("T-{number}"), headers).await;
        assert_eq!(found, (client.to_owned(), client.to_owned()), "{headers:?}");
    }
    assert!(app.log().with_message(WARNING).is_empty());
    app.finish().await;
}
