//! What the chain does as a whole.

mod factory;
mod faults;
mod idempotency;
