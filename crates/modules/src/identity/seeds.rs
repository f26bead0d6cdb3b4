//! The seeds of second factors, as they are stored: encrypted with the platform's key, since people belong to no tenant. What was sealed
//! under `ENCRYPTION_KEY` itself, before there were such keys, is read still, and moved at night.

use erp_core::app::App;
use erp_core::auth::{TotpSeal, TotpSeed};
use erp_core::crypto::{Keyring, SealPlace};
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::shared::{Secret, TenantId};
use uuid::Uuid;

use super::SIGN_IN;
use super::factors::{FactorTables, OF_PEOPLE};

const COLUMN: &str = "secret_sealed";
/// What a ciphertext begins with, and nothing from before does.
const FORM: u8 = b'v';

pub(super) static MOVE: JobKind<()> = JobKind::<()>::new(
    "identity.move_seeds",
    "Encrypts the secrets of second factors with the platform's key that were sealed under ENCRYPTION_KEY itself.",
    |job, ()| Box::pin(move_seeds(job, &OF_PEOPLE)),
)
.system(&SIGN_IN)
.unhurried();

pub(super) static NIGHTLY: Schedule = Schedule::for_platform(
    "identity.move_seeds",
    "Encrypts the secrets of second factors with the platform's key that were sealed under ENCRYPTION_KEY itself.",
    "0 4 * * *",
    &MOVE,
    &(),
);

struct SeedOfBefore {
    id: Uuid,
    holder: Uuid,
    secret_sealed: Vec<u8>,
}
from_row!(SeedOfBefore { id, holder, secret_sealed });

/// The keys that open seeds. To be asked for before a transaction is begun: nobody is to wait for them while it holds a connection that
/// others need for the same.
pub(crate) async fn keys(app: &App) -> Result<Keyring> {
    app.keys.of(TenantId::PLATFORM).await
}

/// What is stored of a seed. It belongs to this holder: a row that is given to another one opens for nobody.
pub(crate) async fn seal(
    app: &App,
    table: &'static str,
    (holder, factor): (Uuid, Uuid),
    seed: &TotpSeed,
) -> Result<Vec<u8>> {
    let place = SealPlace { table, column: COLUMN, row: factor };
    let text = Secret::new([holder.as_bytes().as_slice(), seed.bytes()].concat());
    app.keys.seal(TenantId::PLATFORM, &place, text.expose()).await.map(String::into_bytes)
}

/// The seed of a holder's factor.
pub(super) async fn open(
    app: &App,
    ring: &Keyring,
    table: &'static str,
    (holder, factor): (Uuid, Uuid),
    sealed: &[u8],
) -> Result<TotpSeed> {
    if sealed.first() != Some(&FORM) {
        return TotpSeal::of(&app.config)?.open((holder, factor), sealed);
    }
    let place = SealPlace { table, column: COLUMN, row: factor };
    let text = app.keys.open(ring, &place, std::str::from_utf8(sealed).unwrap_or_default()).await?;
    let seed = text.strip_prefix(holder.as_bytes().as_slice()).and_then(TotpSeed::of);
    seed.ok_or_else(|| Error::internal("the secret of a second factor is another holder's"))
}

/// A few hundred at a time: there are no more than people.
pub(crate) async fn move_seeds(job: &Job, tables: &'static FactorTables) -> Result<()> {
    let app = &job.call.app;
    let trace = job.call.caller.trace();
    let (mut moved, mut unreadable) = (0_u64, 0_u64);
    let mut after = Uuid::nil();
    loop {
        let tx = job.system()?.begin(trace).last();
        let page: Vec<SeedOfBefore> = tx.rows(tables.of_before, &[&after]).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for SeedOfBefore { id, holder, secret_sealed } in &page {
            let place = (*holder, *id);
            let Ok(seed) = TotpSeal::of(&app.config)?.open(place, secret_sealed) else {
                unreadable += 1;
                continue;
            };
            let anew = seal(app, tables.factors, place, &seed).await?;
            let tx = job.system()?.begin(trace).last();
            tx.rows::<()>(tables.reseal, &[id, secret_sealed, &anew]).await?;
            moved += 1;
        }
    }
    if unreadable > 0 {
        tracing::error!(
            unreadable,
            "Secrets of second factors do not open: set ENCRYPTION_KEY_PREVIOUS to what ENCRYPTION_KEY was before"
        );
    }
    job.result(&serde_json::json!({ "moved": moved, "unreadable": unreadable }))
}
