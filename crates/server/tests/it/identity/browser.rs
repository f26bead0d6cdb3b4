//! Sessions of browsers: by a cookie that no script reads, and for pages of this server alone.

use erp_core::auth::Role;
use erp_testkit::{Answer, AuthenticatorApp, TestApp};
use http::{Method, Request};
use jiff::SignedDuration;
use serde_json::{Value, json};

const FRESH: SignedDuration = SignedDuration::from_secs(5);
const HERE: (&str, &str) = ("sec-fetch-site", "same-origin");

/// A browser that has signed in, as far as the server sees it.
struct Visitor<'app> {
    app: &'app TestApp,
    cookie: String,
}

async fn send(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.anonymous().request(request.body(body.to_owned()).unwrap()).await
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// What a browser keeps of an answer.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// The field of a page's forms.
fn csrf(page: &Answer) -> String {
    let text = page.text();
    let rest = text.split_once("name=\"csrf\" value=\"").expect("a form with a token").1;
    rest.split('"').next().unwrap().to_owned()
}

/// The cookie of somebody of the demo tenants who has just signed in.
pub(super) async fn session_cookie_of(app: &TestApp, tenant: &str, role: Role) -> String {
    cookie(&submit_at(app, tenant, role, "").await.assert(303))
}

async fn submit(app: &TestApp, role: Role, next: &str) -> Answer {
    submit_at(app, "acme", role, next).await
}

async fn submit_at(app: &TestApp, tenant: &str, role: Role, next: &str) -> Answer {
    let credential = &app.person(tenant, role).credential;
    let fields = [
        ("tenant", tenant),
        ("email", &*credential.email),
        ("password", &*credential.password),
        ("next", next),
    ];
    send(app, Method::POST, "/sign-in", &[FORM, HERE], &form(&fields)).await
}

impl<'app> Visitor<'app> {
    async fn sign_in(app: &'app TestApp, role: Role) -> Self {
        let answer = submit(app, role, "").await.assert(303);
        Self { app, cookie: cookie(&answer) }
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.app, Method::GET, path, &[("cookie", &self.cookie)], "").await
    }

    /// Fills in a form of the account's page.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = csrf(&self.get("/account").await.assert(200));
        let fields = [&[("csrf", &*token)], fields].concat();
        send(self.app, Method::POST, path, &[FORM, HERE, ("cookie", &self.cookie)], &form(&fields)).await
    }

    /// What a script of ours would send.
    async fn create(&self, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json"), ("cookie", &*self.cookie)], headers].concat();
        let item = json!({ "sku": "R-07", "name": "By a browser" }).to_string();
        send(self.app, Method::POST, "/api/v1/items", &headers, &item).await
    }

    async fn token(&self) -> String {
        let answer = self.get("/api/v1/auth/csrf-token").await.assert(200).json();
        answer["csrfToken"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn r_06_the_cookie_is_for_this_server_alone_and_no_script_reads_it() {
    let app = TestApp::start().await;
    let page = app.anonymous().get("/sign-in?tenant=acme&next=/account").await.assert(200);
    let scripts: Vec<_> =
        page.text().match_indices("<script").map(|(at, _)| page.text()[at..].to_owned()).collect();
    assert!(
        scripts.len() == 1 && scripts[0].starts_with("<script src=\"/assets/passkeys."),
        "{}",
        page.text()
    );
    assert!(page.text().contains("value=\"acme\""), "{}", page.text());
    let answer = submit(&app, Role::Member, "/account").await.assert(303);
    assert_eq!(answer.header("location"), "/account");
    let set = answer.header("set-cookie").to_owned();
    let (text, attributes) = set.split_once(';').unwrap();
    assert!(text.starts_with("__Host-erp-session=erp_session_"), "{text}");
    let attributes: Vec<_> = attributes.split(';').map(str::trim).collect();
    assert!(attributes.iter().any(|one| one.starts_with("Max-Age=") && *one > "Max-Age=2"), "{attributes:?}");
    let mut rest: Vec<_> = attributes.into_iter().filter(|one| !one.starts_with("Max-Age=")).collect();
    rest.sort_unstable();
    assert_eq!(rest, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert!(set.len() <= 4096);
    // And the browser is known to the account, which nobody who guesses shuts out of it.
    let all: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|one| one.to_str().unwrap()).collect();
    assert!(matches!(all[..], [_, device] if device.starts_with("__Host-erp-device=erd_")), "{all:?}");

    let secret = text.split_once('=').unwrap().1;
    let stored = "select string_agg(s::text, ' ') from sessions s";
    let stored: String = app.sql().query_one(stored, &[]).await.unwrap().get(0);
    assert!(!stored.contains(secret) && !app.log().text().contains(secret), "it is kept in the clear");
    // What led to it before leads to it no more, and it is one session.
    let visitor = Visitor { app: &app, cookie: text.to_owned() };
    let sessions = visitor.get("/api/v1/auth/sessions").await.assert(200).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "and the one that tests have: {sessions}");
    assert_eq!(sessions["sessions"][0]["current"], true);
    visitor.get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn r_05_each_sign_in_begins_a_session_of_its_own_whatever_the_browser_brings() {
    let app = TestApp::start().await;
    let first = Visitor::sign_in(&app, Role::Member).await;
    let credential = &app.person("acme", Role::Owner).credential;
    let fields =
        form(&[("tenant", "acme"), ("email", &credential.email), ("password", &credential.password)]);
    let made_up = format!("__Host-erp-session=erp_session_{}", "A".repeat(58));
    for brought in [&first.cookie, &made_up] {
        let headers = [FORM, HERE, ("cookie", brought.as_str())];
        let answer = send(&app, Method::POST, "/sign-in", &headers, &fields).await.assert(303);
        assert!(cookie(&answer) != *brought, "it is adopted");
    }
    // Who had a session before has it still: it is another person's.
    let me = first.get("/api/v1/me").await.assert(200).json();
    assert_eq!(me["user"]["email"], app.person("acme", Role::Member).credential.email);
    app.finish().await;
}

#[tokio::test]
async fn nobody_is_led_elsewhere_by_the_sign_in() {
    let app = TestApp::start().await;
    for foreign in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"] {
        let answer = submit(&app, Role::Member, foreign).await.assert(303);
        assert_eq!(answer.header("location"), "/account", "{foreign}");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_on_the_page_and_strangers_are_led_to_the_sign_in() {
    let app = TestApp::start().await;
    let fields =
        [("tenant", "acme"), ("email", "x@example.com"), ("password", "wrong"), ("next", "/account")];
    let wrong = send(&app, Method::POST, "/sign-in", &[FORM, HERE], &form(&fields)).await.assert(401);
    let text = wrong.text();
    assert!(
        text.contains("role=\"alert\"") && text.contains("x@example.com") && !text.contains("wrong\""),
        "{text}"
    );
    let stranger = app.anonymous().get("/account").await.assert(401).text();
    assert!(
        stranger.contains("action=\"/sign-in\"") && stranger.contains("value=\"/account\""),
        "{stranger}"
    );
    let forged = [("cookie", "__Host-erp-session=erp_session_x")];
    send(&app, Method::GET, "/account", &forged, "").await.assert(401);
    // The API says so as the API does.
    let api = [("cookie", "__Host-erp-session=erp_session_x")];
    send(&app, Method::GET, "/api/v1/items", &api, "").await.assert(401).problem("core.unauthenticated");
    app.finish().await;
}

#[tokio::test]
async fn r_07_a_change_by_a_cookie_wants_a_page_of_this_server_and_its_token() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Owner).await;
    let token = visitor.token().await;
    let with = ("x-csrf-token", &*token);
    for (headers, code) in [
        (&[][..], "core.foreign_page"),
        (&[with], "core.foreign_page"),
        (&[with, ("sec-fetch-site", "cross-site")], "core.foreign_page"),
        (&[with, ("sec-fetch-site", "same-site")], "core.foreign_page"),
        (&[with, ("origin", "null")], "core.foreign_page"),
        (&[with, ("origin", "http://evil.example")], "core.foreign_page"),
        (&[HERE], "core.csrf_token"),
        (&[HERE, ("x-csrf-token", "")], "core.csrf_token"),
        (&[HERE, ("x-csrf-token", "AAAA")], "core.csrf_token"),
    ] {
        visitor.create(headers).await.assert(403).problem(code);
    }
    // Another session's token, of the same person even, is another page's.
    let other = Visitor::sign_in(&app, Role::Owner).await;
    visitor
        .create(&[HERE, ("x-csrf-token", &other.token().await)])
        .await
        .assert(403)
        .problem("core.csrf_token");
    visitor.create(&[HERE, with]).await.assert(201);
    // No browser sends these by itself: they need neither, and count before the cookie.
    let token = app.actor("acme", Role::ReadOnly).token().to_owned();
    let bearer = format!("Bearer {token}");
    visitor.create(&[("authorization", &bearer)]).await.assert(403).problem("core.forbidden");
    app.finish().await;
}

#[tokio::test]
async fn r_07_what_a_cookie_opens_no_foreign_script_reads_and_a_link_leads_to() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let get = async |headers: &[(&str, &str)]| {
        let headers = [&[("cookie", &*visitor.cookie)], headers].concat();
        send(&app, Method::GET, "/api/v1/auth/csrf-token", &headers, "").await
    };
    let mode = |mode| ("sec-fetch-mode", mode);
    for site in ["same-site", "cross-site"] {
        get(&[("sec-fetch-site", site), mode("cors")]).await.assert(403).problem("core.foreign_page");
        get(&[("sec-fetch-site", site), mode("no-cors")]).await.assert(403).problem("core.foreign_page");
        get(&[("sec-fetch-site", site), mode("navigate")]).await.assert(200);
    }
    get(&[("origin", "http://localhost:5173")]).await.assert(403).problem("core.foreign_page");
    get(&[HERE, mode("cors")]).await.assert(200);
    get(&[("sec-fetch-site", "none"), mode("navigate")]).await.assert(200);
    app.finish().await;
}

