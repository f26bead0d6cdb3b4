//! What the sweeps send to the routes of operators.

use erp_core::auth::{Role, TenantSecret};
use erp_core::shared::{SystemRng, TenantId, UserId};
use erp_testkit::{AuthenticatorApp, Fixture, Prepared, Setup};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

pub(crate) const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /api/v1/admin/auth/enrol", |setup| {
        Box::pin(async { Prepared::body(invited(setup).await) })
    }),
    Fixture::new("POST /api/v1/admin/auth/enrol/confirm", |setup| Box::pin(confirm(setup))),
    Fixture::new("POST /api/v1/admin/auth/login", |setup| Box::pin(sign_in(setup))),
    Fixture::new("POST /api/v1/admin/operators", |setup| {
        Box::pin(async { Prepared::body(json!({ "email": address(setup) })) })
    }),
    Fixture::new("POST /api/v1/admin/operators/{id}/disable", |setup| Box::pin(other(setup))),
    Fixture::new("PATCH /api/v1/admin/plans/{name}", |setup| {
        Box::pin(async {
            Prepared::at([format!("plan-{}", setup.number())]).with(json!({ "rateLimitMax": 5000 }))
        })
    }),
    Fixture::new("PUT /api/v1/admin/tenants/{id}/plan", |setup| {
        Box::pin(async { made(setup).await.with(json!({ "plan": null })) })
    }),
    Fixture::new("PUT /api/v1/admin/flags/{flag}/rollout", |_| {
        Box::pin(async { Prepared::at(["catalog.import"]).with(json!({ "basisPoints": null })) })
    }),
    Fixture::new("GET /api/v1/admin/tenants/{id}/flags", |setup| Box::pin(made(setup))),
    Fixture::new("PUT /api/v1/admin/tenants/{id}/flags/{flag}", |setup| {
        Box::pin(async {
            let tenant = made(setup).await.values[0].clone();
            Prepared::at([tenant, "catalog.import".to_owned()]).with(json!({ "isOn": true }))
        })
    }),
    Fixture::new("GET /api/v1/admin/users/{id}", |setup| Box::pin(somebody(setup))),
    Fixture::new("POST /api/v1/admin/users/{id}/disable", |setup| Box::pin(person(setup))),
    Fixture::new("POST /api/v1/admin/users/{id}/enable", |setup| Box::pin(person(setup))),
    Fixture::new("POST /api/v1/admin/users/{id}/sign-out", |setup| Box::pin(person(setup))),
    Fixture::new("POST /api/v1/admin/users/{id}/remove-factor", |setup| Box::pin(with_factor(setup))),
    Fixture::new("POST /api/v1/admin/users/{id}/demand", |setup| {
        Box::pin(async {
            let body = json!({ "action": "change-password", "reason": "It was asked for" });
            somebody(setup).await.with(body)
        })
    }),
    Fixture::new("POST /api/v1/admin/users/{id}/erase", |setup| Box::pin(person(setup))),
    Fixture::new("POST /api/v1/admin/impersonate", |setup| {
        Box::pin(async { Prepared::body(impersonation(setup)) })
    }),
    Fixture::new("DELETE /api/v1/admin/impersonate/{id}", |setup| Box::pin(begun(setup))),
    Fixture::new("POST /api/v1/admin/tenants", |setup| Box::pin(async { Prepared::body(tenant(setup)) })),
    Fixture::new("GET /api/v1/admin/tenants/{id}", |setup| Box::pin(made(setup))),
    Fixture::new("POST /api/v1/admin/tenants/{id}/suspend", |setup| Box::pin(steered(setup))),
    Fixture::new("POST /api/v1/admin/tenants/{id}/close", |setup| Box::pin(steered(setup))),
    Fixture::new("POST /api/v1/admin/tenants/{id}/erase", |setup| Box::pin(closed(setup))),
    Fixture::new("POST /api/v1/admin/tenants/{id}/resume", |setup| Box::pin(suspended(setup))),
];

fn address(setup: &Setup<'_>) -> String {
    format!("op{}@example.com", setup.number())
}

/// The body that enrols somebody who was invited.
async fn invited(setup: &Setup<'_>) -> Value {
    let secret = TenantSecret::new("enrol", TenantId::NOBODY, &SystemRng::new());
    // By an operator: the first who enrols by the command line ends the others' secrets of that way.
    setup.app().operator().await;
    let add = "insert into auth.operators (id, email, secret_hash, secret_until, invited_by) \
        select gen_random_uuid(), $1, $2, now() + interval '1 hour', id from auth.operators where enrolled_at is not null limit 1";
    setup.app().sql().execute(add, &[&address(setup), &secret.hash()]).await.unwrap();
    json!({ "secret": secret.expose(), "password": PASSWORD })
}

