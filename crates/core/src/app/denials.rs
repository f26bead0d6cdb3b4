//! Refusals that an auditor must hear of, such as failed sign-ins and denied permissions.
//!
//! The clients that cause them must not fill a tenant's audit log, nor hold its head while its people work. So they are
//! counted here, and one row is written for each principal, action and minute. The security log has a line for each of
//! them at once.
//! What the last minute held is lost when the process is killed, and written when it is stopped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::App;
use crate::auth::{Actor, Caller, Identity, Trace};
use crate::db::AuditEntry;
use crate::error::Result;
use crate::lifecycle::{Background, Stop, StopStage};
use crate::shared::TenantId;

/// Writes refusals into the audit log.
pub(crate) static DENIALS: Background<App> = Background {
    name: "audit of refusals",
    about: "Writes what was refused in the last minute into the tenants' audit logs, and at the stop what is left.",
    critical: true,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(app.keep_writing_denials(stop)),
    observe: |_| {},
};

/// How long refusals are gathered before they are written.
const MINUTE: Duration = Duration::from_secs(60);
/// How many kinds of them are held. People and routes are few; beyond, only their number is told, by tenant and action.
const MOST: usize = 10_000;

/// One refusal: what an audit row will say of it, and of others like it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// In whose audit log it belongs.
    pub tenant: TenantId,
    /// Who was refused: a person, or the system for those who have not signed in.
    pub actor: Actor,
    /// What was tried: `identity.sign_in`, or a permission's name.
    pub action: &'static str,
    /// What it was tried at: `user`, `route`.
    pub resource: &'static str,
    /// Which one, if it is known.
    pub resource_id: Option<String>,
    /// `failure` or `denied`.
    pub outcome: &'static str,
    /// The code of the answer.
    pub code: &'static str,
}

/// How often, when, and the first one's request.
struct DenialTally {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    trace: Trace,
}

/// The refusals of this minute.
#[derive(Default)]
pub struct Denials(Mutex<HashMap<Denial, DenialTally>>);

impl Denials {
    fn add(&self, mut denial: Denial, tally: DenialTally) {
        let mut held = self.lock();
        if held.len() >= MOST && !held.contains_key(&denial) {
            denial = Denial { actor: Actor::System("sign-in"), resource_id: None, ..denial };
        }
        match held.entry(denial) {
            Entry::Vacant(place) => drop(place.insert(tally)),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count += tally.count;
                known.last = known.last.max(tally.last);
                // What could not be written comes back after younger ones.
                if tally.first < known.first {
                    (known.first, known.trace) = (tally.first, tally.trace);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Denial, DenialTally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Notes a refusal for the audit log. It costs no statement, and takes the same time for everybody.
    pub fn deny(&self, denial: Denial, trace: &Trace) {
        let now = self.clock.now();
        self.denials.add(denial, DenialTally { count: 1, first: now, last: now, trace: trace.clone() });
    }

    /// Writes what has been noted into the audit logs. What cannot be written now is written the next time.
    pub async fn write_denials(&self) {
        let held = std::mem::take(&mut *self.denials.lock());
        for (denial, tally) in held {
            if let Err(error) = self.write_denial(&denial, &tally).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "Refusals wait to be audited");
                self.denials.add(denial, tally);
            }
        }
    }

    async fn write_denial(&self, denial: &Denial, tally: &DenialTally) -> Result<()> {
        let entry = AuditEntry {
            action: denial.action,
            resource: denial.resource,
            resource_id: denial.resource_id.clone(),
            outcome: denial.outcome,
            details: json!({
                "code": denial.code,
                "count": tally.count,
                "first": tally.first.to_string(),
                "last": tally.last.to_string(),
            }),
        };
        // What it may do does not matter to an entry that the server itself writes.
        let caller = Caller::unknown(Identity::new(denial.tenant, denial.actor), tally.trace.clone());
        let mut tx = self.db.tenant(&caller);
        tx.audit(&entry)?;
        tx.commit().await
    }

    /// Writes once a minute, and at the stop what is left.
    async fn keep_writing_denials(self, stop: Stop) {
        while stop.sleep(MINUTE).await {
            self.write_denials().await;
        }
        self.write_denials().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(denials: &Denials, tenant: u128, resource_id: Option<String>, second: i64) {
        let denial = Denial {
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(tenant)),
            actor: Actor::System("sign-in"),
            action: "identity.sign_in",
            resource: "user",
            resource_id,
            outcome: "failure",
            code: "identity.sign_in_failed",
        };
        let at = Timestamp::from_second(second).unwrap();
        denials.add(denial, DenialTally { count: 1, first: at, last: at, trace: Trace::new("test") });
    }

    #[test]
    fn u_05_refusals_of_one_kind_are_one_row_and_memory_is_bounded() {
        let denials = Denials::default();
        for second in 0..100 {
            add(&denials, 1, None, second);
            add(&denials, 2, None, second);
        }
        let told: Vec<_> = denials
            .lock()
            .values()
            .map(|tally| (tally.count, (tally.last - tally.first).get_seconds()))
            .collect();
        assert_eq!(told, [(100, 99); 2]);
        for number in 0..3 * MOST {
            add(&denials, 1, Some(number.to_string()), 0);
        }
        assert!(denials.lock().len() <= MOST + 1, "{}", denials.lock().len());
        let all: u64 = denials.lock().values().map(|tally| tally.count).sum();
        assert_eq!(all, 200 + 3 * MOST as u64, "each is counted");
    }

    #[test]
    fn u_05_refusals_that_could_not_be_written_keep_the_first_ones_moment_and_request() {
        let denials = Denials::default();
        add(&denials, 1, None, 7);
        let held = std::mem::take(&mut *denials.lock());
        add(&denials, 1, None, 70); // while the database is asked
        for (denial, tally) in held {
            denials.add(denial, DenialTally { trace: Trace::new("the first"), ..tally });
        }
        let held = denials.lock();
        let told: Vec<_> = held
            .values()
            .map(|t| (t.count, t.first.as_second(), t.last.as_second(), &*t.trace.correlation_id))
            .collect();
        assert_eq!(told, [(2, 7, 70, "the first")]);
    }
}