/// Every form of the account without its token, and from elsewhere.
#[tokio::test]
async fn r_07_no_form_of_the_account_is_sent_by_a_foreign_page() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let page = visitor.get("/account").await.assert(200);
    let text = page.text();
    let actions: Vec<_> =
        text.split("action=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(actions.len() >= 4, "{actions:?}");
    let (token, mine) = (csrf(&page), ("cookie", &*visitor.cookie));
    let others = csrf(&Visitor::sign_in(&app, Role::Owner).await.get("/account").await);
    for action in actions {
        let (good, foreign) = (form(&[("csrf", &token)]), form(&[("csrf", &others)]));
        let site = ("sec-fetch-site", "cross-site");
        for (headers, body) in [
            (&[FORM, mine][..], &good),
            (&[FORM, mine, site], &good),
            (&[FORM, mine, HERE], &String::new()),
            (&[FORM, mine, HERE], &foreign),
        ] {
            let refused = send(&app, Method::POST, action, headers, body).await.assert(403);
            assert!(refused.header("content-type").starts_with("text/html"), "{action}");
        }
        for other in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
            let headers = [("content-type", other), mine, HERE];
            send(&app, Method::POST, action, &headers, &good).await.assert(415);
        }
    }
    // A form that anybody may send signs nobody in from elsewhere.
    for site in ["cross-site", "same-site", "none"] {
        let headers = [FORM, ("sec-fetch-site", site)];
        let fields = [("tenant", "acme"), ("email", "a@b.example"), ("password", "x")];
        let refused = send(&app, Method::POST, "/sign-in", &headers, &form(&fields)).await.assert(403);
        assert!(refused.text().contains("another site"), "{}", refused.text());
    }
    app.finish().await;
}

