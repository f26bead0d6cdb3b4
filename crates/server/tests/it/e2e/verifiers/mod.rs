//! What the server issues, in others' hands: PyJWT verifies its tokens, zxing-cpp reads its QR code, pyotp is the authenticator
//! app, and argon2-cffi verifies a hash of its own.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::clients::{demo, program, root};
use super::http::Client;

const SECRET: &str = "q7Wc2Zr9Lk4Vt8Hy3Nb6Mj1Px5Sd0FgAe4";

/// Runs the script with what it is to verify, and takes what it found.
fn verified(given: &Value) -> Option<Value> {
    let tools = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let python = program("PyJWT", &[tools.join("tools/verifiers/bin/python")])?;
    let script = root().join("crates/server/tests/it/e2e/verifiers/verify.py");
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
    let Some(found) = verified(&given) else { return };
    let me = client.get("/api/v1/me").unwrap().json();
    assert_eq!((&found["sub"], &found["symmetricSub"]), (&me["user"]["id"], &me["user"]["id"]));
    assert_eq!((&found["lives"], &found["uri"]), (&json!(900), &enrolled["uri"]));
    assert_eq!((&found["password"], &found["kind"]), (&json!(true), &json!("ID")));
    assert!(found["memory"].as_i64() >= Some(19_456) && found["rounds"].as_i64() >= Some(2), "{found}");
    let confirmed = client.post("/api/v1/auth/mfa/totp/confirm", &json!({ "code": found["code"] })).unwrap();
    assert_eq!(confirmed.status, 204, "{}", confirmed.body);
}
