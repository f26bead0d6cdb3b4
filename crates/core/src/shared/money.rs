use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Currency;

/// How many digits an amount has at most, those behind the point included: as many as a payment message has room for
/// (ISO 20022, `ActiveCurrencyAndAmount`).
const DIGITS: u8 = 18;
/// The largest amount in minor units.
const LARGEST: i64 = 10_i64.pow(DIGITS as u32) - 1;
/// The amount of the examples.
const EXAMPLE: &str = "12.50";

/// An amount of money: a whole number of the minor units of its currency, exact, of at most 18 digits. A `Money` may be
/// negative, a `Money<0>` is none below zero, such as a price.
///
/// In JSON it is `{"amount": "12.50", "currency": "EUR"}`, the amount a text with at most the currency's decimal places
/// when it comes, and with all of them when it is answered. In PostgreSQL the field `credit` is two columns,
/// `credit_minor bigint` (1250) and `credit_currency text`; `app.tenant_table` checks that both or neither are there.
///
/// What is calculated stays exact or fails: nothing is rounded, since money is only added and multiplied by whole
/// numbers. What must be divided goes through [`shares`](Self::shares), which loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money<const LEAST: i64 = { -LARGEST }> {
    minor: i64,
    currency: Currency,
}

/// Why an amount is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyFault {
    /// The amount is no decimal number.
    Decimal,
    /// The currency is no active code of ISO 4217.
    Currency,
    /// The amount has so many decimal places, more than the currency.
    Places(usize, Currency),
    /// The amount has so many digits, more than 18.
    Digits(usize),
    /// The amount is below zero and may not be.
    Negative,
    /// The currencies of two amounts differ.
    Mixed(Currency, Currency),
}

impl MoneyFault {
    /// How many digits or decimal places there are at most, and how many there were.
    pub fn bounds(self) -> Option<(usize, usize)> {
        match self {
            Self::Places(places, currency) => Some((currency.exponent().into(), places)),
            Self::Digits(digits) => Some((DIGITS.into(), digits)),
            _ => None,
        }
    }
}

/// A sentence without a subject.
impl fmt::Display for MoneyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal => f.write_str("a decimal is expected"),
            Self::Currency => f.write_str("a currency is expected"),
            Self::Places(places, currency) => {
                write!(f, "has {places} decimal places; {currency} has {}", currency.exponent())
            }
            Self::Digits(digits) => write!(f, "has {digits} digits; at most {DIGITS} are allowed"),
            Self::Negative => f.write_str("is below zero"),
            Self::Mixed(one, other) => write!(f, "mixes {one} and {other}"),
        }
    }
}

impl std::error::Error for MoneyFault {}

impl<const LEAST: i64> Money<LEAST> {
    const BOUND: () =
        assert!(LEAST == 0 || LEAST == -LARGEST, "write Money, or Money<0> for none below zero");

    /// So many minor units of a currency.
    ///
    /// # Errors
    /// When they have more than 18 digits, or are below zero and may not be.
    pub fn from_minor(minor: i64, currency: Currency) -> Result<Self, MoneyFault> {
        Self::of(minor.into(), currency)
    }

    /// Nothing, in a currency.
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// Reads an amount as JSON has it: `12.5` and `EUR`. `-0.00` is zero, but of a `Money<0>`, which has no sign.
    ///
    /// # Errors
    /// What is wrong with it; of the amount first.
    pub fn parse(amount: &str, currency: &str) -> Result<Self, MoneyFault> {
        let (whole, places) = decimal(amount).ok_or(MoneyFault::Decimal)?;
        let currency = Currency::parse(currency).map_err(|_| MoneyFault::Currency)?;
        let exponent = usize::from(currency.exponent());
        if places.len() > exponent {
            return Err(MoneyFault::Places(places.len(), currency));
        }
        let digits = format!("{whole}{places:0<exponent$}");
        let length = digits.trim_start_matches('0').len();
        let minor: i128 = digits.parse().map_err(|_| MoneyFault::Digits(length))?;
        match amount.starts_with('-') {
            true if LEAST == 0 => Err(MoneyFault::Negative),
            true => Self::of(-minor, currency),
            false => Self::of(minor, currency),
        }
    }

