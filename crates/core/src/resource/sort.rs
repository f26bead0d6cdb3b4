use jiff::Timestamp;
use jiff::civil::Date;

use crate::shared::{Currency, Day, Id, Int, Money};

/// A column of an order, and how PostgreSQL reads its value from the text of a place.
pub struct SortColumn {
    /// What follows the field's name in the column's.
    pub suffix: &'static str,
    /// What stands before and after the text where the column is only a part of it.
    pub part: [&'static str; 2],
    /// The column's type in PostgreSQL.
    pub sql_type: &'static str,
}

impl SortColumn {
    /// The only column of its field.
    pub const fn only(sql_type: &'static str) -> Self {
        Self { suffix: "", part: ["", ""], sql_type }
    }
}

/// A field that a list can be sorted by: how its value travels in a cursor, and comes back.
#[diagnostic::on_unimplemented(
    message = "a list cannot be sorted by a column of the type `{Self}`",
    note = "sort by a `String`, an integer, a `Timestamp`, a `Day`, a `Money` or an `Id`; a column that can be null has no place in an \
            order: coalesce it in the statement; what is encrypted has no order"
)]
pub trait SortValue {
    /// Its columns in PostgreSQL, the most significant first.
    const COLUMNS: &'static [SortColumn];

    /// The value as text, which PostgreSQL reads as it was.
    fn place(&self) -> String;

    /// Whether a text is what [`place`](Self::place) writes: it comes back from the client.
    fn accepts(text: &str) -> bool;
}

impl SortValue for String {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("text")];

    fn place(&self) -> String {
        self.clone()
    }

    fn accepts(text: &str) -> bool {
        !text.contains('\0')
    }
}

impl SortValue for Timestamp {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("timestamptz")];

    fn place(&self) -> String {
        self.to_string()
    }

    /// As we wrote it: PostgreSQL's calendar and spellings are others than jiff's. Four digits of a year hold any time of
    /// a row (`app.bound_times`), and year 0 is none to PostgreSQL.
    fn accepts(text: &str) -> bool {
        has_four_digits_of_a_year(text) && text.parse::<Self>().is_ok_and(|at| at.to_string() == text)
    }
}

impl SortValue for Date {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("date")];

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        has_four_digits_of_a_year(text) && text.parse::<Self>().is_ok_and(|day| day.to_string() == text)
    }
}

impl SortValue for Day {
    const COLUMNS: &'static [SortColumn] = <Date as SortValue>::COLUMNS;

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        Self::parse(text).is_ok()
    }
}

fn has_four_digits_of_a_year(text: &str) -> bool {
    text.get(..5).is_some_and(|year| year.ends_with('-') && year != "0000-")
}

macro_rules! whole_numbers {
    ($($type:ty = $name:literal),+) => {
        $(impl SortValue for $type {
            const COLUMNS: &'static [SortColumn] = &[SortColumn::only($name)];

            fn place(&self) -> String {
                self.to_string()
            }

            fn accepts(text: &str) -> bool {
                text.parse::<$type>().is_ok()
            }
        })+
    };
}
whole_numbers!(i16 = "smallint", i32 = "integer", i64 = "bigint");

impl<const MIN: i64, const MAX: i64> SortValue for Int<MIN, MAX> {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("bigint")];

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        text.parse::<i64>().is_ok()
    }
}

impl SortValue for Currency {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("text")];

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        Self::parse(text).is_ok()
    }
}

/// By currency, then by amount: amounts of several currencies have no other order without a rate.
impl<const LEAST: i64> SortValue for Money<LEAST> {
    const COLUMNS: &'static [SortColumn] = &[
        SortColumn { suffix: "_currency", part: ["split_part(", ", ' ', 1)"], sql_type: "text" },
        SortColumn { suffix: "_minor", part: ["split_part(", ", ' ', 2)"], sql_type: "bigint" },
    ];

    fn place(&self) -> String {
        format!("{} {}", self.currency(), self.minor())
    }

    fn accepts(text: &str) -> bool {
        text.split_once(' ')
            .is_some_and(|(currency, minor)| Currency::accepts(currency) && i64::accepts(minor))
    }
}

impl<K: crate::shared::IdKind> SortValue for Id<K> {
    const COLUMNS: &'static [SortColumn] = &[SortColumn::only("uuid")];

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        text.parse::<Self>().is_ok()
    }
}

/// The columns of the field that `_field` takes out of a record.
pub const fn sort_columns_of<R, V: SortValue>(_field: fn(&R) -> &V) -> &'static [SortColumn] {
    V::COLUMNS
}

/// What accepts the texts of that field.
pub const fn accepts_of<R, V: SortValue>(_field: fn(&R) -> &V) -> fn(&str) -> bool {
    V::accepts
}

/// One order of a list, in both directions. [`list!`](crate::list) makes it.
pub struct SortKey<R> {
    /// Its name in a query, camelCase.
    pub name: &'static str,
    /// The statements of the first page and of a page after a place: ascending, then descending.
    pub statements: [[&'static str; 2]; 2],
    /// The value of a record in this order.
    pub place: fn(&R) -> String,
    /// Whether a text can be one.
    pub accepts: fn(&str) -> bool,
}
