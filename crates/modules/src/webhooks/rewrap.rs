//! Seals the secrets of endpoints anew after `WEBHOOK_SECRET` was replaced, so that the former one can be forgotten.

use erp_core::error::Result;
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::shared::Id;
use erp_core::webhooks::SecretSeal;

use super::DELIVERY;
use super::endpoints::{Webhook, place};

pub(super) static REWRAP: JobKind<()> = JobKind::<()>::new(
    "webhooks.rewrap",
    "Seals the secrets of endpoints anew that the former WEBHOOK_SECRET has sealed, and removes deliveries that are old.",
    |job, ()| Box::pin(rewrap(job)),
)
.system(&DELIVERY)
.unhurried();

pub(super) static NIGHTLY: Schedule = Schedule::for_each_tenant(
    "webhooks.nightly",
    "Seals secrets anew after a rotation of WEBHOOK_SECRET, and removes deliveries that are over for 30 days.",
    "50 3 * * *",
    &REWRAP,
    &(),
);

const SECRETS: &str = "select webhook_id, sealed, previous from webhook_secrets";
const RESEAL: &str =
    "update webhook_secrets set sealed = $3, previous = $4 where webhook_id = $1 and sealed = $2";
/// Secrets that sign nothing any more.
const FORMER: &str =
    "update webhook_secrets set previous = null, previous_until = null where previous_until < now()";
/// A few thousand at a time: the next night the rest.
const OLD: &str = "delete from webhook_deliveries where id in (select id from webhook_deliveries where status <> 'pending' \
     and finished_at < now() - interval '30 days' limit 20000)";

struct SealedSecret {
    webhook_id: Id<Webhook>,
    sealed: Vec<u8>,
    previous: Option<Vec<u8>>,
}
from_row!(SealedSecret { webhook_id, sealed, previous });

async fn rewrap(job: &Job) -> Result<()> {
    let app = &job.call.app;
    let mut tx = job.call.tenant();
    let mut done = 0_u32;
    if let Some(seal) = SecretSeal::of(&app.config.webhooks) {
        let secrets: Vec<SealedSecret> = tx.rows(SECRETS, &[]).await?;
        for SealedSecret { webhook_id, sealed, previous } in secrets {
            let place = place(job.call.caller.tenant(), webhook_id);
            let (secret, stale) = seal.open(&place, &sealed)?;
            if stale {
                let again = |sealed: &Vec<u8>| {
                    let (secret, _) = seal.open(&place, sealed)?;
                    seal.seal(app.rng.as_ref(), &place, &secret)
                };
                let previous = previous.as_ref().map(again).transpose()?;
                let anew = seal.seal(app.rng.as_ref(), &place, &secret)?;
                tx.rows::<()>(RESEAL, &[&webhook_id, &sealed, &anew, &previous]).await?;
                done += 1;
            }
        }
    }
    tx.rows::<()>(FORMER, &[]).await?;
    tx.rows::<()>(OLD, &[]).await?;
    tx.commit().await?;
    job.result(&done)
}
