//! A resource, declared once: its record, its bodies, its list, and the statements' parts that follow from them.
//!
//! [`record!`](crate::record) declares what is stored and answered, [`input!`](crate::input) and [`patch!`](crate::patch)
//! what is sent, [`list!`](crate::list) how it is listed, and of documents [`states!`](crate::states) what becomes of
//! them, and by whom. [`sql!`](crate::sql) joins their columns with the SQL that the
//! author writes, at compile time. [`Call`] runs it, and answers with the types that make the contract.

mod answers;
mod cached;
mod call;
mod choice;
mod document;
mod download;
mod encrypted;
mod files;
mod list;
mod page;
mod record;
mod sort;
mod states;
mod text;
mod values;

pub use crate::files::NewFile;
pub use answers::{Created, Listed, Tagged};
pub use cached::{QueryAnswer, QueryValues};
pub use call::Call;
pub use document::{HeadAndLine, WithLines};
pub use download::{ByteRange, Download};
pub use encrypted::{BlindIndex, Encrypted, EncryptedText, Indexed, Searched, Unindexed};
pub(crate) use files::remove_objects;
pub use files::{FileContent, FileDraft, StoredFile};
pub use list::Listing;
pub use page::{Page, Unfiltered};
pub use record::{InTable, Listable, Resource, Versioned};
pub use sort::{SortColumn, SortKey, SortValue, accepts_of, sort_columns_of};
pub use states::{States, Transition};
pub use text::{
    Field, assignments, camel_case, columns, concat, condition_of_step, count, equalities, look_at_step,
    names_sealed, page_statement, places, text, upsert,
};
pub use values::Values;

/// The condition of a statement that changes one record: `$1` is its id, `$2` the versions that `If-Match` allows.
pub const THIS: &str = "id = $1 and ($2::bigint[] is null or version = any ($2))";
