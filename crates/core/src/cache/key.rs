//! What a value is kept under: its tenant, and what it is the answer to.

use std::hash::{Hash, Hasher};

use serde::Serialize;
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use smallvec::SmallVec;

use super::ResultCache;
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::shared::{Rng, Secret, TenantId, derived};

/// What a cache is asked for.
pub(crate) struct CacheQuestion {
    tenant: TenantId,
    /// The statement, where the value is its answer: two statements never share a value.
    statement: &'static str,
    /// What the answer depends on beside the tenant, as JSON.
    key: SmallVec<[u8; 96]>,
}

impl CacheQuestion {
    /// What `caller` asks for: the tenant is the caller's, and nothing else makes a question (T-18).
    ///
    /// # Errors
    /// `core.internal` for a key that is no JSON.
    pub(crate) fn new(caller: &Caller, statement: &'static str, key: &impl Serialize) -> Result<Self> {
        let mut json = SmallVec::new();
        serde_json::to_writer(&mut json, key).map_err(Error::internal)?;
        Ok(Self { tenant: caller.tenant(), statement, key: json })
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }
}

/// The key of a value within this process. The tenant stands in it as it is: were two questions of one hash, they would
/// still be of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheKey {
    tenant: TenantId,
    hash: u128,
}

/// The hash is one already.
impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash as u64);
    }
}

/// Makes keys, by a secret of this process: nobody can choose values that collide.
pub(super) struct CacheKeys([u8; 16]);

impl CacheKeys {
    pub(super) fn new(rng: &dyn Rng) -> Self {
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        Self(secret)
    }

    /// Some key, by a number.
    #[cfg(test)]
    pub(super) fn plain(&self, number: u64) -> CacheKey {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u64(number);
        let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(1));
        CacheKey { tenant, hash: hasher.finish128().as_u128() }
    }

    pub(super) fn key<V>(&self, cache: &'static ResultCache<V>, question: &CacheQuestion) -> CacheKey {
        let CacheQuestion { tenant, statement, key } = question;
        let mut hasher = SipHasher24::new_with_key(&self.0);
        // Texts that stand in the program are told apart by where they stand: that is shorter than what they say.
        hasher.write_usize(std::ptr::from_ref(cache).addr());
        hasher.write_usize(statement.as_ptr().addr());
        hasher.write_usize(statement.len());
        hasher.write(key);
        hasher.write(tenant.as_uuid().as_bytes());
        CacheKey { tenant: *tenant, hash: hasher.finish128().as_u128() }
    }
}

/// The name of a value in Redis: the same on all instances that share a secret.
pub(super) struct SharedNames([u8; 16]);

impl SharedNames {
    pub(super) fn new(secret: &Secret<String>) -> Self {
        let derived = derived(secret, "erp-backend cache names");
        let mut key = [0; 16];
        key.iter_mut().zip(derived.as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// It tells nobody what was asked for; and instances with another statement, type or version have another name.
    pub(super) fn value<V>(&self, cache: &'static ResultCache<V>, question: &CacheQuestion) -> String {
        let facts = cache.facts();
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u32(facts.version);
        for part in [std::any::type_name::<V>().as_bytes(), question.statement.as_bytes(), &question.key] {
            hasher.write_usize(part.len()); // where one part ends and the next begins
            hasher.write(part);
        }
        format!("erp:cache:{{{}}}:{}:{:032x}", question.tenant, facts.name, hasher.finish128().as_u128())
    }
}
