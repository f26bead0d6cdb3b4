//! What surrounds the chain: the product's own layers, the log of requests, the deadline, the guard against panics, and
//! the answers for requests that the chain did not answer.

pub(super) mod access_log;
pub(crate) mod custom;
pub(super) mod deadline;
pub(super) mod outside;
pub(super) mod panic_guard;
