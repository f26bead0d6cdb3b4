//! What a server does in each environment: the cells of the table of differences that requests can see.

use erp_core::config::Environment;
use erp_testkit::TestApp;
use http::Request;
use serde_json::json;

/// Of this machine, as a developer's page is.
const LOCAL: &str = "http://localhost:5173";

#[tokio::test]
async fn each_environment_is_as_open_as_its_profile_says() {
    for environment in Environment::ALL {
        let app = TestApp::builder().setting("APP_ENV", environment.as_str()).start().await;
        let profile = app.edge().app.config.profile();
        for path in ["/metrics", "/health/detailed", "/docs", "/openapi.json", "/log-level"] {
            let status = if profile.open_management { 200 } else { 404 };
            app.anonymous().get(path).await.assert(status);
        }
        let request = Request::get("/api/v1/items").header("origin", LOCAL).body("").unwrap();
        let answer = app.alice().request(request).await.assert(200);
        let granted = answer.headers.contains_key("access-control-allow-origin");
        assert_eq!(granted, profile.local_origins, "{environment}");
        let logged = !app.log().with_message("Request headers").is_empty();
        assert_eq!(logged, profile.request_details, "{environment}");
        app.alice().post("/api/v1/items", json!({ "sku": "shown", "name": "x" })).await.assert(201);
        let bodies = app.log().with_message("Request body");
        let logged =
            bodies.iter().any(|line| line["body"].as_str().is_some_and(|body| body.contains("shown")));
        assert_eq!(
            (logged, bodies.is_empty()),
            (profile.request_details, !profile.request_details),
            "{environment}"
        );
        app.finish().await;
    }
}
