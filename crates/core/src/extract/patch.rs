use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::crypto::SealFault;
use crate::db::{RowSealer, ToColumns, ToSql};

/// The functions of [`JsonSchema`] for what is written as another type is.
macro_rules! schema_of {
    ($of:ty) => {
        fn inline_schema() -> bool {
            <$of>::inline_schema()
        }

        fn schema_name() -> std::borrow::Cow<'static, str> {
            <$of>::schema_name()
        }

        fn schema_id() -> std::borrow::Cow<'static, str> {
            <$of>::schema_id()
        }

        fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
            <$of>::json_schema(generator)
        }
    };
}
pub(crate) use schema_of;

/// A member of a merge patch (RFC 7396): absent keeps what is there, anything else is the new value. `null` clears a
/// `Patch<Option<T>>`, and is refused for a `Patch<T>`.
///
/// [`patch!`](crate::patch) makes a struct of them, and binds each column as two parameters: whether it is given, and the value.
#[derive(Debug, Clone)]
pub struct Patch<T> {
    /// Whether the patch has this member.
    pub given: bool,
    /// Its value, if it has.
    pub value: Option<T>,
}

impl<T> Patch<T> {
    /// Appends the values of its columns, each after whether it is given.
    pub fn append<'a, Kind>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>)
    where
        Option<T>: ToColumns<Kind>,
    {
        let mut own = Vec::with_capacity(<Option<T>>::SUFFIXES.len());
        self.value.append(&mut own);
        for value in own {
            values.extend([&self.given, value]);
        }
    }

    /// Encrypts what is encrypted in its column.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    pub fn seal<Kind>(&self, sealer: &RowSealer<'_>, field: &'static str) -> Result<(), SealFault>
    where
        Option<T>: ToColumns<Kind>,
    {
        self.value.seal(sealer, field)
    }
}

impl<T> Default for Patch<T> {
    fn default() -> Self {
        Self { given: false, value: None }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self { given: true, value: Some(value) })
    }
}

/// As `T`'s: that it may be absent is said by the struct.
impl<T: JsonSchema> JsonSchema for Patch<T> {
    schema_of!(T);
}
