//! Fields of events and spans: their values, cut to size and without what must not be logged.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

/// No text in a line is longer, in bytes.
pub(super) const MOST_BYTES: usize = 8 * 1024;
const CUT: &str = "…[cut]";
const MOST_CAUSES: usize = 16;

/// A field's value, ready to be written.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Error { text: String, causes: Vec<String> },
}

/// The fields of one event or span, in order.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let key = field.name();
        let value = if must_not_be_logged(key) { Value::Text("[redacted]".to_owned()) } else { value() };
        match self.0.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, || Value::Text(cut(format_args!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let short = value.len() <= MOST_BYTES;
        self.set(field, || Value::Text(if short { value.to_owned() } else { cut(format_args!("{value}")) }));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, || Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, || Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, || Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, || Value::Float(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field, || {
            let chain = std::iter::successors(value.source(), |&cause| cause.source());
            let causes = chain.take(MOST_CAUSES).map(|cause| cut(format_args!("{cause}"))).collect();
            Value::Error { text: cut(format_args!("{value}")), causes }
        });
    }
}

/// The text, at most [`MOST_BYTES`] long; what is beyond is not even formatted.
fn cut(text: fmt::Arguments<'_>) -> String {
    let mut bounded = Bounded(String::new());
    // An error means that the text was cut, or a broken Display: what is there is what we have.
    let _ = bounded.write_fmt(text);
    bounded.0
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_BYTES - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.truncate(self.0.floor_char_boundary(MOST_BYTES - CUT.len()));
        self.0.push_str(CUT);
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

/// Whether the key names a credential, however it is spelt: `X-Api-Key`, `apiKey` and `api_key` are one.
fn must_not_be_logged(key: &str) -> bool {
    const HOLDS: &[&str] = &[
        "authorization",
        "cookie",
        "password",
        "passwd",
        "passphrase",
        "secret",
        "apikey",
        "credential",
        "privatekey",
    ];
    const IS: &[&str] = &[
        "jwt",
        "token",
        "otp",
        "totp",
        "seed",
        "key",
        "encryptionkey",
        "signingkey",
        "databaseurl",
        "connectionstring",
        "cardnumber",
        "recoverycode",
        "recoverycodes",
    ];
    let mut buffer = [0; 64]; // no field name is longer, and this runs for each field of each line
    let letters = key.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' '));
    let used = buffer.iter_mut().zip(letters).map(|(place, byte)| *place = byte.to_ascii_lowercase()).count();
    let plain = &buffer[..used];
    let begins = |text: &[u8], part: &str| text[0] == part.as_bytes()[0] && text.starts_with(part.as_bytes());
    (0..used).any(|at| HOLDS.iter().any(|part| begins(&plain[at..], part)))
        || plain.ends_with(b"token")
        || IS.iter().any(|word| word.as_bytes() == plain)
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
            "jwt",
        ] {
            assert!(must_not_be_logged(key), "{key}");
        }
        for key in
            ["tokens_used", "token_type", "path", "status_code", "author", "monkey", "message", "user_id"]
        {
            assert!(!must_not_be_logged(key), "{key}");
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
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut(format_args!("{}", "é".repeat(MOST_BYTES / 2))).len(), MOST_BYTES);
        for long in ["é".repeat(MOST_BYTES), format!("x{}", "é".repeat(MOST_BYTES)), "€".repeat(MOST_BYTES)]
        {
            let text = cut(format_args!("{long}"));
            assert!(text.len() <= MOST_BYTES && text.len() > MOST_BYTES - 4 && text.ends_with(CUT));
        }
    }
}
