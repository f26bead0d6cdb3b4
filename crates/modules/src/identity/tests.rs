//! What the sweeps send to the routes of identity.

use erp_core::auth::{Role, TenantSecret};
use erp_core::shared::{SystemRng, UserId};
use erp_testkit::{AuthenticatorApp, Fixture, Prepared, Setup, SoftwarePasskey, Sweep};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";
pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /api/v1/auth/refresh", |setup| Box::pin(refresh(setup))),
    Fixture::new("POST /api/v1/auth/logout", |setup| Box::pin(signed_in(setup)))
        .except(&[(Sweep::Idempotency, "who would ask again is signed out")]),
    Fixture::new("POST /api/v1/auth/logout-all", |setup| Box::pin(signed_in(setup)))
        .except(&[(Sweep::Idempotency, "who would ask again is signed out")]),
    // What a form sends; the tests of pages fill them in.
    Fixture::new("POST /invitation", |_| Box::pin(async { Prepared::default() })).answers(415),
    Fixture::new("POST /password", |_| Box::pin(async { Prepared::default() })).answers(415),
    Fixture::new("POST /sign-in", |setup| Box::pin(sign_in(setup))).answers(303),
    Fixture::new("POST /sign-in/code", |setup| Box::pin(give_code(setup))).answers(303),
    Fixture::new("POST /sign-in/passkey", |setup| {
        Box::pin(async move {
            let answer = sign_in_by_passkey(setup).await;
            Prepared::body(json!({ "tenant": setup.tenant(), "passkey": answer.to_string() }))
        })
    })
    .answers(303),
    Fixture::new("POST /api/v1/auth/login/passkey", |setup| {
        Box::pin(async move {
            let answer = sign_in_by_passkey(setup).await;
            Prepared::body(json!({ "tenant": setup.tenant(), "passkey": answer }))
        })
    }),
    Fixture::new("POST /forgot", |setup| {
        Box::pin(async { Prepared::body(json!({ "tenant": setup.tenant(), "email": "nobody@example.com" })) })
    })
    .answers(200),
    Fixture::new("POST /register", |setup| {
        Box::pin(async { Prepared::body(json!({ "tenant": setup.tenant(), "email": "nobody@example.com" })) })
    })
    .answers(200),
    Fixture::new("POST /account/password", |setup| Box::pin(change_by_form(setup))).answers(303),
    Fixture::new("POST /account/factor", |setup| Box::pin(enrol(setup))).answers(200),
    Fixture::new("POST /account/factor/confirm", |setup| Box::pin(confirm(setup))).answers(303),
    Fixture::new("POST /account/prove", |setup| Box::pin(prove(setup)))
        .answers(303)
        .except(&[(Sweep::Audit, "that a recovery code was used is told by the system, as at a sign-in")]),
    Fixture::new("POST /account/recovery-codes", |setup| Box::pin(with_factor_by_form(setup))).answers(200),
    Fixture::new("POST /account/factor/remove", |setup| Box::pin(with_factor_by_form(setup))).answers(303),
    Fixture::new("POST /account/sessions/{id}/end", |setup| Box::pin(own_session(setup)))
        .answers(303)
        .except(&[(Sweep::Isolation, "it ends one's own alone, as its tests show, and answers with a page")]),
    Fixture::new("POST /api/v1/auth/switch", |setup| Box::pin(switch(setup)))
        .except(&[(Sweep::Audit, "the sign-in is told in the tenant where it is")]),
    Fixture::new("POST /account/switch", |setup| Box::pin(switch(setup))).answers(303).except(&[
        (Sweep::Audit, "the sign-in is told in the tenant where it is"),
        (Sweep::Idempotency, "the session that asks ends with it"),
    ]),
    Fixture::new("POST /account/sign-out", |setup| {
        Box::pin(async move { signed_in(setup).await.with(json!({})) })
    })
    .answers(303)
    .except(&[(Sweep::Idempotency, "who would ask again is signed out")]),
    Fixture::new("POST /account/sign-out-everywhere", |setup| {
        Box::pin(async move { signed_in(setup).await.with(json!({})) })
    })
    .answers(303)
    .except(&[(Sweep::Idempotency, "who would ask again is signed out")]),
    Fixture::new("POST /address", |_| Box::pin(async { Prepared::default() })).answers(415),
    Fixture::new("POST /address/undo", |_| Box::pin(async { Prepared::default() })).answers(415),
    Fixture::new("POST /api/v1/auth/email/change", |setup| Box::pin(new_address(setup))),
    Fixture::new("POST /api/v1/auth/email/confirm", |setup| Box::pin(address_link(setup, "email"))),
    Fixture::new("POST /api/v1/auth/email/undo", |setup| Box::pin(address_link(setup, "undo"))),
    Fixture::new("DELETE /api/v1/auth/sessions/{id}", |setup| Box::pin(session(setup))),
    // While there are terms, they are wanted of everybody in the tenant: their tests set and accept them.
    Fixture::new("POST /api/v1/auth/terms/accept", |_| Box::pin(async { other_terms() }))
        .answers(409)
        .except(&[(Sweep::Audit, "nothing is accepted"), (Sweep::Idempotency, "nothing is accepted")]),
    Fixture::new("POST /account/terms", |_| Box::pin(async { other_terms() }))
        .answers(409)
        .except(&[(Sweep::Audit, "nothing is accepted"), (Sweep::Idempotency, "nothing is accepted")]),
    Fixture::new("POST /api/v1/auth/password/change", |setup| Box::pin(change(setup))),
    Fixture::new("POST /api/v1/auth/password/reset", |setup| Box::pin(reset(setup))),
    Fixture::new("POST /api/v1/auth/mfa/totp", |setup| Box::pin(enrol(setup))),
    Fixture::new("POST /api/v1/auth/mfa/totp/confirm", |setup| Box::pin(confirm(setup))),
    Fixture::derived("GET /api/v1/auth/passkeys")
        .except(&[(Sweep::Isolation, "they are the person's own, as its tests show")]),
    Fixture::new("POST /api/v1/auth/passkeys/options", |setup| Box::pin(signed_in(setup)))
        .except(&[(Sweep::Audit, "a challenge changes nothing; what is made of it is told")]),
    Fixture::new("POST /api/v1/auth/passkeys", |setup| Box::pin(new_passkey(setup)))
        .except(&[(Sweep::Isolation, "it is the person's own, as its tests show")]),
    Fixture::new("POST /api/v1/auth/passkeys/challenge", |setup| {
        Box::pin(async move {
            let (person, token, _) = with_passkey(setup).await;
            Prepared::default().sent_by(person, &token)
        })
    })
    .except(&[(Sweep::Audit, "a challenge changes nothing; what is proven by it is told")]),
    Fixture::new("DELETE /api/v1/auth/passkeys/{id}", |setup| {
        Box::pin(async move {
            let (person, token, id) = with_passkey(setup).await;
            Prepared::at([id]).sent_by(person, &token)
        })
    }),
    Fixture::new("POST /account/passkeys/{id}/remove", |setup| {
        Box::pin(async move {
            let (person, token, id) = with_passkey(setup).await;
            Prepared::at([id]).with(json!({})).sent_by(person, &token)
        })
    })
    .answers(303)
    .except(&[(Sweep::Isolation, "it removes one's own alone, as its tests show, and answers with a page")]),
    Fixture::new("POST /api/v1/auth/mfa/passkey", |setup| Box::pin(ask_passkey(setup))),
    Fixture::new("POST /api/v1/auth/mfa/verify", |setup| Box::pin(verify(setup))),
    Fixture::new("POST /api/v1/auth/step-up", |setup| Box::pin(step_up(setup))),
    Fixture::new("POST /api/v1/auth/mfa/recovery-codes", |setup| Box::pin(with_factor(setup))),
    Fixture::new("DELETE /api/v1/auth/mfa/totp", |setup| Box::pin(with_factor(setup))),
    Fixture::new("POST /api/v1/invitations", |setup| {
        Box::pin(async move {
            Prepared::body(
                json!({ "email": format!("p{}@example.com", setup.number()), "roles": ["member"] }),
            )
        })
    }),
    Fixture::new("POST /api/v1/invitations/accept", |setup| Box::pin(accept(setup))),
    Fixture::new("GET /api/v1/users/{id}", |setup| Box::pin(member(setup))),
    Fixture::new("DELETE /api/v1/users/{id}", |setup| Box::pin(member(setup))),
    Fixture::new("PUT /api/v1/users/{id}/roles", |setup| {
        Box::pin(async move { member(setup).await.with(json!({ "roles": ["read-only"] })) })
    }),
    Fixture::new("POST /api/v1/users/{id}/deactivate", |setup| Box::pin(member(setup))),
    Fixture::new("POST /api/v1/users/{id}/reactivate", |setup| Box::pin(paused(setup))),
    // What it is asked for stands in its query, which sweeps do not fill in.
    Fixture::new("GET /api/v1/access/explain", |_| Box::pin(async { Prepared::default() })).answers(422),
    Fixture::new("PUT /api/v1/access/reviews/{id}/items/{item}", |setup| Box::pin(review_item(setup))),
    Fixture::new("POST /api/v1/api-keys", |_| Box::pin(async { Prepared::body(key()) })),
    Fixture::new("PATCH /api/v1/api-keys/{id}", |setup| {
        Box::pin(async move { rotation(setup).await.with(json!({ "allowedNetworks": ["127.0.0.0/8"] })) })
    }),
    Fixture::new("POST /api/v1/api-keys/{id}/rotate", |setup| Box::pin(rotation(setup))),
    Fixture::new("PUT /api/v1/service-accounts/{id}/roles", |setup| Box::pin(machine(setup))),
];

