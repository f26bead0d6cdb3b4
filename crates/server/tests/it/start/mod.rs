//! How it starts, and what it then says of itself.

mod failed_start;
mod first;
mod module_parts;
mod profiles;
mod start_options;
