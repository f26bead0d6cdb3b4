//! Registration: who comes without an invitation, where the tenant lets people come.

use erp_core::auth::Role;
use erp_testkit::{Answer, TestApp};
use http::Request;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::sign_in;

const PASSWORD: &str = "correct horse battery staple";
const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// A product whose acme lets people register.
async fn started(how: &str) -> TestApp {
    let app = TestApp::start().await;
    set(&app, "registration", json!(how)).await.assert(200);
    app
}

async fn set(app: &TestApp, setting: &str, value: Value) -> Answer {
    app.alice().put(&format!("/api/v1/settings/identity.{setting}"), json!({ "value": value })).await
}

async fn register(app: &TestApp, tenant: &str, email: &str) -> Answer {
    let body = json!({ "tenant": tenant, "email": email });
    app.anonymous().post("/api/v1/auth/register", body).await.assert(202)
}

/// Waits for so many mails in all, and no more.
async fn mails(app: &TestApp, number: usize) -> Vec<(String, String)> {
    let all = format!("select count(*) = {number} from mails");
    app.until(&all, "select coalesce(jsonb_agg(jsonb_build_array(template, recipient)), '[]') from mails")
        .await;
    let sql = "select template, recipient from mails order by queued_at, id";
    let rows = app.sql().query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The secret of the link in the last mail to an address.
async fn token(app: &TestApp, email: &str) -> String {
    let mails = format!("from mails where recipient = '{email}' and template = 'identity.registration'");
    app.until(&format!("select count(*) > 0 {mails}"), &format!("select to_jsonb(count(*)) {mails}")).await;
    let last = format!("select text {mails} order by queued_at desc, id desc limit 1");
    let text: String = app.sql().query_one(&last, &[]).await.unwrap().get(0);
    text.split_once("/invitation?token=").unwrap().1.lines().next().unwrap().to_owned()
}

async fn accept(app: &TestApp, token: &str, name: Option<&str>) -> Answer {
    let body = json!({ "token": token, "name": name, "password": PASSWORD });
    app.anonymous().post("/api/v1/invitations/accept", body).await
}

/// The id and the roles of somebody who signs in.
async fn who(app: &TestApp, email: &str) -> (String, Value) {
    let tokens = sign_in(app, "acme", email, PASSWORD).await.assert(200).json();
    let me =
        app.anonymous().with_token(tokens["accessToken"].as_str().unwrap()).get("/api/v1/me").await.json();
    (me["user"]["id"].as_str().unwrap().to_owned(), me["roles"].clone())
}

/// Somebody who has registered.
async fn joined(app: &TestApp, email: &str) -> String {
    register(app, "acme", email).await;
    accept(app, &token(app, email).await, Some("Ada Lovelace")).await.assert(200);
    who(app, email).await.0
}

#[tokio::test]
async fn a_08_to_register_has_one_answer_which_waits_for_no_statement() {
    let app = started("open").await;
    let member = app.person("acme", Role::Member).credential.email.clone();
    let hashes = app.edge().app.passwords.made();
    // Nobody learns from the database which tenants there are, while this is held.
    let held = app.database().superuser().await;
    held.batch_execute("begin; lock table tenants in access exclusive mode").await.unwrap();
    let first = register(&app, "acme", "new@example.com").await;
    for (tenant, email) in [
        ("acme", &*member),
        ("ACME", "other@example.com"),
        ("globex", "new@example.com"),
        ("no-such-tenant", "new@example.com"),
        ("canary-one", "canary@erp.invalid"),
        ("../acme", "new@example.com"),
        ("acme", "no address"),
        ("acme", "x@evil.com@acme.com"),
    ] {
        let answer = register(&app, tenant, email).await;
        assert_eq!(
            (&answer.body, answer.header("content-type")),
            (&first.body, "application/json"),
            "{tenant}"
        );
    }
    assert_eq!(first.json(), json!({ "expiresIn": 3 * 24 * 3600 }));
    held.batch_execute("rollback").await.unwrap();
    let mut sent = mails(&app, 3).await;
    sent.sort();
    let expected = [
        ("identity.registered_already", &*member),
        ("identity.registration", "new@example.com"),
        ("identity.registration", "other@example.com"),
    ];
    assert_eq!(sent, expected.map(|(template, email)| (template.to_owned(), email.to_owned())));
    assert_eq!(app.edge().app.passwords.made(), hashes);
    app.finish().await;
}

#[tokio::test]
async fn a_08_where_nobody_may_register_there_is_no_mail() {
    let app = TestApp::start().await;
    let member = app.person("acme", Role::Member).credential.email.clone();
    register(&app, "acme", "ada@example.com").await;
    register(&app, "acme", &member).await;
    register(&app, "acme", &app.person("globex", Role::Owner).credential.email).await;
    set(&app, "registration", json!("open")).await.assert(200);
    // What was asked for before is looked at before what is asked for now has its mail.
    register(&app, "acme", "late@example.com").await;
    assert_eq!(mails(&app, 1).await[0].1, "late@example.com");
    app.finish().await;
    // Somebody who asks too often waits, whichever tenant is named.
    let app = TestApp::builder().setting("RATE_LIMIT_AUTH_MAX", "5").start().await;
    for tenant in ["acme", "globex", "no-such-tenant", "acme", "acme"] {
        register(&app, tenant, "ada@example.com").await;
    }
    let body = json!({ "tenant": "no-such-tenant", "email": "ada@example.com" });
    app.anonymous().post("/api/v1/auth/register", body).await.assert(429).problem("core.rate_limited");
    app.finish().await;
}

#[tokio::test]
async fn by_domain_whoever_has_an_address_there_registers_and_nobody_who_seems_to() {
    let app = started("domain").await;
    set(&app, "registration_domains", json!(["Acme.com", "BÜCHER.example"])).await.assert(200);
    let shown = app.alice().get("/api/v1/settings/identity.registration_domains").await.json();
    assert_eq!(shown["value"], json!(["acme.com", "xn--bcher-kva.example"]));
    for refused in [
        "x@evil.com@acme.com",
        "x@acme.com@evil.com",
        "x@acme.com.evil.com",
        "x@evilacme.com",
        "x@sub.acme.com",
        "x@com",
        "x@acme.co",
        "x@acme.com.",
        "x@.acme.com",
        "x@acme..com",
        "\"x@acme.com\"@evil.com",
        "x@[acme.com]",
        "x@acme.com, y@evil.com",
        "evil.com!x@acme.com",
        "x%evil.com@acme.com",
        "x@аcme.com", // its first letter is Cyrillic
        "x@acme。com.evil.com",
        "x@bücher.example.evil.com",
        "x@xn--bcher-kva.example.com",
        "@acme.com",
        "acme.com",
        "x@acme.com%0d%0aBcc:y@evil.com",
    ] {
        register(&app, "acme", refused).await;
    }
    let welcome = [
        ("Ada@ACME.com", "ada@acme.com"),
        ("ada.l@ａｃｍｅ.com", "ada.l@acme.com"),
        ("bob+erp@acme.com", "bob+erp@acme.com"),
        ("carol@bücher.example", "carol@xn--bcher-kva.example"),
        ("dave@bu\u{308}cher.example", "dave@xn--bcher-kva.example"),
        ("erin@XN--BCHER-KVA.example", "erin@xn--bcher-kva.example"),
        (" fay@acme.com ", "fay@acme.com"),
        ("gus@acme。com", "gus@acme.com"),
    ];
    for (typed, _) in welcome {
        register(&app, "acme", typed).await;
    }
    let mut sent: Vec<String> = mails(&app, welcome.len()).await.into_iter().map(|(_, to)| to).collect();
    let mut expected = welcome.map(|(_, to)| to.to_owned());
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);
    app.finish().await;
}