/// The tokens of a member who has just signed in, and whose password no sweep changes.
async fn tokens(setup: &Setup<'_>) -> Value {
    let credential = &setup.app().person(setup.tenant(), Role::Member).credential;
    let body =
        json!({ "tenant": setup.tenant(), "email": credential.email, "password": credential.password });
    setup.app().anonymous().post("/api/v1/auth/login", body).await.assert(200).json()
}

fn other_terms() -> Prepared {
    Prepared::body(json!({ "version": "none" }))
}

async fn refresh(setup: &Setup<'_>) -> Prepared {
    Prepared::body(json!({ "refreshToken": tokens(setup).await["refreshToken"] }))
}

async fn session(setup: &Setup<'_>) -> Prepared {
    let tokens = tokens(setup).await;
    let signed_in = setup.app().anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    let listed = signed_in.get("/api/v1/auth/sessions").await.assert(200).json();
    Prepared::at([listed["sessions"][0]["id"].as_str().unwrap().to_owned()])
}

fn key() -> Value {
    json!({ "name": "Script", "scopes": ["identity.user.read"] })
}

/// Of the caller's own, since nobody rotates another member's.
async fn rotation(setup: &Setup<'_>) -> Prepared {
    let made = setup.caller().post("/api/v1/api-keys", key()).await.assert(201).json();
    Prepared::at([made["id"].as_str().unwrap()]).with(json!({ "overlapHours": 1 }))
}

