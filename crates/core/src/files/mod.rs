//! Files of tenants: what kinds there are, and the store that keeps their bytes.
//!
//! A module declares a [`FileKind`] and lists it in its row. Bytes go to the store first
//! ([`Call::store_file`](crate::resource::Call::store_file)), while no transaction is open; the row that makes a file of them
//! is written in the caller's transaction, and commits or vanishes with it. What the store holds beside files is written down
//! before its first byte is stored, so that nothing is ever left there unseen (`docs/decisions/0023-files.md`). The bytes are encrypted
//! with a key of their own, which the row has (`content_key.rs`); what was stored before there were such keys is read as it is.

mod codes;
mod content_key;
mod disposition;
mod kind;
mod ledger;
mod link;
mod media;
mod name;
mod new;
mod store;
mod writer;

pub use codes::{FILE_ERRORS, file_codes};
pub(crate) use content_key::sealed_length;
pub(crate) use disposition::{attachment, name_of};
pub use kind::{FileKind, FileKinds, files_markdown};
pub(crate) use kind::{size_words, too_large, type_not_allowed};
pub(crate) use link::LONGEST_LINK;
pub use media::Media;
pub(crate) use media::{HEAD, TextCheck};
pub use name::FileName;
pub use new::NewFile;
pub use store::FileStore;
pub(crate) use store::{FileStoreOptions, ObjectKey, ObjectStream, StoredObject};
pub(crate) use writer::ObjectWriter;

use crate::shared::{Id, IdKind};

/// The id of a file, and of its object in the store.
pub type FileId = Id<FileRow>;

/// See [`FileId`].
#[derive(Debug)]
pub enum FileRow {}

impl IdKind for FileRow {
    const NAME: &'static str = "file";
}
