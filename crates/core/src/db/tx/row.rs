use erp_postgres::{Row, WireError};

/// A type that is read from a row by column name. Implement it with [`from_row!`](crate::from_row).
pub trait FromRow: Sized {
    /// Reads the row.
    ///
    /// # Errors
    /// When a column is missing or has another type: a fault of the statement, found by its test.
    fn from_row(row: &Row<'_>) -> Result<Self, WireError>;
}

/// Statements that return nothing worth reading.
impl FromRow for () {
    fn from_row(_: &Row<'_>) -> Result<Self, WireError> {
        Ok(())
    }
}

/// Reads a struct from the columns named as its fields: `from_row!(Item { id, sku, name });`. In the order of the
/// statement it is fastest.
#[macro_export]
macro_rules! from_row {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::db::FromRow for $type {
            fn from_row(row: &$crate::db::Row<'_>) -> Result<Self, $crate::db::RowError> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
            }
        }
    };
}
