use schemars::JsonSchema;
use serde::Serialize;

use super::{AnyEventKind as _, EventId, EventKind, event_codes};
use crate::db::{NewEvent, TenantTx};
use crate::error::{Error, Result};
use crate::resource::Call;
use crate::shared::{Id, IdKind};

/// Longer payloads are refused.
const MOST_BYTES: usize = 16 * 1024;

impl Call {
    /// Adds an event to the transaction: it commits or vanishes with it, and costs no round trip of its own. `aggregate` is
    /// what it has happened to. Events of one aggregate are read in the order in which they were emitted, where the
    /// transaction holds the aggregate's row, as one that has changed it does.
    ///
    /// # Errors
    /// `events.payload_too_large`, and `core.internal` for a kind that is in no module's row.
    pub fn emit<P: Serialize + JsonSchema + 'static, K: IdKind>(
        &self,
        tx: &mut TenantTx<'_>,
        kind: &'static EventKind<P>,
        aggregate: Id<K>,
        payload: &P,
    ) -> Result<EventId> {
        let name = kind.facts().name;
        if !self.app.event_kinds.contains(name) {
            let fix = "add it there, as `events: &[&KIND]`";
            return Err(Error::internal(format!("the event kind '{name}' is in no module's row: {fix}")));
        }
        let payload = serde_json::to_value(payload).map_err(Error::internal)?;
        let bytes = serde_json::to_vec(&payload).map_err(Error::internal)?.len();
        if bytes > MOST_BYTES {
            let what =
                format!("{name}: {bytes} bytes of at most {MOST_BYTES}: tell of what is large by its id");
            return Err(Error::new(&event_codes::PAYLOAD_TOO_LARGE).because(what));
        }
        let id = self.new_id();
        tx.add_event(NewEvent {
            id: *id.as_uuid(),
            name,
            aggregate: K::NAME,
            aggregate_id: *aggregate.as_uuid(),
            payload,
            principal: self.caller.actor().principal().map(|principal| *principal.as_uuid()),
            origin: self.caller.trace().correlation_id.to_string(),
        });
        Ok(id)
    }
}
