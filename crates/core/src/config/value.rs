//! From the text of a setting to its type.

use std::path::PathBuf;
use std::time::Duration;

use super::{ClientAuth, Environment, Level, LogFormat, Setting, SmtpTls, TlsVersion, TokenAlgorithm, Unit};
use crate::shared::Secret;

pub(super) const DURATION: &str = "duration";

/// A type that a setting can have.
pub trait Value: Sized {
    /// What a value looks like, in words.
    const KIND: &'static str;
    /// Whether the text must never be shown.
    const SECRET: bool = false;

    /// The value, or `None` when the text is not one: the message is made from [`Setting::expectation`].
    fn parse(setting: &Setting, text: &str) -> Option<Self>;

    /// What an unset setting without a default means; `None` when that is a problem.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;

    fn parse(setting: &Setting, text: &str) -> Option<Self> {
        T::parse(setting, text).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

impl Value for Secret<String> {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        Some(Self::new(text.to_owned()))
    }
}

impl Value for String {
    const KIND: &'static str = "text";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        Some(text.into())
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn parse(_: &Setting, text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

macro_rules! values {
    (numbers $($number:ty),+; choices $($choice:ty),+;) => {
        $(impl Value for $number {
            const KIND: &'static str = "number";

            fn parse(setting: &Setting, text: &str) -> Option<Self> {
                in_range(setting, text, |text| text.parse().ok())
            }
        })+
        $(impl Value for $choice {
            const KIND: &'static str = <$choice>::KIND;

            fn parse(_: &Setting, text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })+
    };
}

values! {
    numbers u16, u32;
    choices ClientAuth, Environment, Level, LogFormat, SmtpTls, TlsVersion, TokenAlgorithm;
}

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Value for ByteSize {
    const KIND: &'static str = "size";

    fn parse(setting: &Setting, text: &str) -> Option<Self> {
        in_range(setting, text, size)
    }
}

impl Value for Duration {
    const KIND: &'static str = DURATION;

    fn parse(setting: &Setting, text: &str) -> Option<Self> {
        in_range(setting, text, |text| duration(text, setting.unit))
    }
}

fn in_range<T: PartialOrd>(setting: &Setting, text: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let value = read(text)?;
    match setting.range {
        Some((low, high)) if value < read(low)? || value > read(high)? => None,
        _ => Some(value),
    }
}

/// A text that is safe and short enough for a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(80).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}

/// `15m`, `30s`, `500ms`, `1h`, `7d`, or a bare number in `unit`.
fn duration(text: &str, unit: Unit) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match (text[digits..].trim(), unit) {
        ("ms", _) | ("", Unit::Milliseconds) => 1,
        ("s", _) | ("", Unit::Seconds) => 1000,
        ("m", _) => 60 * 1000,
        ("h", _) => 60 * 60 * 1000,
        ("d", _) => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `64MiB`, `1GiB`, `512KiB`, or a bare number of bytes.
fn size(text: &str) -> Option<ByteSize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit).map(ByteSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_a_unit_of_1024_or_are_bytes() {
        let read = |text| size(text).map(|ByteSize(bytes)| bytes);
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("512KiB"), Some(512 << 10));
        assert_eq!(read("64 MiB"), Some(64 << 20));
        assert_eq!(read("2GiB"), Some(2 << 30));
        for wrong in ["", "MiB", "-1", "1.5MiB", "64MB", "64 mib", "99999999999999999999", "99999999999GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_take_a_unit_or_the_settings_own() {
        let read = |text| duration(text, Unit::Seconds).map(|duration| duration.as_millis());
        assert_eq!(read("15m"), Some(900_000));
        assert_eq!(read("30s"), Some(30_000));
        assert_eq!(read("500ms"), Some(500));
        assert_eq!(read("7d"), Some(604_800_000));
        assert_eq!(read("45"), Some(45_000));
        assert_eq!(duration("45", Unit::Milliseconds), Some(Duration::from_millis(45)));
        for wrong in [
            "",
            "m",
            "-1s",
            "1.5s",
            "15 minutes",
            "1h30m",
            "99999999999999999999",
            "9999999999999999999d",
            "١٥",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
