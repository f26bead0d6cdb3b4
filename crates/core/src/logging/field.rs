//! Fields of events and spans: their values, cut to size and without what must not be logged.

use std::error::Error;
use std::fmt::{self, Write};
use std::ops::Range;

use tracing::field::{Field, Visit};

/// No text in a line is longer, in bytes.
pub(super) const MOST_BYTES: usize = 8 * 1024;
const CUT: &str = "…[cut]";
const MOST_CAUSES: usize = 16;

/// What most events and spans need, so that their buffers grow at most once.
const USUAL_FIELDS: usize = 10;
const USUAL_BYTES: usize = 160;

/// A field's value, ready to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FieldValue<'a> {
    Text(&'a str),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Error(&'a Chain),
}

/// An error and what caused it.
#[derive(Debug, PartialEq)]
pub(super) struct Chain {
    pub(super) text: String,
    pub(super) causes: Vec<String>,
}

/// A value as [`Fields`] hold it.
#[derive(Debug)]
enum Held {
    /// A stretch of the fields' one buffer.
    Text(Range<usize>),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Error(Box<Chain>),
}

/// The fields of one event or span, in order. All texts share a buffer: an allocation for each would cost more than the
/// rest of the line.
#[derive(Debug, Default)]
pub(super) struct Fields {
    held: Vec<(&'static str, Held)>,
    texts: String,
}

impl Fields {
    /// With room for a usual event.
    pub(super) fn with_room() -> Self {
        Self { held: Vec::with_capacity(USUAL_FIELDS), texts: String::with_capacity(USUAL_BYTES) }
    }

    /// Names and values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, FieldValue<'_>)> {
        self.held.iter().map(|(key, held)| (*key, self.value(held)))
    }

    fn value<'a>(&'a self, held: &'a Held) -> FieldValue<'a> {
        match held {
            Held::Text(stretch) => FieldValue::Text(&self.texts[stretch.clone()]),
            Held::Bool(value) => FieldValue::Bool(*value),
            Held::Signed(value) => FieldValue::Signed(*value),
            Held::Unsigned(value) => FieldValue::Unsigned(*value),
            Held::Float(value) => FieldValue::Float(*value),
            Held::Error(chain) => FieldValue::Error(chain),
        }
    }

