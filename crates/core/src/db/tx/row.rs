use erp_postgres::{Row, WireError};

/// A type that is read from a row by the names of its columns. Implement it with [`from_row!`](crate::from_row).
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
    };
}
