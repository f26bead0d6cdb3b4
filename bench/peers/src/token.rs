//! Verifies the product's access tokens.

use anyhow::Result;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct Claims {
    tid: Uuid,
}

pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    pub fn new() -> Result<Self> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&["erp-backend"]);
        validation.set_audience(&["erp-backend-api"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_secret(crate::variable("JWT_SECRET")?.as_bytes());
        Ok(Self { key, validation })
    }

    /// The tenant that the bearer token was issued for.
    pub fn tenant(&self, headers: &HeaderMap) -> Option<Uuid> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        Some(decode::<Claims>(token, &self.key, &self.validation).ok()?.claims.tid)
    }
}
