//! Links to files that work without a credential, for a while: their own text says whose file it is and until when, under a
//! signature.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use uuid::Uuid;

use super::ObjectKey;
use crate::shared::{Id, Secret, TenantId, derived_key};

/// The longest that a link works.
pub(crate) const LONGEST_LINK: Duration = Duration::from_secs(24 * 3600);
/// A tenant, a file, a time.
const SIGNED: usize = 16 + 16 + 8;

/// Signs links, and tells its own from others. The keys are made from the ring of `JWT_SECRET`.
pub(super) struct LinkKeys {
    current: hmac::Key,
    others: Vec<hmac::Key>,
}

impl LinkKeys {
    /// `current` signs links, and `others` open theirs.
    pub(super) fn new<'a>(
        current: &Secret<String>,
        others: impl IntoIterator<Item = &'a Secret<String>>,
    ) -> Self {
        Self { current: key(current), others: others.into_iter().map(key).collect() }
    }

    /// What stands for a file until `expires`.
    pub(super) fn sign(&self, key: ObjectKey, expires: Timestamp) -> String {
        let said = said(key, expires.as_second());
        let seal = hmac::sign(&self.current, &said);
        BASE64_URL_SAFE_NO_PAD.encode([&said, seal.as_ref()].concat())
    }

    /// The file of a link that was signed here and is not over.
    pub(super) fn open(&self, link: &str, now: Timestamp) -> Option<ObjectKey> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(link).ok()?;
        let (said, seal) = bytes.split_at_checked(SIGNED)?;
        let mut keys = std::iter::once(&self.current).chain(&self.others);
        keys.find(|key| hmac::verify(key, said, seal).is_ok())?;
        let expires = i64::from_be_bytes(said.get(32..)?.try_into().ok()?);
        let left = expires.checked_sub(now.as_second())?;
        let id = |range: std::ops::Range<usize>| Some(Uuid::from_bytes(said.get(range)?.try_into().ok()?));
        let key = ObjectKey { tenant: TenantId::from_uuid(id(0..16)?), file: Id::from_uuid(id(16..32)?) };
        // One that is good for longer was signed by a clock that went wrong.
        (left > 0 && left.unsigned_abs() <= LONGEST_LINK.as_secs()).then_some(key)
    }
}

fn key(secret: &Secret<String>) -> hmac::Key {
    derived_key(secret, "erp-backend file links")
}

fn said(ObjectKey { tenant, file }: ObjectKey, expires: i64) -> Vec<u8> {
    [tenant.as_uuid().as_bytes().as_slice(), file.as_uuid().as_bytes(), &expires.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileId;
    use crate::shared::{SystemClock, SystemRng};

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_link_is_one_files_of_one_tenant_until_its_time() {
        let rng = SystemRng::new();
        let key =
            ObjectKey { tenant: TenantId::new(&SystemClock, &rng), file: FileId::new(&SystemClock, &rng) };
        let keys = LinkKeys::new(&secret("one"), []);
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let link = keys.sign(key, at(60));
        assert_eq!(keys.open(&link, at(0)), Some(key));
        assert_eq!(keys.open(&link, at(59)), Some(key));
        for other in [keys.open(&link, at(60)), keys.open(&link, at(-86_400)), keys.open("", at(0))] {
            assert_eq!(other, None);
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&link).unwrap();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert_eq!(keys.open(&BASE64_URL_SAFE_NO_PAD.encode(&bytes), at(0)), None, "byte {index}");
            bytes[index] ^= 1;
        }
        assert_eq!(
            keys.open(&BASE64_URL_SAFE_NO_PAD.encode(&bytes[..71]), at(0)),
            None,
            "a seal that was cut"
        );
        let rotated = LinkKeys::new(&secret("two"), [&secret("one")]);
        assert_eq!(rotated.open(&link, at(0)), Some(key), "the secret before is honoured");
        assert_eq!(LinkKeys::new(&secret("two"), []).open(&link, at(0)), None);
    }
}
