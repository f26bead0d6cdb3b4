//! Secrets of endpoints are encrypted with their tenant's key: what is stored signs nothing. What was sealed under `WEBHOOK_SECRET`,
//! before there were such keys, opens still, under `WEBHOOK_SECRET_PREVIOUS` too, and is encrypted anew.

use uuid::Uuid;

use super::SigningSecret;
use crate::app::App;
use crate::config::WebhookSettings;
use crate::crypto::{Keyring, SealPlace};
use crate::error::{Error, Result};
use crate::shared::{Rng, SealKeys, TenantId};

const PURPOSE: &str = "erp-backend secrets of webhooks";

/// Where the secret of an endpoint is kept.
const TABLE: &str = "webhook_secrets";
const COLUMN: &str = "sealed";
/// What a ciphertext begins with, and nothing from before does.
const NEW: u8 = b'v';

/// Encrypts and opens the secrets of one tenant's endpoints.
pub struct EndpointSeal<'a> {
    app: &'a App,
    ring: Keyring,
    of_before: SecretSeal,
}

impl<'a> EndpointSeal<'a> {
    /// With the keys that the tenant has; none without `WEBHOOK_SECRET`.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn of(app: &'a App, tenant: TenantId) -> Result<Option<Self>> {
        let Some(of_before) = SecretSeal::of(&app.config.webhooks) else { return Ok(None) };
        let ring = app.keys.for_sealing(tenant).await?;
        Ok(Some(Self { app, ring, of_before }))
    }

    /// What is stored of an endpoint's secret: it opens as no other's.
    ///
    /// # Errors
    /// `core.unreadable` where the tenant's key cannot be used, or as the database answers.
    pub async fn seal(&self, endpoint: Uuid, secret: &SigningSecret) -> Result<Vec<u8>> {
        let place = SealPlace { table: TABLE, column: COLUMN, row: endpoint };
        let sealed = self.app.keys.seal(self.ring.tenant(), &place, secret.bytes()).await?;
        Ok(sealed.into_bytes())
    }

    /// Opens an endpoint's secret, and says whether it was sealed before there was a key of the tenant: it is to be encrypted anew.
    ///
    /// # Errors
    /// `core.unreadable` or `core.internal` for what does not open.
    pub async fn open(&self, endpoint: Uuid, sealed: &[u8]) -> Result<(SigningSecret, bool)> {
        if sealed.first() != Some(&NEW) {
            let place = [self.ring.tenant().as_uuid().as_bytes().as_slice(), endpoint.as_bytes()].concat();
            return self.of_before.open(&place, sealed).map(|(secret, _)| (secret, true));
        }
        let place = SealPlace { table: TABLE, column: COLUMN, row: endpoint };
        let text = std::str::from_utf8(sealed).unwrap_or_default();
        let opened = self.app.keys.open(&self.ring, &place, text).await?;
        Ok((SigningSecret::of_bytes(opened.to_vec()).map_err(Error::internal)?, false))
    }
}

/// Seals and opens secrets as it was done before there were keys of tenants.
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
