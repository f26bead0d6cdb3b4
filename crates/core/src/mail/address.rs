//! Who a mail goes to, and what it is called: types that cannot hold a line break, so that no header can be added.

use std::fmt;
use std::str::FromStr;

use lettre::Address;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::auth::SettingValue;
use crate::config::is_email;
use crate::db::{FromSql, IsNull, SqlBuffer, ToSql, Type, to_sql_checked};

/// The address of a mailbox, such as `alice@example.com`: at most 254 bytes, the domain in its ASCII form (`xn--…`, RFC 5891),
/// in small letters.
///
/// What stands before the `@` is plain ASCII without quotes: mail servers that take more (RFC 6531) are few, and those that
/// take quotes differ in what they make of them.
///
/// ```
/// use erp_core::mail::MailAddress;
///
/// let address: MailAddress = "Alice@Bücher.example".parse().unwrap();
/// assert_eq!(address.to_string(), "Alice@xn--bcher-kva.example");
/// assert!("alice@example.com\r\nBcc: all@example.com".parse::<MailAddress>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailAddress(Address);

/// Why a text is no address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAddress {
    /// It is none, or longer than 254 bytes.
    Malformed,
    /// What stands before the `@` is not ASCII.
    NotAscii,
    /// Its domain is none of the internationalised ones (RFC 5891).
    Domain,
}

impl InvalidAddress {
    /// What is wrong, for the one who has typed it.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "is no e-mail address such as alice@example.com",
            Self::NotAscii => "has letters before the @ that mail servers do not take: only plain ASCII ones",
            Self::Domain => "has a domain that cannot exist",
        }
    }
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for InvalidAddress {}

impl MailAddress {
    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The form in which addresses are compared: all in small letters. Mail goes to the address as it was given.
    pub fn folded(&self) -> String {
        self.as_ref().to_ascii_lowercase()
    }

    pub(super) fn of_lettre(&self) -> &Address {
        &self.0
    }
}

impl FromStr for MailAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidAddress::Malformed)?;
        if text.len() > 1024 || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(InvalidAddress::Malformed);
        }
        if !local.is_ascii() {
            return Err(InvalidAddress::NotAscii);
        }
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| InvalidAddress::Domain)?;
        let whole = format!("{local}@{domain}");
        if !is_email(&whole) {
            return Err(InvalidAddress::Malformed);
        }
        whole.parse().map(Self).map_err(|_| InvalidAddress::Malformed)
    }
}

impl AsRef<str> for MailAddress {
    fn as_ref(&self) -> &str {
        self.0.as_ref()
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_ref())
    }
}

impl Serialize for MailAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_ref())
    }
}

impl<'de> Deserialize<'de> for MailAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for MailAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MailAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "email", "minLength": 3, "maxLength": 254 })
    }
}

/// Read from a column of text, such as `users.email`.
impl<'a> FromSql<'a> for MailAddress {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(<&str as FromSql<'_>>::from_sql(ty, raw)?.parse()?)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(ty)
    }
}

