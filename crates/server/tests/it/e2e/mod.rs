//! The product through its front door: the built binary as a process, over real sockets, on a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what the tests share may fail as they do, and tell what it measured"
)]

mod access;
#[cfg(feature = "jemalloc")]
mod allocator;
mod backup;
mod canaries;
mod carried_over;
mod check;
mod clients;
mod commands;
mod connecting;
mod database;
mod events;
mod evidence;
mod faults;
mod foreign;
mod guides;
mod hang_up;
mod http;
mod imports;
mod isolation;
mod jobs;
mod kills;
mod limits;
mod load;
mod locales;
mod mail;
mod management;
mod memory;
mod migration_rules;
mod migrations;
mod one_list;
mod postgres;
mod privacy;
mod process;
mod refusals;
mod rehearsal;
mod relay;
mod reset;
mod roles;
mod rotations;
mod schedules;
mod secrets;
mod settings;
mod soak;
mod start;
mod stop;
mod tenants;
mod tls;
mod users;
mod verifiers;
mod versions;
mod webhooks;