#[tokio::test]
async fn j_05_a_browser_is_out_on_all_instances_within_five_seconds() {
    let here = TestApp::start().await;
    let there = TestApp::builder().beside(&here).start().await;
    let visitor = Visitor::sign_in(&here, Role::Member).await;
    let abroad = Visitor { app: &there, cookie: visitor.cookie.clone() };
    abroad.get("/api/v1/items").await.assert(200);
    let out = visitor.post("/account/sign-out", &[]).await.assert(303);
    assert_eq!(out.header("location"), "/sign-in");
    assert!(out.header("set-cookie").starts_with("__Host-erp-session=; Path=/; Max-Age=0;"));
    visitor.get("/api/v1/items").await.assert(401);
    there.clock().advance(FRESH);
    abroad.get("/api/v1/items").await.assert(401);
    abroad.get("/account").await.assert(401);
    there.finish().await;
    here.finish().await;
}

#[tokio::test]
async fn a_session_that_is_used_goes_on_and_one_that_is_left_ends() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let age = "update sessions set rotated_at = now() - interval '2 minutes', idle_at = now() + interval '1 minute'";
    app.sql().batch_execute(age).await.unwrap();
    visitor.get("/api/v1/items").await.assert(200);
    let noted = "from sessions where idle_at > now() + interval '1 day' and cookie_hash is not null";
    app.until(&format!("select count(*) = 1 {noted}"), &format!("select to_jsonb(count(*)) {noted}")).await;
    app.sql().batch_execute("update sessions set idle_at = now() - interval '1 second'").await.unwrap();
    app.clock().advance(FRESH);
    visitor.get("/api/v1/items").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn a_known_cookie_costs_no_statement() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    visitor.get("/api/v1/items").await.assert(200);
    let asked = async || app.database().calls("%cookie_hash%").await;
    let before = asked().await;
    for _ in 0..20 {
        visitor.get("/api/v1/items").await.assert(200);
    }
    assert_eq!(asked().await, before);
    assert!(before > 0, "what is counted is counted");
    app.finish().await;
}

