use zeroize::Zeroizing;

use super::fault::SealFault;
use super::kek::{KEY, KekRing};
use super::place::parts;
use crate::config::Config;
use crate::shared::{Rng, TenantId};

/// What wraps data keys.
pub(crate) enum KeyEncryption {
    /// Keys of the settings.
    Ring(KekRing),
}

/// A data key as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    /// The name of the key that has wrapped it.
    pub(crate) by: String,
    /// The text.
    pub(crate) text: String,
}

impl KeyEncryption {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        Self::Ring(KekRing::of(config))
    }

    /// The name of the key that wraps from here on; a key that another one has wrapped is to be wrapped anew.
    pub(crate) fn current(&self) -> Option<String> {
        let Self::Ring(ring) = self;
        ring.current().map(str::to_owned)
    }

    /// Whether what the key of this name has wrapped can be opened.
    pub(crate) fn knows(&self, by: &str) -> bool {
        let Self::Ring(ring) = self;
        ring.knows(by)
    }

    /// Wraps a version of a tenant's data key.
    ///
    /// # Errors
    /// Where there is no key to wrap with.
    pub(crate) async fn wrap(
        &self,
        rng: &dyn Rng,
        (tenant, version): (TenantId, u32),
        data_key: &[u8; KEY],
    ) -> Result<WrappedKey, SealFault> {
        let Self::Ring(ring) = self;
        let wrapped = ring.wrap(rng, &place(tenant, version), data_key);
        wrapped.map(|(by, text)| WrappedKey { by, text }).ok_or(SealFault::Unwrapped(version))
    }

    /// Opens one.
    ///
    /// # Errors
    /// [`SealFault::Unwrapped`] where the key that has wrapped it is not known, [`SealFault::Altered`] where it was changed or is
    /// another tenant's.
    pub(crate) async fn unwrap(
        &self,
        (tenant, version): (TenantId, u32),
        wrapped: &WrappedKey,
    ) -> Result<Zeroizing<[u8; KEY]>, SealFault> {
        let Self::Ring(ring) = self;
        if !ring.knows(&wrapped.by) {
            return Err(SealFault::Unwrapped(version));
        }
        ring.unwrap(&wrapped.by, &place(tenant, version), &wrapped.text).ok_or(SealFault::Altered)
    }
}

/// What is authenticated beside a wrapped key: whose it is, and which.
fn place(tenant: TenantId, version: u32) -> Vec<u8> {
    parts(&[b"erp data key", tenant.as_uuid().as_bytes(), &version.to_be_bytes()])
}
