//! Panics as log lines: one each, in the context in which they happened.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};

use crate::config::LogFormat;

/// From now on a panic on any thread becomes one error line with its message and location.
///
/// As JSON it carries the backtrace, and nothing else is written. In the console format the usual report to people
/// follows on standard error, which `RUST_BACKTRACE` extends.
pub(super) fn log_panics(format: LogFormat) {
    let report = (format == LogFormat::Console).then(panic::take_hook);
    panic::set_hook(Box::new(move |panic| match &report {
        None => log(panic, Some(&Backtrace::force_capture())),
        Some(report) => {
            log(panic, None);
            report(panic);
        }
    }));
}

fn log(panic: &PanicHookInfo<'_>, backtrace: Option<&Backtrace>) {
    tracing::error!(
        panic = panic.payload_as_str().unwrap_or("(no message)"),
        location = panic.location().map(tracing::field::display),
        thread = std::thread::current().name(),
        backtrace = backtrace.map(tracing::field::display),
        "Panic"
    );
}
