//! How the value of a field lies in a table: in one column of the field's name, or in several.
//!
//! Everything that PostgreSQL reads and writes as one value is in one column. [`Money`] is in two, the field's name with
//! `_minor` and with `_currency`, and [`Days`] brings two values to a statement. A type of a module's own can do the same:
//! it implements [`FromColumns`] and [`ToColumns`] for [`Several`], and neither `FromSql` nor `ToSql`. The parameter of the
//! traits keeps both kinds apart, and the compiler finds it.
//!
//! What is [`Encrypted`](crate::resource::Encrypted) is read as a ciphertext and opened afterwards, and encrypted before it is
//! written: both want the tenant's keys, and know the table and the row.

use std::error::Error;

use erp_postgres::{Row, WireError};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::crypto::{Keyring, SealFault, SealPlace, Unopened};
use crate::shared::{Days, Money, Rng};
use uuid::Uuid;

/// Kind of the types that are in one column.
pub enum One {}

/// Kind of the types that are in several columns.
pub enum Several {}

/// What follows the field's name in the names of its columns.
type Suffixes = &'static [&'static str];

const MONEY: Suffixes = &["_minor", "_currency"];

/// A value that is read from the columns of its field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a column",
    note = "implement `erp_core::db::FromSql` for a type of your own; a time is a `Timestamp` or a `Day`, an amount `Money`"
)]
pub trait FromColumns<Kind>: Sized {
    /// What follows the field's name in the names of its columns, in their order.
    const SUFFIXES: Suffixes;

    /// Reads it.
    ///
    /// # Errors
    /// When a column is missing or holds something else: a fault of the statement, found by its test.
    fn from_columns(row: &Row<'_>, field: &str) -> Result<Self, WireError>;

    /// Whether it is encrypted in its column.
    const SEALED: bool = false;

    /// Opens what is encrypted.
    ///
    /// # Errors
    /// When it does not open.
    fn open(&mut self, _: &Keyring, _: &RowPlace, _field: &'static str) -> Result<(), Unopened> {
        Ok(())
    }
}

/// The row that encrypted fields are of.
#[derive(Debug, Clone, Copy)]
pub struct RowPlace {
    /// Its table, without the schema.
    pub table: &'static str,
    /// Its id.
    pub row: Uuid,
}

impl RowPlace {
    /// The place of one of its columns.
    pub const fn column<'a>(&self, column: &'a str) -> SealPlace<'a>
    where
        'static: 'a,
    {
        SealPlace { table: self.table, column, row: self.row }
    }
}

/// Encrypts the fields of one row, before they are written.
pub struct RowSealer<'a> {
    /// The tenant's keys.
    pub ring: &'a Keyring,
    /// Where nonces are from.
    pub rng: &'a dyn Rng,
    /// The row.
    pub place: RowPlace,
}

/// Whether the field that `_field` takes out of a record is encrypted.
pub const fn is_sealed<R, Kind, V: FromColumns<Kind>>(_field: fn(&R) -> &V) -> bool {
    V::SEALED
}

impl<T: for<'a> FromSql<'a>> FromColumns<One> for T {
    const SUFFIXES: Suffixes = &[""];

    fn from_columns(row: &Row<'_>, field: &str) -> Result<Self, WireError> {
        row.try_get(field)
    }
}

impl<const LEAST: i64> FromColumns<Several> for Money<LEAST> {
    const SUFFIXES: Suffixes = MONEY;

    fn from_columns(row: &Row<'_>, field: &str) -> Result<Self, WireError> {
        let minor = row.try_get_part(field, "_minor")?;
        let currency = row.try_get_part(field, "_currency")?;
        Self::from_minor(minor, currency).map_err(|fault| WireError::Column(field.to_owned(), fault.into()))
    }
}

/// NULL in its first column is `None`: a check of the table has it in all of them.
impl<T: FromColumns<Several>> FromColumns<Several> for Option<T> {
    const SUFFIXES: Suffixes = T::SUFFIXES;

    fn from_columns(row: &Row<'_>, field: &str) -> Result<Self, WireError> {
        let first = T::SUFFIXES.first().copied().unwrap_or_default();
        if row.is_null(field, first)? { Ok(None) } else { T::from_columns(row, field).map(Some) }
    }

    const SEALED: bool = T::SEALED;

    fn open(&mut self, ring: &Keyring, place: &RowPlace, field: &'static str) -> Result<(), Unopened> {
        self.as_mut().map_or(Ok(()), |value| value.open(ring, place, field))
    }
}

/// A value that a statement takes, as one parameter for each column of its field.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a statement",
    note = "implement `erp_core::db::ToSql` for a type of your own; a time is a `Timestamp` or a `Day`, an amount `Money`"
)]
pub trait ToColumns<Kind> {
    /// What follows the field's name in the names of its columns, in their order.
    const SUFFIXES: Suffixes;

