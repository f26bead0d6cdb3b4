use std::borrow::Cow;
use std::fmt;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, PrependedConcatenationMark};
use icu_properties::{CodePointMapData, CodePointSetData};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use unicode_normalization::UnicodeNormalization as _;

/// Characters that `str::trim` takes away and that are no control characters, as a class of a pattern; and the control
/// characters, with the separators of lines. Spelt out, since engines differ on what `\s` means.
const SPACE: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000";
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f\u2028\u2029";
/// Those of the first 65,536 characters that no text holds; and those that some texts do, and no identifier.
/// Engines have no common way to write the others: `format` stands for them.
const HIDDEN: &str = r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff";
const JOINING: &str = r"\u180b-\u180d\u180f\u200c\u200d\u2800\ufe00-\ufe0f\ue000-\uf8ff";

/// Whether two texts are the same, for constants.
pub(crate) const fn is_same_text(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    one.len() == other.len() && index == one.len()
}

/// What a text is for, and so which characters it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A name or a description, in any script.
    Text,
    /// What is compared: nothing in it that cannot be seen.
    Identifier,
}

impl Form {
    /// The `format` of a schema.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Identifier => "identifier",
        }
    }

    /// The form of a schema's `format`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Text, Self::Identifier].into_iter().find(|form| form.name() == name)
    }

    /// What `raw` must not hold, in a sentence without a subject.
    ///
    /// Two texts that look the same are the same: so nothing that is not shown gets in, but for what scripts and emoji
    /// are written with. A character that Unicode has not given out might become anything.
    pub(crate) fn refuses(self, raw: &str) -> Option<String> {
        if let Some(bad) = raw.chars().find(|&c| c.is_control() || c == '\u{2028}' || c == '\u{2029}') {
            let kind = if bad.is_control() { "control character" } else { "line break" };
            return Some(format!("contains the {kind} U+{:04X}", u32::from(bad)));
        }
        let raw = raw.trim();
        if !raw.is_empty() && raw.chars().all(|c| c.is_whitespace() || is_blank(c)) {
            return Some("has nothing that can be seen".to_owned());
        }
        if self == Self::Identifier
            && let Some(bad) = odd_space(raw)
        {
            return Some(format!("contains U+{:04X}; single spaces are allowed", u32::from(bad)));
        }
        if raw.is_ascii() { None } else { self.refuses_beyond_ascii(raw) }
    }

    fn refuses_beyond_ascii(self, raw: &str) -> Option<String> {
        let category = CodePointMapData::<GeneralCategory>::new();
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let shown = CodePointSetData::new::<PrependedConcatenationMark>();
        let is_invisible =
            |c| ignorable.contains(c) || (category.get(c) == GeneralCategory::Format && !shown.contains(c));
        let mut before = None;
        let mut selected = false;
        let mut rest = raw.chars();
        while let Some(c) = rest.next() {
            let code = u32::from(c);
            let after = rest.clone().next().filter(|&next| !is_invisible(next));
            match category.get(c) {
                GeneralCategory::Unassigned => {
                    return Some(format!("contains U+{code:04X}, which is not assigned"));
                }
                GeneralCategory::PrivateUse if self == Self::Identifier => {
                    return Some(format!("contains U+{code:04X}, which means something to some only"));
                }
                _ if !is_invisible(c) => (before, selected) = (Some(c), false),
                _ if self == Self::Text && !selected && serves_as_selector(c, before) => selected = true,
                _ if self == Self::Text && serves_as_joiner(c, before, after) => {}
                _ if self == Self::Text && arranges_hieroglyphs(c, before, after) => {}
                _ => return Some(format!("contains U+{code:04X}, which cannot be seen")),
            }
        }
        None
    }
}

/// A braille pattern without dots, blank hieroglyphs, a note without a head: no white space to Unicode, and nothing to be
/// seen.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{13441}' | '\u{13442}' | '\u{1d159}')
}

/// Whether an invisible character joins or parts two that are seen, in scripts and emoji that need it.
fn serves_as_joiner(c: char, before: Option<char>, after: Option<char>) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}') && [before, after].into_iter().all(is_beyond_ascii)
}

/// Whether an invisible character puts hieroglyphs above, into or around each other.
fn arranges_hieroglyphs(c: char, before: Option<char>, after: Option<char>) -> bool {
    let is_sign = |c: Option<char>| matches!(c, Some('\u{13000}'..='\u{1342f}' | '\u{13460}'..='\u{143fa}'));
    matches!(c, '\u{13430}'..='\u{1343f}') && (is_sign(before) || is_sign(after))
}

