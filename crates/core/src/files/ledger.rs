//! The ledger of erasures: a signed note for each, beside the files or at `ERASURE_LEDGER_URL`. It outlives a restore of the database,
//! whose backup does not know yet who is to be forgotten.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutPayload};
use uuid::Uuid;

use super::FileStore;
use crate::error::{Error, Result};

/// For how long an agreement of ledger and database is believed.
const BELIEVED: Duration = Duration::from_secs(60);

impl FileStore {
    /// Adds the note of an erasure, or writes it anew.
    ///
    /// # Errors
    /// `files.store_unavailable`, also where the ledger has no place.
    pub async fn add_to_ledger(&self, erasure: Uuid, note: &str) -> Result<()> {
        let ledger = self.ledger().await?.ok_or_else(no_place)?;
        let path = ledger.note(&erasure.to_string());
        let bytes = PutPayload::from(note.as_bytes().to_vec());
        self.timed("write", async { ledger.objects.put(&path, bytes).await.map(drop) }).await
    }

    /// The note of an erasure.
    ///
    /// # Errors
    /// `files.damaged` where there is none; `files.store_unavailable`.
    pub async fn ledger_note(&self, erasure: Uuid) -> Result<String> {
        let ledger = self.ledger().await?.ok_or_else(no_place)?;
        let path = ledger.note(&erasure.to_string());
        let bytes = self.timed("read", async { ledger.objects.get(&path).await?.bytes().await }).await?;
        String::from_utf8(bytes.to_vec()).map_err(Error::internal)
    }

    /// The erasures that the ledger has, in no order; none where it has no place.
    ///
    /// # Errors
    /// `files.store_unavailable`.
    pub async fn ledger_erasures(&self) -> Result<Vec<Uuid>> {
        let Some(ledger) = self.ledger().await? else { return Ok(Vec::new()) };
        let folder = ledger.note("");
        let all = ledger.objects.list(Some(&folder));
        let named = all.try_filter_map(|note| {
            let id = note.location.filename().and_then(|name| Uuid::try_parse(name).ok());
            std::future::ready(Ok(id))
        });
        self.timed("list", named.try_collect()).await
    }

    /// Whether ledger and database were found to agree a moment ago.
    pub(crate) fn ledger_agreed(&self, now: Instant) -> bool {
        self.agreed_at().is_some_and(|at| now.saturating_duration_since(at) < BELIEVED)
    }

    /// That they agree, or do not any more.
    pub(crate) fn note_agreement(&self, agree: bool, now: Instant) {
        *self.agreed_at() = agree.then_some(now);
    }

    /// Whether they ever have, since the process began or they last did not.
    pub(crate) fn ledger_has_agreed(&self) -> bool {
        self.agreed_at().is_some()
    }
}

fn no_place() -> Error {
    Error::new(&super::file_codes::STORE_UNAVAILABLE)
        .because("neither ERASURE_LEDGER_URL nor FILES_URL is set")
}