    fn set(&mut self, field: &Field, value: impl FnOnce(&mut String) -> Held) {
        let key = field.name();
        let value = if must_not_be_logged(key) {
            text(&mut self.texts, format_args!("[redacted]"))
        } else {
            value(&mut self.texts)
        };
        match self.held.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.held.push((key, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, |texts| text(texts, format_args!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, |texts| {
            if value.len() > MOST_BYTES {
                return text(texts, format_args!("{value}"));
            }
            let start = texts.len();
            texts.push_str(value);
            Held::Text(start..texts.len())
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, |_| Held::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, |_| Held::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, |_| Held::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Milliseconds, whose thousandth is more than any clock here is good for.
        let value = if field.name() == "duration" { (value * 1000.0).round() / 1000.0 } else { value };
        self.set(field, |_| Held::Float(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field, |_| {
            let chain = std::iter::successors(value.source(), |&cause| cause.source());
            let causes = chain.take(MOST_CAUSES).map(|cause| cut(format_args!("{cause}"))).collect();
            Held::Error(Box::new(Chain { text: cut(format_args!("{value}")), causes }))
        });
    }
}

/// Adds a text to the buffer, at most [`MOST_BYTES`] of it; what is beyond is not even formatted.
fn text(texts: &mut String, text: fmt::Arguments<'_>) -> Held {
    let start = texts.len();
    // An error means that the text was cut, or a broken Display: what is there is what we have.
    let _ = Bounded { texts, start }.write_fmt(text);
    Held::Text(start..texts.len())
}

fn cut(whole: fmt::Arguments<'_>) -> String {
    let mut alone = String::new();
    text(&mut alone, whole);
    alone
}

/// The end of a buffer, from `start` on.
struct Bounded<'a> {
    texts: &'a mut String,
    start: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_BYTES - (self.texts.len() - self.start);
        if text.len() <= room {
            self.texts.push_str(text);
            return Ok(());
        }
        self.texts.push_str(&text[..text.floor_char_boundary(room)]);
        self.texts.truncate(self.texts.floor_char_boundary(self.start + MOST_BYTES - CUT.len()));
        self.texts.push_str(CUT);
        Err(fmt::Error)
    }
}

/// A request's headers for a line at debug: `name: value`, one after the other, those that hold credentials without it.
pub fn redacted(headers: &http::HeaderMap) -> String {
    let one = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let hidden = value.is_sensitive() || must_not_be_logged(name.as_str());
        let text = String::from_utf8_lossy(value.as_bytes());
        format!("{name}: {}", if hidden { "[redacted]" } else { &text })
    };
    headers.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The largest body that is logged.
const MOST_BODY_BYTES: usize = 4 * 1024;

/// A JSON body of at most 4 KiB for a line at debug, its credentials hidden by the names of their fields;
/// `None` for what is longer or no JSON, which nobody could hide anything in.
pub fn redacted_json(body: &[u8]) -> Option<String> {
    if body.len() > MOST_BODY_BYTES {
        return None;
    }
    let mut value = serde_json::from_slice(body).ok()?;
    hide(&mut value);
    Some(value.to_string())
}

fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                if must_not_be_logged(name) {
                    *value = "[redacted]".into();
                } else {
                    hide(value);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(hide),
        _ => {}
    }
}

/// The names on nearly every line, which are not looked at letter by letter.
const HARMLESS: [&str; 12] = [
    "message",
    "method",
    "path",
    "status_code",
    "duration",
    "bytes",
    "ip",
    "user_agent",
    "correlation_id",
    "tenant_id",
    "user_id",
    "module",
];

/// Whether the key names a credential, however it is spelt: `X-Api-Key`, `apiKey` and `api_key` are one.
fn must_not_be_logged(key: &str) -> bool {
    !HARMLESS.contains(&key) && names_a_credential(key)
}

/// Looked for anywhere in a name, of which only lower-case letters are left.
const HOLDS: &[&str] = &[
    "authorization",
    "cookie",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "apikey",
    "authkey",
    "credential",
    "privatekey",
    "sessionid",
];
/// The whole of such a name.
const IS: &[&str] = &[
    "jwt",
    "token",
    "seed",
    "key",
    "encryptionkey",
    "signingkey",
    "databaseurl",
    "connectionstring",
    "cardnumber",
    "recoverycode",
    "recoverycodes",
    "samlresponse",
    "clientassertion",
];
/// The last word of a name as it is written: short ones, which other words end in (`bypass`, `origin`).
const ENDS_IN: &[&str] =
    &["pwd", "pass", "pin", "auth", "authentication", "otp", "totp", "sid", "cvv", "cvc"];

fn names_a_credential(key: &str) -> bool {
    let letters = key.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' '));
    let letters = letters.map(|byte| byte.to_ascii_lowercase());
    let mut buffer = [0; 64]; // no field of ours is longer, and this runs for each field of each line
    if key.len() > buffer.len() {
        return is_credential(key, &letters.collect::<Vec<_>>());
    }
    let used = buffer.iter_mut().zip(letters).map(|(place, byte)| *place = byte).count();
    is_credential(key, &buffer[..used])
}

fn is_credential(key: &str, plain: &[u8]) -> bool {
    let begins = |text: &[u8], part: &str| text[0] == part.as_bytes()[0] && text.starts_with(part.as_bytes());
    (0..plain.len()).any(|at| HOLDS.iter().any(|part| begins(&plain[at..], part)))
        || plain.ends_with(b"token")
        || plain.ends_with(b"seed")
        || IS.iter().any(|word| word.as_bytes() == plain)
        || ENDS_IN.iter().any(|word| last_word_is(key.as_bytes(), word.as_bytes()))
}