#[tokio::test]
async fn a_11_the_link_of_a_registration_is_an_invitations_and_what_the_tenant_allows_is_asked_again() {
    let app = started("open").await;
    let ada = joined(&app, "ada@example.com").await;
    assert_eq!(who(&app, "ada@example.com").await, (ada, json!(["member"])));
    let spent = token(&app, "ada@example.com").await;
    accept(&app, &spent, Some("Ada")).await.assert(410).problem("identity.invitation_ended");
    // The role is the one that the tenant gives when somebody comes.
    register(&app, "acme", "bob@example.com").await;
    let bobs = token(&app, "bob@example.com").await;
    set(&app, "registration_role", json!("read-only")).await.assert(200);
    let open = app.alice().get("/api/v1/invitations").await.assert(200).json();
    let [one] = &open["invitations"].as_array().unwrap()[..] else { panic!("{open}") };
    assert_eq!(
        [&one["email"], &one["registered"], &one["invitedBy"]],
        [&json!("bob@example.com"), &json!(true), &Value::Null]
    );
    accept(&app, &bobs, Some("Bob")).await.assert(200);
    assert_eq!(who(&app, "bob@example.com").await.1, json!(["read-only"]));
    // Where nobody may register any more, and where it is somebody else's domain now, the link leads nowhere.
    register(&app, "acme", "carol@example.com").await;
    let carols = token(&app, "carol@example.com").await;
    set(&app, "registration", json!("closed")).await.assert(200);
    accept(&app, &carols, Some("Carol")).await.assert(410).problem("identity.invitation_ended");
    set(&app, "registration", json!("domain")).await.assert(200);
    set(&app, "registration_domains", json!(["acme.com"])).await.assert(200);
    accept(&app, &carols, Some("Carol")).await.assert(410).problem("identity.invitation_ended");
    set(&app, "registration_domains", json!(["acme.com", "example.com"])).await.assert(200);
    accept(&app, &carols, Some("Carol")).await.assert(200);
    // Somebody with an account elsewhere comes with its password, and an administrator takes a link back.
    let elsewhere = app.person("globex", Role::Owner).credential.clone();
    set(&app, "registration", json!("open")).await.assert(200);
    register(&app, "acme", &elsewhere.email).await;
    let theirs = token(&app, &elsewhere.email).await;
    accept(&app, &theirs, None).await.assert(401).problem("identity.sign_in_failed");
    let open = app.alice().get("/api/v1/invitations").await.json();
    let id = open["invitations"][0]["id"].as_str().unwrap().to_owned();
    app.alice().delete(&format!("/api/v1/invitations/{id}")).await.assert(204);
    accept(&app, &theirs, None).await.assert(410);
    let audit = app.audit_of("acme").await;
    let told = audit.iter().find(|row| row["action"] == "identity.joined").unwrap();
    assert_eq!(
        [&told["details"]["registered"], &told["details"]["roles"]],
        [&json!(true), &json!(["member"])]
    );
    app.finish().await;
}

