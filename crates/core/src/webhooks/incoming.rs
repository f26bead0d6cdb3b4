//! Webhooks that other services send to us: verified over the bytes that came, and taken once.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::SigningSecret;
use crate::app::App;
use crate::db::TenantTx;
use crate::error::{Error, Result, codes};
use crate::extract::{HeaderField, Input, Inputs, read_body};
use crate::from_row;

/// How far the time of a webhook may be off, in both directions, in seconds.
const TOLERANCE: i64 = 300;
/// The longest id that is taken.
const LONGEST_ID: usize = 255;

static WEBHOOK_ID: HeaderField = HeaderField {
    name: "webhook-id",
    what: "The id of the message, the same each time that it is sent.",
    pattern: Some("^[!-~]{1,255}$"),
    example: "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    always: true,
};
static WEBHOOK_TIMESTAMP: HeaderField = HeaderField {
    name: "webhook-timestamp",
    what: "When it was sent, in seconds since 1970; at most five minutes off.",
    pattern: Some("^[0-9]{1,15}$"),
    example: "1674087231",
    always: true,
};
static WEBHOOK_SIGNATURE: HeaderField = HeaderField {
    name: "webhook-signature",
    what: "Signatures of Standard Webhooks 1.0, with blanks between them.",
    pattern: Some("^[!-~]+( [!-~]+)*$"),
    example: "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    always: true,
};

/// A webhook that another service has sent, not verified yet: what a handler takes in place of a body.
///
/// ```no_run
/// # use axum::extract::State;
/// # use erp_core::answer::NoContent;
/// # use erp_core::app::App;
/// # use erp_core::auth::Trace;
/// # use erp_core::db::System;
/// # use erp_core::error::Result;
/// # use erp_core::extract::Path;
/// # use erp_core::webhooks::{Receipt, SignedWebhook, SigningSecret};
/// # #[derive(serde::Deserialize)] struct Payment { invoice: String }
/// # fn secrets(app: &App) -> Vec<SigningSecret> { Vec::new() }
/// async fn paid(
///     State(app): State<App>,
///     system: System,
///     trace: Trace,
///     Path(tenant): Path<String>,
///     hook: SignedWebhook,
/// ) -> Result<NoContent> {
///     let hook = hook.verify(&secrets(&app))?;
///     let mut tx = system.within(&trace, &tenant).await?;
///     if hook.receive(&mut tx, "bank").await? == Receipt::New {
///         let Payment { invoice } = hook.json()?;
///         tx.rows::<()>("update invoices set paid = true where number = $1", &[&invoice]).await?;
///     }
///     tx.commit().await?;
///     Ok(NoContent)
/// }
/// ```
#[derive(Debug)]
pub struct SignedWebhook {
    id: String,
    timestamp: i64,
    signatures: String,
    body: Bytes,
}

/// A webhook that has come from somebody who knows the secret.
#[derive(Debug)]
pub struct VerifiedWebhook {
    id: String,
    body: Bytes,
}

/// Whether a webhook has come for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It has, and is to have its effect.
    New,
    /// It has come before, and is to be answered with success all the same: its sender has not heard the first answer.
    Repeated,
}

const RECEIVE: &str =
    "insert into webhook_receipts (source, id) values ($1, $2) on conflict do nothing returning source";

struct ReceivedFrom {
    #[allow(dead_code, reason = "it is there or not")]
    source: String,
}
from_row!(ReceivedFrom { source });

fn not_signed(why: &'static str) -> Error {
    Error::new(&codes::WEBHOOK_NOT_SIGNED).because(why)
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none());
    value.and_then(|value| value.to_str().ok()).ok_or_else(|| not_signed("a header is missing or repeated"))
}

impl FromRequest<App> for SignedWebhook {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let headers = request.headers();
        let id = one(headers, WEBHOOK_ID.name)?.to_owned();
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(not_signed("the id is empty or too long"));
        }
        let timestamp = one(headers, WEBHOOK_TIMESTAMP.name)?;
        let is_plain =
            (1..=15).contains(&timestamp.len()) && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let timestamp: i64 =
            timestamp.parse().ok().filter(|_| is_plain).ok_or_else(|| not_signed("the time is no number"))?;
        // Before the body is read: what is too old is not worth it.
        if (app.clock.now().as_second() - timestamp).abs() > TOLERANCE {
            return Err(not_signed("the time is more than five minutes off"));
        }
        let signatures = one(headers, WEBHOOK_SIGNATURE.name)?.to_owned();
        let body = read_body(request.into_body(), None, app).await?;
        Ok(Self { id, timestamp, signatures, body })
    }
}

impl Input for SignedWebhook {
    fn describe(inputs: &mut Inputs) {
        for field in [&WEBHOOK_ID, &WEBHOOK_TIMESTAMP, &WEBHOOK_SIGNATURE] {
            inputs.headers.push(field);
        }
        inputs.refusals.extend([
            &codes::WEBHOOK_NOT_SIGNED,
            &codes::MALFORMED_BODY,
            &codes::REQUEST_TIMEOUT,
            &codes::TOO_LARGE,
            &codes::NOT_FOUND, // the tenant in the path
        ]);
    }
}

impl SignedWebhook {
    /// Verifies it by one of several secrets: while one is being replaced there are two.
    ///
    /// # Errors
    /// `core.webhook_not_signed`, also where there is no secret.
    pub fn verify(self, secrets: &[SigningSecret]) -> Result<VerifiedWebhook> {
        let Self { id, timestamp, signatures, body } = self;
        // All of them are tried: the time says nothing of which one it was.
        let verifies = |secret: &&SigningSecret| secret.verifies(&id, timestamp, &body, &signatures);
        let verified = secrets.iter().filter(verifies).count() > 0;
        if verified {
            Ok(VerifiedWebhook { id, body })
        } else {
            Err(not_signed("no secret has this signature"))
        }
    }
}

impl VerifiedWebhook {
    /// The id of the message.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bytes that came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as JSON. Fields that are not known are let be: the other service may tell more one day.
    ///
    /// # Errors
    /// `core.malformed_body` for what is no JSON, or none of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| Error::new(&codes::MALFORMED_BODY).because(error))
    }

    /// Notes in the transaction that it has come, from the `source` that the module calls so. One that comes at the same time
    /// waits until the first one is committed or rolled back. It is remembered for a day: far longer than its time holds.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn receive(&self, tx: &mut TenantTx<'_>, source: &str) -> Result<Receipt> {
        let noted: Option<ReceivedFrom> = tx.optional(RECEIVE, &[&source, &self.id]).await?;
        Ok(if noted.is_some() { Receipt::New } else { Receipt::Repeated })
    }
}