/// Whether a name's last word is `word`: `user_pin` and `userPin` end in `pin`, `spin` does not.
fn last_word_is(key: &[u8], word: &[u8]) -> bool {
    let Some((before, tail)) = key.len().checked_sub(word.len()).map(|at| key.split_at(at)) else {
        return false;
    };
    let begins = |last: &u8| {
        !last.is_ascii_alphanumeric() || (!last.is_ascii_uppercase() && tail[0].is_ascii_uppercase())
    };
    tail.eq_ignore_ascii_case(word) && before.last().is_none_or(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_in_every_spelling() {
        for key in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "Set-Cookie",
            "password",
            "newPassword",
            "token",
            "refresh_token",
            "accessToken",
            "secret",
            "WEBHOOK_SECRET",
            "api_key",
            "apiKey",
            "X-API-Key",
            "totpSeed",
            "jwt",
            "Authentication",
            "X-Auth",
            "x-auth-key",
            "X-Session-Id",
            "JSESSIONID",
            "connect.sid",
            "pwd",
            "userPwd",
            "pass",
            "DB_PASS",
            "pin",
            "cardPin",
            "otp",
            "SAMLResponse",
        ] {
            assert!(must_not_be_logged(key), "{key}");
        }
        let long = "a_name_that_nobody_would_think_of_and_that_goes_on_and_on_until_its_password";
        assert!(long.len() > 64 && must_not_be_logged(long) && must_not_be_logged(&long.repeat(10)));
        for key in [
            "tokens_used",
            "token_type",
            "path",
            "status_code",
            "author",
            "monkey",
            "message",
            "user_id",
            "bypass",
            "spin",
            "origin",
            "SPIN",
            "passed",
            "session_timeout",
            "duration_of_something_that_is_told_by_a_name_of_more_than_sixty_four_letters",
        ] {
            assert!(!must_not_be_logged(key), "{key}");
        }
    }

    #[test]
    fn what_is_on_nearly_every_line_is_no_credential() {
        for key in HARMLESS {
            assert!(!names_a_credential(key), "{key}");
        }
    }

    #[test]
    fn headers_are_shown_without_their_credentials() {
        let sent = [
            ("host", "erp"),
            ("authorization", "Bearer c"),
            ("cookie", "c"),
            ("x-api-key", "c"),
            ("x-csrf-token", "c"),
        ];
        let sent = sent.map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        let shown = redacted(&http::HeaderMap::from_iter(sent));
        assert!(shown.contains("host: erp") && shown.matches(": [redacted]").count() == 4, "{shown}");
    }

    #[test]
    fn o_02_a_body_is_shown_without_its_credentials_or_not_at_all() {
        let body =
            br#"{"email":"a@b.c","password":"c","keys":[{"api_key":"c","name":"x"}],"secret":{"deep":"c"}}"#;
        let shown = redacted_json(body).unwrap();
        assert_eq!(
            shown,
            r#"{"email":"a@b.c","keys":[{"api_key":"[redacted]","name":"x"}],"password":"[redacted]","secret":"[redacted]"}"#
        );
        assert_eq!(redacted_json(b"{\"password\":\"c\""), None, "nobody can tell what is hidden in it");
        let long = |letters: usize| redacted_json(format!("\"{}\"", "x".repeat(letters)).as_bytes());
        assert!(long(MOST_BODY_BYTES - 2).is_some() && long(MOST_BODY_BYTES - 1).is_none());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut(format_args!("{}", "é".repeat(MOST_BYTES / 2))).len(), MOST_BYTES);
        for long in ["é".repeat(MOST_BYTES), format!("x{}", "é".repeat(MOST_BYTES)), "€".repeat(MOST_BYTES)]
        {
            let text = cut(format_args!("{long}"));
            assert!(text.len() <= MOST_BYTES && text.len() > MOST_BYTES - 4 && text.ends_with(CUT));
        }
    }
}