async fn machine(setup: &Setup<'_>) -> Prepared {
    let body = json!({ "name": "Scanner" });
    let made = setup.caller().post("/api/v1/service-accounts", body).await.assert(201).json();
    Prepared::at([made["id"].as_str().unwrap()]).with(json!({ "roles": ["read-only"] }))
}

/// What a review by a colleague says of somebody else.
async fn review_item(setup: &Setup<'_>) -> Prepared {
    let member = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap().to_string();
    let review = setup.make("/api/v1/access/reviews").await;
    let whole = setup.colleague().get(&format!("/api/v1/access/reviews/{review}")).await.assert(200).json();
    let item = whole["items"].as_array().unwrap().iter().find(|item| item["principal"] == member.as_str());
    let item = item.unwrap()["id"].as_str().unwrap().to_owned();
    Prepared::at([review, item]).with(json!({ "decision": "keep" }))
}

/// A new member.
async fn member(setup: &Setup<'_>) -> Prepared {
    let member = setup.app().another(setup.tenant(), Role::Member).await;
    Prepared::at([member.id().unwrap().to_string()])
}

/// Somebody who was kept out by a colleague of the caller's.
async fn paused(setup: &Setup<'_>) -> Prepared {
    let member = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let path = format!("/api/v1/users/{member}/deactivate");
    setup.colleague().post(&path, json!({})).await.assert(204);
    Prepared::at([member.to_string()])
}