/// Whether an invisible character chooses the form of the one before it; digits become keys so.
fn serves_as_selector(c: char, before: Option<char>) -> bool {
    let selects = matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
    let is_key = before.is_some_and(|c| c.is_ascii_digit() || c == '#' || c == '*');
    selects && (is_key || is_beyond_ascii(before))
}

fn is_beyond_ascii(c: Option<char>) -> bool {
    c.is_some_and(|c| !c.is_ascii() && !c.is_whitespace())
}

/// White space of an identifier that is not one plain space between two other characters.
fn odd_space(raw: &str) -> Option<char> {
    let odd = |c: &char| (c.is_whitespace() && *c != ' ') || is_blank(*c);
    raw.chars().find(odd).or_else(|| raw.contains("  ").then_some(' '))
}

/// `raw` normalised, and the lengths in characters of both.
pub(crate) fn normalise(raw: &str) -> (String, [usize; 2]) {
    let text: String = raw.trim().nfc().collect();
    let lengths = [raw.chars().count(), text.chars().count()];
    (text, lengths)
}

fn parse(raw: &str, form: Form, min: usize, max: usize) -> Result<String, String> {
    if let Some(refusal) = form.refuses(raw) {
        return Err(refusal);
    }
    let (text, [sent, kept]) = normalise(raw);
    match [sent, kept].into_iter().find(|&length| length > max || kept < min) {
        Some(length) => Err(format!("has {length} characters; {min} to {max} are allowed")),
        None => Ok(text),
    }
}

fn schema(form: Form, min: usize, max: usize) -> Schema {
    // MIN characters between the spaces that are trimmed away: the first and the last are none.
    let (any, ink) = (format!("[^{CONTROL}{HIDDEN}]"), format!("[^{SPACE}{CONTROL}{HIDDEN}]"));
    let pattern = match (form, min) {
        (Form::Identifier, _) => {
            let ink = format!("[^{SPACE}{CONTROL}{HIDDEN}{JOINING}]");
            format!("^[{SPACE}]*{ink}+( {ink}+)*[{SPACE}]*$")
        }
        (Form::Text, 0) => format!("^{any}*$"),
        (Form::Text, 1) => format!("^{any}*{ink}{any}*$"),
        (Form::Text, _) => format!("^{any}*{ink}{any}{{{},}}{ink}{any}*$", min - 2),
    };
    let mut schema =
        json_schema!({ "type": "string", "format": form.name(), "maxLength": max, "pattern": pattern });
    if min > 0 {
        schema.insert("minLength".to_owned(), min.into());
    }
    schema
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $form:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name<const MIN: usize, const MAX: usize>(String);

        impl<const MIN: usize, const MAX: usize> $name<MIN, MAX> {
            /// Normalises and checks `raw`.
            ///
            /// # Errors
            /// What is wrong with it, in a sentence without a subject.
            pub fn parse(raw: &str) -> Result<Self, String> {
                parse(raw, $form, MIN, MAX).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<const MIN: usize, const MAX: usize> JsonSchema for $name<MIN, MAX> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!("{}{MIN}To{MAX}", stringify!($name)).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema($form, MIN, MAX)
            }
        }

        impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for $name<MIN, MAX> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&raw).map_err(D::Error::custom)
            }
        }

        impl<const MIN: usize, const MAX: usize> fmt::Display for $name<MIN, MAX> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<const MIN: usize, const MAX: usize> ToSql for $name<MIN, MAX> {
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
    };
}

text! {
    /// Text of `MIN` to `MAX` characters as people type it, made uniform at the door: NFC-normalised (UAX #15), trimmed,
    /// without control characters (line breaks and tabs included), characters that are not assigned, and invisible ones
    /// (`Default_Ignorable_Code_Point`, and the general category Cf but for signs that go before a number) but where a
    /// script or an emoji is written with them.
    ///
    /// It has at most `MAX` characters as it comes and as it is kept: so a client can rely on the schema's `maxLength`,
    /// and a column on the type's.
    Text, Form::Text
}

text! {
    /// As [`Text`], for what identifies something, such as an article number: without any invisible or private character,
    /// and with single plain spaces only. Make its column unique with `app.identifier` (migration `core/0004_data_rules`),
    /// which compares without regard to case and width.
    Identifier, Form::Identifier
}

