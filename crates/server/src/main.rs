//! `erp-backend`: the product that this repository builds.

use std::process::ExitCode;

fn main() -> ExitCode {
    erp_backend::run(&erp_modules::PRODUCT)
}
