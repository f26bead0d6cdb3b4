//! The proof that a change which a browser asks for comes from a page of ours.
//!
//! A browser sends a cookie along wherever the request was made, so that a cookie alone proves nothing. A page of ours knows a token
//! of its session, and a foreign one cannot read it. Each token begins with bytes of its own: what stands in compressed pages is
//! never the same twice (BREACH).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, codes};
use crate::shared::{Rng, Secret, SessionId, derived_key};

const NONCE: usize = 16;
const TAG: usize = 32;

/// The keys of such tokens: the first makes them, all are accepted.
pub struct CsrfKeys(Vec<hmac::Key>);

impl CsrfKeys {
    /// Of the secrets that sign access tokens, the current one first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret<String>>) -> Self {
        Self(secrets.into_iter().map(|secret| derived_key(secret, "erp-backend tokens of pages")).collect())
    }

    /// A token of this session, for a page that is made now; `None` where there is no key.
    pub fn token(&self, session: SessionId, rng: &dyn Rng) -> Option<String> {
        let mut nonce = [0; NONCE];
        rng.fill(&mut nonce);
        let tag = hmac::sign(self.0.first()?, &message(&nonce, session));
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], tag.as_ref()].concat()))
    }

    /// Refuses a change that does not bring a token of its session.
    ///
    /// # Errors
    /// `core.csrf_token`.
    pub fn check(&self, token: Option<&str>, session: Option<SessionId>) -> Result<(), Error> {
        match (token, session) {
            (Some(token), Some(session)) if self.accept(token, session) => Ok(()),
            _ => Err(Error::new(&codes::CSRF_TOKEN)),
        }
    }

    /// Whether a token is of this session.
    fn accept(&self, token: &str, session: SessionId) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        let Some((nonce, tag)) = bytes.split_first_chunk::<NONCE>().filter(|(_, tag)| tag.len() == TAG)
        else {
            return false;
        };
        let message = message(nonce, session);
        self.0.iter().any(|key| hmac::verify(key, &message, tag).is_ok())
    }
}

fn message(nonce: &[u8; NONCE], session: SessionId) -> Vec<u8> {
    [&nonce[..], session.as_uuid().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::shared::SystemRng;

    fn keys(secrets: &[&str]) -> CsrfKeys {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        CsrfKeys::new(&secrets)
    }

    #[test]
    fn r_07_a_token_is_good_for_its_session_alone_and_through_a_rotation() {
        let (rng, session, other) = (
            SystemRng::new(),
            SessionId::from_uuid(Uuid::from_u128(1)),
            SessionId::from_uuid(Uuid::from_u128(2)),
        );
        let (before, after) = (keys(&["a"]), keys(&["b", "a"]));
        let token = before.token(session, &rng).unwrap();
        assert_ne!(token, before.token(session, &rng).unwrap());
        assert!(before.accept(&token, session) && after.accept(&token, session));
        assert!(!before.accept(&token, other) && !keys(&["b"]).accept(&token, session));
        for bad in ["", "AAAA", &token[1..], &format!("{token}A"), &token[..NONCE * 4 / 3 + 1]] {
            assert!(!before.accept(bad, session), "{bad}");
        }
        assert!(keys(&[]).token(session, &rng).is_none() && !keys(&[]).accept(&token, session));
    }
}
