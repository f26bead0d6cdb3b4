//! A real browser on the pages for people, and foreign pages that try to change things in its visitor's name.

use erp_core::auth::Role;
use erp_testkit::{AuthenticatorApp, Browser, Tab, TestApp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn sign_in(tab: &mut Tab, app: &TestApp, url: &str, role: Role) {
    let credential = &app.person("acme", role).credential;
    tab.go(&format!("{url}/account")).await;
    assert!(tab.text().await.starts_with("Sign in"), "{}", tab.text().await);
    let fields = [("tenant", "acme"), ("email", &*credential.email), ("password", &*credential.password)];
    tab.send(&fields).await;
}

/// A server that is not ours, with one page: on another port of this machine's name, which is a sibling, or by its other name.
async fn foreign(page: String) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length:";
    let answer = format!("{head} {}\r\n\r\n{page}", page.len());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            // Each by itself: a browser opens connections that it may not need.
            tokio::spawn(async move {
                let mut asked = vec![0; 16 * 1024];
                if client.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

/// Each attack as a page of its own: a form that is sent, or a script that tells what it was answered.
fn attacks(url: &str) -> Vec<(&'static str, String)> {
    let form = |action: &str, kind: &str, fields: &str| {
        format!("<body><form method=post action='{url}{action}' enctype='{kind}'>{fields}</form>")
    };
    let urlencoded = "application/x-www-form-urlencoded";
    let fetch = |path: &str, options: &str| {
        format!(
            "<body><script>window.done = fetch('{url}{path}', {{ credentials: 'include', {options} }}).then(r => r.status, () => 'none')</script>"
        )
    };
    let item = "body: JSON.stringify({ sku: 'CSRF', name: 'x' })";
    vec![
        ("a form signs out", form("/account/sign-out", urlencoded, "")),
        (
            "a form signs out everywhere",
            form("/account/sign-out-everywhere", urlencoded, "<input name=csrf value=x>"),
        ),
        (
            "a form posts text that reads like JSON",
            form("/api/v1/items", "text/plain", "<input name='{\"sku\":\"CSRF\",\"name\":\"' value='x\"}'>"),
        ),
        (
            "a form creates",
            form("/api/v1/items", urlencoded, "<input name=sku value=CSRF><input name=name value=x>"),
        ),
        (
            "a script creates as JSON",
            fetch(
                "/api/v1/items",
                &format!("method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, {item}"),
            ),
        ),
        (
            "a script creates as text",
            fetch("/api/v1/items", &format!("method: 'POST', mode: 'no-cors', {item}")),
        ),
        ("a script deletes sessions", fetch("/api/v1/auth/logout-all", "method: 'POST', mode: 'no-cors'")),
        ("a script reads the token", fetch("/api/v1/auth/csrf-token", "")),
        (
            "a form signs the visitor in as somebody else",
            form(
                "/sign-in",
                urlencoded,
                "<input name=tenant value=globex><input name=email value=a@b.example><input name=password value=x>",
            ),
        ),
    ]
}

#[tokio::test]
async fn r_07_foreign_and_sibling_pages_change_nothing_in_a_visitors_name() {
    let Some(browser) = Browser::find("what foreign pages can do to a session") else { return };
    let app = TestApp::start().await;
    let url = format!("http://{}", app.address());
    let mut tab = browser.tab().await;
    sign_in(&mut tab, &app, &url, Role::Owner).await;
    assert_eq!(tab.path().await, "/account");
    assert_eq!(tab.run("document.cookie").await, "", "a script reads the cookie");
    let count = "select (select count(*) from items where sku = 'CSRF') || ' ' \
        || (select count(*) from sessions where revoked_at is not null) || ' ' || (select count(*) from sessions)";
    let before: String = app.sql().query_one(count, &[]).await.unwrap().get(0);
    for (what, page) in attacks(&url) {
        let port = foreign(page).await;
        for name in ["127.0.0.1", "localhost"] {
            tab.go(&format!("http://{name}:{port}/")).await;
            if tab.run("document.forms.length").await == 1 {
                tab.follow("document.forms[0].submit()").await;
            } else {
                let status = tab.run("window.done").await;
                let refused = status == "none" || status == 0 || status == 401 || status == 403;
                assert!(refused, "{what} by {name}: {status}");
            }
            let after: String = app.sql().query_one(count, &[]).await.unwrap().get(0);
            assert_eq!(after, before, "{what} by {name}");
        }
    }
    // The visitor is in still, and our own page does what none of them could.
    tab.go(&format!("{url}/account")).await;
    assert_eq!(tab.path().await, "/account");
    tab.sign_out().await;
    assert_eq!(tab.path().await, "/sign-in");
    tab.go(&format!("{url}/account")).await;
    assert!(tab.text().await.starts_with("Sign in"), "{}", tab.text().await);
    drop(tab);
    app.finish().await;
}

/// Two tabs share the cookie: what the first still shows is of a session that the second has replaced.
#[tokio::test]
async fn r_07_a_page_of_the_session_before_changes_nothing_in_the_next_one() {
    let Some(browser) = Browser::find("two tabs of one browser") else { return };
    let app = TestApp::start().await;
    let url = format!("http://{}", app.address());
    let mut tab = browser.tab().await;
    sign_in(&mut tab, &app, &url, Role::Owner).await;
    let stale = tab.run("document.querySelector('[name=csrf]').value").await;
    let other = &app.person("globex", Role::Owner).credential;
    tab.go(&format!("{url}/sign-in")).await;
    tab.send(&[("tenant", "globex"), ("email", &other.email), ("password", &other.password)]).await;
    assert!(tab.text().await.contains(&other.email));
    let put = format!("document.querySelectorAll('[name=csrf]').forEach(field => field.value = {stale});");
    tab.follow(&format!(
        "{put} document.querySelector('form[action=\"/account/sign-out\"]').requestSubmit()"
    ))
    .await;
    assert!(tab.text().await.contains("does not belong to the session"), "{}", tab.text().await);
    tab.go(&format!("{url}/account")).await;
    assert_eq!(tab.path().await, "/account");
    drop(tab);
    app.finish().await;
}

/// By keyboard alone, without script, to a second factor.
#[tokio::test]
async fn a_second_factor_is_set_up_in_a_browser_and_asked_for() {
    let Some(browser) = Browser::find("a second factor in a browser") else { return };
    let app = TestApp::start().await;
    let url = format!("http://{}", app.address());
    let mut tab = browser.tab().await;
    sign_in(&mut tab, &app, &url, Role::Member).await;
    let credential = app.person("acme", Role::Member).credential.clone();
    tab.send(&[("own", &credential.password)]).await;
    let shown = tab.run("document.querySelector('.qr').naturalWidth > 20").await;
    assert_eq!(shown, true, "the QR code is shown");
    let secret = tab.run("document.querySelector('code').innerText").await;
    let phone = AuthenticatorApp::of(secret.as_str().unwrap());
    tab.send(&[("code", &phone.code(&app, 0))]).await;
    assert!(tab.text().await.contains("The second factor is set up"), "{}", tab.text().await);
    tab.sign_out().await;
    sign_in(&mut tab, &app, &url, Role::Member).await;
    assert_eq!(tab.run("document.activeElement.id").await, "code", "it is ready to be typed");
    tab.send(&[("code", "000000")]).await;
    assert!(tab.text().await.contains("wrong, was used before"), "{}", tab.text().await);
    tab.send(&[("code", &phone.code(&app, 1))]).await;
    assert_eq!(tab.path().await, "/account");
    drop(tab);
    app.finish().await;
}
