use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

/// A value that does not print, serialise or compare, and is wiped when dropped.
///
/// The value comes out through [`Secret::expose`] only, so that `git grep expose` lists every use.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not log it, and do not keep a copy longer than the call at hand.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

/// A secret can be read from a request; there is no way to write one.
impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T: Zeroize + JsonSchema> JsonSchema for Secret<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Secret{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert("format".to_owned(), "password".into());
        schema.insert("writeOnly".to_owned(), true.into());
        schema
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret in an answer, shown to the caller this once: `whsec_…`, a key of the API, a link that works once. It does not
/// print either. Its route is declared with [`Routes::shows_secret`](crate::module::Routes::shows_secret).
#[derive(Debug, Clone)]
pub struct ShownSecret(Secret<String>);

impl ShownSecret {
    /// In the schema of what is shown so.
    pub(crate) const MARK: &str = "x-shown-once";

    /// The secret itself: see [`Secret::expose`].
    pub const fn expose(&self) -> &String {
        self.0.expose()
    }
}

impl From<Secret<String>> for ShownSecret {
    fn from(secret: Secret<String>) -> Self {
        Self(secret)
    }
}

impl Serialize for ShownSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl JsonSchema for ShownSecret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ShownSecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<String>();
        schema.insert(Self::MARK.to_owned(), true.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.expose(), "hunter2");
        let shown = ShownSecret::from(secret);
        assert!(!format!("{shown:?}").contains("hunter2"));
        assert_eq!(serde_json::to_string(&shown).unwrap(), "\"hunter2\"");
    }
}