    fn of(minor: i128, currency: Currency) -> Result<Self, MoneyFault> {
        let () = Self::BOUND;
        if minor.unsigned_abs() > LARGEST.unsigned_abs().into() {
            return Err(MoneyFault::Digits(minor.unsigned_abs().to_string().len()));
        }
        match i64::try_from(minor) {
            Ok(minor) if minor >= LEAST => Ok(Self { minor, currency }),
            _ => Err(MoneyFault::Negative),
        }
    }

    /// How many minor units it is.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// Its currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Both, for the parameters of a statement.
    pub(crate) const fn parts(&self) -> (&i64, &Currency) {
        (&self.minor, &self.currency)
    }

    /// Both together.
    ///
    /// # Errors
    /// When their currencies differ, or the sum is out of bounds.
    pub fn checked_add<const OTHER: i64>(self, other: Money<OTHER>) -> Result<Self, MoneyFault> {
        self.same_currency(other)?;
        Self::of(i128::from(self.minor) + i128::from(other.minor), self.currency)
    }

    /// This without the other.
    ///
    /// # Errors
    /// When their currencies differ, or the difference is out of bounds.
    pub fn checked_sub<const OTHER: i64>(self, other: Money<OTHER>) -> Result<Self, MoneyFault> {
        self.same_currency(other)?;
        Self::of(i128::from(self.minor) - i128::from(other.minor), self.currency)
    }

    /// So many times this: of a price and a quantity.
    ///
    /// # Errors
    /// When the product is out of bounds.
    pub fn times(self, count: impl Into<i64>) -> Result<Self, MoneyFault> {
        Self::of(i128::from(self.minor) * i128::from(count.into()), self.currency)
    }

    /// All together, in a currency; of none it is zero.
    ///
    /// # Errors
    /// When one has another currency, or the sum is out of bounds.
    pub fn sum(currency: Currency, amounts: impl IntoIterator<Item = Self>) -> Result<Self, MoneyFault> {
        amounts.into_iter().try_fold(Self::zero(currency), Self::checked_add)
    }

    /// This in so many shares that differ by at most one minor unit, the larger ones first; their sum is this.
    pub fn shares(self, count: std::num::NonZeroU16) -> Vec<Self> {
        let parts = i64::from(count.get());
        let (share, rest) = (self.minor / parts, self.minor % parts);
        let more = |index: i64| if index < rest.abs() { rest.signum() } else { 0 };
        (0..parts).map(|index| Self { minor: share + more(index), currency: self.currency }).collect()
    }

    /// Of any sign.
    pub const fn signed(self) -> Money {
        Money { minor: self.minor, currency: self.currency }
    }

    fn same_currency<const OTHER: i64>(self, other: Money<OTHER>) -> Result<(), MoneyFault> {
        if self.currency == other.currency {
            return Ok(());
        }
        Err(MoneyFault::Mixed(self.currency, other.currency))
    }
}

/// The digits before and behind the point, if `text` is a decimal number as JSON writes numbers, without an exponent.
fn decimal(text: &str) -> Option<(&str, &str)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(both) => both,
        None => (digits, ""),
    };
    let is_whole = whole == "0" || !(whole.is_empty() || whole.starts_with('0'));
    let all_digits = whole.bytes().chain(places.bytes()).all(|byte| byte.is_ascii_digit());
    (is_whole && all_digits).then_some((whole, places))
}

/// Whether `text` is a decimal number.
pub(crate) fn is_decimal(text: &str) -> bool {
    decimal(text).is_some()
}