/// The caller, with the password that the tenant's member has, which is told.
async fn with_password(setup: &Setup<'_>) -> String {
    let id = setup.caller().id().unwrap();
    let member = setup.app().person(setup.tenant(), Role::Member);
    let copy = format!(
        "insert into auth.passwords (person_id, phc) select '{id}', phc from auth.passwords where person_id = '{}' \
         on conflict (person_id) do update set phc = excluded.phc",
        member.user_id
    );
    setup.app().sql().batch_execute(&copy).await.unwrap();
    member.credential.password.clone()
}

async fn enrol(setup: &Setup<'_>) -> Prepared {
    Prepared::body(json!({ "password": with_password(setup).await }))
}

/// A sign-in of somebody new that waits, and a recovery code that ends it: the zeros and a number.
async fn verify(setup: &Setup<'_>) -> Prepared {
    let person = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let code = format!("{:024}", setup.number());
    let tenant = setup.app().person(setup.tenant(), Role::Owner).tenant_id;
    let token = TenantSecret::new("mfa", tenant, &SystemRng::new());
    let sql = setup.app().sql();
    let add = "insert into auth.recovery_codes (person_id, hash) values ($1, sha256(convert_to($2, 'UTF8')))";
    sql.execute(add, &[&person, &code]).await.unwrap();
    let add = "insert into auth.one_time (kind, hash, person_id, expires_at) values ('mfa', $1, $2, now() + interval '5 minutes')";
    sql.execute(add, &[&token.hash(), &person]).await.unwrap();
    Prepared::body(json!({ "mfaToken": token.expose(), "code": code }))
}

/// Somebody new, who has signed in, with a password that is told.
async fn somebody(setup: &Setup<'_>) -> (UserId, Value, String) {
    let person = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let member = setup.app().person(setup.tenant(), Role::Member);
    let copy =
        "insert into auth.passwords (person_id, phc) select $1, phc from auth.passwords where person_id = $2";
    setup.app().sql().execute(copy, &[&person, &member.user_id]).await.unwrap();
    let email = "select email from auth.people where id = $1";
    let email: String = setup.app().sql().query_one(email, &[&person]).await.unwrap().get(0);
    let password = member.credential.password.clone();
    let body = json!({ "tenant": setup.tenant(), "email": email, "password": password });
    let tokens = setup.app().anonymous().post("/api/v1/auth/login", body).await.assert(200).json();
    (person, tokens, password)
}

/// The request of somebody new, whose session nobody else uses.
async fn signed_in(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    Prepared::default().sent_by(person, tokens["accessToken"].as_str().unwrap())
}

async fn new_address(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    let body = json!({ "newEmail": format!("n{}@example.com", setup.number()) });
    Prepared::body(body).sent_by(person, tokens["accessToken"].as_str().unwrap())
}

/// A link to the new address of somebody new, or to the one before.
async fn address_link(setup: &Setup<'_>, kind: &str) -> Prepared {
    let person = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let tenant = setup.app().person(setup.tenant(), Role::Owner).tenant_id;
    let (token, other) = (
        TenantSecret::new(kind, tenant, &SystemRng::new()),
        TenantSecret::new(kind, tenant, &SystemRng::new()),
    );
    let (hash, undo_hash) =
        if kind == "undo" { (other.hash(), Some(token.hash())) } else { (token.hash(), None::<Vec<u8>>) };
    let add = "insert into auth.address_changes (hash, person_id, old_email, new_email, expires_at, confirmed_at, undo_hash, undo_until) \
        select $1, id, email, 'moved-' || email, now() + interval '1 hour', case when $3::bytea is not null then now() end, $3, \
          now() + interval '1 hour' from auth.people where id = $2";
    setup.app().sql().execute(add, &[&hash, &person, &undo_hash]).await.unwrap();
    Prepared::body(json!({ "token": token.expose() }))
}

async fn step_up(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, password) = somebody(setup).await;
    Prepared::body(json!({ "password": password })).sent_by(person, tokens["accessToken"].as_str().unwrap())
}

