//! Gives the tests a PostgreSQL: `cargo run --example with-postgres -- cargo test`.

use std::process::ExitCode;

fn main() -> ExitCode {
    erp_testkit::with_postgres()
}
