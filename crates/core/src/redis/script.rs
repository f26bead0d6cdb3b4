//! Scripts that Redis runs: each by its name, and with its text where Redis does not know the name.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use redis::ServerErrorKind::NoScript;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult};

use super::RedisLink;
use super::trouble::is_denied;

/// What Redis does in one go.
pub(crate) struct RedisScript {
    text: &'static str,
    /// What Redis calls it: the SHA-1 of its text, by which nothing is protected.
    name: String,
}

/// Whether the user may not run scripts by name.
#[derive(Clone, Default)]
pub(super) struct NamesDenied(Arc<AtomicBool>);

impl RedisScript {
    /// The script of this text.
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut name = String::with_capacity(2 * hash.as_ref().len());
        for byte in hash.as_ref() {
            let _ = write!(name, "{byte:02x}");
        }
        Self { text, name }
    }
}

impl RedisLink {
    /// Runs a script by its name; with its text, where that is not allowed, or Redis does not know it yet.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &RedisScript,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let mut connection = self.connection.clone();
        let denied = &self.names_denied.0;
        if !denied.load(Ordering::Relaxed) {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&script.name);
            arguments(&mut command);
            match command.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(NoScript) => {}
                // It may know the name, and not run it by that; or the script calls what it may not.
                Err(error) if is_denied(&error) => denied.store(true, Ordering::Relaxed),
                answer => return answer,
            }
        }
        let mut command = redis::cmd("EVAL");
        command.arg(script.text);
        arguments(&mut command);
        command.query_async(&mut connection).await
    }

    /// What `work` answers within the time that requests wait.
    ///
    /// # Errors
    /// As `work`, or that it is too slow.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let late = |_| Err(RedisError::from((ErrorKind::Io, "too slow")));
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(late)
    }
}
