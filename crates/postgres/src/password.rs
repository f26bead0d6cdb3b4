//! A password that is replaced while sessions are opened with it.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_postgres::error::SqlState;

use super::WireError;
use super::connect::Connector;

/// Knows the password of new sessions, and another one once the server refuses it, so that a rotation needs no restart.
pub trait PasswordSource: Send + Sync + 'static {
    /// The one to sign in with.
    fn current(&self) -> Vec<u8>;

    /// Another one than `refused`, where there is one by now: the next sessions sign in with it. It may read a file, and is called
    /// where that holds up nobody.
    fn other_than(&self, refused: &[u8]) -> Option<Vec<u8>>;
}

impl Connector {
    /// Where the password of new sessions comes from; by default it is that of the URL.
    #[must_use]
    pub fn password_source(mut self, passwords: Option<Arc<dyn PasswordSource>>) -> Self {
        self.passwords = passwords;
        self
    }

    /// The password that the next session signs in with.
    pub fn password(&self) -> Option<Vec<u8>> {
        match &self.passwords {
            Some(passwords) => Some(passwords.current()),
            None => self.config.get_password().map(<[u8]>::to_vec),
        }
    }

    /// What to try once more with, where the server has refused this password and there is another one by now.
    pub async fn other_password(&self, error: &WireError, refused: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if error.server()?.state != SqlState::INVALID_PASSWORD {
            return None;
        }
        let (passwords, refused) = (Arc::clone(self.passwords.as_ref()?), refused?);
        spawn_blocking(move || passwords.other_than(&refused)).await.ok()?
    }
}