/// What a user searches for within texts: at most `MAX` characters, checked as [`Text`]. In SQL it is the pattern of
/// LIKE and ILIKE that finds it anywhere; what the user typed stands for itself, `%` and `_` too.
#[derive(Debug, Clone)]
pub struct Contains<const MAX: usize>(String);

impl<const MAX: usize> Contains<MAX> {
    /// The pattern of LIKE.
    pub fn as_pattern(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> JsonSchema for Contains<MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Text::<1, MAX>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Text::<1, MAX>::json_schema(generator)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Contains<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<1, MAX>::deserialize(deserializer)?;
        let text = text.as_str().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        Ok(Self(format!("%{text}%")))
    }
}

impl<const MAX: usize> ToSql for Contains<MAX> {
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

    #[test]
    fn i_02_what_cannot_be_seen_or_breaks_a_line_is_refused() {
        for bad in [
            0x200b,
            0xfeff,
            0x2060,
            0xad,
            0x202e,
            0x3164,
            0xffff,
            0xfdd0,
            0x378,
            0x2028,
            0x2029,
            0x200e,
            0x2066,
            0xffa0,
            0x115f,
            0x34f,
            0xe0041,
            0x180e,
            0xfff9 - 1,
            0x1f_ffff - 0xf_0000,
        ] {
            let bad = char::from_u32(bad).unwrap();
            for text in [format!("{bad}"), format!("BOLT{bad}"), format!("BO{bad}LT"), format!("{bad}ボルト")]
            {
                assert!(Text::<1, 9>::parse(&text).is_err(), "{text:?}");
                assert!(Identifier::<1, 9>::parse(&text).is_err(), "{text:?}");
            }
        }
        for text in [
            "\u{2800}",
            " \u{2800} \u{2800}",
            "BOLT\u{200d}",
            "BO\u{200d}LT",
            "\u{fe0f}a",
            "A\u{fe0f}",
            "م\u{200c}",
            "\u{200d}ボ",
            "❤\u{fe0f}\u{fe0f}",
        ] {
            assert!(Text::<0, 9>::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn i_02_no_format_character_or_noncharacter_hides_between_letters() {
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let shown = CodePointSetData::new::<PrependedConcatenationMark>();
        let category = CodePointMapData::<GeneralCategory>::new();
        let noncharacter = |code: u32| code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code);
        let mut refused = 0;
        for c in '\u{80}'..=char::MAX {
            let format = category.get(c) == GeneralCategory::Format && !shown.contains(c);
            if ignorable.contains(c) || format || noncharacter(u32::from(c)) {
                let text = format!("BO{c}LT");
                assert!(Text::<1, 9>::parse(&text).is_err(), "{text:?}");
                assert!(Identifier::<1, 9>::parse(&text).is_err(), "{text:?}");
                refused += 1;
            }
        }
        assert!(refused > 4000, "{refused}");
        for blank in ["\u{13441}", "\u{13442} \u{13442}", "\u{1d159}"] {
            assert!(Text::<0, 9>::parse(blank).is_err(), "{blank:?}");
        }
    }

    #[test]
    fn what_scripts_and_emoji_are_written_with_stays() {
        for text in [
            "می\u{200c}خواهم",
            "ක්\u{200d}ෂ",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "1\u{fe0f}\u{20e3}",
            "葛\u{e0100}",
            "⠃⠕⠇⠞\u{2800}⠍⠓",
            "\u{13437}𓊹\u{13431}𓏏\u{13438}",
            "\u{600}12",
            "Größe Ω №5 50 µm",
        ] {
            assert_eq!(Text::<1, 30>::parse(text).unwrap().as_str(), text.nfc().collect::<String>());
        }
    }

    #[test]
    fn i_02_an_identifier_holds_nothing_that_looks_like_nothing() {
        for fine in ["BOLT-M8", "Größe 5", "ボルト", "A/1 (b)"] {
            assert!(Identifier::<1, 9>::parse(fine).is_ok(), "{fine:?}");
        }
        for bad in [
            "A  1",
            "A\u{a0}1",
            "A\u{2003}1",
            "A\u{2800}",
            "A\u{1d159}",
            "𓊹\u{13431}𓏏",
            "م\u{200c}م",
            "❤\u{fe0f}",
            "A\u{e000}",
        ] {
            assert!(Identifier::<1, 9>::parse(bad).is_err(), "{bad:?}");
        }
    }
}
