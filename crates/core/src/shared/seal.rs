//! What is kept sealed in the database: AES-256-GCM under a key that is made from a secret of the deployment. The secrets that
//! were before, or come next, open what they have sealed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::{Rng, Secret, derived};

/// The first byte of what is sealed so.
const FORM: u8 = 1;
/// Bytes that tell by which key: of a hash of it.
const MARK: usize = 4;

/// Seals for one purpose, and opens.
pub(crate) struct SealKeys {
    current: SealKey,
    others: Vec<SealKey>,
}

struct SealKey {
    mark: [u8; MARK],
    key: LessSafeKey,
}

/// What was opened.
pub(crate) struct OpenedSeal {
    pub(crate) text: Zeroizing<Vec<u8>>,
    /// Whether another key has sealed it: it is to be sealed anew.
    pub(crate) stale: bool,
}

impl SealKey {
    fn new(purpose: &str, secret: &Secret<String>) -> Option<Self> {
        let key = derived(secret, purpose);
        let hash = digest::digest(&digest::SHA256, key.as_ref());
        let mark = hash.as_ref().first_chunk().copied()?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(Self { mark, key: LessSafeKey::new(key) })
    }
}

impl SealKeys {
    /// Keys from secrets, of which the first seals. What is sealed for one purpose opens for no other. `None` without a secret.
    pub(crate) fn new<'a>(
        purpose: &str,
        secrets: impl IntoIterator<Item = &'a Secret<String>>,
    ) -> Option<Self> {
        let mut keys = secrets.into_iter().map(|secret| SealKey::new(purpose, secret));
        let current = keys.next()??;
        Some(Self { current, others: keys.flatten().collect() })
    }

    /// Seals `text` for its `place`: it opens in no other. `None` for more than 64 GiB.
    pub(crate) fn seal(&self, rng: &dyn Rng, place: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let SealKey { mark, key } = &self.current;
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut text = Zeroizing::new(text.to_vec());
        let sealed = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(sealed, Aad::from(place), &mut text).ok()?;
        Some([&[FORM], mark.as_slice(), &nonce, &text, tag.as_ref()].concat())
    }

    /// Opens what was sealed for `place`; `None` for what none of the keys has sealed for it.
    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<OpenedSeal> {
        let (head, sealed) = sealed.split_at_checked(1 + MARK)?;
        let (form, mark) = head.split_at(1);
        let keys = std::iter::once(&self.current).chain(&self.others).filter(|_| form == [FORM]);
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        for (age, SealKey { key, .. }) in keys.enumerate().filter(|(_, key)| key.mark == mark) {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = Zeroizing::new(sealed.to_vec());
            if let Ok(length) = key.open_in_place(nonce, Aad::from(place), &mut text).map(|text| text.len()) {
                text.truncate(length);
                return Some(OpenedSeal { text, stale: age > 0 });
            }
        }
        None
    }
}
