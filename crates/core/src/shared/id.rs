use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use uuid::Uuid;

use super::{Clock, Rng};

/// What an [`Id`] names. Implement it on an empty enum: `enum Item {} impl IdKind for Item { const NAME: &'static str = "item"; }`.
pub trait IdKind: 'static {
    /// The word for it in error texts.
    const NAME: &'static str;
}

/// An id of one kind of thing, a UUIDv7 (RFC 9562): a user's id does not fit where a tenant's is asked for.
///
/// It reveals the moment it was made; never use one as a secret.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

/// See [`TenantId`].
#[derive(Debug)]
pub enum Tenant {}

/// See [`UserId`].
#[derive(Debug)]
pub enum User {}

/// See [`PrincipalId`].
#[derive(Debug)]
pub enum Principal {}

/// See [`SessionId`].
#[derive(Debug)]
pub enum SessionRow {}

/// See [`OperatorId`].
#[derive(Debug)]
pub enum OperatorRow {}

impl IdKind for OperatorRow {
    const NAME: &'static str = "operator";
}

impl IdKind for SessionRow {
    const NAME: &'static str = "session";
}

impl IdKind for Principal {
    const NAME: &'static str = "principal";
}

impl IdKind for Tenant {
    const NAME: &'static str = "tenant";
}

impl IdKind for User {
    const NAME: &'static str = "user";
}

/// The id of a tenant: the key that every tenant table leads with.
pub type TenantId = Id<Tenant>;

/// The id of a person. People are global; what ties one to a tenant is a membership.
pub type UserId = Id<User>;

/// The id of a session: of one sign-in of a person, until it is signed out.
pub type SessionId = Id<SessionRow>;

/// The id of an operator of the platform, who is no member of any tenant.
pub type OperatorId = Id<OperatorRow>;

/// The id of a principal, which can hold a role in a tenant: a person, by its [`UserId`], a service account or a key.
pub type PrincipalId = Id<Principal>;

impl From<UserId> for PrincipalId {
    fn from(person: UserId) -> Self {
        Self::from_uuid(*person.as_uuid())
    }
}

impl<K: IdKind> Id<K> {
    /// A new id: the clock's milliseconds, then 74 random bits.
    pub fn new(clock: &dyn Clock, rng: &dyn Rng) -> Self {
        let mut random = [0; 10];
        rng.fill(&mut random);
        let millis = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
        Self::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// An id that is already known, such as one read from a table.
    pub(crate) const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// The bare UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

/// The text was not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId(&'static str);

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a {} id: a UUID is expected", self.0)
    }
}

impl std::error::Error for InvalidId {}

impl TenantId {
    /// A tenant that never is: in its context there is nothing to be seen.
    pub const NOBODY: Self = Self::from_uuid(Uuid::nil());
    /// `erp-platform`, whose jobs are the platform's own. Nobody can sign in to it.
    pub const PLATFORM: Self = Self::from_uuid(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_c000));
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = InvalidId;

    /// Accepts the hyphenated form of 36 characters only, so that one id has one spelling (but for case).
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != 36 {
            return Err(InvalidId(K::NAME));
        }
        Uuid::try_parse(text).map(Self::from_uuid).map_err(|_| InvalidId(K::NAME))
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<K: IdKind> JsonSchema for Id<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}Id", K::NAME).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid", "examples": ["0190163d-8694-739b-aea5-966c26f8ad91"] })
    }
}

impl<K> ToSql for Id<K> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Uuid as ToSql>::accepts(ty)
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a, K> FromSql<'a> for Id<K> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Uuid::from_sql(ty, raw).map(|uuid| Self(uuid, PhantomData))
    }

    fn accepts(ty: &Type) -> bool {
        <Uuid as FromSql<'_>>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    #[test]
    fn a_new_id_is_version_7_and_reads_back() {
        let id = TenantId::new(&SystemClock, &SystemRng::new());
        assert_eq!(id.as_uuid().get_version_num(), 7);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_spellings_of_a_uuid_are_refused() {
        for text in ["", "x", "{0190163d-8694-739b-aea5-966c26f8ad91}", "0190163d8694739baea5966c26f8ad91"] {
            assert!(text.parse::<UserId>().is_err(), "{text}");
        }
    }
}
