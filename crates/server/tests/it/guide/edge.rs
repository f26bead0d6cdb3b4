//! The code that `docs/guides/http-edge.md` shows is compiled here, from the same text, and runs.

use std::time::Duration;

use erp_core::factory::AppOptions;
use erp_core::limits::{Policy, Quota};
use erp_core::module::{Access, Csp, Routes, SecurityHeaders};
use erp_testkit::TestApp;

async fn page() -> &'static str {
    "page"
}

async fn export() -> &'static str {
    "export"
}

fn secured() -> (AppOptions, Routes) {
    let options = AppOptions::new().security_headers(SecurityHeaders::helmet());

    // A page wants scripts. The headers stand beside the route, and hold for all of its answers.
    let csp = Csp::new().default_src(["'none'"]).script_src(["'self'"]).base_uri(["'none'"]);
    let routes = Routes::new().get("/page", Access::Public, page).headers(SecurityHeaders::json().csp(csp));
    (options, routes)
}

fn limited(routes: Routes) -> Routes {
    static EXPORT: Policy = Policy::requests("export", |_| Quota::new(20, Duration::from_secs(3600)));
    routes.get("/api/v1/export", Access::SignedIn, export).limit(&EXPORT)
}

/// Without white space.
fn bare(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_edges_guide_shows_the_code_that_is_compiled_here() {
    let (guide, ours) = (super::file("docs/guides/http-edge.md"), bare(include_str!("edge.rs")));
    let shown: Vec<&str> = super::blocks(&guide)
        .into_iter()
        .filter(|block| block.contains("SecurityHeaders::") || block.contains("Policy::"))
        .collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    for block in shown {
        assert!(ours.contains(&bare(block)), "{block}");
    }
}

#[tokio::test]
async fn the_edges_guide_keeps_its_promises() {
    let (options, routes) = secured();
    let options = options.custom_routes(|_| limited(routes));
    let app = TestApp::builder().options(options).start().await;
    let page = app.anonymous().get("/page").await.assert(200);
    assert_eq!(
        page.header("content-security-policy"),
        "default-src 'none'; script-src 'self'; base-uri 'none'"
    );
    let policies = app.alice().get("/api/v1/export").await.assert(200).header("ratelimit-policy").to_owned();
    assert!(policies.contains("\"export\";q=20;w=3600"), "{policies}");
    app.finish().await;
}