/// The amount with all its decimal places.
struct Amount(i64, u8);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(minor, exponent) = *self;
        let unit = 10_u64.pow(exponent.into());
        let (whole, places) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
        f.write_str(if minor < 0 { "-" } else { "" })?;
        match exponent {
            0 => write!(f, "{whole}"),
            _ => write!(f, "{whole}.{places:0width$}", width = exponent.into()),
        }
    }
}

impl<const LEAST: i64> Money<LEAST> {
    /// The amount with all decimal places of its currency: `12.50`.
    pub fn amount(self) -> impl fmt::Display {
        Amount(self.minor, self.currency.exponent())
    }
}

/// `12.50 EUR`.
impl<const LEAST: i64> fmt::Display for Money<LEAST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

impl<const LEAST: i64> Serialize for Money<LEAST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parts<'a> {
            amount: fmt::Arguments<'a>,
            currency: Currency,
        }
        let amount = self.amount();
        Parts { amount: format_args!("{amount}"), currency: self.currency }.serialize(serializer)
    }
}

/// What is sent, before it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentMoney<'a> {
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

/// Reads an object only: serde takes an array for a struct, too.
struct MoneyVisitor<const LEAST: i64>;

impl<'de, const LEAST: i64> Visitor<'de> for MoneyVisitor<LEAST> {
    type Value = Money<LEAST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of amount and currency")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let sent = SentMoney::deserialize(MapAccessDeserializer::new(map))?;
        Money::parse(&sent.amount, &sent.currency).map_err(A::Error::custom)
    }
}

impl<'de, const LEAST: i64> Deserialize<'de> for Money<LEAST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MoneyVisitor)
    }
}

