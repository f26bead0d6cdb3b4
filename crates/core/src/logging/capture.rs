use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A sink that keeps what is written, for tests to read back. Clones share the text.
#[derive(Debug, Clone, Default)]
pub struct CapturingSink(Arc<Mutex<Vec<u8>>>);

impl CapturingSink {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything written so far. Call [`super::Logging::flush`] first: lines are written by another thread.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The same, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

impl Write for CapturingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
