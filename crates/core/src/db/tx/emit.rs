//! Events that a transaction emits: they go out with its end, and commit or vanish with it.

use serde::Serialize;
use uuid::Uuid;

/// Emits in the exchange that ends the transaction: no round trip of its own.
pub(super) const EMIT: &str = "select app.emit($1)";

/// An event as `app.emit` takes it.
#[derive(Debug, Serialize)]
pub(crate) struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) name: &'static str,
    pub(crate) aggregate: &'static str,
    pub(crate) aggregate_id: Uuid,
    pub(crate) payload: serde_json::Value,
    pub(crate) principal: Option<Uuid>,
    pub(crate) origin: String,
}
