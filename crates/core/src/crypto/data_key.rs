use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::fault::SealFault;
use super::kek::KEY;
use super::place::{SealPlace, parts};
use crate::shared::{AeadKey, Rng, TenantId};

/// The largest number of a version, as the CHECK of encrypted columns has it.
pub(crate) const LAST_VERSION: u32 = 999_999_999;
/// Bytes of a blind index: no two values of a tenant share one by chance.
const INDEX: usize = 16;

/// One version of a tenant's data key, as two keys that follow from it: for columns, and for their blind indexes.
pub struct DataKey {
    version: u32,
    /// Whether it opens and finds only: not every process may know it yet.
    announced: bool,
    columns: AeadKey,
    indexes: hmac::Key,
}

/// The data keys of one tenant, in the order of their versions; cheap to clone. The last one that every process knows encrypts, all of
/// them open.
#[derive(Clone)]
pub struct Keyring(Arc<KeyringInner>);

struct KeyringInner {
    tenant: TenantId,
    keys: Vec<DataKey>,
    /// Versions that cannot be used, and why.
    faults: Vec<(u32, SealFault)>,
}

impl DataKey {
    /// The keys of a version. `None` where the library refuses 32 bytes, which it does not.
    pub fn new(version: u32, data_key: &[u8; KEY]) -> Option<Self> {
        let given = hmac::Key::new(hmac::HMAC_SHA256, data_key);
        let derived = |purpose: &[u8]| hmac::sign(&given, purpose);
        Some(Self {
            version,
            announced: false,
            columns: AeadKey::new(derived(b"erp columns").as_ref())?,
            indexes: hmac::Key::new(hmac::HMAC_SHA256, derived(b"erp blind indexes").as_ref()),
        })
    }

    /// The same, of a version that not every process knows yet: it opens what others have encrypted with it, its blind indexes are
    /// looked for, and the version before encrypts.
    #[must_use]
    pub fn announced(self, announced: bool) -> Self {
        Self { announced, ..self }
    }

    /// A key that nobody has had before.
    pub fn random(rng: &dyn Rng) -> Zeroizing<[u8; KEY]> {
        let mut bytes = Zeroizing::new([0; KEY]);
        rng.fill(bytes.as_mut());
        bytes
    }

    fn index(&self, [table, column]: [&str; 2], text: &[u8]) -> String {
        let tag = hmac::sign(&self.indexes, &parts(&[table.as_bytes(), column.as_bytes(), text]));
        format!("v{}:{}", self.version, URL_SAFE_NO_PAD.encode(tag.as_ref().get(..INDEX).unwrap_or_default()))
    }
}

impl Keyring {
    /// The keys of a tenant, and its versions that cannot be used.
    pub fn new(tenant: TenantId, mut keys: Vec<DataKey>, faults: Vec<(u32, SealFault)>) -> Self {
        keys.sort_by_key(|key| key.version);
        Self(Arc::new(KeyringInner { tenant, keys, faults }))
    }

    /// Whose keys they are.
    pub fn tenant(&self) -> TenantId {
        self.0.tenant
    }

    /// The version that encrypts.
    ///
    /// # Errors
    /// Why none does: it must not be an older one.
    pub fn current(&self) -> Result<u32, SealFault> {
        self.sealing().map(|key| key.version)
    }

    /// Whether a version will encrypt once every process knows it.
    pub fn awaits(&self) -> bool {
        self.0.keys.last().is_some_and(|key| key.announced)
    }

    fn sealing(&self) -> Result<&DataKey, SealFault> {
        let last = self.0.keys.iter().rfind(|key| !key.announced);
        match self.0.faults.iter().max_by_key(|(version, _)| *version) {
            Some((version, fault)) if last.is_none_or(|key| key.version < *version) => Err(*fault),
            _ => last.ok_or(SealFault::UnknownVersion(1)),
        }
    }

