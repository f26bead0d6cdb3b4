use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;

use super::foreign_hash::ForeignHash;
use crate::config::PASSWORDS;
use crate::error::{Error, Result, codes};
use crate::shared::{Rng, Secret};

/// What is verified when there is no such user, so that the answer takes as long. No password has this hash.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$ZGVjb3lkZWNveWRlY295IQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// How long a sign-in waits for its turn to hash.
const TURN: Duration = Duration::from_secs(2);
/// How many wait at a time: as many as one core serves within that. Others are refused at once.
const QUEUE: usize = 60;
/// Random bytes of a hash's own.
const SALT: usize = 16;

/// Hashes and verifies passwords with argon2id, on all cores but one at a time, or on the only one.
///
/// Each hash takes 19 MiB and tens of milliseconds, so that a burst of sign-ins could otherwise take all memory
/// and all threads: those that find no place in the queue, or no turn within 2 s, are told to come back.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// Of those that hash and those that wait.
    places: Arc<Semaphore>,
    /// Memory that no hash is using; as many as there are turns at the most.
    idle: Arc<Mutex<Vec<Memory>>>,
    rng: Arc<dyn Rng>,
    made: Arc<AtomicU64>,
}

/// A stored hash in PHC form, such as `$argon2id$v=19$m=19456,t=2,p=1$…`, or one that another system has made.
#[derive(Clone, Debug)]
pub struct PasswordHash(Secret<String>);

/// What came of comparing a password with a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// Another password, or nobody's.
    Wrong,
    /// The right one.
    Right,
    /// The right one, by a hash that is not made as hashes are made now: another one is to take its place.
    Outdated,
}

impl PasswordVerdict {
    /// Whether it is the right password.
    pub fn is_right(self) -> bool {
        self != Self::Wrong
    }
}

impl PasswordHash {
    /// A hash read from the database.
    pub fn from_stored(phc: String) -> Self {
        Self(Secret::new(phc))
    }

    /// One that another system has made: argon2, bcrypt, PBKDF2 or scrypt, as libraries and frameworks write them, at a cost
    /// that is borne here. `None` for any other text.
    pub fn of_another_system(text: &str) -> Option<Self> {
        ForeignHash::parse(text).map(|_| Self::from_stored(text.to_owned()))
    }

    /// The text to be stored.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Passwords {
    /// A hasher that leaves one of `cores` to everything else.
    pub fn new(cores: usize, rng: Arc<dyn Rng>) -> Self {
        let turns = cores.saturating_sub(1).max(1);
        let places = Arc::new(Semaphore::new(turns + QUEUE));
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            places,
            idle: Arc::default(),
            rng,
            made: Arc::default(),
        }
    }

    /// Refuses a password that is too long to be hashed. Call it before anything is looked up for it.
    ///
    /// # Errors
    /// `core.invalid` over 1024 bytes.
    pub fn admit(&self, password: &Secret<String>) -> Result<()> {
        if password.expose().len() > PASSWORDS.max_bytes {
            return Err(Error::new(&codes::INVALID).detail("A password has at most 1024 bytes."));
        }
        Ok(())
    }

    /// How many hashes have been made since the start.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// `core.invalid` over 1024 bytes, `core.overloaded` when too many other passwords are being hashed to begin in time.
    pub async fn hash(&self, password: Secret<String>) -> Result<PasswordHash> {
        let rng = Arc::clone(&self.rng);
        self.in_turn(password, move |password, memory| hash(password, rng.as_ref(), memory)).await?
    }

    /// Whether `password` is the one that `stored` was made from. Takes as long without a stored hash.
    ///
    /// # Errors
    /// `core.overloaded` when too many other passwords are being hashed to begin in time.
    pub async fn verify(
        &self,
        password: Secret<String>,
        stored: Option<PasswordHash>,
    ) -> Result<PasswordVerdict> {
        let known = stored.is_some();
        let against = stored.unwrap_or_else(|| PasswordHash::from_stored(DECOY.to_owned()));
        let verdict =
            self.in_turn(password, move |password, memory| verify(password, &against, memory)).await?;
        Ok(if known { verdict } else { PasswordVerdict::Wrong })
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        password: Secret<String>,
        work: impl FnOnce(&[u8], &mut Memory) -> T + Send + 'static,
    ) -> Result<T> {
        self.admit(&password)?;
        let password = normalised(password);
        let overloaded = || Error::new(&codes::OVERLOADED).retry_after(TURN);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| overloaded())?;
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(overloaded()) };
        self.made.fetch_add(1, Ordering::Relaxed);
        let span = tracing::Span::current();
        let idle = Arc::clone(&self.idle);
        tokio::task::spawn_blocking(move || {
            let _held = (turn, place); // until the hash is done, even when the client has hung up
            let mut memory = idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let outcome = span.in_scope(|| work(password.expose().as_bytes(), &mut memory));
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            outcome
        })
        .await
        .map_err(Error::internal)
    }
}

