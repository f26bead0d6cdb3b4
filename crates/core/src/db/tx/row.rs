use erp_postgres::{Row, WireError};

use crate::crypto::{Keyring, Unopened};

/// A type that is read from a row by the names of its columns. Implement it with [`from_row!`](crate::from_row).
pub trait FromRow: Sized + Send {
    /// Reads the row.
    ///
    /// # Errors
    /// When a column is missing or has another type: a fault of the statement, found by its test.
    fn from_row(row: &Row<'_>) -> Result<Self, WireError>;

    /// Whether it has encrypted fields.
    const SEALED: bool = false;

    /// Opens its encrypted fields; those that are open stay so.
    ///
    /// # Errors
    /// When one does not open.
    fn open(&mut self, _: &Keyring) -> Result<(), Unopened> {
        Ok(())
    }
}

/// Statements that return nothing worth reading.
impl FromRow for () {
    fn from_row(_: &Row<'_>) -> Result<Self, WireError> {
        Ok(())
    }
}

/// Reads a struct from the columns named as its fields, or as [`FromColumns`](crate::db::FromColumns) has it:
/// `from_row!(Item { id, sku, name });`. In the order of the statement it is fastest.
#[macro_export]
macro_rules! from_row {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::db::FromRow for $type {
            fn from_row(row: &$crate::db::Row<'_>) -> Result<Self, $crate::db::RowError> {
                Ok(Self { $($field: $crate::db::FromColumns::from_columns(row, stringify!($field))?),+ })
            }
        }

        const _: () = assert!(
            !(false $(|| $crate::db::is_sealed(|row: &$type| &row.$field))+),
            "an encrypted field belongs to a record with an id: declare it with record! in a table as a word"
        );
    };
    (@opened $type:ident in $table:literal { $($field:ident),+ $(,)? }) => {
        impl $crate::db::FromRow for $type {
            fn from_row(row: &$crate::db::Row<'_>) -> Result<Self, $crate::db::RowError> {
                Ok(Self { $($field: $crate::db::FromColumns::from_columns(row, stringify!($field))?),+ })
            }

            const SEALED: bool = false $(|| $crate::db::is_sealed(|row: &$type| &row.$field))+;

            fn open(&mut self, ring: &$crate::crypto::Keyring) -> Result<(), $crate::crypto::Unopened> {
                let place = $crate::db::RowPlace { table: $table, row: *self.id.as_uuid() };
                $($crate::db::FromColumns::open(&mut self.$field, ring, &place, stringify!($field))?;)+
                Ok(())
            }
        }
    };
}
