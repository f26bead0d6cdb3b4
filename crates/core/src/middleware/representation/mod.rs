//! In which form the answer goes out: its type, coding and headers, who may keep it, and the memory it takes till then.

pub(super) mod acceptable;
pub(super) mod cache;
pub(super) mod compression;
pub(crate) mod conditional;
mod encoder;
pub(super) mod head;
pub(super) mod security_headers;
pub(super) mod untaken;
