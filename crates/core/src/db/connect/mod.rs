//! The way to a session that will do: its address, and what it must be before it is used.

pub(super) mod connection;
mod password_file;
pub(super) mod protected;
pub(super) mod refusal;
pub(super) mod session;
pub(super) mod version;
