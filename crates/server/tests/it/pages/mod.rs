//! What the documentation says, held against the code.

mod security_page;
mod specification;
mod tables;
