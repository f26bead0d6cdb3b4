//! Standard Webhooks 1.0.0: `v1,` and the HMAC-SHA256 of `id.timestamp.body`, under a secret `whsec_…` of 24 to 64 bytes.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::shared::{Rng, Secret};

const PREFIX: &str = "whsec_";
const LEAST_BYTES: usize = 24;
const MOST_BYTES: usize = 64;
/// Bytes of a secret that we make.
const OUR_BYTES: usize = 32;

/// The secret of one endpoint.
#[derive(Clone)]
pub struct SigningSecret(Secret<Vec<u8>>);

/// The text is not `whsec_` and 24 to 64 bytes as base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSigningSecret;

impl fmt::Display for InvalidSigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not whsec_ and 24 to 64 bytes as base64")
    }
}

impl std::error::Error for InvalidSigningSecret {}

impl SigningSecret {
    /// A new secret of 32 random bytes.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut bytes = vec![0; OUR_BYTES];
        rng.fill(&mut bytes);
        Self(Secret::new(bytes))
    }

    /// Reads `whsec_…`.
    ///
    /// # Errors
    /// [`InvalidSigningSecret`].
    pub fn parse(text: &str) -> Result<Self, InvalidSigningSecret> {
        let text = text.strip_prefix(PREFIX).ok_or(InvalidSigningSecret)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| InvalidSigningSecret)?;
        Self::of_bytes(bytes)
    }

    pub(super) fn of_bytes(bytes: Vec<u8>) -> Result<Self, InvalidSigningSecret> {
        let bytes = Secret::new(bytes);
        if (LEAST_BYTES..=MOST_BYTES).contains(&bytes.expose().len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSigningSecret)
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// `whsec_…`, to be shown once to the one who has asked for it.
    pub fn text(&self) -> Secret<String> {
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(self.0.expose()));
        Secret::new(format!("{PREFIX}{}", *encoded))
    }

    /// The signature of exactly these bytes: `v1,…`. `timestamp` is in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key());
        for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }

    /// Whether one of the signatures in the header, which blanks separate, is that of these bytes. The comparison takes the
    /// same time wherever two signatures differ.
    pub fn verifies(&self, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
        let key = self.key();
        let mut text = format!("{id}.{timestamp}.").into_bytes();
        text.extend_from_slice(body);
        let given = header.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        let given = given.filter_map(|signature| BASE64_STANDARD.decode(signature).ok());
        given.take(16).any(|signature| hmac::verify(&key, &text, &signature).is_ok())
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn w_01_the_signature_is_that_of_the_reference_libraries() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        assert_eq!(secret.sign(ID, 1_614_265_330, BODY), SIGNATURE);
        for header in [SIGNATURE.to_owned(), format!("v1,AAAA v2,{} {SIGNATURE}", &SIGNATURE[3..])] {
            assert!(secret.verifies(ID, 1_614_265_330, BODY, &header), "{header}");
        }
        // What standardwebhooks 1.0 of PyPI makes of the longest secret, and of letters beyond ASCII.
        let longest =
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
        let body = r#"{"data":{"tone":"größer 😊 \u2028"},"type":"bells.bell_rung"}"#;
        let signed = SigningSecret::parse(longest).unwrap();
        let signature = signed.sign("0190163d-8694-739b-aea5-966c26f8ad91", 1_770_091_506, body.as_bytes());
        assert_eq!(signature, "v1,B3en+eVk1bCw5WxQFXk3oINZ0XL1ixGCfHczXwxcByI=");
    }

    #[test]
    fn w_01_another_body_id_time_or_secret_has_another_signature() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let at = 1_614_265_330;
        let no = [
            secret.verifies(ID, at, b"{}", SIGNATURE),
            secret.verifies("msg_other", at, BODY, SIGNATURE),
            secret.verifies(ID, at + 1, BODY, SIGNATURE),
            secret.verifies(ID, at, BODY, &SIGNATURE.replace("v1", "v2")),
            secret.verifies(ID, at, BODY, &SIGNATURE[3..]),
            secret.verifies(ID, at, BODY, "v1,"),
            secret.verifies(ID, at, BODY, ""),
            SigningSecret::generate(&crate::shared::SystemRng::new()).verifies(ID, at, BODY, SIGNATURE),
        ];
        assert_eq!(no, [false; 8]);
    }

    #[test]
    fn w_01_a_secret_is_whsec_and_24_to_64_bytes() {
        let rng = crate::shared::SystemRng::new();
        let secret = SigningSecret::generate(&rng);
        let text = secret.text();
        assert!(text.expose().starts_with("whsec_") && text.expose().len() == 6 + 44);
        assert_eq!(SigningSecret::parse(text.expose()).unwrap().bytes(), secret.bytes());
        assert_ne!(SigningSecret::generate(&rng).bytes(), secret.bytes());
        for bytes in [0, 23, 65] {
            let text = format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
            assert_eq!(SigningSecret::parse(&text).unwrap_err(), InvalidSigningSecret);
        }
        for text in
            ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*"]
        {
            assert!(SigningSecret::parse(text).is_err(), "{text}");
        }
        assert_eq!(format!("{secret:?}"), "[secret]");
    }
}
