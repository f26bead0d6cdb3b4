//! Jobs and mails that a transaction enqueues: they go out with its end, and commit or vanish with it.

use serde::Serialize;
use uuid::Uuid;

use crate::db::doorbell::Lane;
use crate::shared::TenantId;

/// Enqueues in the exchange that ends the transaction: no round trip of its own.
pub(super) const ENQUEUE: &str = "select app.enqueue($1)";
/// The same for mails, whose jobs are enqueued beside.
pub(super) const ADD_MAILS: &str = "select app.add_mails($1)";

/// A job as `app.enqueue` takes it.
#[derive(Debug, Serialize)]
pub(crate) struct NewJob {
    pub(crate) id: Uuid,
    pub(crate) kind: &'static str,
    pub(crate) priority: u8,
    pub(crate) attempts: u16,
    pub(crate) principal: Option<Uuid>,
    pub(crate) system: Option<&'static str>,
    pub(crate) origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unique_key: Option<String>,
    pub(crate) args: serde_json::Value,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_at: Option<jiff::Timestamp>,
}

/// A mail as `app.add_mails` takes it.
#[derive(Debug, Serialize)]
pub(crate) struct NewMail {
    pub(crate) id: Uuid,
    pub(crate) template: &'static str,
    pub(crate) recipient: String,
    pub(crate) recipient_name: Option<String>,
    pub(crate) locale: &'static str,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: Option<String>,
    pub(crate) promotional: bool,
    pub(crate) confidential: bool,
    pub(crate) message_id: String,
}

/// The lanes of those jobs that can be claimed once the transaction is committed, for the doorbell.
pub(super) fn due(jobs: Vec<NewJob>, tenant: Option<TenantId>) -> impl Iterator<Item = (Lane, Uuid)> {
    let due = jobs.into_iter().filter(|job| job.run_at.is_none() && job.delay.is_none());
    due.filter_map(move |job| {
        let lane = Lane { tenant: tenant?, kind: job.kind, priority: job.priority };
        Some((lane, job.id))
    })
}
