//! How the database is used: how many connections, which logs, what is tried again.

use erp_testkit::TestApp;

#[tokio::test]
async fn more_connections_than_the_server_gives_are_warned_of_at_the_start() {
    let app = TestApp::builder().setting("INSTANCES", "100").start().await;
    let text = app.log().text();
    assert!(text.contains("100 instances with pools of 20 may open 2100 connections"), "{text}");
    app.finish().await;

    let app = TestApp::start().await;
    assert!(!app.log().text().contains("may open"), "one instance fits");
    app.finish().await;
}
