use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use unicode_normalization::UnicodeNormalization as _;

/// Text of `MIN` to `MAX` characters as people type it, made uniform at the door: NFC-normalised (UAX #15), trimmed,
/// without control characters (line breaks and tabs included).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// Normalises and checks `raw`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let text: String = raw.trim().nfc().collect();
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            return Err(format!("contains the control character U+{:04X}", u32::from(bad)));
        }
        let length = text.chars().count();
        if !(MIN..=MAX).contains(&length) {
            return Err(format!("has {length} characters; {MIN} to {MAX} are allowed"));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&raw).map_err(D::Error::custom)
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Text<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MIN: usize, const MAX: usize> ToSql for Text<MIN, MAX> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <String as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_normalised() {
        let text = Text::<1, 9>::parse("  Cafe\u{301} ").unwrap();
        assert_eq!(text.as_str(), "Caf\u{e9}");
    }

    #[test]
    fn i_02_control_characters_and_lengths_are_refused() {
        for bad in ["", "   ", "a\0b", "a\nb", "\u{1b}[31m", "aaaaa"] {
            assert!(Text::<1, 4>::parse(bad).is_err(), "{bad:?}");
        }
    }
}
