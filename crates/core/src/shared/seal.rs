//! What is kept sealed in the database: AES-256-GCM under a key that is made from a secret of the deployment. The secrets that
//! were before, or come next, open what they have sealed.

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::{AeadKey, Rng, Secret, derived};

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
    key: AeadKey,
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
        Some(Self { mark, key: AeadKey::new(key.as_ref())? })
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
        Some([[FORM].as_slice(), mark, &key.seal(rng, place, text)?].concat())
    }

    /// Opens what was sealed for `place`; `None` for what none of the keys has sealed for it.
    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<OpenedSeal> {
        let (head, sealed) = sealed.split_at_checked(1 + MARK)?;
        let (form, mark) = head.split_at(1);
        let keys = std::iter::once(&self.current).chain(&self.others).filter(|_| form == [FORM]);
        keys.enumerate().filter(|(_, key)| key.mark == mark).find_map(|(age, SealKey { key, .. })| {
            key.open(place, sealed).map(|text| OpenedSeal { text, stale: age > 0 })
        })
    }
}
