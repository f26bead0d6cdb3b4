//! When a route was deprecated, and when it will be gone: what its answers, the contract and the reference say of it.
//!
//! Assumes nothing of the clock: a route whose sunset has passed still answers, until somebody removes it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::civil::Date;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;

use crate::extract::HeaderField;

static DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
static SUNSET: HeaderName = HeaderName::from_static("sunset");

/// `Deprecation` (RFC 9745), for the contract.
static DEPRECATION_FIELD: HeaderField = HeaderField {
    name: "Deprecation",
    what: "Since when the operation is deprecated: `@` and the seconds since 1970 (RFC 9745).",
    pattern: Some("^@-?[0-9]+$"),
    example: "@1798761600",
    always: false,
};

/// `Sunset` (RFC 8594), for the contract.
static SUNSET_FIELD: HeaderField = HeaderField {
    name: "Sunset",
    what: "From when on the operation may be gone: a date of HTTP (RFC 8594).",
    pattern: None,
    example: "Sat, 01 Jan 2028 00:00:00 GMT",
    always: false,
};

/// That a route is deprecated, since when and until when.
#[derive(Debug, Clone)]
pub(crate) struct Deprecation {
    since: Date,
    sunset: Option<Date>,
    deprecation_header: HeaderValue,
    sunset_header: Option<HeaderValue>,
}

/// Why dates cannot be those of a deprecation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InvalidDeprecation {
    /// Not a date of the calendar, written as `YYYY-MM-DD`.
    NotADate(&'static str),
    /// The sunset, which is before the deprecation.
    SunsetFirst(Date, Date),
}

impl fmt::Display for InvalidDeprecation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADate(text) => {
                write!(f, "`deprecated` has the date '{text}', which the calendar does not: write YYYY-MM-DD")
            }
            Self::SunsetFirst(since, sunset) => write!(
                f,
                "`deprecated` has the sunset {sunset}, before the deprecation of {since}: name a later date"
            ),
        }
    }
}

impl Deprecation {
    /// Deprecated since the beginning of one day, gone from the beginning of the other on (UTC); each is `YYYY-MM-DD`.
    pub(super) fn new(since: &'static str, sunset: Option<&'static str>) -> Result<Self, InvalidDeprecation> {
        let (since, began) = day(since)?;
        let mut deprecation =
            Self { since, sunset: None, deprecation_header: began.deprecation, sunset_header: None };
        if let Some(text) = sunset {
            let (sunset, ends) = day(text)?;
            if sunset < since {
                return Err(InvalidDeprecation::SunsetFirst(since, sunset));
            }
            (deprecation.sunset, deprecation.sunset_header) = (Some(sunset), Some(ends.sunset));
        }
        Ok(deprecation)
    }

    /// From which day on the operation may be gone.
    pub(crate) fn sunset(&self) -> Option<Date> {
        self.sunset
    }

    /// Tells the client of it.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(DEPRECATION.clone(), self.deprecation_header.clone());
        if let Some(sunset) = &self.sunset_header {
            headers.insert(SUNSET.clone(), sunset.clone());
        }
    }

    /// The headers that its answers have.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static HeaderField> + use<> {
        std::iter::once(&DEPRECATION_FIELD).chain(self.sunset.map(|_| &SUNSET_FIELD))
    }
}

/// `deprecated since 2027-01-01, gone from 2028-01-01 on`.
impl fmt::Display for Deprecation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deprecated since {}", self.since)?;
        self.sunset.map_or(Ok(()), |sunset| write!(f, ", gone from {sunset} on"))
    }
}

/// The beginning of a day, as each of the two headers says it.
struct Midnight {
    deprecation: HeaderValue,
    sunset: HeaderValue,
}

fn day(text: &'static str) -> Result<(Date, Midnight), InvalidDeprecation> {
    let refused = || InvalidDeprecation::NotADate(text);
    let date: Date = text.parse().map_err(|_| refused())?;
    // The parser also takes `20270101`, and a time behind the date, which would be lost.
    if date.to_string() != text {
        return Err(refused());
    }
    let midnight = date.to_zoned(TimeZone::UTC).map_err(|_| refused())?.timestamp();
    let http_date = DateTimePrinter::new().timestamp_to_rfc9110_string(&midnight).map_err(|_| refused())?;
    let deprecation = HeaderValue::try_from(format!("@{}", midnight.as_second())).map_err(|_| refused())?;
    let sunset = HeaderValue::try_from(http_date).map_err(|_| refused())?;
    Ok((date, Midnight { deprecation, sunset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_their_rfcs() {
        let deprecation = Deprecation::new("2027-01-01", Some("2028-02-29")).unwrap();
        let mut headers = HeaderMap::new();
        deprecation.apply(&mut headers);
        assert_eq!(headers["deprecation"], "@1798761600");
        assert_eq!(headers["sunset"], "Tue, 29 Feb 2028 00:00:00 GMT");
        assert_eq!(deprecation.to_string(), "deprecated since 2027-01-01, gone from 2028-02-29 on");

        let endless = Deprecation::new("2027-01-01", None).unwrap();
        let mut headers = HeaderMap::new();
        endless.apply(&mut headers);
        assert!(!headers.contains_key("sunset"));
        assert_eq!(endless.to_string(), "deprecated since 2027-01-01");
        assert!(Deprecation::new("2027-01-01", Some("2027-01-01")).is_ok());
    }

    #[test]
    fn what_is_not_a_date_and_a_sunset_before_the_deprecation_are_refused() {
        for text in [
            "",
            "soon",
            "2027-02-29",
            "2027-13-01",
            "20270101",
            "2027-1-1",
            "2027-01-01T12:00",
            " 2027-01-01",
        ] {
            let expected = InvalidDeprecation::NotADate(text);
            assert_eq!(Deprecation::new(text, None).unwrap_err(), expected);
            assert_eq!(Deprecation::new("2020-01-01", Some(text)).unwrap_err(), expected);
        }
        let refused = Deprecation::new("2028-01-01", Some("2027-12-31")).unwrap_err().to_string();
        assert!(refused.contains("sunset 2027-12-31") && refused.contains("2028-01-01"), "{refused}");
    }
}
