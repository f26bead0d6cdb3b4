//! Secrets of endpoints are kept sealed, with AES-256-GCM under a key from `WEBHOOK_SECRET`: what is stored signs nothing
//! without it. Another `WEBHOOK_SECRET` seals anew and changes no secret: the former one, as `WEBHOOK_SECRET_PREVIOUS`, opens.

use super::SigningSecret;
use crate::config::WebhookSettings;
use crate::error::{Error, Result};
use crate::shared::{Rng, SealKeys};

const PURPOSE: &str = "erp-backend secrets of webhooks";

/// Seals and opens the secrets of endpoints.
pub struct SecretSeal(SealKeys);

impl SecretSeal {
    /// As the settings say; none without `WEBHOOK_SECRET`.
    pub fn of(settings: &WebhookSettings) -> Option<Self> {
        let current = settings.secret.as_ref()?;
        SealKeys::new(PURPOSE, std::iter::once(current).chain(&settings.secret_previous)).map(Self)
    }

    /// Seals a secret for its `place`: it opens in no other.
    ///
    /// # Errors
    /// None that is known.
    pub fn seal(&self, rng: &dyn Rng, place: &[u8], secret: &SigningSecret) -> Result<Vec<u8>> {
        let sealed = self.0.seal(rng, place, secret.bytes());
        sealed.ok_or_else(|| Error::internal("a secret could not be sealed"))
    }

    /// Opens what was sealed for `place`, and says whether that was done with the former key: it is to be sealed anew.
    ///
    /// # Errors
    /// `core.internal` for what neither key has sealed for this place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<(SigningSecret, bool)> {
        let opened = self.0.open(place, sealed).ok_or_else(|| {
            Error::internal(
                "the secret of an endpoint cannot be opened: set WEBHOOK_SECRET_PREVIOUS to what WEBHOOK_SECRET was before",
            )
        })?;
        let secret = SigningSecret::of_bytes(opened.text.to_vec()).map_err(Error::internal)?;
        Ok((secret, opened.stale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{Secret, SystemRng};

    fn seal(secret: &str, previous: Option<&str>) -> SecretSeal {
        let key = |text: &str| Secret::new(text.to_owned());
        let secrets: Vec<_> = std::iter::once(secret).chain(previous).map(key).collect();
        SecretSeal(SealKeys::new(PURPOSE, &secrets).unwrap())
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
