use bytes::BytesMut;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use std::os::unix::fs::PermissionsExt as _;

use super::FileStore;
use super::content_key::ContentSealer;
use super::store::{COMPLETE, OpenStore};
use crate::error::Result;

/// Writes an object part by part, one part in memory at a time. Small ones are written in one go.
///
/// What is dropped before its end leaves nothing behind in a folder; of a bucket the parts are removed by a task.
pub(crate) struct ObjectWriter {
    store: FileStore,
    path: Path,
    reached: OpenStore,
    part: usize,
    waiting: BytesMut,
    sealer: ContentSealer,
    content_key: String,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl ObjectWriter {
    pub(super) fn new(
        store: FileStore,
        path: Path,
        reached: OpenStore,
        part: usize,
        (sealer, content_key): (ContentSealer, String),
    ) -> Self {
        Self { store, path, reached, part, waiting: BytesMut::new(), sealer, content_key, upload: None }
    }

    /// The key that the object is encrypted with, itself encrypted: what the file's row has to keep.
    pub(crate) fn content_key(&self) -> &str {
        &self.content_key
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// `files.store_unavailable`; the object is then to be given up.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let sealed = self.sealer.seal(bytes)?;
        self.put(&sealed).await
    }

    async fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.part - self.waiting.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == self.part {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Completes the object: from here on it can be read, and outlives a crash.
    ///
    /// # Errors
    /// As [`ObjectWriter::write`].
    pub(crate) async fn finish(mut self) -> Result<()> {
        let last = self.sealer.finish()?;
        self.put(&last).await?;
        if self.upload.is_none() {
            let payload = PutPayload::from(self.waiting.split().freeze());
            self.store.timed(COMPLETE, self.reached.objects.put(&self.path, payload)).await?;
        } else {
            if !self.waiting.is_empty() {
                self.send().await?;
            }
            if let Some(upload) = &mut self.upload {
                self.store.timed(COMPLETE, upload.complete()).await?;
            }
            self.upload = None;
        }
        if let Some(folder) = &self.reached.folder {
            let written = folder.join(self.path.as_ref());
            let ours = std::fs::Permissions::from_mode(0o600);
            self.store.timed_io(COMPLETE, tokio::fs::set_permissions(written, ours)).await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let begun = self.store.timed("begin", self.reached.objects.put_multipart(&self.path)).await?;
                none.insert(begun)
            }
        };
        let part = upload.put_part(PutPayload::from(self.waiting.split().freeze()));
        self.store.timed("write", part).await
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            let store = self.store.clone();
            let lifecycle = store.lifecycle().clone();
            let abort = async move {
                if let Err(error) = store.timed("abort", upload.abort()).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "The parts of an upload that was given up may be left in the store"
                    );
                }
            };
            drop(lifecycle.spawn("file abort", abort));
        }
    }
}
