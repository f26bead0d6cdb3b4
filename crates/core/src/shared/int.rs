use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The largest integer that every reader of JSON reads exactly: 2^53 - 1. JavaScript takes larger ones for their neighbours.
pub const LARGEST_EXACT: i64 = 9_007_199_254_740_991;

/// An integer from `MIN` to `MAX`, in JSON as a number that every reader reads exactly, in PostgreSQL as `bigint`,
/// `integer` or `smallint`. Bounds beyond [`LARGEST_EXACT`] do not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Int<const MIN: i64, const MAX: i64 = LARGEST_EXACT>(i64);

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    const BOUNDS: () = assert!(
        -LARGEST_EXACT <= MIN && MIN <= MAX && MAX <= LARGEST_EXACT,
        "MIN to MAX must not be empty, and must lie within LARGEST_EXACT"
    );

    /// `value`, if it is within the bounds.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn new(value: i64) -> Result<Self, String> {
        let () = Self::BOUNDS;
        if (MIN..=MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("is out of range; {MIN} to {MAX} are allowed"))
        }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// In a path, for which its digits must be the whole text.
impl<const MIN: i64, const MAX: i64> FromStr for Int<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text.parse().map_err(|_| "is no whole number".to_owned())?)
    }
}

/// For `Money::times`.
impl<const MIN: i64, const MAX: i64> From<Int<MIN, MAX>> for i64 {
    fn from(number: Int<MIN, MAX>) -> Self {
        number.0
    }
}

/// 0, or the bound that is nearest to it.
impl<const MIN: i64, const MAX: i64> Default for Int<MIN, MAX> {
    fn default() -> Self {
        Self(0.clamp(MIN, MAX))
    }
}

impl<const MIN: i64, const MAX: i64> fmt::Display for Int<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Int<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<const MIN: i64, const MAX: i64> JsonSchema for Int<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Int{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "int64", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: i64, const MAX: i64> ToSql for Int<MIN, MAX> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match *ty {
            Type::INT2 => i16::try_from(self.0)?.to_sql(ty, out),
            Type::INT4 => i32::try_from(self.0)?.to_sql(ty, out),
            _ => self.0.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8)
    }

    to_sql_checked!();
}

impl<'a, const MIN: i64, const MAX: i64> FromSql<'a> for Int<MIN, MAX> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let value = match *ty {
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            _ => i64::from_sql(ty, raw)?,
        };
        Ok(Self::new(value)?)
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

/// How often a row has been changed, and one more. The table's constructor keeps it (`migrations`), and the ETag is made
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_EXACT, "examples": [1],
            "description": "Rises with every change; the ETag is made of it.",
        })
    }
}

impl<'a> FromSql<'a> for Version {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        i64::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <i64 as FromSql<'_>>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_02_an_integer_out_of_its_bounds_or_of_another_type_is_refused() {
        type Small = Int<1, 9>;
        for text in ["0", "10", "-1", "1.0", "1e0", "\"1\"", "null", "9223372036854775808"] {
            assert!(serde_json::from_str::<Small>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Small>("9").unwrap().get(), 9);
        assert_eq!(serde_json::to_string(&Small::default()).unwrap(), "1");
        assert_eq!(serde_json::from_str::<Int<0>>("9007199254740991").unwrap().get(), LARGEST_EXACT);
        assert!(serde_json::from_str::<Int<0>>("9007199254740992").is_err());
    }

    #[test]
    fn an_integer_is_stored_in_any_integer_column() {
        for ty in [Type::INT2, Type::INT4, Type::INT8] {
            let mut out = BytesMut::new();
            let seven = Int::<-7, 7>::new(-7).unwrap();
            seven.to_sql(&ty, &mut out).unwrap();
            assert_eq!(Int::<-7, 7>::from_sql(&ty, &out).unwrap(), seven);
            assert!(Int::<0, 7>::from_sql(&ty, &out).is_err(), "the column's check should have held it back");
        }
        assert!(Int::<0>::new(1 << 40).unwrap().to_sql(&Type::INT4, &mut BytesMut::new()).is_err());
    }
}
