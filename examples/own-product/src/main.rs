//! `wheels`: all verbs of `erp-backend`, for this product.

use std::process::ExitCode;

fn main() -> ExitCode {
    erp_backend::run(&wheels::PRODUCT)
}