async fn confirm(setup: &Setup<'_>) -> Prepared {
    let body = invited(setup).await;
    let nobody = setup.app().anonymous();
    let begun = nobody.post("/api/v1/admin/auth/enrol", body.clone()).await.assert(200).json();
    let code = AuthenticatorApp::of(begun["secret"].as_str().unwrap()).code(setup.app(), 0);
    Prepared::body(json!({ "secret": body["secret"], "code": code }))
}

async fn sign_in(setup: &Setup<'_>) -> Prepared {
    let body = confirm(setup).await.body.unwrap();
    let nobody = setup.app().anonymous();
    let shown = nobody.post("/api/v1/admin/auth/enrol/confirm", body).await.assert(200).json();
    let last = "select email from auth.operators where phc <> 'none' order by created_at desc limit 1";
    let email: String = setup.app().sql().query_one(last, &[]).await.unwrap().get(0);
    Prepared::body(json!({ "email": email, "password": PASSWORD, "code": shown["codes"][0] }))
}

async fn other(setup: &Setup<'_>) -> Prepared {
    setup.app().operator().await;
    let last = "select id::text from auth.operators order by created_at desc, id desc limit 1";
    let id: String = setup.app().sql().query_one(last, &[]).await.unwrap().get(0);
    Prepared::at([id])
}

fn tenant(setup: &Setup<'_>) -> Value {
    json!({ "slug": format!("tenant-{}", setup.number()), "name": "A tenant", "owner": address(setup) })
}

/// A tenant that an operator has made.
async fn made(setup: &Setup<'_>) -> Prepared {
    let operator = setup.app().operator().await;
    let made = operator.post("/api/v1/admin/tenants", tenant(setup)).await.assert(200).json();
    Prepared::at([made["id"].as_str().unwrap()])
}

async fn steered(setup: &Setup<'_>) -> Prepared {
    made(setup).await.with(json!({ "reason": "It was asked for" }))
}

async fn suspended(setup: &Setup<'_>) -> Prepared {
    let prepared = steered(setup).await;
    let path = format!("/api/v1/admin/tenants/{}/suspend", prepared.values[0]);
    let operator = setup.app().operator().await;
    operator.post(&path, prepared.body.clone().unwrap()).await.assert(204);
    prepared
}

/// Closed for longer than it has to be.
async fn closed(setup: &Setup<'_>) -> Prepared {
    let prepared = steered(setup).await;
    let close = "update tenants set status = 'closed', closed_at = now() - interval '31 days' where id = $1::text::uuid";
    setup.app().sql().execute(close, &[&prepared.values[0]]).await.unwrap();
    prepared
}

fn impersonation(setup: &Setup<'_>) -> Value {
    let person = setup.app().person(setup.tenant(), Role::Member).user_id;
    json!({ "tenant": setup.tenant(), "userId": person, "reason": "It was asked for", "minutes": 5 })
}

/// An impersonation, and the operator who has begun it.
async fn begun(setup: &Setup<'_>) -> Prepared {
    let operator = setup.app().operator().await;
    let begun = operator.post("/api/v1/admin/impersonate", impersonation(setup)).await.assert(200).json();
    let nobody = UserId::new(setup.app().clock(), &SystemRng::new());
    Prepared::at([begun["id"].as_str().unwrap()]).sent_by(nobody, operator.token())
}

/// A person who is a member of the tenant.
async fn somebody(setup: &Setup<'_>) -> Prepared {
    setup.app().another(setup.tenant(), Role::Member).await;
    let last = "select id::text from auth.people order by created_at desc, id desc limit 1";
    let id: String = setup.app().sql().query_one(last, &[]).await.unwrap().get(0);
    Prepared::at([id])
}

async fn person(setup: &Setup<'_>) -> Prepared {
    somebody(setup).await.with(json!({ "reason": "It was asked for" }))
}

async fn with_factor(setup: &Setup<'_>) -> Prepared {
    let prepared = person(setup).await;
    let add = "insert into auth.factors (id, person_id, kind, secret_sealed, confirmed_at) \
        values (gen_random_uuid(), $1::text::uuid, 'totp', 'sealed', now())";
    setup.app().sql().execute(add, &[&prepared.values[0]]).await.unwrap();
    prepared
}