/// The same characters whatever keyboard they were typed on: some send `é` as one, some as two (RFC 8265, 4.2).
pub fn normalised(password: Secret<String>) -> Secret<String> {
    if password.expose().is_ascii() { password } else { Secret::new(password.expose().nfc().collect()) }
}

/// The memory of one hash: kept between hashes, since giving 19 MiB back each time leaves as much lying in every
/// thread's heap.
type Memory = Vec<Block>;

fn hash(password: &[u8], rng: &dyn Rng, memory: &mut Memory) -> Result<PasswordHash> {
    let mut salt = [0; SALT];
    rng.fill(&mut salt);
    let params = Params::new(PASSWORDS.memory_kib, PASSWORDS.passes, 1, None).map_err(failed)?;
    let phc = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: (&params).try_into().map_err(failed)?,
        salt: Some(phc::Salt::new(&salt).map_err(failed)?),
        hash: Some(derive(password, &salt, params, Params::DEFAULT_OUTPUT_LEN, memory)?),
    };
    Ok(PasswordHash::from_stored(phc.to_string()))
}

/// With the parameters of the stored hash, so that raising ours locks nobody out. One that is made with others, or by another
/// system, is outdated whether it is weaker or stronger: it takes another time, and so tells that the account is there.
fn verify(password: &[u8], stored: &PasswordHash, memory: &mut Memory) -> PasswordVerdict {
    if let Some((salt, expected, params)) = ours(stored) {
        let found = derive(password, &salt, params, expected.len(), memory);
        let is_right =
            found.is_ok_and(|found| verify_slices_are_equal(found.as_bytes(), expected.as_bytes()).is_ok());
        return if is_right { PasswordVerdict::Right } else { PasswordVerdict::Wrong };
    }
    let is_right = ForeignHash::parse(stored.expose()).is_some_and(|foreign| foreign.matches(password));
    if is_right { PasswordVerdict::Outdated } else { PasswordVerdict::Wrong }
}

/// The parts of a hash that is made as hashes are made now.
fn ours(stored: &PasswordHash) -> Option<(phc::Salt, phc::Output, Params)> {
    let parsed = phc::PasswordHash::new(stored.expose()).ok()?;
    let (salt, hash, params) = (parsed.salt?, parsed.hash?, Params::try_from(&parsed).ok()?);
    let cost = (params.m_cost(), params.t_cost(), params.p_cost());
    let is_ours = parsed.algorithm == Algorithm::Argon2id.ident()
        && parsed.version == Some(Version::V0x13.into())
        && cost == (PASSWORDS.memory_kib, PASSWORDS.passes, 1)
        && (salt.len(), hash.len()) == (SALT, Params::DEFAULT_OUTPUT_LEN);
    is_ours.then_some((salt, hash, params))
}

