//! The modules' own tests over HTTP: `tests.rs` in the folder of a module, beside what it tests.
//!
//! This file is their list and nothing else: `script/new-module` adds a line.

#[path = "../../../modules/src/suppliers/tests.rs"]
mod suppliers;
