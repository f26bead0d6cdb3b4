use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use jiff::civil::{Date, date};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The days that can be stored: `app.bound_times` (migration `core/0004_data_rules`) checks the same of every column.
const FIRST: Date = date(1, 1, 1);
const LAST: Date = date(9998, 12, 31);
/// A day as a pattern.
const PATTERN: &str = "[0-9]{4}-[0-9]{2}-[0-9]{2}";
/// The end of a span that is open.
const OPEN: &str = "..";

/// A day of the calendar from 0001-01-01 to 9998-12-31, without a time or a zone: in JSON `2026-11-29` and no other
/// form of ISO 8601, in PostgreSQL `date`. What has no end is `None`, and no day of the far future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// `date`, if it can be stored.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn new(date: Date) -> Result<Self, String> {
        if (FIRST..=LAST).contains(&date) {
            Ok(Self(date))
        } else {
            Err(format!("is out of range; {FIRST} to {LAST} are allowed"))
        }
    }

    /// Reads `2026-11-29`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<Date>().ok().filter(|day| text.len() == 10 && day.to_string() == text);
        parsed.ok_or_else(|| "a date is expected".to_owned()).and_then(Self::new)
    }

    /// The date, to calculate with.
    pub const fn date(self) -> Date {
        self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Day {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date", "examples": ["2026-02-03"] })
    }
}

impl ToSql for Day {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Date as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Day {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::new(Date::from_sql(ty, raw)?)?)
    }

    fn accepts(ty: &Type) -> bool {
        <Date as FromSql<'_>>::accepts(ty)
    }
}

/// A span of days, both ends included: what a list is narrowed to. A query writes it as an interval of ISO 8601,
/// `2026-01-01/2026-03-31`, with `..` for an end that is open (ISO 8601-2), or as one day.
///
/// It brings two values to a statement, its first and its last day: `($1::date is null or ordered_on >= $1) and
/// ($2::date is null or ordered_on <= $2)`. Of a `timestamptz` the last condition is `created_at < $2 + 1`, of days in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    first: Option<Day>,
    last: Option<Day>,
}

impl Days {
    /// Reads an interval.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('/').unwrap_or((text, text));
        let end = |text: &str| if text == OPEN { Ok(None) } else { Day::parse(text).map(Some) };
        let (first, last) = (end(first)?, end(last)?);
        match (first, last) {
            (None, None) => Err("a first or a last day is expected".to_owned()),
            (Some(first), Some(last)) if first > last => {
                Err(format!("ends on {last}, before it begins on {first}"))
            }
            _ => Ok(Self { first, last }),
        }
    }

    /// Its first day; `None` where it has no beginning.
    pub const fn first(&self) -> Option<Day> {
        self.first
    }

    /// Its last day; `None` where it has no end.
    pub const fn last(&self) -> Option<Day> {
        self.last
    }

    /// Both ends.
    pub(crate) const fn ends(&self) -> [&Option<Day>; 2] {
        [&self.first, &self.last]
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Days {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Days".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "date-interval", "examples": ["2026-01-01/2026-03-31"],
            "pattern": format!(r"^({PATTERN}(/({PATTERN}|\.\.))?|\.\./{PATTERN})$"),
            "description": "The first and the last day, both included; `..` instead of one of them leaves that end open. \
                            One date is that day.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_02_a_day_is_written_in_one_form_and_can_be_stored() {
        for day in ["0001-01-01", "2024-02-29", "2026-11-29", "9998-12-31"] {
            assert_eq!(Day::parse(day).unwrap().to_string(), day);
        }
        for bad in [
            "",
            "0000-01-01",
            "9999-01-01",
            "9999-12-31",
            "-000001-01-01",
            "+002026-11-29",
            "10000-01-01",
            "2024-02-30",
            "2023-02-29",
            "20261129",
            "2026-1-1",
            "2026-11-29T00:00:00",
            "2026-11-29Z",
            "2026-W48-7",
            "2026-333",
            "infinity",
            "today",
            " 2026-11-29",
            "٢٠٢٦-11-29",
        ] {
            assert!(Day::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn i_02_a_span_of_days_does_not_run_backwards() {
        let read = |text| Days::parse(text).map(|days| days.ends().map(|end| end.map(|day| day.to_string())));
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(read("2026-01-01/2026-03-31"), Ok([day("2026-01-01"), day("2026-03-31")]));
        assert_eq!(read("2026-01-01/.."), Ok([day("2026-01-01"), None]));
        assert_eq!(read("../2026-01-01"), Ok([None, day("2026-01-01")]));
        assert_eq!(read("2026-01-01"), read("2026-01-01/2026-01-01"));
        assert!(read("2026-03-31/2026-01-01").unwrap_err().contains("before it begins"));
        for bad in [
            "",
            "/",
            "..",
            "../..",
            "2026-01-01/",
            "/2026-01-01",
            "2026-01-01/P1M",
            "2026-01-01/2026-01-02/x",
            "0000-01-01/..",
            "../9999-12-31",
            "2024-02-30/..",
            "../infinity",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
