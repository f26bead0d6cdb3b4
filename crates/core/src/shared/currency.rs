use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The active codes of ISO 4217 by their number of decimal places. Source: "List one" of the maintenance agency, SIX,
/// published on 2026-01-01. Codes without decimal places (N.A.) are left out, since nobody pays in them: precious metals,
/// bond market units, XDR, XSU, XUA, XTS and XXX. `app.currency_exponent` (migration `core/0009_money`) holds the same;
/// a test compares them. A code that ISO withdraws stays as long as there are rows that have it.
const CURRENCIES: [(u8, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW \
         CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF \
         IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK \
         MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
         SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG \
         YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// A currency that amounts can be in: an active code of ISO 4217, in capital letters. In PostgreSQL it is `text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    exponent: u8,
}

impl Currency {
    /// The euro.
    pub const EURO: Self = Self { code: "EUR", exponent: 2 };

    /// The currency of a code.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    pub fn parse(code: &str) -> Result<Self, String> {
        Self::all()
            .find(|known| known.code == code)
            .ok_or_else(|| "is not an active code of ISO 4217".to_owned())
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        CURRENCIES
            .into_iter()
            .flat_map(|(exponent, codes)| codes.split(' ').map(move |code| Self { code, exponent }))
    }

    /// Its code: three capital letters.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// How many decimal places its amounts have: an amount of 12.50 is 1250 minor units where it is 2.
    pub const fn exponent(self) -> u8 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A format and no list of words: a client must take a currency that ISO adds.
impl JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "currency", "pattern": "^[A-Z]{3}$", "examples": ["EUR"],
            "description": "An active code of ISO 4217.",
        })
    }
}

impl ToSql for Currency {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.code.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Currency {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let code = <&str>::from_sql(ty, raw)?;
        Self::parse(code).map_err(|why| format!("'{code}' {why}").into())
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_an_active_code_in_capital_letters() {
        let exponent = |code| Currency::parse(code).map(Currency::exponent).ok();
        assert_eq!(["JPY", "EUR", "BHD", "CLF"].map(exponent), [Some(0), Some(2), Some(3), Some(4)]);
        for bad in ["", "eur", "EU", "EUR ", "XXX", "XAU", "XTS", "DEM", "EURO", "ЕUR"] {
            assert_eq!(exponent(bad), None, "{bad:?}");
        }
        let mut codes: Vec<&str> = Currency::all().map(Currency::code).collect();
        assert!(
            codes.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
        );
        codes.sort_unstable();
        codes.dedup();
        assert_eq!((codes.len(), Currency::all().count()), (165, 165));
    }
}
