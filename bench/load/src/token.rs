//! Signs access tokens as the product does (`crates/core/src/auth/authenticator.rs`).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

/// The most that the product takes.
const LIFETIME_SECONDS: u64 = 900;

#[derive(Serialize)]
struct Claims {
    iss: &'static str,
    aud: &'static str,
    sub: Uuid,
    tid: Uuid,
    iat: u64,
    exp: u64,
    jti: String,
}

pub struct Signer {
    key: EncodingKey,
    header: Header,
}

impl Signer {
    pub fn new(secret: &str) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(URL_SAFE_NO_PAD.encode(&digest(&SHA256, secret.as_bytes()).as_ref()[..6]));
        Self { key: EncodingKey::from_secret(secret.as_bytes()), header }
    }

    /// A member's token, valid from now on.
    pub fn sign(&self, tenant: Uuid, user: Uuid) -> Result<String> {
        let iat = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = Claims {
            iss: "erp-backend",
            aud: "erp-backend-api",
            sub: user,
            tid: tenant,
            iat,
            exp: iat + LIFETIME_SECONDS,
            jti: URL_SAFE_NO_PAD.encode(user.as_bytes()),
        };
        Ok(encode(&self.header, &claims, &self.key)?)
    }
}
