use super::{FileName, Media};

/// What is said of a file that is to be stored.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub(crate) name: FileName,
    pub(crate) media: &'static Media,
    pub(crate) length: Option<u64>,
    pub(crate) sha256: Option<[u8; 32]>,
}

impl NewFile {
    /// A file of this type, and of this name once it is made safe ([`FileName`]).
    pub fn new(name: &str, media: &'static Media) -> Self {
        Self { name: FileName::new(name, media), media, length: None, sha256: None }
    }

    /// How many bytes it will have, where that is known: what the quota has no room for is refused before they come.
    #[must_use]
    pub fn length(self, bytes: Option<u64>) -> Self {
        Self { length: bytes, ..self }
    }

    /// The SHA-256 that its bytes must have.
    #[must_use]
    pub fn sha256(self, digest: Option<[u8; 32]>) -> Self {
        Self { sha256: digest, ..self }
    }
}