    /// Appends its values, one for each column.
    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>);

    /// Whether it is encrypted in its column.
    const SEALED: bool = false;

    /// Encrypts it for its place. Until then its value is none that a statement takes.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    fn seal(&self, _: &RowSealer<'_>, _field: &'static str) -> Result<(), SealFault> {
        Ok(())
    }
}

impl<T: ToSql + Sync> ToColumns<One> for T {
    const SUFFIXES: Suffixes = &[""];

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        values.push(self);
    }
}

impl<const LEAST: i64> ToColumns<Several> for Money<LEAST> {
    const SUFFIXES: Suffixes = MONEY;

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        let (minor, currency) = self.parts();
        values.extend([minor as &(dyn ToSql + Sync), currency]);
    }
}

impl ToColumns<Several> for Days {
    const SUFFIXES: Suffixes = &["_first", "_last"];

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        values.extend(self.ends().map(|end| end as &(dyn ToSql + Sync)));
    }
}

impl<T: ToColumns<Several>> ToColumns<Several> for Option<T> {
    const SUFFIXES: Suffixes = T::SUFFIXES;

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        match self {
            Some(value) => value.append(values),
            None => values.extend(T::SUFFIXES.iter().map(|_| &Null as &(dyn ToSql + Sync))),
        }
    }

    const SEALED: bool = T::SEALED;

    fn seal(&self, sealer: &RowSealer<'_>, field: &'static str) -> Result<(), SealFault> {
        self.as_ref().map_or(Ok(()), |value| value.seal(sealer, field))
    }
}

/// The values of an input for a statement, as [`input!`](crate::input) and [`patch!`](crate::patch) make them. Where some of them are
/// to be encrypted, [`Call`](crate::resource::Call) does so when it knows the row.
pub struct ColumnValues<'a> {
    values: Vec<&'a (dyn ToSql + Sync)>,
    sealed: Option<&'a dyn SealFields>,
}

/// An input some of whose fields are encrypted.
pub trait SealFields: Sync {
    /// Encrypts them.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    fn seal(&self, sealer: &RowSealer<'_>) -> Result<(), SealFault>;
}

impl<'a> ColumnValues<'a> {
    /// The values, and who encrypts some of them, if any are.
    pub fn new(values: Vec<&'a (dyn ToSql + Sync)>, sealed: Option<&'a dyn SealFields>) -> Self {
        Self { values, sealed }
    }
}

impl<'a> std::ops::Deref for ColumnValues<'a> {
    type Target = [&'a (dyn ToSql + Sync)];

    fn deref(&self) -> &Self::Target {
        &self.values
    }
}

impl<'a> IntoIterator for ColumnValues<'a> {
    type Item = &'a (dyn ToSql + Sync);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

/// What a statement of a [`Call`](crate::resource::Call) takes beside the id: the values of an input, or a slice of parameters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a statement takes",
    note = "write `&new.values()` of an input, or `params![a, b]`"
)]
pub trait RowValues: Sync {
    /// The parameters.
    fn params(&self) -> &[&(dyn ToSql + Sync)];

    /// Who encrypts some of them, if any are encrypted.
    fn sealed(&self) -> Option<&dyn SealFields> {
        None
    }
}

impl RowValues for ColumnValues<'_> {
    fn params(&self) -> &[&(dyn ToSql + Sync)] {
        &self.values
    }

    fn sealed(&self) -> Option<&dyn SealFields> {
        self.sealed
    }
}

/// The parameters of a statement of [`Call`](crate::resource::Call): `params![&name, &price]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($value as &(dyn $crate::db::ToSql + Sync)),*] as &[&(dyn $crate::db::ToSql + Sync)] };
}

impl RowValues for [&(dyn ToSql + Sync)] {
    fn params(&self) -> &[&(dyn ToSql + Sync)] {
        self
    }
}

impl<const COUNT: usize> RowValues for [&(dyn ToSql + Sync); COUNT] {
    fn params(&self) -> &[&(dyn ToSql + Sync)] {
        self
    }
}

/// Kind of the floats: what they hold is not exact. No field can be one, since the compiler finds two kinds for it, and
/// names this one.
///
/// ```compile_fail,E0283
/// erp_core::input! { NewItem { price: f64 } }
/// ```
///
/// ```
/// erp_core::input! { NewItem { price: erp_core::shared::Money<0> } }
/// ```
pub enum UseMoneyAndNoFloat {}

macro_rules! floats {
    ($($float:ty),+) => {
        $(impl ToColumns<UseMoneyAndNoFloat> for $float {
            const SUFFIXES: Suffixes = &[];

            fn append<'a>(&'a self, _: &mut Vec<&'a (dyn ToSql + Sync)>) {}
        })+
    };
}
floats!(f32, f64, Option<f32>, Option<f64>);

/// NULL of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
