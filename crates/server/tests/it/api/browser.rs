//! A real browser on pages of other origins: what they can do with the API, and what not (R-08).

use erp_testkit::{Browser, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Tries what a page of another origin would, and writes down what came of it.
const SCRIPT: &str = r#"
async function attempt(name, run) {
  let outcome;
  try { outcome = await run(); } catch (error) { outcome = error.name; }
  document.body.append(`[${name}: ${outcome}]`);
}
const bearer = { authorization: `Bearer ${TOKEN}`, "x-tenant-id": "acme", "x-request-id": "from-a-page" };
const json = { ...bearer, "content-type": "application/json" };
(async () => {
  await attempt("simple", async () => (await fetch(`${API}/ping`)).text());
  await attempt("credentials", async () => (await fetch(`${API}/ping`, { credentials: "include" })).status);
  await attempt("list", async () => (await fetch(`${API}/api/v1/items`, { headers: bearer })).status);
  let path;
  await attempt("create", async () => {
    const body = JSON.stringify({ sku: "PAGE-1", name: "By a page", quantity: 1 });
    const made = await fetch(`${API}/api/v1/items`, { method: "POST", headers: json, body });
    path = made.headers.get("location");
    return `${made.status} ${made.headers.get("x-request-id")} ${made.headers.get("etag")}`;
  });
  await attempt("patch", async () => (await fetch(`${API}${path}`, {
    method: "PATCH", headers: { ...json, "if-match": "\"1\"" }, body: JSON.stringify({ name: "Again" }),
  })).status);
  await attempt("refusal", async () => {
    const refused = await fetch(`${API}/api/v1/items`);
    return `${refused.status} ${(await refused.json()).code}`;
  });
  await attempt("unlisted header", () => fetch(`${API}/ping`, { headers: { "x-evil": "1" } }));
  document.body.append("[done]");
})();
"#;

/// Answers everything with one page, until it is dropped.
struct Page {
    origin: String,
    listener: Option<TcpListener>,
    task: Option<JoinHandle<()>>,
}

impl Page {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self { origin, listener: Some(listener), task: None }
    }

    fn serve(&mut self, api: &str, token: &str) {
        let html = format!(
            "<!doctype html><body><script>const API = {api:?}, TOKEN = {token:?};{SCRIPT}</script></body>"
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{html}",
            html.len()
        );
        let listener = self.listener.take().unwrap();
        self.task = Some(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[tokio::test]
async fn r_08_in_a_browser_a_listed_page_may_call_and_another_may_not() {
    let Some(browser) = Browser::find("R-08 in a browser") else { return };
    let (mut listed, mut other) = (Page::bind().await, Page::bind().await);
    let app = TestApp::builder().setting("CORS_ORIGINS", &listed.origin).start().await;
    let api = format!("http://{}", app.address());
    let alice = app.alice();
    listed.serve(&api, alice.token());
    other.serve(&api, alice.token());

    let seen = browser.page(&listed.origin).await;
    for outcome in [
        "[simple: pong]",
        "[credentials: 200]",
        "[list: 200]",
        "[create: 201 from-a-page \"1\"]",
        "[patch: 200]",
        "[refusal: 401 core.unauthenticated]",
        "[unlisted header: TypeError]",
        "[done]",
    ] {
        assert!(seen.contains(outcome), "{outcome} is not in {seen}");
    }

    let seen = browser.page(&other.origin).await;
    assert!(seen.contains("[done]") && seen.matches(": TypeError]").count() == 7, "{seen}");
    assert_eq!(app.log().with_message("POST /api/v1/items 201").len(), 1, "the other page's went no further");
    app.finish().await;
}
