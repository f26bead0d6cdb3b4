//! AES-256-GCM as everything at rest has it: a random nonce, the ciphertext, the tag (NIST SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::Rng;

/// Bytes of a tag.
const TAG: usize = 16;

/// A key that encrypts and authenticates. What it has sealed is 28 bytes longer than the text.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    /// A key of 32 bytes; `None` for another length.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?)))
    }

    /// Seals `text` for its `place`: it opens in no other. `None` for more than 64 GiB.
    pub(crate) fn seal(&self, rng: &dyn Rng, place: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + TAG);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let inner = sealed.get_mut(NONCE_LEN..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(place), inner).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Opens what it has sealed for `place`; `None` for anything else, of which nothing is released.
    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, inner) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(inner.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(place), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}
