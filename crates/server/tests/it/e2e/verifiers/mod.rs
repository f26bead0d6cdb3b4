//! What the server issues, in others' hands: PyJWT verifies its tokens, zxing-cpp reads its QR code, pyotp is the authenticator
//! app, argon2-cffi verifies a hash of its own, and py_webauthn what a browser's authenticator has answered to our pages.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::auth::Role;
use erp_testkit::{Browser, TestApp};
use serde_json::{Value, json};

use super::clients::{demo, program, root};
use super::http::Client;

const SECRET: &str = "q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd0FgAe4";

/// Runs the script with what it is to verify, and takes what it found.
fn verified(script: &str, given: &Value) -> Option<Value> {
    let tools = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let python = program("PyJWT", &[tools.join("tools/verifiers/bin/python")])?;
    let script = root().join("crates/server/tests/it/e2e/verifiers").join(script);
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn others_verify_tokens_codes_and_hashes() {
    let signs = |algorithm| [("JWT_SECRET", SECRET), ("JWT_ALGORITHM", algorithm)];
    let (home, database, server) = demo("verifiers", &signs("EdDSA"));
    let people: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("demo-credentials.json")).unwrap()).unwrap();
    let (email, password) = (people[0]["email"].as_str().unwrap(), people[0]["password"].as_str().unwrap());
    let client = Client::signed_in(&server.address(), home.path());
    let jwks = client.get("/.well-known/jwks.json").unwrap().json();
    let enrolled = client.post("/api/v1/auth/mfa/totp", &json!({ "password": password })).unwrap().json();
    let phc = format!(
        "select phc from auth.passwords w join auth.people p on p.id = w.person_id where email = '{email}'"
    );
    let symmetric = {
        let variables =
            [&signs("HS256")[..], &[("DATABASE_URL", &*database.runtime_url), ("HOST", "127.0.0.1")]];
        let other = super::process::Process::serve(&home, &variables.concat());
        Client::signed_in(&other.address(), home.path()).token().to_owned()
    };
    let given = json!({
        "jwks": jwks, "token": client.token(), "symmetric": symmetric, "secret": SECRET, "qr": enrolled["qr"],
        "phc": database.value(&phc), "password": password,
    });
    let Some(found) = verified("verify.py", &given) else { return };
    let me = client.get("/api/v1/me").unwrap().json();
    assert_eq!((&found["sub"], &found["symmetricSub"]), (&me["user"]["id"], &me["user"]["id"]));
    assert_eq!((&found["lives"], &found["uri"]), (&json!(900), &enrolled["uri"]));
    assert_eq!((&found["password"], &found["kind"]), (&json!(true), &json!("ID")));
    assert!(found["memory"].as_i64() >= Some(19_456) && found["rounds"].as_i64() >= Some(2), "{found}");
    let confirmed = client.post("/api/v1/auth/mfa/totp/confirm", &json!({ "code": found["code"] })).unwrap();
    assert_eq!(confirmed.status, 204, "{}", confirmed.body);
}

/// Keeps what our page asks of the authenticator and what that answers, beyond the pages that follow.
const LISTEN: &str = "for (const act of ['create', 'get']) { \
      const ask = navigator.credentials[act].bind(navigator.credentials); \
      navigator.credentials[act] = async (options) => { \
        const answer = await ask(options); \
        const challenge = btoa(String.fromCharCode(...options.publicKey.challenge)); \
        sessionStorage[act] = JSON.stringify({ challenge, credential: answer.toJSON() }); \
        return answer; \
      }; \
    }";

#[tokio::test]
async fn py_webauthn_verifies_what_our_pages_ask_of_a_browser() {
    let Some(browser) = Browser::find("passkeys by py_webauthn") else { return };
    let app = TestApp::start().await;
    let url = format!("http://localhost:{}", app.address().port());
    let credential = app.person("acme", Role::Member).credential.clone();
    let mut tab = browser.tab().await;
    tab.authenticator().await;
    tab.go(&format!("{url}/account")).await;
    let fields = [("tenant", "acme"), ("email", &*credential.email), ("password", &*credential.password)];
    tab.send(&fields).await;
    tab.run(LISTEN).await;
    tab.follow("document.querySelector('[data-passkey=create]').click()").await;
    tab.sign_out().await;
    tab.go(&format!("{url}/sign-in")).await;
    tab.run(LISTEN).await;
    tab.follow("document.querySelector('[data-passkey=alone]').click()").await;
    assert_eq!(tab.path().await, "/account");
    let mut kept = async |act: &str| -> Value {
        let text = tab.run(&format!("sessionStorage.{act}")).await;
        let mut kept: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        let challenge =
            kept["challenge"].as_str().unwrap().replace('+', "-").replace('/', "_").replace('=', "");
        kept["challenge"] = json!(challenge);
        kept
    };
    let (made, proven) = (kept("create").await, kept("get").await);
    let row = "select public_key, credential, sign_count from auth.passkeys";
    let row = app.sql().query_one(row, &[]).await.unwrap();
    let text = |column: usize| json!(URL_SAFE_NO_PAD.encode(row.get::<_, Vec<u8>>(column)));
    let given =
        json!({ "rpId": "localhost", "origin": url, "made": made, "proven": proven, "stored": text(0) });
    let found = tokio::task::spawn_blocking(move || verified("passkeys.py", &given)).await.unwrap();
    drop(tab);
    let sign_count: i64 = row.get(2);
    app.finish().await;
    let Some(found) = found else { return };
    assert_eq!((&found["publicKey"], &found["credential"]), (&text(0), &text(1)));
    assert_eq!((&found["attestation"], &found["verified"]), (&json!("none"), &json!([true, true])));
    assert_eq!((&found["signCount"], &found["otherChallenge"]), (&json!(sign_count), &json!("refused")));
}
