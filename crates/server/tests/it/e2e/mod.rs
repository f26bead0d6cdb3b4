//! The product through its front door: the built binary as a process, over real sockets, on a real PostgreSQL.

mod commands;
mod database;
mod http;
mod process;
mod start;
