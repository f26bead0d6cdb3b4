//! The product through its front door: the built binary as a process, over real sockets, on a real PostgreSQL.

mod commands;
mod database;
mod faults;
mod hang_up;
mod http;
mod isolation;
mod load;
mod migrations;
mod postgres;
mod process;
mod refusals;
mod start;
mod stop;
