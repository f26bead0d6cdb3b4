use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::config::PASSWORDS;
use crate::error::{Error, Result, codes};
use crate::shared::{Rng, Secret};

/// What is verified when there is no such user, so that the answer takes as long. No password has this hash.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$ZGVjb3lkZWNveWRlY295IQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// How long a sign-in waits for its turn to hash.
const TURN: Duration = Duration::from_secs(2);

/// Hashes and verifies passwords with argon2id, at most one per core at a time.
///
/// Each hash takes 19 MiB and tens of milliseconds, so that a burst of sign-ins could otherwise take all memory
/// and all threads: those that find no turn within 2 s are told to come back.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    rng: Arc<dyn Rng>,
}

/// A stored hash in PHC form, such as `$argon2id$v=19$m=19456,t=2,p=1$…`.
#[derive(Clone, Debug)]
pub struct PasswordHash(Secret<String>);

impl PasswordHash {
    /// A hash read from the database.
    pub fn from_stored(phc: String) -> Self {
        Self(Secret::new(phc))
    }

    /// The PHC string, to be stored.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Passwords {
    /// A hasher with a turn per core.
    pub fn new(cores: usize, rng: Arc<dyn Rng>) -> Self {
        Self { turns: Arc::new(Semaphore::new(cores.max(1))), rng }
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// `core.invalid` over 1024 bytes, `core.overloaded` when no turn comes free.
    pub async fn hash(&self, password: Secret<String>) -> Result<PasswordHash> {
        let rng = Arc::clone(&self.rng);
        self.in_turn(password, move |password| hash(password, rng.as_ref())).await?
    }

    /// Whether `password` is the one that `stored` was made from. Takes as long without a stored hash.
    ///
    /// # Errors
    /// `core.overloaded` when no turn comes free.
    pub async fn verify(&self, password: Secret<String>, stored: Option<PasswordHash>) -> Result<bool> {
        let known = stored.is_some();
        let against = stored.unwrap_or_else(|| PasswordHash::from_stored(DECOY.to_owned()));
        let matches = self.in_turn(password, move |password| verify(password, &against)).await?;
        Ok(matches && known)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        password: Secret<String>,
        work: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T> {
        if password.expose().len() > PASSWORDS.max_bytes {
            return Err(Error::new(&codes::INVALID).detail("A password has at most 1024 bytes."));
        }
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Error::new(&codes::OVERLOADED).retry_after(TURN));
        };
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _turn = turn; // held until the hash is done, even when the client has hung up
            span.in_scope(|| work(password.expose().as_bytes()))
        })
        .await
        .map_err(Error::internal)
    }
}

fn hash(password: &[u8], rng: &dyn Rng) -> Result<PasswordHash> {
    let mut salt = [0; 16];
    rng.fill(&mut salt);
    let phc = hasher()?
        .hash_password_with_salt(password, &salt)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(PasswordHash::from_stored(phc.to_string()))
}

fn verify(password: &[u8], stored: &PasswordHash) -> bool {
    let Ok(parsed) = phc::PasswordHash::new(stored.expose()) else { return false };
    hasher().is_ok_and(|hasher| hasher.verify_password(password, &parsed).is_ok())
}

fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(PASSWORDS.memory_kib, PASSWORDS.passes, 1, None)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_04_a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(1, Arc::new(SystemRng::new()));
        let stored = passwords.hash(secret("correct horse battery staple")).await.unwrap();
        assert!(stored.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(
            passwords.verify(secret("correct horse battery staple"), Some(stored.clone())).await.unwrap()
        );
        assert!(!passwords.verify(secret("correct horse battery stapl"), Some(stored)).await.unwrap());
        assert!(!passwords.verify(secret("there is no such user"), None).await.unwrap());
    }

    #[test]
    fn a_08_the_decoy_is_a_hash_with_the_same_cost() {
        let decoy = phc::PasswordHash::new(DECOY).unwrap();
        let real = hash(b"x", &SystemRng::new()).unwrap();
        let real = phc::PasswordHash::new(real.expose()).unwrap();
        assert_eq!((decoy.algorithm, decoy.params), (real.algorithm, real.params));
    }

    #[tokio::test]
    async fn a_01_an_endless_password_is_refused_before_it_is_hashed() {
        let passwords = Passwords::new(1, Arc::new(SystemRng::new()));
        let error = passwords.hash(secret(&"x".repeat(1025))).await.unwrap_err();
        assert_eq!(error.code(), &codes::INVALID);
    }
}
