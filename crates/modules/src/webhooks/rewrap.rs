//! Encrypts the secrets of endpoints with their tenant's key that were sealed under `WEBHOOK_SECRET` before there was one.

use erp_core::error::Result;
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::shared::Id;
use erp_core::webhooks::EndpointSeal;

use super::DELIVERY;
use super::endpoints::Webhook;

pub(super) static REWRAP: JobKind<()> = JobKind::<()>::new(
    "webhooks.rewrap",
    "Encrypts the secrets of endpoints with the tenant's key that WEBHOOK_SECRET has sealed, and removes deliveries that are old.",
    |job, ()| Box::pin(rewrap(job)),
)
.system(&DELIVERY)
.unhurried();

pub(super) static NIGHTLY: Schedule = Schedule::for_each_tenant(
    "webhooks.nightly",
    "Encrypts secrets with the tenant's key that WEBHOOK_SECRET has sealed, and removes deliveries that are over for 30 days.",
    "50 3 * * *",
    &REWRAP,
    &(),
);

const SECRETS: &str =
    "select webhook_id, sealed, previous from webhook_secrets where get_byte(sealed, 0) = 1";
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
    let seal = EndpointSeal::of(&job.call.app, job.call.caller.tenant()).await?;
    let mut tx = job.call.tenant();
    let mut done = 0_u32;
    // Where there is no secret of the deployment, no endpoint has one either.
    if let Some(seal) = seal {
        for SealedSecret { webhook_id, sealed, previous } in tx.rows(SECRETS, &[]).await? {
            let (secret, stale) = seal.open(*webhook_id.as_uuid(), &sealed).await?;
            if stale {
                let previous = match &previous {
                    Some(sealed) => {
                        let (secret, _) = seal.open(*webhook_id.as_uuid(), sealed).await?;
                        Some(seal.seal(*webhook_id.as_uuid(), &secret).await?)
                    }
                    None => None,
                };
                let anew = seal.seal(*webhook_id.as_uuid(), &secret).await?;
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