    /// Encrypts `text` for its place: `v2:` and then, in base64url, a random nonce, the ciphertext and its tag.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    pub fn seal(&self, rng: &dyn Rng, place: &SealPlace<'_>, text: &[u8]) -> Result<String, SealFault> {
        let DataKey { version, columns, .. } = self.sealing()?;
        let place = place.bytes(self.0.tenant);
        let sealed = columns.seal(rng, &place, text).ok_or(SealFault::TooLong)?;
        let mut written = format!("v{version}:");
        URL_SAFE_NO_PAD.encode_string(&sealed, &mut written);
        Ok(written)
    }

    /// Opens what was encrypted for this place.
    ///
    /// # Errors
    /// For anything else; nothing of the text is released then.
    pub fn open(&self, place: &SealPlace<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealFault> {
        let (version, sealed) = version_of(sealed).ok_or(SealFault::Form)?;
        let key = self.key(version)?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealFault::Form)?;
        key.columns.open(&place.bytes(self.0.tenant), &sealed).ok_or(SealFault::Altered)
    }

    /// Whether the version that encrypts has encrypted it.
    pub fn is_current(&self, sealed: &str) -> bool {
        version_of(sealed).is_some_and(|(version, _)| self.current() == Ok(version))
    }

    /// What stands in the blind index of a column for this text: of the version that encrypts.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    pub fn index(&self, place: [&str; 2], text: &[u8]) -> Result<String, SealFault> {
        self.sealing().map(|key| key.index(place, text))
    }

    /// What may stand there, the newest first: while a rotation is under way, that of an older version too.
    pub fn indexes(&self, place: [&str; 2], text: &[u8]) -> Vec<String> {
        self.0.keys.iter().rev().map(|key| key.index(place, text)).collect()
    }

    fn key(&self, version: u32) -> Result<&DataKey, SealFault> {
        if let Some(key) = self.0.keys.iter().find(|key| key.version == version) {
            return Ok(key);
        }
        let fault = self.0.faults.iter().find(|(faulty, _)| *faulty == version);
        Err(fault.map_or(SealFault::UnknownVersion(version), |(_, fault)| *fault))
    }
}

