//! Secrets of endpoints are kept sealed, with AES-256-GCM under a key from `WEBHOOK_SECRET`: what is stored signs nothing
//! without it. Another `WEBHOOK_SECRET` seals anew and changes no secret: the former one, as `WEBHOOK_SECRET_PREVIOUS`, opens.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};

use super::SigningSecret;
use crate::config::WebhookSettings;
use crate::error::{Error, Result};
use crate::shared::{Rng, Secret};

/// The first byte of what is sealed so.
const FORM: u8 = 1;
/// Bytes that tell by which key: of a hash of it.
const MARK: usize = 4;

/// Seals and opens the secrets of endpoints.
pub struct SecretSeal {
    current: SealKey,
    previous: Option<SealKey>,
}

struct SealKey {
    mark: [u8; MARK],
    key: LessSafeKey,
}

impl SealKey {
    fn of(secret: &Secret<String>) -> Option<Self> {
        let given = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let key = hmac::sign(&given, b"erp-backend secrets of webhooks");
        let hash = digest::digest(&digest::SHA256, key.as_ref());
        let mark = hash.as_ref().first_chunk().copied()?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(Self { mark, key: LessSafeKey::new(key) })
    }
}

impl SecretSeal {
    /// As the settings say; none without `WEBHOOK_SECRET`.
    pub fn of(settings: &WebhookSettings) -> Option<Self> {
        let current = SealKey::of(settings.secret.as_ref()?)?;
        let previous = settings.secret_previous.as_ref().and_then(SealKey::of);
        Some(Self { current, previous })
    }

    /// Seals a secret for its `place`: it opens in no other.
    ///
    /// # Errors
    /// None that is known.
    pub fn seal(&self, rng: &dyn Rng, place: &[u8], secret: &SigningSecret) -> Result<Vec<u8>> {
        let SealKey { mark, key } = &self.current;
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut text = secret.bytes().to_vec();
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok([&[FORM], mark.as_slice(), &nonce, &text, tag.as_ref()].concat())
    }

    /// Opens what was sealed for `place`, and says whether that was done with the former key: it is to be sealed anew.
    ///
    /// # Errors
    /// `core.internal` for what neither key has sealed for this place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<(SigningSecret, bool)> {
        let fault = || {
            Error::internal(
                "the secret of an endpoint cannot be opened: set WEBHOOK_SECRET_PREVIOUS to what WEBHOOK_SECRET was before",
            )
        };
        let (head, sealed) = sealed.split_at_checked(1 + MARK).ok_or_else(fault)?;
        let (form, mark) = head.split_at(1);
        let keys = std::iter::once(&self.current).chain(&self.previous).filter(|_| form == [FORM]);
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fault)?;
        for (age, SealKey { key, .. }) in keys.enumerate().filter(|(_, key)| key.mark == mark) {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fault())?;
            let mut text = zeroize::Zeroizing::new(text.to_vec());
            if let Ok(opened) = key.open_in_place(nonce, Aad::from(place), &mut text) {
                let secret = SigningSecret::of_bytes(opened.to_vec()).map_err(Error::internal)?;
                return Ok((secret, age > 0));
            }
        }
        Err(fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    fn seal(secret: &str, previous: Option<&str>) -> SecretSeal {
        let key = |text: &str| SealKey::of(&Secret::new(text.to_owned())).unwrap();
        SecretSeal { current: key(secret), previous: previous.map(key) }
    }

    #[test]
    fn w_04_a_secret_outlives_the_rotation_of_the_key_that_it_is_sealed_with() {
        let rng = SystemRng::new();
        let secret = SigningSecret::generate(&rng);
        let sealed = seal("first", None).seal(&rng, b"here", &secret).unwrap();
        assert!(
            !sealed.windows(8).any(|part| secret.bytes().starts_with(part)),
            "it is nowhere in the clear"
        );
        let (opened, stale) = seal("second", Some("first")).open(b"here", &sealed).unwrap();
        assert_eq!((opened.bytes(), stale), (secret.bytes(), true));
        let anew = seal("second", Some("first")).seal(&rng, b"here", &opened).unwrap();
        let (opened, stale) = seal("second", None).open(b"here", &anew).unwrap();
        assert_eq!((opened.bytes(), stale), (secret.bytes(), false));
        for (keys, place, sealed) in [
            (seal("second", None), &b"here"[..], &sealed[..]),
            (seal("first", None), b"there", &sealed),
            (seal("first", None), b"here", &sealed[..sealed.len() - 1]),
            (seal("first", None), b"here", &[]),
        ] {
            let said = keys.open(place, sealed).unwrap_err();
            assert!(format!("{said:?}").contains("WEBHOOK_SECRET_PREVIOUS"));
        }
    }
}
