use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Randomness as an argument, so that a test can repeat itself.
pub trait Rng: Send + Sync + 'static {
    /// Fills `bytes` with random bytes fit for keys and tokens.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Default)]
pub struct SystemRng(SystemRandom);

impl SystemRng {
    /// The operating system's generator.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Rng for SystemRng {
    #[allow(clippy::expect_used)] // a machine without randomness cannot go on: keys would be predictable
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the operating system's random generator must work");
    }
}
