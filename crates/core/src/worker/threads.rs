//! Threads for the kinds of jobs that compute or block: requests never wait for a thread that one of these holds.

use tokio::runtime::{Builder, Handle, Runtime};

use crate::lifecycle::{Exit, StartError};

/// A runtime beside the one of requests.
pub(super) struct JobThreads(Option<Runtime>);

impl JobThreads {
    /// Starts so many threads.
    pub(super) fn start(count: usize) -> Result<Self, StartError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count).thread_name("job").enable_all().build();
        let failed = |error| {
            let fix = "lower JOB_THREADS, or raise the limit of processes";
            StartError::with_fix(Exit::Unavailable, "The threads of jobs could not be started", fix)
                .because(error)
        };
        runtime.map(|runtime| Self(Some(runtime))).map_err(failed)
    }

    pub(super) fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

/// Nobody waits for a job that blocks its thread: it has gone back, and can change nothing any more.
impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
