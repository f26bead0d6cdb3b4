//! Access tokens over the wire: expired, forged and bent ones are refused alike (J-01, J-02, J-03).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::auth::Role;
use erp_testkit::{JWT_SECRET, TestApp};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// The three parts of a token, the first two decoded.
struct Parts {
    header: Value,
    claims: Value,
    signature: String,
}

fn parts(token: &str) -> Parts {
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let decode = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    Parts { header: decode(header), claims: decode(claims), signature: signature.to_owned() }
}

fn sign(header: &Value, claims: &Value, secret: &str) -> String {
    let message = unsigned(header, claims);
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn with(value: &Value, field: &str, replacement: Value) -> Value {
    let mut value = value.clone();
    match replacement {
        Value::Null => value.as_object_mut().unwrap().remove(field),
        replacement => value.as_object_mut().unwrap().insert(field.to_owned(), replacement),
    };
    value
}

#[tokio::test]
async fn j_02_a_token_is_good_for_15_minutes() {
    let app = TestApp::start().await;
    let alice = app.alice();
    app.clock().advance(SignedDuration::from_secs(899));
    alice.get("/api/v1/me").await.assert(200);
    app.clock().advance(SignedDuration::from_secs(1));
    alice.get("/api/v1/me").await.assert(401).problem("core.unauthenticated");
    let from_the_future = app.alice();
    app.clock().advance(SignedDuration::from_secs(-61));
    from_the_future.get("/api/v1/me").await.assert(401);
    app.clock().advance(SignedDuration::from_secs(1)); // another instance's clock may be a minute off
    from_the_future.get("/api/v1/me").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn j_01_a_bent_token_is_401() {
    let app = TestApp::start().await;
    let Parts { header, claims, signature } = parts(app.alice().token());
    let globex = json!(app.tenant_id("globex"));
    let mut forged = vec![
        sign(&header, &claims, "another-key-of-sufficient-length-000"),
        sign(&header, &claims, ""),
        format!("{}.", unsigned(&header, &claims)),
        unsigned(&header, &claims),
        format!("{}.{signature}", unsigned(&header, &with(&claims, "tid", globex.clone()))),
        format!("{}.{signature}", unsigned(&header, &with(&claims, "role", json!("owner"))))
            .replace('.', ".."),
        format!("{}.{signature}.x.y", unsigned(&header, &claims)),
        format!("{}x", app.alice().token()),
        "a.b.c".to_owned(),
        "x".repeat(9000),
    ];
    for algorithm in ["none", "None", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        let header = with(&header, "alg", json!(algorithm));
        forged.push(format!("{}.", unsigned(&header, &claims)));
        forged.push(sign(&header, &claims, JWT_SECRET));
    }
    for (field, value) in [
        ("kid", json!("other")),
        ("kid", Value::Null),
        ("kid", json!("../../dev/null")),
        ("kid", json!("' or 1=1 --")),
        ("typ", json!("JWT")),
        ("typ", Value::Null),
        ("typ", json!("rt+jwt")),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
    ] {
        forged.push(sign(&with(&header, field, value), &claims, JWT_SECRET));
    }
    for token in &forged {
        let answer = app.anonymous().with_token(token.clone()).get("/api/v1/me").await;
        assert_eq!(answer.status, 401, "{token}: {answer}");
        answer.problem("core.unauthenticated");
    }
    // The forger's tools work: the same claims with the right key are accepted.
    app.anonymous().with_token(sign(&header, &claims, JWT_SECRET)).get("/api/v1/me").await.assert(200);
    // So are claims and fields of a header that nobody here knows.
    let (header, claims) = (with(&header, "x", json!(1)), with(&claims, "scope", json!("items")));
    app.anonymous().with_token(sign(&header, &claims, JWT_SECRET)).get("/api/v1/me").await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn j_03_a_token_for_somebody_else_or_without_its_claims_is_401() {
    let app = TestApp::start().await;
    let Parts { header, claims, .. } = parts(app.alice().token());
    let now = claims["iat"].as_i64().unwrap();
    let bent = [
        ("iss", json!("somebody")),
        ("aud", json!("another-api")),
        ("aud", json!([])),
        ("exp", json!(now)),
        ("exp", json!(now + 901)),
        ("exp", json!(i64::MAX)),
        ("exp", json!("never")),
        ("exp", json!((now + 600).to_string())),
        ("exp", json!(600.5 + f64::from(u32::try_from(now).unwrap()))),
        ("iat", json!(now + 61)),
        ("iat", json!(i64::MIN)),
        ("sub", json!("x")),
        ("tid", json!("acme")),
        ("nbf", json!(now + 61)),
        ("nbf", json!("now")),
    ];
    let missing = ["iss", "aud", "exp", "iat", "sub", "tid", "jti"].map(|field| (field, Value::Null));
    for (field, value) in bent.into_iter().chain(missing) {
        let token = sign(&header, &with(&claims, field, value.clone()), JWT_SECRET);
        let answer = app.anonymous().with_token(token).get("/api/v1/me").await;
        assert_eq!(answer.status, 401, "{field} = {value}: {answer}");
    }
    app.finish().await;
}

#[tokio::test]
async fn j_04_a_token_of_the_previous_key_stays_good() {
    let previous = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let old = TestApp::builder().setting("JWT_SECRET", previous).start().await;
    let token = old.alice().token().to_owned();
    old.finish().await;
    let app = TestApp::builder().setting("JWT_SECRET_PREVIOUS", previous).start().await;
    app.anonymous().with_token(token.clone()).get("/api/v1/items").await.assert(200);
    app.finish().await;
    let app = TestApp::start().await;
    app.anonymous().with_token(token).get("/api/v1/items").await.assert(401);
    app.finish().await;
}

/// Who was here with a token of any instance is known to each, in each step of a rotation.
#[tokio::test]
async fn j_04_a_rotation_in_two_steps_refuses_no_token_of_either_instance() {
    const NEXT: &str = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let steps: [&[(&str, &str)]; 4] = [
        &[("JWT_SECRET", JWT_SECRET)],
        &[("JWT_SECRET", JWT_SECRET), ("JWT_SECRET_NEXT", NEXT)],
        &[("JWT_SECRET", NEXT), ("JWT_SECRET_PREVIOUS", JWT_SECRET)],
        &[("JWT_SECRET", NEXT)],
    ];
    for algorithm in ["HS256", "EdDSA"] {
        let mut rolled: Vec<TestApp> = Vec::new();
        for step in steps {
            let mut builder = TestApp::builder().setting("JWT_ALGORITHM", algorithm);
            if let Some(first) = rolled.first() {
                builder = builder.beside(first);
            }
            for (name, value) in step {
                builder = builder.setting(name, value);
            }
            let app = builder.start().await;
            // One is rolled already, and the other is not: each takes what the other signs.
            if let Some(former) = rolled.last() {
                takes_what_it_signs(former, &app).await;
                takes_what_it_signs(&app, former).await;
            }
            rolled.push(app);
        }
        while let Some(app) = rolled.pop() {
            app.finish().await; // the first one has the database
        }
    }
}

async fn takes_what_it_signs(signs: &TestApp, takes: &TestApp) {
    let token = signs.alice().token().to_owned();
    takes.anonymous().with_token(token).get("/api/v1/items").await.assert(200);
    let owner = &signs.person("acme", Role::Owner).credential;
    let login = json!({ "tenant": "acme", "email": owner.email, "password": owner.password });
    let signed_in = signs.anonymous().post("/api/v1/auth/login", login).await.assert(200).json();
    let refresh = json!({ "refreshToken": signed_in["refreshToken"] });
    takes.anonymous().post("/api/v1/auth/refresh", refresh).await.assert(200);
}

#[tokio::test]
async fn j_01_with_eddsa_others_verify_by_public_keys_and_sign_nothing_by_them() {
    let app = TestApp::builder().setting("JWT_ALGORITHM", "EdDSA").start().await;
    let token = app.alice().token().to_owned();
    let Parts { header, claims, .. } = parts(&token);
    assert_eq!(header["alg"], "EdDSA");
    let keys = app.anonymous().get("/.well-known/jwks.json").await.assert(200).json();
    let key = &keys["keys"][0];
    assert_eq!((&key["kid"], &key["kty"], &key["use"]), (&header["kid"], &json!("OKP"), &json!("sig")));
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let public = jsonwebtoken::DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["erp-backend-api"]);
    validation.validate_exp = false; // the test has a clock of its own
    jsonwebtoken::decode::<Value>(&token, &public, &validation).unwrap();

    // What is public signs nothing: not as the secret of HS256, whatever kid it names.
    let x = key["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(x).unwrap();
    let hmac = |header: &Value, secret: &[u8]| {
        let message = unsigned(header, &claims);
        let signed = jsonwebtoken::crypto::sign(
            message.as_bytes(),
            &EncodingKey::from_secret(secret),
            Algorithm::HS256,
        );
        format!("{message}.{}", signed.unwrap())
    };
    let confused = with(&header, "alg", json!("HS256"));
    for forged in [
        hmac(&confused, x.as_bytes()),
        hmac(&confused, &raw),
        hmac(&header, &raw),
        sign(&confused, &claims, JWT_SECRET),
    ] {
        app.anonymous().with_token(forged).get("/api/v1/me").await.assert(401);
    }
    app.finish().await;
}

#[tokio::test]
async fn with_hs256_there_is_no_public_key() {
    let app = TestApp::start().await;
    assert_eq!(app.anonymous().get("/.well-known/jwks.json").await.assert(200).json(), json!({ "keys": [] }));
    app.finish().await;
}

#[tokio::test]
async fn j_03_what_a_token_says_of_roles_counts_for_nothing() {
    let app = TestApp::start().await;
    let Parts { header, claims, .. } = parts(app.reader_of("acme").token());
    assert!(claims.get("role").is_none() && claims.get("roles").is_none(), "{claims}");
    for (claim, value) in [("role", json!("owner")), ("roles", json!(["owner"])), ("role", json!(7))] {
        let reader = app.anonymous().with_token(sign(&header, &with(&claims, claim, value), JWT_SECRET));
        assert_eq!(reader.get("/api/v1/me").await.assert(200).json()["roles"], json!(["read-only"]));
        reader.post("/api/v1/items", json!({"sku": "X", "name": "X"})).await.assert(403);
    }
    app.finish().await;
}