async fn confirm(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, password) = somebody(setup).await;
    let token = tokens["accessToken"].as_str().unwrap();
    let me = setup.app().anonymous().with_token(token);
    let begun = me.post("/api/v1/auth/mfa/totp", json!({ "password": password })).await.assert(200).json();
    let code = AuthenticatorApp::of(begun["secret"].as_str().unwrap()).code(setup.app(), 0);
    Prepared::body(json!({ "code": code })).sent_by(person, token)
}

/// Somebody who has given a second factor just now.
async fn with_factor(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    let given = format!(
        "insert into auth.factors (id, person_id, kind, secret_sealed, confirmed_at) \
           values (gen_random_uuid(), '{person}', 'totp', '', now()); \
         update sessions set amr = '{{pwd,otp}}' where principal_id = '{person}'"
    );
    setup.app().sql().batch_execute(&given).await.unwrap();
    let body = json!({ "refreshToken": tokens["refreshToken"] });
    let tokens = setup.app().anonymous().post("/api/v1/auth/refresh", body).await.assert(200).json();
    Prepared::default().sent_by(person, tokens["accessToken"].as_str().unwrap())
}

/// A passkey that somebody new is about to make.
async fn new_passkey(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    let token = tokens["accessToken"].as_str().unwrap();
    let me = setup.app().anonymous().with_token(token);
    let options = me.post("/api/v1/auth/passkeys/options", Value::Null).await.assert(200).json();
    Prepared::body(SoftwarePasskey::new().made(&options)).sent_by(person, token)
}

/// Somebody who has proven a passkey just now, with the token that says so and the passkey's id.
async fn with_passkey(setup: &Setup<'_>) -> (UserId, String, String) {
    let (person, tokens, _) = somebody(setup).await;
    let me = setup.app().anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    let options = me.post("/api/v1/auth/passkeys/options", Value::Null).await.assert(200).json();
    let mut passkey = SoftwarePasskey::new();
    let made = me.post("/api/v1/auth/passkeys", passkey.made(&options)).await.assert(201).json();
    let question = me.post("/api/v1/auth/passkeys/challenge", Value::Null).await.assert(200).json();
    let body = json!({ "passkey": passkey.proven(&question) });
    let proven = me.post("/api/v1/auth/step-up", body).await.assert(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (person, text(&proven["accessToken"]), text(&made["id"]))
}

/// What a passkey answers that signs in by itself.
async fn sign_in_by_passkey(setup: &Setup<'_>) -> Value {
    let (_, tokens, _) = somebody(setup).await;
    let me = setup.app().anonymous().with_token(tokens["accessToken"].as_str().unwrap());
    let options = me.post("/api/v1/auth/passkeys/options", Value::Null).await.assert(200).json();
    let mut passkey = SoftwarePasskey::new();
    me.post("/api/v1/auth/passkeys", passkey.made(&options)).await.assert(201);
    let challenge = "/api/v1/auth/login/passkey/challenge";
    passkey.proven(&setup.app().anonymous().post(challenge, Value::Null).await.assert(200).json())
}

/// A sign-in that waits for a passkey.
async fn ask_passkey(setup: &Setup<'_>) -> Prepared {
    let person = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let tenant = setup.app().person(setup.tenant(), Role::Owner).tenant_id;
    let token = TenantSecret::new("mfa", tenant, &SystemRng::new());
    let sql = setup.app().sql();
    let add = "insert into auth.one_time (kind, hash, person_id, expires_at) values ('mfa', $1, $2, now() + interval '5 minutes')";
    sql.execute(add, &[&token.hash(), &person]).await.unwrap();
    let add = "insert into auth.passkeys (id, person_id, name, credential, public_key) \
        values (gen_random_uuid(), $1, 'Phone', sha256($2), '')";
    sql.execute(add, &[&person, &token.hash()]).await.unwrap();
    Prepared::body(json!({ "mfaToken": token.expose() }))
}

async fn with_factor_by_form(setup: &Setup<'_>) -> Prepared {
    with_factor(setup).await.with(json!({}))
}

async fn sign_in(setup: &Setup<'_>) -> Prepared {
    let credential = &setup.app().person(setup.tenant(), Role::Member).credential;
    let body =
        json!({ "tenant": setup.tenant(), "email": credential.email, "password": credential.password });
    Prepared::body(body)
}

async fn give_code(setup: &Setup<'_>) -> Prepared {
    let body = verify(setup).await.body.unwrap();
    Prepared::body(json!({ "token": body["mfaToken"], "code": body["code"] }))
}

/// Somebody who has a second factor, and a recovery code.
async fn prove(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    let code = format!("{:024}", setup.number());
    let add = "insert into auth.recovery_codes (person_id, hash) values ($1, sha256(convert_to($2, 'UTF8')))";
    setup.app().sql().execute(add, &[&person, &code]).await.unwrap();
    Prepared::body(json!({ "code": code })).sent_by(person, tokens["accessToken"].as_str().unwrap())
}

/// Somebody who belongs to the other demo tenant, too.
async fn switch(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, _) = somebody(setup).await;
    let other = if setup.tenant() == "acme" { "globex" } else { "acme" };
    let email = format!("{person}@{}.example", setup.tenant());
    let join = format!("insert into memberships (user_id, email) values ('{person}', '{email}')");
    setup.app().execute_in(other, &join).await;
    Prepared::body(json!({ "tenant": other })).sent_by(person, tokens["accessToken"].as_str().unwrap())
}