#[tokio::test]
async fn who_was_removed_or_paused_does_not_come_back_by_himself() {
    let app = started("open").await;
    let [ada, bob] = [joined(&app, "ada@example.com").await, joined(&app, "bob@example.com").await];
    // Links that are on their way when an administrator acts: her own cannot be asked for, one with a sub-address can.
    register(&app, "acme", "ada+again@example.com").await;
    register(&app, "acme", "bob+again@example.com").await;
    let (hers, his) =
        (token(&app, "ada+again@example.com").await, token(&app, "bob+again@example.com").await);
    app.alice().delete(&format!("/api/v1/users/{ada}")).await.assert(204);
    app.alice().post(&format!("/api/v1/users/{bob}/deactivate"), json!({})).await.assert(204);
    accept(&app, &hers, Some("Ada")).await.assert(410).problem("identity.invitation_ended");
    accept(&app, &his, Some("Bob")).await.assert(410).problem("identity.invitation_ended");
    app.sql().batch_execute("delete from auth.registration_mails").await.unwrap();
    let before = mails(&app, 4).await.len();
    for email in
        ["ada@example.com", "Ada@Example.com", "ada+2@example.com", "bob@example.com", "bob+@example.com"]
    {
        register(&app, "acme", email).await;
    }
    // Under another address, too, it is the same person.
    let moved = format!("update auth.people set email = 'ada@elsewhere.example' where id = '{ada}'");
    app.sql().batch_execute(&moved).await.unwrap();
    register(&app, "acme", "ada@elsewhere.example").await;
    // A link of hers that was not used yet, by whatever way it came to be, does not lead in either.
    let kept = "update invitations set ended_at = null, accepted_by = null, email = 'ada@elsewhere.example', \
         expires_at = now() + interval '1 day' where email = 'ada@example.com'";
    app.execute_in("acme", kept).await;
    accept(&app, &token(&app, "ada@example.com").await, None).await.assert(410);
    register(&app, "acme", "late@example.com").await;
    assert_eq!(mails(&app, before + 1).await[before].1, "late@example.com");
    // Somebody who may invite her does.
    let body = json!({ "email": "ada@elsewhere.example", "roles": ["member"] });
    app.alice().post("/api/v1/invitations", body).await.assert(202);
    let sql = "select text from mails where recipient = 'ada@elsewhere.example'";
    let text: String = app.sql().query_one(sql, &[]).await.unwrap().get(0);
    let link = text.split_once("/invitation?token=").unwrap().1.lines().next().unwrap().to_owned();
    accept(&app, &link, None).await.assert(200);
    assert_eq!(who(&app, "ada@elsewhere.example").await.0, ada);
    app.finish().await;
}

