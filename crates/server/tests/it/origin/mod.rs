//! Where requests come from: addresses, proxies, encryption, pages, ids.

mod context;
mod cors;
mod https;
mod pipelining;
mod protocol;
mod tracing;
