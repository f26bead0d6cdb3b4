//! What is counted, by a name that tells nobody whom: addresses and accounts are personal data.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::shared::{PrincipalId, Secret, TenantId, derived, network};

/// Whom a policy counts. Everything behind a credential is counted within its tenant (T-18).
#[derive(Debug, Clone, Copy)]
pub enum Whom<'a> {
    /// Somebody without a credential: an address, or a /64 network of IPv6.
    Stranger(IpAddr),
    /// An address, as one tenant's people use it.
    Office(TenantId, IpAddr),
    /// A person in a tenant.
    Member(TenantId, PrincipalId),
    /// All of a site's networks together: its address is that of a /48 of IPv6.
    Site(IpAddr),
    /// An account that somebody without a credential tries to get at: the tenant as it was named, and the account's name.
    Account(&'a str, &'a str),
    /// The same, from one address.
    AccountFrom(IpAddr, &'a str, &'a str),
    /// A device that has proven before whose it is.
    Device(Uuid),
    /// A tenant, as somebody without a credential has named it.
    Named(&'a str),
}

/// What one decision's keys have in common, so that they lie together: in one shard here, in one slot of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Tenant(TenantId),
    Address(u64),
    /// All counters of failed attempts, of which there are few.
    Failures,
}

/// The name of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) scope: Scope,
    pub(super) policy: &'static str,
    pub(super) id: u128,
}

/// Names counters. All instances that share a `JWT_SECRET` name them alike, and nobody else can.
pub(super) struct Names([u8; 16]);

impl Names {
    pub(super) fn new(secret: &Secret<String>) -> Self {
        let derived = derived(secret, "erp-backend rate limit keys");
        let mut name = [0; 16];
        name.iter_mut().zip(derived.as_ref()).for_each(|(to, from)| *to = *from);
        Self(name)
    }

    pub(super) fn key(&self, policy: &'static str, whom: Whom<'_>) -> Key {
        let address = |address| octets(network(address));
        let bytes = |id: &Uuid| *id.as_bytes();
        let id = |parts: &[&[u8]]| self.hash(policy, parts);
        let (scope, id) = match whom {
            Whom::Stranger(from) => (Scope::Address(self.scope(from)), id(&[b"a", &address(from)])),
            Whom::Office(tenant, from) => {
                (Scope::Tenant(tenant), id(&[b"o", &bytes(tenant.as_uuid()), &address(from)]))
            }
            Whom::Member(tenant, user) => {
                (Scope::Tenant(tenant), id(&[b"m", &bytes(tenant.as_uuid()), &bytes(user.as_uuid())]))
            }
            Whom::Site(site) => (Scope::Failures, id(&[b"s", &octets(site)])),
            Whom::Account(tenant, account) => {
                (Scope::Failures, id(&[b"e", tenant.as_bytes(), account.as_bytes()]))
            }
            Whom::Device(device) => (Scope::Failures, id(&[b"d", &bytes(&device)])),
            Whom::Named(tenant) => (Scope::Failures, id(&[b"t", tenant.as_bytes()])),
            Whom::AccountFrom(from, tenant, account) => {
                (Scope::Failures, id(&[b"c", &address(from), tenant.as_bytes(), account.as_bytes()]))
            }
        };
        Key { scope, policy, id }
    }

    fn scope(&self, from: IpAddr) -> u64 {
        (self.hash("", &[&octets(network(from))]) >> 64) as u64
    }

    /// SipHash-2-4: with a key that others do not know, its values cannot be made to collide or be turned back.
    fn hash(&self, policy: &str, parts: &[&[u8]]) -> u128 {
        let mut all = SmallVec::<[u8; 128]>::new(); // hashed at once, which takes a third of the time
        for part in [policy.as_bytes()].iter().chain(parts) {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes()); // where one part ends and the next begins
            all.extend_from_slice(part);
        }
        SipHasher24::new_with_key(&self.0).hash(&all).as_u128()
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Scope {
    /// A number that is spread evenly.
    pub(super) fn number(self) -> u64 {
        match self {
            // The last 62 bits of an id are random.
            Self::Tenant(tenant) => tenant.as_uuid().as_u128() as u64,
            Self::Address(hash) => hash,
            Self::Failures => 0,
        }
    }
}

/// The name in Redis. What stands in braces decides the slot of a cluster.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("erp:rl:{")?;
        match self.scope {
            Scope::Tenant(tenant) => write!(f, "{tenant}")?,
            Scope::Address(hash) => write!(f, "{hash:016x}")?,
            Scope::Failures => f.write_str("failures")?,
        }
        f.write_char('}')?;
        write!(f, ":{}:{:032x}", self.policy, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    fn names(secret: &str) -> Names {
        Names::new(&Secret::new(secret.to_owned()))
    }

    #[test]
    fn t_18_every_difference_makes_another_key() {
        let names = names("one");
        let (clock, rng) = (SystemClock, SystemRng::new());
        let (tenant, other) = (TenantId::new(&clock, &rng), TenantId::new(&clock, &rng));
        let user = PrincipalId::new(&clock, &rng);
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let keys = [
            Whom::Stranger(here),
            Whom::Stranger(there),
            Whom::Office(tenant, here),
            Whom::Office(other, here),
            Whom::Office(tenant, there),
            Whom::Member(tenant, user),
            Whom::Member(other, user),
            Whom::Site(here),
            Whom::Account("acme", "alice"),
            Whom::Account("globex", "alice"),
            Whom::AccountFrom(here, "acme", "alice"),
            Whom::AccountFrom(there, "acme", "alice"),
            Whom::AccountFrom(here, "globex", "alice"),
            Whom::AccountFrom(here, "acm", "ealice"),
            Whom::Device(Uuid::from_u128(1)),
            Whom::Device(Uuid::from_u128(2)),
            Whom::Named("acme"),
            Whom::Named("globex"),
        ];
        let mut seen = std::collections::HashSet::new();
        for key in keys.map(|whom| names.key("default", whom)) {
            assert!(seen.insert(key.id), "{key}");
        }
        assert!(seen.insert(names.key("sign-in", Whom::Stranger(here)).id));
        let tenants = names.key("default", Whom::Member(tenant, user)).to_string();
        assert!(tenants.starts_with(&format!("erp:rl:{{{tenant}}}:default:")), "{tenants}");
    }

    #[test]
    fn instances_with_the_same_secret_name_alike_and_nobody_else() {
        let whom = Whom::Stranger("192.0.2.1".parse().unwrap());
        assert_eq!(names("one").key("p", whom), names("one").key("p", whom));
        assert_ne!(names("one").key("p", whom), names("two").key("p", whom));
        let shown = names("one").key("p", whom).to_string();
        assert!(!shown.contains("192") && !shown.contains("c0000201"), "{shown}");
    }

    #[test]
    fn l_02_a_network_of_ipv6_is_one_stranger() {
        let key = |address: &str| names("one").key("p", Whom::Stranger(address.parse().unwrap()));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.3.1"), "IPv4 in IPv6 is IPv4");
    }
}
