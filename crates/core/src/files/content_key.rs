//! How the bytes of an object are encrypted: with a key of its own, chunk by chunk, so that any part can be read by itself.
//!
//! A chunk is 64 KiB of the file and the tag of AES-256-GCM. Its nonce is its number and whether it is the last one: chunks that are
//! swapped, left out or cut off at the end do not open. The key is new for each object, and encrypts nothing else; the row of the file
//! has it, encrypted with the tenant's key, so that a rotation touches no object.

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::file_codes;
use super::store::{ObjectKey, ObjectStream};
use crate::error::{Error, Result};

/// How much of a file a chunk holds.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// A chunk as it is stored.
const SEALED: usize = CHUNK + TAG;

/// The key of one object.
pub(crate) struct ContentKey {
    key: LessSafeKey,
    object: [u8; 32],
}

/// Encrypts an object as its bytes come.
pub(crate) struct ContentSealer {
    key: ContentKey,
    waiting: Vec<u8>,
    chunk: u32,
}

/// How long an object of so many bytes is in the store.
pub(crate) const fn sealed_length(bytes: u64) -> u64 {
    bytes + chunks(bytes) * TAG as u64
}

/// How many chunks it has: an empty file has one.
const fn chunks(bytes: u64) -> u64 {
    if bytes == 0 { 1 } else { bytes.div_ceil(CHUNK as u64) }
}

impl ContentKey {
    /// The key of these bytes, for this object.
    pub(crate) fn new(bytes: &[u8], key: ObjectKey) -> Option<Self> {
        let mut object = [0; 32];
        let (tenant, file) = object.split_at_mut(16);
        tenant.copy_from_slice(key.tenant.as_uuid().as_bytes());
        file.copy_from_slice(key.file.as_uuid().as_bytes());
        Some(Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?), object })
    }

    fn nonce(chunk: u32, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let [.., a, b, c, d, end] = &mut nonce;
        [*a, *b, *c, *d] = chunk.to_be_bytes();
        *end = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, chunk: u32, last: bool, text: &mut [u8]) -> Result<[u8; TAG]> {
        let tag =
            self.key.seal_in_place_separate_tag(Self::nonce(chunk, last), Aad::from(&self.object), text);
        let tag = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
        tag.ok_or_else(|| Error::internal("a chunk of a file could not be encrypted"))
    }

    fn open(&self, chunk: u32, last: bool, sealed: &mut [u8]) -> Result<usize> {
        let opened = self.key.open_in_place(Self::nonce(chunk, last), Aad::from(&self.object), sealed);
        opened.map(|text| text.len()).map_err(|_| damaged("a chunk of it was changed, moved or cut off"))
    }
}

impl ContentSealer {
    pub(crate) fn new(key: ContentKey) -> Self {
        Self { key, waiting: Vec::with_capacity(CHUNK), chunk: 0 }
    }

    /// Takes more bytes, and hands out the chunks that they complete. The last chunk is held back: it may be the last of all.
    pub(crate) fn seal(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() / CHUNK * SEALED);
        while !bytes.is_empty() {
            if self.waiting.len() == CHUNK {
                self.put(false, &mut out)?;
            }
            let (now, later) = bytes.split_at((CHUNK - self.waiting.len()).min(bytes.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
        }
        Ok(out)
    }

    /// The last chunk.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.waiting.len() + TAG);
        self.put(true, &mut out).map(|()| out)
    }

    fn put(&mut self, last: bool, out: &mut Vec<u8>) -> Result<()> {
        let tag = self.key.seal(self.chunk, last, &mut self.waiting)?;
        out.extend_from_slice(&self.waiting);
        out.extend_from_slice(&tag);
        self.waiting.clear();
        self.chunk = self.chunk.checked_add(1).ok_or_else(|| Error::internal("a file is too long"))?;
        Ok(())
    }
}

/// The part of an object that holds a part of the file, and how that is taken out of it.
pub(crate) struct SealedPart {
    /// What to read of the object.
    pub(crate) stored: Range<u64>,
    first: u64,
    chunks: u64,
    skip: u64,
    take: u64,
}

impl SealedPart {
    /// Of a file of so many bytes.
    pub(crate) fn of(bytes: u64, part: &Range<u64>) -> Self {
        let (chunk, sealed) = (CHUNK as u64, SEALED as u64);
        let first = part.start / chunk;
        let last = part.end.max(1).div_ceil(chunk); // the one after it
        let end = (last * sealed).min(sealed_length(bytes));
        Self {
            stored: first * sealed..end,
            first,
            chunks: chunks(bytes),
            skip: part.start - first * chunk,
            take: part.end - part.start,
        }
    }

