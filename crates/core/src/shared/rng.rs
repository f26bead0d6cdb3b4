use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize as _;

/// Randomness as an argument, so that a test can repeat itself.
pub trait Rng: Send + Sync + 'static {
    /// Fills `bytes` with random bytes fit for keys and tokens.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator, asked for a block at a time.
///
/// The library's own generator gathers entropy for 40 ms before its first byte; the kernel has it ready.
pub struct SystemRng(Mutex<Block>);

/// Random bytes that nobody has had yet: the first `left` ones.
struct Block {
    bytes: [u8; BLOCK],
    left: usize,
}

const BLOCK: usize = 1024;

impl SystemRng {
    /// The operating system's generator.
    pub fn new() -> Self {
        Self(Mutex::new(Block { bytes: [0; BLOCK], left: 0 }))
    }
}

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > BLOCK {
            return kernel(bytes);
        }
        let mut block = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if block.left < bytes.len() {
            kernel(&mut block.bytes);
            block.left = BLOCK;
        }
        let start = block.left - bytes.len();
        let end = std::mem::replace(&mut block.left, start);
        if let Some(taken) = block.bytes.get_mut(start..end) {
            bytes.copy_from_slice(taken);
            taken.zeroize(); // nothing that was handed out stays behind
        }
    }
}

#[allow(clippy::expect_used)] // a machine without randomness cannot go on: keys would be predictable
fn kernel(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system's random generator must work");
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_come_twice() {
        let rng = SystemRng::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 16];
            rng.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
        let mut long = [0; 5000];
        rng.fill(&mut long);
        assert!(long.chunks(16).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
