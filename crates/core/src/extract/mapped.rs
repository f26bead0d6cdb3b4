//! Memory for a body that is not small.
//!
//! Mapped, and not from the heap: a heap keeps holes where megabytes have been, so that a hundred uploads would leave
//! the process larger than they ever were (D-03). It takes only the pages that are written, and goes back at once.

use std::io;

use memmap2::MmapMut;

/// Room for so many bytes, filled from the front.
pub(super) struct Mapped {
    memory: MmapMut,
    filled: usize,
}

impl Mapped {
    /// Room for `capacity` bytes, at least one.
    ///
    /// # Errors
    /// When the system has no memory left.
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapMut::map_anon(capacity)?, filled: 0 })
    }

    /// Adds `part`; `None` when there is no room for it.
    pub(super) fn put(&mut self, part: &[u8]) -> Option<()> {
        let end = self.filled + part.len();
        self.memory.get_mut(self.filled..end)?.copy_from_slice(part);
        self.filled = end;
        Some(())
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_and_no_more_than_it_has_room_for() {
        let mut mapped = Mapped::new(5).unwrap();
        assert_eq!(mapped.as_ref(), b"");
        assert!(mapped.put(b"abc").is_some() && mapped.put(b"de").is_some());
        assert!(mapped.put(b"f").is_none());
        assert_eq!(mapped.as_ref(), b"abcde");
    }
}
