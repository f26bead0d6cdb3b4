//! The keys of the deployment, which wrap data keys and encrypt nothing else.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::config::key_bytes;
use crate::shared::{AeadKey, Rng, Secret, hex};

/// Bytes of a data key.
pub(super) const KEY: usize = 32;

/// `ENCRYPTION_KEY`, which wraps, and `ENCRYPTION_KEY_PREVIOUS` and `ENCRYPTION_KEY_NEXT`, which open too.
pub(crate) struct KekRing(Vec<Kek>);

struct Kek {
    id: String,
    key: AeadKey,
}

impl KekRing {
    /// Without `ENCRYPTION_KEY`, which only development and tests may lack, a key that follows from `JWT_SECRET`.
    pub(super) fn of(config: &Config) -> Self {
        let keys: Vec<_> = config.encryption.ring().filter_map(Kek::of_setting).collect();
        if keys.is_empty() { Self(config.jwt.ring().filter_map(Kek::of_text).collect()) } else { Self(keys) }
    }

    /// The name of the key that wraps.
    pub(super) fn current(&self) -> Option<&str> {
        self.0.first().map(|kek| kek.id.as_str())
    }

    /// Whether the key of this name is known.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|kek| kek.id == id)
    }

    /// Wraps a data key for its place: the name of the key that has, and the text.
    pub(super) fn wrap(&self, rng: &dyn Rng, place: &[u8], data_key: &[u8; KEY]) -> Option<(String, String)> {
        let kek = self.0.first()?;
        let wrapped = kek.key.seal(rng, place, data_key)?;
        Some((kek.id.clone(), URL_SAFE_NO_PAD.encode(wrapped)))
    }

    /// Opens a data key that the key of this name has wrapped for this place.
    pub(super) fn unwrap(&self, id: &str, place: &[u8], wrapped: &str) -> Option<Zeroizing<[u8; KEY]>> {
        let kek = self.0.iter().find(|kek| kek.id == id)?;
        let opened = kek.key.open(place, &URL_SAFE_NO_PAD.decode(wrapped).ok()?)?;
        opened.first_chunk::<KEY>().filter(|key| key.len() == opened.len()).copied().map(Zeroizing::new)
    }
}

impl Kek {
    /// The bytes count, and not how they are spelt: the same key as base64 and as hex is one key.
    fn of_setting(secret: &Secret<String>) -> Option<Self> {
        let bytes = key_bytes(secret.expose())?;
        Self::new(&hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref()))
    }

    fn of_text(secret: &Secret<String>) -> Option<Self> {
        Self::new(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    fn new(given: &hmac::Key) -> Option<Self> {
        let key = hmac::sign(given, b"erp-backend wraps data keys");
        // A name that says nothing about the key: of a value that nothing else is made of.
        let name = hmac::sign(given, b"erp-backend name of the key that wraps data keys");
        let id = format!("env:{}", hex(name.as_ref().get(..4)?));
        Some(Self { id, key: AeadKey::new(key.as_ref())? })
    }
}
