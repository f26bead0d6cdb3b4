//! In which form answers go out.

mod assets;
mod deprecations;
mod headers;
pub(crate) mod representations;
mod streaming;