impl<const LEAST: i64> JsonSchema for Money<LEAST> {
    fn schema_name() -> Cow<'static, str> {
        if LEAST < 0 { "Money".into() } else { "NonNegativeMoney".into() }
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (sign, bound) = if LEAST < 0 { ("-?", "") } else { ("", ", zero or more") };
        json_schema!({
            "type": "object",
            "format": "money",
            "description": format!("An amount of money{bound}: exact, and of at most {DIGITS} digits."),
            "properties": {
                "amount": {
                    "type": "string", "format": "decimal", "maxLength": DIGITS + 2, "examples": [EXAMPLE],
                    "pattern": format!(r"^{sign}(0|[1-9][0-9]*)(\.[0-9]+)?$"),
                    "description": "Sent with at most as many decimal places as the currency has, answered with all of them.",
                },
                "currency": generator.subschema_for::<Currency>(),
            },
            "required": ["amount", "currency"],
            "additionalProperties": false,
            "examples": [{ "amount": EXAMPLE, "currency": "EUR" }],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn eur(minor: i64) -> Money {
        Money::from_minor(minor, currency("EUR")).unwrap()
    }

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    fn written(amount: &str, code: &str) -> Result<String, MoneyFault> {
        Money::<{ -LARGEST }>::parse(amount, code).map(|money| money.to_string())
    }

    #[test]
    fn an_amount_is_answered_with_all_decimal_places_of_its_currency() {
        for (amount, code, expected) in [
            ("12.5", "EUR", "12.50 EUR"),
            ("12", "EUR", "12.00 EUR"),
            ("-0.05", "EUR", "-0.05 EUR"),
            ("-0.00", "EUR", "0.00 EUR"),
            ("0", "JPY", "0 JPY"),
            ("500", "JPY", "500 JPY"),
            ("1.005", "BHD", "1.005 BHD"),
            ("1.5", "CLF", "1.5000 CLF"),
            ("9999999999999999.99", "EUR", "9999999999999999.99 EUR"),
            ("-999999999999999999", "JPY", "-999999999999999999 JPY"),
        ] {
            assert_eq!(written(amount, code).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn i_02_what_is_no_amount_of_its_currency_is_refused() {
        for amount in [
            "",
            "-",
            ".",
            "1e3",
            "1E3",
            "٣",
            "+1",
            " 1",
            "1 ",
            "1.",
            ".5",
            "-.5",
            "00.5",
            "01",
            "1,5",
            "1_000",
            "0x1",
            "1.5.0",
            "--1",
            "NaN",
            "Infinity",
            "１",
            "1.\u{660}",
            "−1",
        ] {
            assert_eq!(written(amount, "EUR"), Err(MoneyFault::Decimal), "{amount:?}");
        }
        for code in ["", "eur", "XXX", "XAU", "DEM"] {
            assert_eq!(written("1", code), Err(MoneyFault::Currency), "{code:?}");
        }
        assert_eq!(written("1.005", "EUR"), Err(MoneyFault::Places(3, currency("EUR"))));
        assert_eq!(written("0.000", "EUR"), Err(MoneyFault::Places(3, currency("EUR"))));
        assert_eq!(written("1.5", "JPY"), Err(MoneyFault::Places(1, currency("JPY"))));
        assert_eq!(written("10000000000000000.00", "EUR"), Err(MoneyFault::Digits(19)));
        assert_eq!(written(&"9".repeat(60), "EUR"), Err(MoneyFault::Digits(62)));
        for negative in ["-1", "-0.01", "-0"] {
            assert_eq!(Money::<0>::parse(negative, "EUR"), Err(MoneyFault::Negative), "{negative}");
        }
        assert_eq!(Money::<0>::from_minor(-1, currency("EUR")), Err(MoneyFault::Negative));
    }

    #[test]
    fn i_02_in_json_it_is_an_object_of_two_texts() {
        let money: Money = serde_json::from_value(json!({ "currency": "EUR", "amount": "12.5" })).unwrap();
        assert_eq!(serde_json::to_string(&money).unwrap(), r#"{"amount":"12.50","currency":"EUR"}"#);
        for bad in [
            json!({ "amount": 12.5, "currency": "EUR" }),
            json!({ "amount": "12.5" }),
            json!({ "amount": "12.5", "currency": "EUR", "minor": 1 }),
            json!(["12.5", "EUR"]),
            json!("12.5 EUR"),
            json!(null),
        ] {
            assert!(serde_json::from_value::<Money>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_overflows_and_nothing_is_mixed() {
        let largest = eur(LARGEST);
        assert_eq!(largest.checked_add(eur(1)), Err(MoneyFault::Digits(19)));
        assert_eq!(largest.times(i64::MAX), Err(MoneyFault::Digits(37)));
        assert_eq!(Money::sum(currency("EUR"), [largest; 30]), Err(MoneyFault::Digits(19)));
        assert_eq!(eur(1250).times(-3), Ok(eur(-3750)));
        let yen = Money::<0>::from_minor(5, currency("JPY")).unwrap();
        assert_eq!(eur(1).checked_add(yen), Err(MoneyFault::Mixed(currency("EUR"), currency("JPY"))));
        assert!(Money::sum(currency("EUR"), [eur(1), yen.signed()]).is_err());
        assert_eq!(yen.checked_sub(yen.times(2).unwrap()), Err(MoneyFault::Negative));
        assert_eq!(Money::sum(currency("EUR"), []), Ok(eur(0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_as_the_same(minor in -LARGEST..=LARGEST, at in 0_usize..165) {
            let money: Money = Money::from_minor(minor, Currency::all().nth(at).unwrap()).unwrap();
            let text = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), money);
        }

        #[test]
        fn shares_lose_nothing_and_differ_by_one(minor in -LARGEST..=LARGEST, count in 1_u16..500) {
            let shares = eur(minor).shares(NonZeroU16::new(count).unwrap());
            prop_assert_eq!(shares.len(), usize::from(count));
            prop_assert_eq!(Money::sum(currency("EUR"), shares.iter().copied()), Ok(eur(minor)));
            let minors = || shares.iter().map(|share| share.minor());
            prop_assert!(minors().max().unwrap() - minors().min().unwrap() <= 1);
        }
    }
}
