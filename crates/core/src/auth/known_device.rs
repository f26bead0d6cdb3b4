//! Devices that are known: a client that has signed in gets a secret, and shows it with the next sign-in of the same account.
//!
//! It opens nothing. It tells an owner from the strangers whose failures shut others out, so that it is signed and not
//! stored: `erd_`, then as base64 a random id, when it was made, and the MAC of both and of the account's address. A device keeps its
//! id when its secret is made anew, so that all its copies fail together.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::shared::{Rng, Secret, derived_key};

const PREFIX: &str = "erd_";
const ID: usize = 16;
const MADE_AT: usize = 8;

/// The keys that sign such secrets, the current one first.
pub struct DeviceKeys(Vec<hmac::Key>);

impl DeviceKeys {
    /// For how many seconds a device stays known that is not used.
    pub const LASTS: i64 = 180 * 24 * 3600;

    /// Of the secrets that sign access tokens, the current one first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret<String>>) -> Self {
        Self(secrets.into_iter().map(|secret| derived_key(secret, "erp-backend known devices")).collect())
    }

    /// The secret of a device from which somebody has signed in to the account of `email`: of one that was known, or of a new one.
    /// `None` without a key.
    pub fn issue(&self, known: Option<Uuid>, email: &str, now: i64, rng: &dyn Rng) -> Option<Secret<String>> {
        let mut id = [0; ID];
        rng.fill(&mut id);
        let id = known.unwrap_or(Uuid::from_bytes(id));
        let mut bytes = [id.as_bytes().as_slice(), &now.to_be_bytes()].concat();
        let tag = hmac::sign(self.0.first()?, &signed(&bytes, email));
        bytes.extend_from_slice(tag.as_ref());
        Some(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The device that shows this secret, if it is known to the account of `email`.
    pub fn read(&self, text: &str, email: &str, now: i64) -> Option<Uuid> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (body, tag) = bytes.split_at_checked(ID + MADE_AT)?;
        let signed = signed(body, email);
        let genuine = self.0.iter().any(|key| hmac::verify(key, &signed, tag).is_ok());
        let (id, made_at) = body.split_first_chunk::<ID>()?;
        let age = now.saturating_sub(i64::from_be_bytes(made_at.try_into().ok()?));
        // One that is yet to come was made before the clock was set back.
        (genuine && age <= Self::LASTS).then_some(Uuid::from_bytes(*id))
    }
}

fn signed(body: &[u8], email: &str) -> Vec<u8> {
    [body, email.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    const NOW: i64 = 1_770_000_000;

    fn keys(secrets: &[&str]) -> DeviceKeys {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        DeviceKeys::new(&secrets)
    }

    #[test]
    fn a_06_a_device_is_known_to_the_account_that_was_used_on_it_and_to_no_other() {
        let (keys, rng) = (keys(&["a"]), SystemRng::new());
        let secret = keys.issue(None, "ada@example.com", NOW, &rng).unwrap();
        let text = secret.expose();
        let id = keys.read(text, "ada@example.com", NOW).unwrap();
        for (text, email) in [
            (text.as_str(), "eve@example.com"),
            (text, ""),
            (&text[..text.len() - 1], "ada@example.com"),
            (&text.replace("erd_", "ert_"), "ada@example.com"),
            ("erd_", "ada@example.com"),
            ("", "ada@example.com"),
            ("erd_é", "ada@example.com"),
        ] {
            assert_eq!(keys.read(text, email, NOW), None, "{text} {email}");
        }
        let again = keys.issue(Some(id), "ada@example.com", NOW + 1, &rng).unwrap();
        assert_eq!(keys.read(again.expose(), "ada@example.com", NOW), Some(id), "and keeps its id");
        let other = keys.issue(None, "ada@example.com", NOW, &rng).unwrap();
        assert_ne!(keys.read(other.expose(), "ada@example.com", NOW), Some(id));
    }

    #[test]
    fn a_06_a_device_is_known_for_half_a_year_whatever_the_clock_does_and_while_its_key_is_on_the_ring() {
        let rng = SystemRng::new();
        let secret = keys(&["old"]).issue(None, "ada@example.com", NOW, &rng).unwrap();
        let known = |ring: &[&str], now| keys(ring).read(secret.expose(), "ada@example.com", now).is_some();
        assert!(known(&["new", "old"], NOW + DeviceKeys::LASTS) && known(&["old"], NOW - 24 * 3600));
        assert!(!known(&["old"], NOW + DeviceKeys::LASTS + 1) && !known(&["new"], NOW));
        assert!(!known(&["old"], i64::MAX) && known(&["old"], i64::MIN));
    }
}
