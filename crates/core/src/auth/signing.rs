//! The keys that sign access tokens: HS256 by the secrets themselves, EdDSA (RFC 8037) by keys that follow from them, so that one
//! secret is to be kept and rotated, whatever signs.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{JwtSettings, TokenAlgorithm};
use crate::shared::{Secret, derived};

/// What `JWT_SECRET`, `JWT_SECRET_PREVIOUS` and `JWT_SECRET_NEXT` make: the first of its algorithm signs, all verify.
pub(super) struct SigningRing {
    keys: Vec<SigningKey>,
    algorithm: Algorithm,
}

/// One key. Its algorithm is its own, and never what a token says (RFC 8725, 3.1).
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) sign: EncodingKey,
    pub(super) verify: DecodingKey,
    public: Option<PublicKey>,
}

/// The keys that others verify access tokens with: a JWK set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PublicKeys {
    /// The key that signs, the one before, and the next; none where tokens are signed with HS256.
    pub keys: Vec<PublicKey>,
}

/// A public key of Ed25519 as a JWK (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PublicKey {
    /// The key's name, as `kid` of a token has it: its thumbprint (RFC 7638).
    #[schemars(example = &"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    pub kid: String,
    /// Always `OKP`.
    pub kty: &'static str,
    /// Always `Ed25519`.
    pub crv: &'static str,
    /// Always `EdDSA`.
    pub alg: &'static str,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: &'static str,
    /// The key, 32 bytes in base64url.
    #[schemars(example = &"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    pub x: String,
}

impl SigningRing {
    pub(super) fn new(settings: &JwtSettings) -> Self {
        let secrets = || settings.ring();
        let keys = secrets().map(SigningKey::symmetric).chain(secrets().filter_map(SigningKey::ed25519));
        let algorithm = match settings.algorithm {
            TokenAlgorithm::Hs256 => Algorithm::HS256,
            TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        Self { keys: keys.collect(), algorithm }
    }

    /// The one that signs.
    pub(super) fn current(&self) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.algorithm == self.algorithm)
    }

    /// The one of this name, if it is known (any more).
    pub(super) fn by_id(&self, id: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// What others verify with.
    pub(super) fn public(&self) -> PublicKeys {
        let published = self.keys.iter().filter(|_| self.algorithm == Algorithm::EdDSA);
        PublicKeys { keys: published.filter_map(|key| key.public.clone()).collect() }
    }
}

impl SigningKey {
    fn symmetric(secret: &Secret<String>) -> Self {
        let bytes = secret.expose().as_bytes();
        // A name for the key that says nothing about it: the start of its digest.
        let hash = digest(&SHA256, bytes);
        let id = URL_SAFE_NO_PAD.encode(hash.as_ref().iter().take(6).copied().collect::<Vec<_>>());
        let (sign, verify) = (EncodingKey::from_secret(bytes), DecodingKey::from_secret(bytes));
        Self { id, algorithm: Algorithm::HS256, sign, verify, public: None }
    }

    /// `None` where the library refuses 32 bytes, which it does not.
    fn ed25519(secret: &Secret<String>) -> Option<Self> {
        let seed = derived(secret, "erp-backend access tokens by EdDSA");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()?;
        let sign = EncodingKey::from_ed_der(pair.to_pkcs8v1().ok()?.as_ref());
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let verify = DecodingKey::from_ed_components(&x).ok()?;
        // The members in the order that RFC 7638 wants, and nothing between them.
        let thumbprint = digest(&SHA256, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        let id = URL_SAFE_NO_PAD.encode(thumbprint.as_ref());
        let public = PublicKey { kid: id.clone(), kty: "OKP", crv: "Ed25519", alg: "EdDSA", usage: "sig", x };
        Some(Self { id, algorithm: Algorithm::EdDSA, sign, verify, public: Some(public) })
    }
}
