//! Lines on their way out: a bounded buffer and one thread, so that no request waits for a slow terminal or disk.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A second bound beside the number of lines, for when they are long.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How long the thread gathers lines after a write: waking it for each one would cost more than the line.
const GATHER: Duration = Duration::from_millis(5);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to a sink. Dropping it lets the thread write the rest and end.
pub(super) struct Output(Arc<LineQueue>);

struct LineQueue {
    state: Mutex<SinkState>,
    arrived: Condvar,
    drained: Condvar,
    capacity: usize,
    dropped: AtomicU64,
    write_errors: AtomicU64,
    /// Whether the last write was refused.
    failing: AtomicBool,
}

#[derive(Default)]
struct SinkState {
    /// Whole lines, one after the other: a batch goes out in one write.
    waiting: Vec<u8>,
    lines: usize,
    /// The thread waits for a line, and must be woken.
    asleep: bool,
    writing: bool,
    /// Somebody waits for the lines to be out.
    hurry: bool,
    closed: bool,
}

impl Output {
    /// Starts the thread that writes to `sink`.
    #[allow(clippy::expect_used)] // a machine that cannot start a thread cannot serve
    pub(super) fn start(sink: Box<dyn Write + Send>, capacity: usize) -> Self {
        let queue = Arc::new(LineQueue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            drained: Condvar::new(),
            capacity,
            dropped: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || theirs.write_to(sink))
            .expect("the log-writer thread must start");
        Self(queue)
    }

    /// Queues `line`, which ends in a line break; never waits for the sink.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.0.lock();
        if state.lines >= self.0.capacity || state.waiting.len() + line.len() > MOST_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        state.lines += 1;
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.0.arrived.notify_one();
        }
    }

    pub(super) fn flush(&self) -> bool {
        let busy = |state: &mut SinkState| state.writing || !state.waiting.is_empty();
        let mut state = self.0.lock();
        state.hurry = true;
        self.0.arrived.notify_one();
        let waited = self.0.drained.wait_timeout_while(state, FLUSH_TIMEOUT, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    pub(super) fn write_errors(&self) -> u64 {
        self.0.write_errors.load(Ordering::Relaxed)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, SinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut sink: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        while let Some(lines) = self.next(&mut batch) {
            let written = sink.write_all(&batch).and_then(|()| sink.flush());
            let failed_before = self.failing.swap(written.is_err(), Ordering::Relaxed);
            if let Err(error) = written {
                self.write_errors.fetch_add(1, Ordering::Relaxed);
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                if !failed_before {
                    // Said once, where it can be said at all.
                    let _ = writeln!(
                        io::stderr(),
                        "erp-backend: log lines are lost, since they cannot be written: {error}"
                    );
                }
            }
            let mut state = self.lock();
            state.writing = false;
            self.drained.notify_all();
            let unhurried = |state: &mut SinkState| !state.hurry && !state.closed;
            drop(self.arrived.wait_timeout_while(state, GATHER, unhurried));
        }
    }

    /// Swaps what waits into `batch`; the number of its lines, or `None` when there will be no more.
    fn next(&self, batch: &mut Vec<u8>) -> Option<usize> {
        batch.clear();
        batch.shrink_to(1024 * 1024); // one burst must not hold its memory for ever
        let idle = |state: &mut SinkState| {
            state.asleep = state.waiting.is_empty() && !state.closed;
            state.asleep
        };
        let mut state = self.arrived.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        std::mem::swap(&mut state.waiting, batch);
        state.writing = !batch.is_empty();
        let lines = std::mem::take(&mut state.lines);
        state.writing.then_some(lines)
    }
}
