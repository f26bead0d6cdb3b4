//! Files that are built in: names that change with the content, kept for ever by clients that have fetched them.

use erp_core::module::{Asset, Module};
use erp_testkit::TestApp;
use http::{Method, Request};

static PAGES: Module = Module { name: "pages", assets: FILES, ..Module::BARE };
const FILES: &[Asset] =
    &[Asset { name: "page.css", media_type: "text/css; charset=utf-8", bytes: b"body { color: red }" }];

#[tokio::test]
async fn an_asset_is_public_immutable_and_answers_to_its_present_name_only() {
    let app = TestApp::builder().module(&PAGES).start().await;
    let url = app.edge().app.assets.url("page.css").unwrap().to_owned();
    let answer = app.anonymous().get(&url).await.assert(200);
    assert_eq!(answer.text(), "body { color: red }");
    assert_eq!(answer.header("content-type"), "text/css; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
    assert!(url.contains(answer.header("etag").trim_matches('"')), "{url}");
    let head = app.anonymous().send(Method::HEAD, &url, None).await.assert(200);
    assert_eq!(head.header("content-length"), "19");
    let css = Request::get(&url).header("accept", "text/css").body("").unwrap();
    app.anonymous().request(css).await.assert(200);
    for wrong in
        ["/assets/page.css", "/assets/page.0123456789abcdef.css", "/assets/", "/assets/..%2fpage.css"]
    {
        let answer = app.anonymous().get(wrong).await.assert(404);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    app.finish().await;
}

#[tokio::test]
async fn pages_refer_to_the_cdn_where_there_is_one() {
    let cdn = TestApp::builder()
        .module(&PAGES)
        .setting("ASSET_BASE_URL", "https://cdn.example.com/erp")
        .start()
        .await;
    let url = cdn.edge().app.assets.url("page.css").unwrap().to_owned();
    let path = url.strip_prefix("https://cdn.example.com/erp").unwrap();
    cdn.anonymous().get(path).await.assert(200);
    cdn.finish().await;
}