#[tokio::test]
async fn a_second_factor_is_set_up_used_and_removed_by_the_pages() {
    let app = TestApp::start().await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let password = app.person("acme", Role::Member).credential.password.clone();
    let wrong = visitor.post("/account/factor", &[("password", "wrong")]).await.assert(401);
    assert!(wrong.text().contains("role=\"alert\""), "{}", wrong.text());
    let begun = visitor.post("/account/factor", &[("password", &password)]).await.assert(200);
    let text = begun.text();
    let secret = text.split_once("<code>").unwrap().1.split('<').next().unwrap();
    assert!(text.contains("src=\"data:image/png;base64,iVBORw0KGgo"), "{text}");
    let phone = AuthenticatorApp::of(secret);
    let done = visitor.post("/account/factor/confirm", &[("code", &phone.code(&app, 0))]).await.assert(303);
    assert_eq!(done.header("location"), "/account?done=factor-added");
    assert!(visitor.get("/account?done=factor-added").await.assert(200).text().contains("role=\"status\""));

    // It was set up by this session, and not proven in it.
    visitor.post("/account/recovery-codes", &[]).await.assert(403);
    visitor.post("/account/prove", &[("code", "000000")]).await.assert(401);
    let proven = visitor.post("/account/prove", &[("code", &phone.code(&app, 1))]).await.assert(303);
    let (old, visitor) = (visitor, Visitor { app: &app, cookie: cookie(&proven) });
    let codes = visitor.post("/account/recovery-codes", &[]).await.assert(200).text();
    assert_eq!(codes.matches("<li><code>").count(), 10);
    app.clock().advance(FRESH);
    old.get("/api/v1/items").await.assert(401);

    // The next sign-in asks for a code, and a recovery code is one.
    let asks = submit(&app, Role::Member, "/account").await.assert(200);
    let text = asks.text();
    assert!(text.contains("action=\"/sign-in/code\"") && asks.headers.get("set-cookie").is_none(), "{text}");
    let token = text.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap();
    let code = codes.split_once("<li><code>").unwrap().1.split('<').next().unwrap();
    let give = async |code: &str| {
        let fields = [("token", token), ("code", code), ("next", "/account")];
        send(&app, Method::POST, "/sign-in/code", &[FORM, HERE], &form(&fields)).await
    };
    assert!(give("000000").await.assert(401).text().contains("role=\"alert\""));
    let begun = give(code).await.assert(303);
    let visitor = Visitor { app: &app, cookie: cookie(&begun) };
    let removed = visitor.post("/account/factor/remove", &[]).await.assert(303);
    assert_eq!(removed.header("location"), "/account?done=factor-removed");
    submit(&app, Role::Member, "").await.assert(303);
    app.finish().await;
}