fn derive(
    password: &[u8],
    salt: &[u8],
    params: Params,
    length: usize,
    memory: &mut Memory,
) -> Result<phc::Output> {
    memory.resize(params.block_count().max(memory.len()), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut out = vec![0; length];
    argon2.hash_password_into_with_memory(password, salt, &mut out, memory.as_mut_slice()).map_err(failed)?;
    phc::Output::new(&out).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
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
        let verdict = async |text, stored| passwords.verify(secret(text), stored).await.unwrap();
        assert_eq!(
            verdict("correct horse battery staple", Some(stored.clone())).await,
            PasswordVerdict::Right
        );
        assert_eq!(verdict("correct horse battery stapl", Some(stored)).await, PasswordVerdict::Wrong);
        assert_eq!(verdict("there is no such user", None).await, PasswordVerdict::Wrong);
    }

    /// As it was made before a parameter was raised, by argon2's own command with `m=8192,t=2,p=1`; and one of another system.
    #[tokio::test]
    async fn a_04_a_hash_that_is_made_otherwise_than_now_is_outdated_and_still_good() {
        let passwords = Passwords::new(1, Arc::new(SystemRng::new()));
        let mut memory = Memory::new();
        let params = Params::new(8192, 2, 1, None).unwrap();
        let hash = derive(b"a password of old times", &[7; SALT], params.clone(), 32, &mut memory).unwrap();
        let weaker = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: (&params).try_into().unwrap(),
            salt: Some(phc::Salt::new(&[7; SALT]).unwrap()),
            hash: Some(hash),
        };
        let bcrypt = "$2y$04$5JLdHfRO7ZpdWPDCBZBGcOjO63RoRVX1EURRDPoOaJYQVPf5/k8vK".to_owned();
        for stored in [weaker.to_string(), bcrypt] {
            let stored = PasswordHash::of_another_system(&stored).unwrap();
            let verdict = async |text| passwords.verify(secret(text), Some(stored.clone())).await.unwrap();
            assert_eq!(verdict("a password of old times").await, PasswordVerdict::Outdated);
            assert_eq!(verdict("another password").await, PasswordVerdict::Wrong);
        }
        assert_eq!(passwords.idle.lock().unwrap()[0].len(), 0, "memory of others' parameters is not kept");
    }

    #[tokio::test]
    async fn a_09_who_finds_the_queue_full_is_refused_at_once() {
        let passwords = Passwords::new(1, Arc::new(SystemRng::new()));
        let held = Arc::clone(&passwords.turns).acquire_owned().await.unwrap();
        let begin = |number: usize| passwords.hash(secret(&format!("number {number}")));
        let mut waiting: Vec<_> = (0..=QUEUE).map(|number| Box::pin(begin(number))).collect();
        for hash in &mut waiting {
            assert!(futures_util::poll!(hash.as_mut()).is_pending());
        }
        let refused = begin(QUEUE + 1).await.unwrap_err();
        assert_eq!((refused.code(), passwords.made()), (&codes::OVERLOADED, 0));
        waiting.pop(); // hangs up
        assert!(futures_util::poll!(Box::pin(begin(QUEUE + 2))).is_pending());
        drop(held);
    }

    #[test]
    fn a_08_the_decoy_is_a_hash_with_the_same_cost() {
        let decoy = phc::PasswordHash::new(DECOY).unwrap();
        let real = hash(b"x", &SystemRng::new(), &mut Memory::new()).unwrap();
        let real = phc::PasswordHash::new(real.expose()).unwrap();
        assert_eq!((decoy.algorithm, decoy.params), (real.algorithm, real.params));
    }

    #[tokio::test]
    async fn a_01_an_endless_password_is_refused_before_it_is_hashed() {
        let passwords = Passwords::new(1, Arc::new(SystemRng::new()));
        let error = passwords.hash(secret(&"x".repeat(1025))).await.unwrap_err();
        assert_eq!(error.code(), &codes::INVALID);
    }

    #[tokio::test]
    async fn a_password_is_the_same_on_every_keyboard() {
        let passwords = Passwords::new(2, Arc::new(SystemRng::new()));
        let composed = Secret::new("caf\u{e9} au lait".to_owned());
        let stored = passwords.hash(composed).await.unwrap();
        let typed = Secret::new("cafe\u{301} au lait".to_owned());
        assert_eq!(passwords.verify(typed, Some(stored)).await.unwrap(), PasswordVerdict::Right);
    }
}
