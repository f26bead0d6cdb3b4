use erp_core::config::{Level, LogFormat};
use erp_core::logging::{CapturingSink, LogOptions, Logging};
use erp_core::shared::Clock;
use serde_json::Value;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::subscriber::DefaultGuard;

/// What the app has logged, line by line.
pub struct Log {
    sink: CapturingSink,
    pub(crate) logging: Logging,
    /// On a runtime of one thread the log is that thread's, and tests in one process do not mix.
    _thread: Option<DefaultGuard>,
}

impl Log {
    pub(crate) fn capture(clock: Arc<dyn Clock>) -> Self {
        let sink = CapturingSink::new();
        let options = LogOptions::new(Level::Debug, LogFormat::Json, "boot_test", clock).to(sink.clone());
        let (logging, subscriber) = Logging::new(options.capacity(1_000_000));
        let thread = match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => Some(tracing::subscriber::set_default(subscriber)),
            _ => {
                tracing::subscriber::set_global_default(subscriber).expect(
                    "one app on a runtime of many threads in a process: script/test runs each test in one",
                );
                None
            }
        };
        Self { sink, logging, _thread: thread }
    }

    /// Everything so far, as text.
    pub fn text(&self) -> String {
        assert!(self.logging.flush(), "the log is written within 2 s");
        self.sink.text()
    }

    /// Everything so far; each line is one JSON object, or the test fails (O-01).
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.text().lines().map(parse).collect()
    }

    /// The lines whose message is `message`.
    pub fn with_message(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// The last lines, for a person: without backtraces, unless TEST_BACKTRACE is set.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|line| told(line)).collect()
    }

    /// Lines that no test should see unannounced: errors, and answers of 500 and above. Each as a person reads it, and once.
    pub(crate) fn faults(&self) -> Vec<String> {
        let is_fault = |line: &Value| {
            line["level"] == "error" || line["statusCode"].as_u64().is_some_and(|status| status >= 500)
        };
        let mut faults: Vec<String> = Vec::new();
        for fault in self.lines().iter().filter(|line| is_fault(line)).map(sentence) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }
}

/// The message of a line, and the fields that tell it from others of its kind.
fn sentence(line: &Value) -> String {
    let common =
        ["message", "level", "timestamp", "backtrace", "correlationId", "duration", "tenantId", "userId"];
    let fields = line.as_object().into_iter().flatten().filter(|(name, _)| !common.contains(&name.as_str()));
    let fields = fields.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} {text}"),
        None => format!("{name} {value}"),
    });
    let fields = fields.collect::<Vec<_>>().join(", ");
    format!("{} ({fields})", line["message"].as_str().unwrap_or_default())
}

/// A line of the log without its backtrace, which is of use to few and hides the cause; with TEST_BACKTRACE the whole.
fn told(line: &str) -> String {
    let whole = std::env::var_os("TEST_BACKTRACE").is_some();
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(mut fields)) if !whole => {
            fields.remove("backtrace");
            Value::Object(fields).to_string()
        }
        _ => line.to_owned(),
    }
}
