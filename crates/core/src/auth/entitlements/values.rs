//! The types that values of tenants' settings have.

use std::fmt;
use std::net::IpAddr;

use jiff::tz::TimeZoneDatabase;
use serde_json::{Value, json};

use crate::config::Cidr;
use crate::shared::Currency;

/// Most characters of a text.
const LONGEST: usize = 500;
/// Most networks of a list.
const MOST_NETWORKS: usize = 200;

/// A type of values: each has a text, and a form in JSON.
pub trait SettingValue: Clone + Send + Sync + 'static {
    /// What it is, for people.
    const KIND: &'static str;

    /// Reads its text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    fn parse(text: &str) -> Result<Self, String>;

    /// Its form in JSON: a text, unless it says otherwise.
    fn to_json(&self) -> Value;

    /// What stands where a default cannot be read, which a test of the house's tables does not let happen.
    fn fallback() -> Self;

    /// Reads its form in JSON.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    fn from_json(json: &Value) -> Result<Self, String> {
        json.as_str().ok_or_else(|| "is not a text".to_owned()).and_then(Self::parse)
    }
}

/// A time zone of the IANA database, such as `Europe/Zurich`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneName(String);

/// A day of every year, such as the first of a fiscal year: `04-01`. The 29 February is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthDay {
    /// From 1 to 12.
    pub month: i8,
    /// From 1 on.
    pub day: i8,
}

/// Networks that requests may come from; none: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Cidr>);

impl Networks {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with them, in a sentence without a subject.
    pub fn read<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Result<Self, String> {
        if texts.len() > MOST_NETWORKS {
            return Err(format!("has more than {MOST_NETWORKS} networks"));
        }
        let read = |text: &str| {
            text.parse().map_err(|()| format!("has {}, which is no network such as 10.0.0.0/8", json!(text)))
        };
        texts.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// As they are stored and shown.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether all that `others` admit is admitted by these.
    pub fn include(&self, others: &Self) -> bool {
        let holds = |own: &Cidr, other: &Cidr| own.prefix <= other.prefix && own.contains(other.address);
        let is_within = |other: &Cidr| self.0.iter().any(|own| holds(own, other));
        self.0.is_empty() || !others.0.is_empty() && others.0.iter().all(is_within)
    }

    /// Whether a request may come from `address`.
    pub fn admit(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
    }
}

impl ZoneName {
    /// Its name, which jiff's `TimeZone::get` knows.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MonthDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{:02}", self.month, self.day)
    }
}

impl SettingValue for String {
    const KIND: &'static str = "a text of at most 500 characters";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
        fits.then(|| text.trim().to_owned()).ok_or_else(|| "is longer, or has control characters".to_owned())
    }

    fn fallback() -> Self {
        Self::new()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for bool {
    const KIND: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not true or false".to_owned())
    }

    fn fallback() -> Self {
        false
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        json.as_bool().ok_or_else(|| "is not true or false".to_owned())
    }
}

impl SettingValue for i64 {
    const KIND: &'static str = "a whole number";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not a whole number".to_owned())
    }

    fn fallback() -> Self {
        0
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        json.as_i64().ok_or_else(|| "is not a whole number".to_owned())
    }
}

impl SettingValue for Currency {
    const KIND: &'static str = "a currency, by its code of ISO 4217";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn fallback() -> Self {
        Self::EURO
    }

    fn to_json(&self) -> Value {
        json!(self.code())
    }
}

impl SettingValue for ZoneName {
    const KIND: &'static str = "a time zone, such as Europe/Zurich";

    fn parse(text: &str) -> Result<Self, String> {
        let zone = TimeZoneDatabase::bundled().get(text).map_err(|_| "is no time zone of IANA".to_owned())?;
        Ok(Self(zone.iana_name().unwrap_or(text).to_owned()))
    }

    fn fallback() -> Self {
        Self("UTC".to_owned())
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

impl SettingValue for MonthDay {
    const KIND: &'static str = "a day of every year, as 04-01";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is no day that every year has, as 04-01".to_owned();
        // Any year without a 29 February tells.
        let date: jiff::civil::Date = format!("2023-{text}").parse().map_err(|_| wrong())?;
        let read = Self { month: date.month(), day: date.day() };
        if read.to_string() == text { Ok(read) } else { Err(wrong()) }
    }

    fn fallback() -> Self {
        Self { month: 1, day: 1 }
    }

    fn to_json(&self) -> Value {
        json!(self.to_string())
    }
}

impl SettingValue for Networks {
    const KIND: &'static str = "networks such as 10.0.0.0/8; none: any";

    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        Self::from_json(&json!(parts))
    }

    fn fallback() -> Self {
        Self(Vec::new())
    }

    fn to_json(&self) -> Value {
        json!(self.texts())
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        let list = json.as_array().ok_or_else(|| "is not a list".to_owned())?;
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        Self::read(texts.ok_or_else(|| "is not a list of texts".to_owned())?.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: SettingValue>(json: &Value) -> Option<Value> {
        T::from_json(json).ok().map(|value| value.to_json())
    }

    #[test]
    fn a_value_is_stored_as_it_is_written() {
        for (stored, read) in [
            (round::<Currency>(&json!("CHF")), json!("CHF")),
            (round::<ZoneName>(&json!("Europe/Zurich")), json!("Europe/Zurich")),
            (round::<ZoneName>(&json!("europe/zurich")), json!("Europe/Zurich")),
            (round::<MonthDay>(&json!("04-01")), json!("04-01")),
            (
                round::<Networks>(&json!(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])),
                json!(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]),
            ),
            (round::<Networks>(&json!([])), json!([])),
        ] {
            assert_eq!(stored, Some(read));
        }
    }

    #[test]
    fn networks_include_those_that_admit_no_more() {
        let of = |list: &[&str]| Networks::read(list.iter().copied()).unwrap();
        let own = of(&["10.0.0.0/8", "2001:db8::/32"]);
        for within in [&["10.0.0.0/8"][..], &["10.1.0.0/16", "2001:db8:1::/48"], &["10.0.0.7"]] {
            assert!(own.include(&of(within)), "{within:?}");
        }
        for beyond in [&[][..], &["10.0.0.0/7"], &["10.1.0.0/16", "192.0.2.7"], &["::/0"], &["0.0.0.0/0"]] {
            assert!(!own.include(&of(beyond)), "{beyond:?}");
            assert!(of(&[]).include(&of(beyond)), "{beyond:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for day in ["02-29", "02-30", "13-01", "00-10", "4-1", "04-01-01", "", "0401"] {
            assert_eq!(round::<MonthDay>(&json!(day)), None, "{day}");
        }
        for zone in ["Mars/Olympus", "", "+01:00", "../etc/passwd"] {
            assert_eq!(round::<ZoneName>(&json!(zone)), None, "{zone}");
        }
        for list in [
            json!(["10.0.0.1/8"]),
            json!(["x"]),
            json!("10.0.0.0/8"),
            json!([7]),
            json!(vec!["10.0.0.0/8"; 201]),
        ] {
            assert_eq!(round::<Networks>(&list), None, "{list}");
        }
        assert_eq!(round::<Currency>(&json!("chf")), None);
        assert_eq!(round::<String>(&json!("a\nb")), None);
    }
}
