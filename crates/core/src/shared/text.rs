use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use unicode_normalization::UnicodeNormalization as _;

/// Characters that `str::trim` takes away and that are no control characters, as a class of a pattern; and the control
/// characters. Spelt out, since engines differ on what `\s` means.
const SPACE: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";

/// Text of `MIN` to `MAX` characters as people type it, made uniform at the door: NFC-normalised (UAX #15), trimmed,
/// without control characters (line breaks and tabs included).
///
/// It has at most `MAX` characters as it comes and as it is kept: so a client can rely on the schema's `maxLength`, and
/// a column on the type's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// Normalises and checks `raw`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if let Some(bad) = raw.chars().find(|c| c.is_control()) {
            return Err(format!("contains the control character U+{:04X}", u32::from(bad)));
        }
        let (text, [sent, kept]) = normalise(raw);
        if let Some(length) = [sent, kept].into_iter().find(|&length| length > MAX || kept < MIN) {
            return Err(format!("has {length} characters; {MIN} to {MAX} are allowed"));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `raw` normalised, and the lengths in characters of both.
pub(crate) fn normalise(raw: &str) -> (String, [usize; 2]) {
    let text: String = raw.trim().nfc().collect();
    let lengths = [raw.chars().count(), text.chars().count()];
    (text, lengths)
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Text{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // MIN characters between the spaces that are trimmed away: the first and the last are none.
        let ink = format!("[^{SPACE}{CONTROL}]");
        let pattern = match MIN {
            0 => format!("^[^{CONTROL}]*$"),
            1 => format!("^[^{CONTROL}]*{ink}[^{CONTROL}]*$"),
            _ => format!("^[^{CONTROL}]*{ink}[^{CONTROL}]{{{},}}{ink}[^{CONTROL}]*$", MIN - 2),
        };
        let mut schema = json_schema!({ "type": "string", "maxLength": MAX, "pattern": pattern });
        if MIN > 0 {
            schema.insert("minLength".to_owned(), MIN.into());
        }
        schema
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
