//! Keys and what they encrypt: a key of the deployment wraps one data key for each tenant, which encrypts its columns and files.
//!
//! A ciphertext names the version of its key, `v2:…`, and opens in its place only: the tenant, the table, the column and the row
//! are part of what is authenticated. What opens nowhere is an [`SealFault`], never a part of the plain text. Here is no database:
//! `db::TenantKeys` reads the wrapped keys and keeps the opened ones for a moment
//! ([decision 0051](../../../../docs/decisions/0051-envelope-keys.md)).

mod data_key;
mod encryption;
mod fault;
mod kek;
mod place;

pub use data_key::{DataKey, Keyring};
pub(crate) use encryption::{KeyEncryption, WrappedKey};
pub use fault::{SealFault, Unopened};
pub use place::SealPlace;
