use jiff::Timestamp;
use jiff::civil::Date;

use crate::shared::{Id, Int};

/// A column that a list can be sorted by: how its value travels in a cursor, and comes back.
#[diagnostic::on_unimplemented(
    message = "a list cannot be sorted by a column of the type `{Self}`",
    note = "sort by a `String`, an integer, a `Timestamp`, a `Date` or an `Id`; a column that can be null has no place in an \
            order: coalesce it in the statement"
)]
pub trait SortValue {
    /// The column's type in PostgreSQL.
    const SQL_TYPE: &'static str;

    /// The value as text, which PostgreSQL reads as it was.
    fn place(&self) -> String;

    /// Whether a text is what [`place`](Self::place) writes: it comes back from the client.
    fn accepts(text: &str) -> bool;
}

impl SortValue for String {
    const SQL_TYPE: &'static str = "text";

    fn place(&self) -> String {
        self.clone()
    }

    fn accepts(text: &str) -> bool {
        !text.contains('\0')
    }
}

impl SortValue for Timestamp {
    const SQL_TYPE: &'static str = "timestamptz";

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
    const SQL_TYPE: &'static str = "date";

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        has_four_digits_of_a_year(text) && text.parse::<Self>().is_ok_and(|day| day.to_string() == text)
    }
}

fn has_four_digits_of_a_year(text: &str) -> bool {
    text.get(..5).is_some_and(|year| year.ends_with('-') && year != "0000-")
}

macro_rules! whole_numbers {
    ($($type:ty = $name:literal),+) => {
        $(impl SortValue for $type {
            const SQL_TYPE: &'static str = $name;

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
    const SQL_TYPE: &'static str = "bigint";

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        text.parse::<i64>().is_ok()
    }
}

impl<K: crate::shared::IdKind> SortValue for Id<K> {
    const SQL_TYPE: &'static str = "uuid";

    fn place(&self) -> String {
        self.to_string()
    }

    fn accepts(text: &str) -> bool {
        text.parse::<Self>().is_ok()
    }
}

/// The type in PostgreSQL of the column that `_field` takes out of a record.
pub const fn sql_type_of<R, V: SortValue>(_field: fn(&R) -> &V) -> &'static str {
    V::SQL_TYPE
}

/// What accepts the texts of that column.
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