impl ToSql for MailAddress {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut SqlBuffer,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.as_ref().to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// What a mail is about: one line of at most 255 characters, never empty.
///
/// It is made of any text: what would break the line, or turn the direction of what is read, becomes a blank. A name that
/// somebody has given with a line break in it must not keep anybody from approving an order.
///
/// ```
/// use erp_core::mail::Subject;
///
/// assert_eq!(Subject::of("Order\r\nBcc: all@example.com").as_str(), "Order Bcc: all@example.com");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

/// Most characters of a subject.
const LONGEST_SUBJECT: usize = 255;
/// Most characters of a name beside an address.
const LONGEST_NAME: usize = 200;

impl Subject {
    /// The line that `text` makes.
    pub fn of(text: &str) -> Self {
        Self(one_line(text, LONGEST_SUBJECT).unwrap_or_else(|| "(no subject)".to_owned()))
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text without control characters, line separators and marks of direction, and with single blanks; `None` if nothing is left.
pub(super) fn one_line(text: &str, most: usize) -> Option<String> {
    let blank = |letter: char| {
        letter.is_control()
            || letter.is_whitespace()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words: Vec<&str> = text.split(blank).filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(most).collect();
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The language of somebody, as `de` or `de-CH` (BCP 47). What cannot be read is English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale(String);

impl Locale {
    /// The language that `tag` names.
    pub fn of(tag: &str) -> Self {
        let part = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let fits = (2..=35).contains(&tag.len()) && tag.split('-').all(part);
        if fits { Self(tag.to_owned()) } else { Self::default() }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag, and without its last part, and so on: `de-CH`, `de`.
    pub(super) fn and_wider(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self.as_str());
        std::iter::from_fn(move || {
            let tag = next?;
            next = tag.rsplit_once('-').map(|(wider, _)| wider);
            Some(tag)
        })
    }
}

impl Default for Locale {
    fn default() -> Self {
        Self("en".to_owned())
    }
}

/// A tenant's language, say.
impl SettingValue for Locale {
    const KIND: &'static str = "a language, as de or de-CH";

    fn parse(text: &str) -> Result<Self, String> {
        let read = Self::of(text);
        if read.as_str() == text { Ok(read) } else { Err("is no language, as de or de-CH".to_owned()) }
    }

    fn fallback() -> Self {
        Self::default()
    }

    fn to_json(&self) -> serde_json::Value {
        self.as_str().into()
    }
}

/// Who a mail goes to: an address, and what is known of the person.
///
/// ```
/// use erp_core::mail::{MailAddress, Recipient};
///
/// let address: MailAddress = "alice@example.com".parse().unwrap();
/// let alice = Recipient::new(address).named("Alice Adams").speaks("de-CH");
/// ```
#[derive(Debug, Clone)]
pub struct Recipient {
    pub(crate) address: MailAddress,
    pub(crate) name: Option<String>,
    pub(crate) locale: Locale,
}

impl Recipient {
    /// Somebody of whom nothing but the address is known; the mail is in English.
    pub fn new(address: MailAddress) -> Self {
        Self { address, name: None, locale: Locale::default() }
    }

    /// What the person is called; it stands beside the address.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = one_line(name, LONGEST_NAME);
        self
    }

    /// The person's language, as `de` or `de-CH`: see [`MailTemplate`](super::MailTemplate) for what a template falls back to.
    #[must_use]
    pub fn speaks(mut self, tag: &str) -> Self {
        self.locale = Locale::of(tag);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would add a header, a recipient or a command, were it written as it is.
    const PAYLOADS: [&str; 22] = [
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\nBcc: b@example.com",
        "a@example.com\rBcc: b@example.com",
        "a@example.com\r\n\r\n<script>",
        "a@example.com\u{85}Bcc: b@example.com",
        "a@example.com\u{2028}Bcc: b@example.com",
        "a@example.com\u{2029}Bcc: b@example.com",
        "a@example.com\0",
        "a\0@example.com",
        "a@example.com\u{b}Bcc: b@example.com",
        "a@example.com\u{c}Bcc: b@example.com",
        "a@example.com>\r\nRCPT TO:<b@example.com",
        "a@example.com> SIZE=1",
        "a@example.com, b@example.com",
        "a@example.com b@example.com",
        "<a@example.com>",
        "A <a@example.com>",
        "\"a\r\nBcc: b\"@example.com",
        "\"a b\"@example.com",
        "a@[127.0.0.1]",
        "a@example.com%0d%0aBcc:b@example.com",
        "=?utf-8?q?a=0d=0aBcc:_b?=@example.com\r\n",
    ];

    #[test]
    fn no_address_holds_more_than_an_address() {
        for payload in PAYLOADS {
            assert!(payload.parse::<MailAddress>().is_err(), "{payload:?}");
        }
        for (text, why) in [
            ("", InvalidAddress::Malformed),
            ("alice", InvalidAddress::Malformed),
            ("@example.com", InvalidAddress::Malformed),
            ("älice@example.com", InvalidAddress::NotAscii),
            ("alice@exa mple.com", InvalidAddress::Malformed),
            ("alice@xn--a.example", InvalidAddress::Domain),
            ("alice@127.0.0.1", InvalidAddress::Malformed),
            ("alice@-example.com", InvalidAddress::Domain),
        ] {
            assert_eq!(text.parse::<MailAddress>(), Err(why), "{text}");
        }
        let long = format!("{}@{}.example", "a".repeat(64), "b".repeat(60));
        assert!(long.parse::<MailAddress>().is_ok());
        let longer = format!("{}@{}.example", "a".repeat(65), "b".repeat(60));
        assert!(longer.parse::<MailAddress>().is_err());
    }

    #[test]
    fn international_domains_have_one_spelling() {
        for (text, ascii) in [
            ("post@bücher.example", "post@xn--bcher-kva.example"),
            ("post@BÜCHER.example", "post@xn--bcher-kva.example"),
            ("post@bu\u{308}cher.example", "post@xn--bcher-kva.example"),
            ("post@例え.jp", "post@xn--r8jz45g.jp"),
            ("First.Last+tag@Example.COM", "First.Last+tag@example.com"),
            ("post@ｅｘａｍｐｌｅ.com", "post@example.com"),
        ] {
            assert_eq!(text.parse::<MailAddress>().unwrap().to_string(), ascii);
        }
        assert_eq!("A@Example.com".parse::<MailAddress>().unwrap().folded(), "a@example.com");
    }

    #[test]
    fn a_subject_and_a_name_are_one_line_whatever_they_are_made_of() {
        for payload in PAYLOADS.into_iter().chain(["\r\n", "", "\u{202e}gpj.exe", "a\u{2066}b\tc   d"]) {
            for line in [Subject::of(payload).0, one_line(payload, LONGEST_NAME).unwrap_or_default()] {
                let bad = |letter: char| {
                    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202e}')
                };
                assert!(!line.contains(bad), "{payload:?}: {line:?}");
            }
        }
        assert_eq!(Subject::of("\r\n").as_str(), "(no subject)");
        assert_eq!(Subject::of(&"ä".repeat(500)).as_str().chars().count(), 255);
        assert_eq!(Subject::of(" Ordine\n approvato 👩‍🚀 ").as_str(), "Ordine approvato 👩‍🚀");
    }

    #[test]
    fn a_locale_falls_back_part_by_part() {
        let wider = |tag| Locale::of(tag).and_wider().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(wider("de-Latn-CH"), "de-Latn-CH de-Latn de");
        for odd in ["", "d", "de_CH", "de\r\n", "-", "de-", "abcdefghij", "../../etc"] {
            assert_eq!(wider(odd), "en", "{odd:?}");
        }
    }
}
