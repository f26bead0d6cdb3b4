//! A start that fails takes everything down again, and its log is written before the process may end.

use std::io::{self, Write};
use std::time::Duration;

use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap};
use erp_core::config::{Layers, Level, LogFormat, MapSource};
use erp_core::lifecycle::Exit;
use erp_core::logging::{CapturingSink, LogOptions, Logging};
use erp_modules::PRODUCT;

/// A disk that takes its time.
struct Slow(CapturingSink);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(500));
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[tokio::test]
async fn the_log_of_a_start_that_failed_is_complete() {
    let settings = MapSource::environment([
        ("DATABASE_URL", "postgresql://erp_app@127.0.0.1:1/erp"),
        ("STARTUP_TIMEOUT", "1s"),
        ("DATA_DIR", "/nonexistent"),
        ("JWT_SECRET", "x"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
    ]);
    let sink = CapturingSink::new();
    let mut options = BootstrapOptions::new(LogSetup::Install { terminal: false }, "".into());
    let log = LogOptions::new(Level::Debug, LogFormat::Json, "boot_test", options.clock.clone());
    let (logging, subscriber) = Logging::new(log.to(Slow(sink.clone())));
    let _guard = tracing::subscriber::set_default(subscriber);
    options.logging = LogSetup::Given(logging);
    let error = bootstrap(&PRODUCT, &Layers::from(settings), options).await.err().unwrap();
    assert_eq!(error.exit, Exit::Unavailable, "{error}");
    let text = sink.text();
    assert!(text.lines().filter(|line| line.contains("trying again")).count() >= 2, "{text}");
}
