//! Rows from a file: a job reads CSV or NDJSON, checks each row as a body is checked, and writes it by one statement.
//!
//! Rows are written so many at a time, each batch together with how far the import has come: after a crash the next attempt
//! goes on behind the last batch, and every row has its effect once. A row that cannot be written is rejected, with what is
//! wrong with it, and the others are written all the same. What was rejected ends in a file of its own, which can be corrected
//! and imported again.

mod call;
mod cells;
mod codes;
mod declared;
mod engine;
mod rejections;
mod rows;

use crate::module::Module;
pub use call::{ImportBegun, ImportOptions};
pub use codes::{IMPORT_ERRORS, import_codes};
pub use declared::{Import, ImportArgs, ImportRow};
pub use engine::{ImportCount, Imported};
pub use rows::{RowRead, RowReader};

/// The core's part in imports, as a module.
pub(crate) static IMPORTS: Module = Module {
    name: "imports",
    about: "Rows that are imported from files.",
    errors: IMPORT_ERRORS,
    ..Module::BARE
};
