//! See [`erp_testkit::with_postgres`].

fn main() -> std::process::ExitCode {
    erp_testkit::with_postgres()
}
