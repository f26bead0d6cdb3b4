//! The API: its contract, its resources, and every route of every module.

mod browser;
mod catalog;
mod client;
pub(crate) mod contract;
mod contract_headers;
mod exports;
mod input;
mod listing;
pub(crate) mod samples;
mod sweeps;