/// A session of somebody who has another one, too.
async fn own_session(setup: &Setup<'_>) -> Prepared {
    let (person, tokens, password) = somebody(setup).await;
    let email = "select email from auth.people where id = $1";
    let email: String = setup.app().sql().query_one(email, &[&person]).await.unwrap().get(0);
    let body = json!({ "tenant": setup.tenant(), "email": email, "password": password });
    setup.app().anonymous().post("/api/v1/auth/login", body).await.assert(200);
    let token = tokens["accessToken"].as_str().unwrap();
    let me = setup.app().anonymous().with_token(token);
    let listed = me.get("/api/v1/auth/sessions").await.assert(200).json();
    let other = listed["sessions"].as_array().unwrap().iter().find(|one| one["current"] == false).unwrap();
    Prepared::at([other["id"].as_str().unwrap()]).with(json!({})).sent_by(person, token)
}

async fn change_by_form(setup: &Setup<'_>) -> Prepared {
    let body = change(setup).await.body.unwrap();
    Prepared::body(json!({ "current": body["currentPassword"], "new": body["newPassword"] }))
}

async fn change(setup: &Setup<'_>) -> Prepared {
    let current = with_password(setup).await;
    Prepared::body(
        json!({ "currentPassword": current, "newPassword": format!("{PASSWORD} {}", setup.number()) }),
    )
}

async fn accept(setup: &Setup<'_>) -> Prepared {
    let email = format!("q{}@example.com", setup.number());
    let body = json!({ "email": email, "roles": ["member"] });
    setup.caller().post("/api/v1/invitations", body).await.assert(202);
    let token = secret(setup, &email, "/invitation?token=").await;
    Prepared::body(json!({ "token": token, "name": "Ada Lovelace", "password": PASSWORD }))
}

async fn reset(setup: &Setup<'_>) -> Prepared {
    let id = setup.app().another(setup.tenant(), Role::Member).await.id().unwrap();
    let email = format!("{id}@{}.example", setup.tenant());
    let body = json!({ "tenant": setup.tenant(), "email": email });
    setup.app().anonymous().post("/api/v1/auth/password/forgot", body).await.assert(202);
    let arrived = format!("from mails where template = 'identity.password_reset' and recipient = '{email}'");
    let picture = format!("select to_jsonb(count(*)) {arrived}");
    setup.app().until(&format!("select count(*) = 1 {arrived}"), &picture).await;
    let token = secret(setup, &email, "/password?token=").await;
    Prepared::body(json!({ "token": token, "password": format!("{PASSWORD} {}", setup.number()) }))
}

/// The secret in the last mail to an address.
async fn secret(setup: &Setup<'_>, email: &str, before: &str) -> String {
    let sql = "select text from mails where recipient = $1 order by queued_at desc, id desc limit 1";
    let text: String = setup.app().sql().query_one(sql, &[&email]).await.unwrap().get(0);
    let (_, rest) = text.split_once(before).unwrap();
    rest.lines().next().unwrap().to_owned()
}