#[tokio::test]
async fn l_01_a_mailbox_gets_three_mails_a_day_however_its_address_is_written_and_whichever_tenants_are_named()
 {
    let app = started("open").await;
    let open = json!({ "value": "open" });
    app.bob().put("/api/v1/settings/identity.registration", open).await.assert(200);
    for (number, (tenant, email)) in [
        ("acme", "ada@example.com"),
        ("globex", "ada@example.com"),
        ("acme", "ada+1@example.com"),
        ("acme", "ada@example.com"),
        ("globex", "ADA+2@Example.com"),
    ]
    .into_iter()
    .enumerate()
    {
        register(&app, tenant, email).await;
        mails(&app, (number + 1).min(3)).await;
    }
    register(&app, "acme", "bob@example.com").await;
    mails(&app, 4).await;
    let names = "select coalesce(jsonb_agg(r), '[]') from auth.registration_mails r";
    let stored: Value = app.sql().query_one(names, &[]).await.unwrap().get(0);
    assert!(!stored.to_string().contains("example.com"), "{stored}");
    // A day later there are mails again, and what was over is gone.
    app.sql()
        .batch_execute("update auth.registration_mails set since = since - interval '25 hours'")
        .await
        .unwrap();
    register(&app, "acme", "ada@example.com").await;
    mails(&app, 5).await;
    app.until(
        "select count(*) = 2 from auth.registration_mails",
        "select to_jsonb(count(*)) from auth.registration_mails",
    )
    .await;
    app.finish().await;
}

#[tokio::test]
async fn t_16_owners_say_who_registers_and_no_setting_gives_more_than_a_members_role() {
    let app = TestApp::start().await;
    let administrator = app.another("acme", Role::Administrator).await;
    let path = "/api/v1/settings/identity.registration";
    administrator.put(path, json!({ "value": "open" })).await.assert(403).problem("core.forbidden");
    for (setting, wrong) in [
        ("registration", json!("everybody")),
        ("registration", json!("Open")),
        ("registration_role", json!("owner")),
        ("registration_role", json!("administrator")),
        ("registration_role", json!("auditor")),
        ("registration_domains", json!(["com"])),
        ("registration_domains", json!(["*.acme.com"])),
        ("registration_domains", json!(["x@acme.com"])),
        ("registration_domains", json!("acme.com")),
        ("registration_domains", json!(vec!["acme.com"; 51])),
    ] {
        set(&app, setting, wrong).await.assert(422).problem("core.invalid");
    }
    // What somebody has written past all that gives no more either.
    let there = TestApp::builder().beside(&app).start().await;
    set(&app, "registration", json!("open")).await.assert(200);
    set(&app, "registration_role", json!("member")).await.assert(200);
    let past = "update tenant_settings set value = '\"owner\"' where name = 'identity.registration_role'";
    app.execute_in("acme", past).await;
    there.clock().advance(FRESH);
    let ada = joined(&there, "ada@example.com").await;
    assert_eq!(who(&there, "ada@example.com").await, (ada, json!(["member"])));
    there.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn somebody_registers_by_the_page_without_script() {
    let app = started("open").await;
    let page = app.anonymous().get("/register?tenant=acme").await.assert(200);
    assert!(page.text().contains("value=\"acme\"") && !page.text().contains("<script"), "{}", page.text());
    let odd = app.anonymous().get("/register?tenant=%22%3E%3Cscript%3E").await.assert(200);
    assert!(!odd.text().contains("<script"), "{}", odd.text());
    let send = async |body: &str| {
        let form = Request::post("/register").header("content-type", "application/x-www-form-urlencoded");
        app.anonymous().request(form.body(body.to_owned()).unwrap()).await
    };
    let known = send("tenant=acme&email=ada%40example.com").await.assert(200).text();
    let unknown = send("tenant=no-such-tenant&email=ada%40example.com").await.assert(200).text();
    assert_eq!(known, unknown);
    send("tenant=acme&email=ada%40example.com&role=owner").await.assert(422);
    let link = format!("/invitation?token={}", token(&app, "ada@example.com").await);
    for _ in 0..3 {
        app.anonymous().get(&link).await.assert(200); // spends nothing
    }
    accept(&app, link.split_once('=').unwrap().1, Some("Ada")).await.assert(200);
    app.finish().await;
}