#[tokio::test]
async fn a_password_is_changed_and_other_sessions_are_ended_by_the_page() {
    let app = TestApp::start().await;
    let (here, other) =
        (Visitor::sign_in(&app, Role::Member).await, Visitor::sign_in(&app, Role::Member).await);
    let listed = here.get("/api/v1/auth/sessions").await.assert(200).json();
    let foreign =
        listed["sessions"].as_array().unwrap().iter().find(|one| one["current"] == Value::Bool(false));
    let path = format!("/account/sessions/{}/end", foreign.unwrap()["id"].as_str().unwrap());
    here.post(&path, &[]).await.assert(303);
    other.get("/api/v1/items").await.assert(401);
    here.post(&path, &[]).await.assert(404);
    let password = app.person("acme", Role::Member).credential.password.clone();
    let change = async |current: &str, new: &str| {
        here.post("/account/password", &[("current", current), ("new", new)]).await
    };
    change("wrong", "correct horse battery staple").await.assert(401);
    change(&password, "short").await.assert(422);
    let done = change(&password, "correct horse battery staple").await.assert(303);
    assert_eq!(done.header("location"), "/account?done=password-changed");
    here.get("/account").await.assert(200);
    let everywhere = here.post("/account/sign-out-everywhere", &[]).await.assert(303);
    assert_eq!(everywhere.header("location"), "/sign-in");
    here.get("/account").await.assert(401);
    app.finish().await;
}

#[tokio::test]
async fn m_03_a_factor_that_is_demanded_is_set_up_by_the_pages_before_they_show_anything_else() {
    let app = TestApp::start().await;
    let demand =
        "insert into tenant_settings (name, value) values ('identity.second_factor', '\"everyone\"')";
    app.execute_in("acme", demand).await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let text = visitor.get("/account").await.assert(200).text();
    assert!(text.contains("Before you go on") && !text.contains("Where you are signed in"), "{text}");
    let password = app.person("acme", Role::Member).credential.password.clone();
    let wrong = visitor.post("/account/factor", &[("password", "wrong")]).await.assert(401).text();
    assert!(wrong.contains("Before you go on") && wrong.contains("role=\"alert\""), "{wrong}");
    let begun = visitor.post("/account/factor", &[("password", &password)]).await.assert(200).text();
    let phone = AuthenticatorApp::of(begun.split_once("<code>").unwrap().1.split('<').next().unwrap());
    visitor.post("/account/factor/confirm", &[("code", &phone.code(&app, 0))]).await.assert(303);
    let text = visitor.get("/account?done=factor-added").await.assert(200).text();
    assert!(text.contains("Before you go on") && text.contains("action=\"/account/prove\""), "{text}");
    let change = [("current", &*password), ("new", "correct horse battery staple")];
    let refused = visitor.post("/account/password", &change).await.assert(403).text();
    assert!(refused.contains("A second factor is required"), "{refused}");
    let proven = visitor.post("/account/prove", &[("code", &phone.code(&app, 1))]).await.assert(303);
    let visitor = Visitor { app: &app, cookie: cookie(&proven) };
    let text = visitor.get("/account").await.assert(200).text();
    assert!(text.contains("Where you are signed in"), "{text}");
    visitor.get("/api/v1/items").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn a_password_is_changed_and_terms_are_accepted_by_the_pages_before_they_show_anything_else() {
    let app = TestApp::start().await;
    let member = app.person("acme", Role::Member).clone();
    let demand =
        format!("update auth.people set demanded = '{{change-password}}' where id = '{}'", member.user_id);
    app.sql().batch_execute(&demand).await.unwrap();
    let terms = "insert into tenant_settings (name, value) values ('identity.terms_version', '\"2026-11\"'), \
        ('identity.terms_url', '\"javascript:alert(1)\"')";
    app.execute_in("acme", terms).await;
    let visitor = Visitor::sign_in(&app, Role::Member).await;
    let text = visitor.get("/account").await.assert(200).text();
    assert!(text.contains("choose another password") && text.contains("version 2026-11"), "{text}");
    assert!(!text.contains("javascript") && !text.contains("Where you are signed in"), "{text}");
    let new = "correct horse battery staple";
    let change = [("current", &*member.credential.password), ("new", new)];
    visitor.post("/account/password", &change).await.assert(303);
    let text = visitor.get("/account").await.assert(200).text();
    assert!(!text.contains("choose another password") && text.contains("version 2026-11"), "{text}");
    visitor.post("/account/terms", &[("version", "2026-10")]).await.assert(409);
    let done = visitor.post("/account/terms", &[("version", "2026-11")]).await.assert(303);
    assert_eq!(done.header("location"), "/account?done=terms-accepted");
    let text = visitor.get("/account?done=terms-accepted").await.assert(200).text();
    assert!(text.contains("Where you are signed in") && text.contains("role=\"status\""), "{text}");
    app.finish().await;
}