    /// The part of the file, out of the part of the object.
    pub(crate) fn open(self, key: ContentKey, source: ObjectStream) -> ObjectStream {
        let opening = Opening { key, source, part: self, waiting: BytesMut::new(), ended: false };
        stream::unfold(Some(opening), |opening| async move {
            let mut opening = opening?;
            match opening.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(opening))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

/// A part of an object that is being opened: at most a chunk and what the store gave last is in memory.
struct Opening {
    key: ContentKey,
    source: ObjectStream,
    part: SealedPart,
    waiting: BytesMut,
    ended: bool,
}

impl Opening {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            while self.waiting.len() < SEALED && !self.ended {
                match self.source.next().await {
                    Some(bytes) => self.waiting.extend_from_slice(&bytes?),
                    None => self.ended = true,
                }
            }
            if self.waiting.is_empty() {
                let whole = self.part.take == 0;
                return if whole { Ok(None) } else { Err(damaged("it is shorter than it was")) };
            }
            let mut chunk = self.waiting.split_to(self.waiting.len().min(SEALED));
            let number = u32::try_from(self.part.first).map_err(Error::internal)?;
            let last = self.part.first + 1 == self.part.chunks;
            let length = self.key.open(number, last, &mut chunk)?;
            self.part.first += 1;
            chunk.truncate(length);
            let skip = self.part.skip.min(length as u64) as usize;
            chunk.advance(skip);
            self.part.skip -= skip as u64;
            chunk.truncate(usize::try_from(self.part.take).unwrap_or(usize::MAX).min(chunk.len()));
            self.part.take -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk.freeze()));
            }
        }
    }
}

fn damaged(why: &'static str) -> Error {
    Error::new(&file_codes::DAMAGED).because(why)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::files::FileId;
    use crate::shared::TenantId;

    fn object(number: u128) -> ObjectKey {
        ObjectKey {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            file: FileId::from_uuid(Uuid::from_u128(number)),
        }
    }

    fn key(number: u128) -> ContentKey {
        ContentKey::new(&[7; 32], object(number)).unwrap()
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    /// Sealed in parts of odd sizes.
    fn sealed(bytes: usize) -> Vec<u8> {
        let mut sealer = ContentSealer::new(key(1));
        let mut out = Vec::new();
        for part in text(bytes).chunks(10_007) {
            out.extend(sealer.seal(part).unwrap());
        }
        out.extend(sealer.finish().unwrap());
        out
    }

    async fn read(stored: &[u8], bytes: u64, part: Range<u64>, key: ContentKey) -> Result<Vec<u8>> {
        let sealed = SealedPart::of(bytes, &part);
        let end = (sealed.stored.end as usize).min(stored.len());
        let start = (sealed.stored.start as usize).min(end);
        let parts: Vec<Result<Bytes>> =
            stored[start..end].chunks(9_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let opened = sealed.open(key, stream::iter(parts).boxed());
        opened
            .try_fold(Vec::new(), |mut all, part| async move {
                all.extend_from_slice(&part);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn any_part_of_a_file_of_any_length_is_read_back() {
        for bytes in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
            let (stored, plain) = (sealed(bytes), text(bytes));
            assert_eq!(stored.len() as u64, sealed_length(bytes as u64), "{bytes}");
            let ends = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, bytes / 2, bytes];
            for start in ends {
                for end in ends.into_iter().filter(|end| start <= *end && *end <= bytes) {
                    let part = start as u64..end as u64;
                    let read = read(&stored, bytes as u64, part, key(1)).await.unwrap();
                    assert_eq!(read, plain[start..end], "{start}..{end} of {bytes}");
                }
            }
        }
    }

    #[tokio::test]
    async fn c_05_nothing_that_was_changed_moved_or_cut_off_is_read() {
        let bytes = 2 * CHUNK + 100;
        let stored = sealed(bytes);
        let whole =
            |stored: Vec<u8>, key| async move { read(&stored, bytes as u64, 0..bytes as u64, key).await };
        for at in [0, CHUNK, CHUNK + TAG - 1, SEALED, 2 * SEALED, stored.len() - 1] {
            let mut changed = stored.clone();
            changed[at] ^= 1;
            whole(changed, key(1)).await.unwrap_err();
        }
        let mut swapped = stored[SEALED..2 * SEALED].to_vec();
        swapped.extend_from_slice(&stored[..SEALED]);
        swapped.extend_from_slice(&stored[2 * SEALED..]);
        whole(swapped, key(1)).await.unwrap_err();
        for cut in [stored.len() - 1, 2 * SEALED, SEALED, 0] {
            whole(stored[..cut].to_vec(), key(1)).await.unwrap_err();
        }
        whole(stored.clone(), key(2)).await.unwrap_err();
        // A shorter file that was made of the first chunks is none: the last of them does not say that it is.
        read(&stored[..SEALED], CHUNK as u64, 0..CHUNK as u64, key(1)).await.unwrap_err();
    }
}