/// The version that a ciphertext names, and the rest. A number has one spelling.
fn version_of(sealed: &str) -> Option<(u32, &str)> {
    let (digits, rest) = sealed.strip_prefix('v')?.split_once(':')?;
    let is_number = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    let version = digits.parse().ok().filter(|version| is_number && *version <= LAST_VERSION)?;
    Some((version, rest))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("tenant", &self.0.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::shared::SystemRng;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    fn ring(number: u128, versions: &[u32]) -> Keyring {
        let bytes = |version: u32| [(number as u8) ^ (version as u8).wrapping_mul(31); KEY];
        let keys = versions.iter().map(|version| DataKey::new(*version, &bytes(*version)).unwrap());
        Keyring::new(tenant(number), keys.collect(), Vec::new())
    }

    const PLACE: SealPlace<'static> =
        SealPlace { table: "suppliers", column: "iban", row: Uuid::from_u128(7) };

    #[test]
    fn c_01_a_ciphertext_names_its_version_and_has_a_nonce_of_its_own() {
        let (rng, ring) = (SystemRng::new(), ring(1, &[1, 2]));
        let seal = || ring.seal(&rng, &PLACE, b"DE02120300000000202051").unwrap();
        let sealed = seal();
        assert!(sealed.starts_with("v2:"), "{sealed}");
        assert_eq!(URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap().len(), 12 + 22 + 16);
        assert_eq!(&**ring.open(&PLACE, &sealed).unwrap(), b"DE02120300000000202051");
        let many: std::collections::HashSet<_> = (0..1000).map(|_| seal()[3..19].to_owned()).collect();
        assert_eq!(many.len(), 1000, "a nonce was used twice");
        let nothing = ring.seal(&rng, &PLACE, b"").unwrap();
        assert_eq!(&**ring.open(&PLACE, &nothing).unwrap(), b"");
    }

    #[test]
    fn c_02_a_ciphertext_opens_in_its_place_only() {
        let (rng, mine) = (SystemRng::new(), ring(1, &[1]));
        let sealed = mine.seal(&rng, &PLACE, b"text").unwrap();
        for place in [
            SealPlace { row: Uuid::from_u128(8), ..PLACE },
            SealPlace { column: "bic", ..PLACE },
            SealPlace { table: "people", ..PLACE },
            SealPlace { table: "suppliersi", column: "ban", ..PLACE },
        ] {
            assert_eq!(mine.open(&place, &sealed).unwrap_err(), SealFault::Altered, "{place:?}");
        }
        assert_eq!(ring(2, &[1]).open(&PLACE, &sealed).unwrap_err(), SealFault::Altered);
        // Even with the same key, the tenant is part of the place.
        let bytes = [1 ^ 31; KEY];
        let same = Keyring::new(tenant(9), vec![DataKey::new(1, &bytes).unwrap()], Vec::new());
        assert_eq!(same.open(&PLACE, &sealed).unwrap_err(), SealFault::Altered);
    }

    #[test]
    fn c_05_no_flipped_bit_releases_a_text() {
        let (rng, ring) = (SystemRng::new(), ring(1, &[1, 2, 3]));
        // Of each length of the last group of base64, whose spare bits must not be ignored.
        for text in ["DE02120300000000202051", "DE0212030000000020205", "DE021203000000002020"] {
            let sealed = ring.seal(&rng, &PLACE, text.as_bytes()).unwrap();
            for bit in 0..sealed.len() * 8 {
                let mut bytes = sealed.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(changed) = std::str::from_utf8(&bytes) {
                    assert!(ring.open(&PLACE, changed).is_err(), "bit {bit}: {changed}");
                }
            }
            for end in 0..sealed.len() {
                assert!(ring.open(&PLACE, &sealed[..end]).is_err(), "{end}");
            }
        }
        for odd in
            ["", "v", "v1", "v1:", "v01:AAAA", "v+1:AAAA", "v99999999999:AAAA", "v1:=", "plain", "v0:AAAA"]
        {
            assert!(ring.open(&PLACE, odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn c_03_older_versions_open_and_the_last_one_encrypts_or_none() {
        let rng = SystemRng::new();
        let old = ring(1, &[1]).seal(&rng, &PLACE, b"text").unwrap();
        let both = ring(1, &[1, 2]);
        assert_eq!(&**both.open(&PLACE, &old).unwrap(), b"text");
        assert!(!both.is_current(&old) && both.is_current(&both.seal(&rng, &PLACE, b"text").unwrap()));
        let new = both.seal(&rng, &PLACE, b"text").unwrap();
        assert_eq!(ring(1, &[1]).open(&PLACE, &new).unwrap_err(), SealFault::UnknownVersion(2));
        let key = || DataKey::new(1, &[1 ^ 31; KEY]).unwrap();
        let lacking = Keyring::new(tenant(1), vec![key()], vec![(2, SealFault::Unwrapped(2))]);
        assert_eq!(lacking.seal(&rng, &PLACE, b"text").unwrap_err(), SealFault::Unwrapped(2));
        assert_eq!(&**lacking.open(&PLACE, &old).unwrap(), b"text", "what it has, it opens");
        let retired = Keyring::new(tenant(1), Vec::new(), vec![(1, SealFault::Retired(1))]);
        assert_eq!(retired.open(&PLACE, &old).unwrap_err(), SealFault::Retired(1));
    }

    #[test]
    fn c_03_a_version_that_is_announced_opens_and_is_looked_for_and_does_not_encrypt() {
        let (rng, place) = (SystemRng::new(), ["suppliers", "iban"]);
        let key = |version: u32| DataKey::new(version, &[1 ^ (version as u8).wrapping_mul(31); KEY]).unwrap();
        let early = Keyring::new(tenant(1), vec![key(1), key(2).announced(true)], Vec::new());
        let late = ring(1, &[1, 2]);
        assert!(early.awaits() && !late.awaits());
        assert!(early.seal(&rng, &PLACE, b"text").unwrap().starts_with("v1:"));
        assert_eq!(early.index(place, b"DE02"), ring(1, &[1]).index(place, b"DE02"));
        assert_eq!(&**early.open(&PLACE, &late.seal(&rng, &PLACE, b"text").unwrap()).unwrap(), b"text");
        assert_eq!(early.indexes(place, b"DE02"), late.indexes(place, b"DE02"));
    }

    #[test]
    fn a_blind_index_is_of_one_tenant_and_column_and_follows_a_rotation() {
        let (mine, place) = (ring(1, &[1, 2]), ["suppliers", "iban"]);
        let index = mine.index(place, b"DE02").unwrap();
        assert_eq!(index, mine.index(place, b"DE02").unwrap());
        assert!(index.starts_with("v2:") && index.len() == 3 + 22, "{index}");
        assert_ne!(index, mine.index(["suppliers", "bic"], b"DE02").unwrap());
        assert_ne!(index, mine.index(place, b"DE03").unwrap());
        assert_ne!(index, ring(2, &[1, 2]).index(place, b"DE02").unwrap());
        assert_eq!(mine.indexes(place, b"DE02"), [index, ring(1, &[1]).index(place, b"DE02").unwrap()]);
    }
}
