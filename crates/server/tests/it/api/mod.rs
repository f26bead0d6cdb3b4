//! The API: its contract, its resources, and every route of every module.

mod browser;
mod catalog;
mod client;
pub(crate) mod contract;
mod contract_headers;
mod exports;
mod filing;
pub(crate) mod fixtures;
mod input;
mod listing;
mod money;
mod sweeps;
