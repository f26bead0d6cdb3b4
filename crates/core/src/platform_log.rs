//! The log of what concerns no tenant: each entry is added in the transaction that does what it tells of.
//!
//! Migrations are told by the runner that applies them; starts, stops and changes of the log level here; what operators do, by the
//! module that lets them. What somebody does in a tenant stands in that tenant's audit log.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::App;
use crate::auth::{Actor, Trace};
use crate::db::{SystemTx, TenantTx};
use crate::error::Result;
use crate::lifecycle::{Background, Stop, StopStage};
use crate::module::Module;

crate::system_work! {
    /// What is told of by the process itself.
    SYSTEM {
        TELL = "platform-log": "Tells of starts, stops and changes of the log level, which concern no tenant.";
    }
}

/// The core's part in it, as a module.
pub(crate) static PLATFORM_LOG: Module = Module {
    name: "platform",
    about: "The log of what concerns no tenant.",
    system: SYSTEM,
    system_background: &[("platform-log", &TELL)],
    background: &[&STARTS],
    ..Module::BARE
};

/// Tells of the start and of the stop.
static STARTS: Background<App> = Background {
    name: "platform-log",
    about: "Tells in the platform log that the process has started, with its version and the settings that it was given, and that it stops.",
    critical: false,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(tell_of_starts(app, stop)),
    observe: |_| {},
};

/// How long after a failure it is told again.
const AGAIN: Duration = Duration::from_secs(5);

const ADD: &str = "insert into app.platform_log (actor, action, subject, details, correlation_id) \
     values ($1, $2, $3, $4::text::jsonb, $5)";

/// Something that happened and concerns no tenant.
#[derive(Debug)]
pub struct PlatformEntry<'a> {
    /// Who did it.
    pub actor: Actor,
    /// What: a module's name and a verb, such as `operators.signed_in`.
    pub action: &'static str,
    /// To whom or what, if to one.
    pub subject: Option<String>,
    /// What else an auditor wants to know. Nothing secret.
    pub details: Value,
    /// Where it was asked for.
    pub trace: &'a Trace,
}

impl PlatformEntry<'_> {
    /// Adds it as the last statement of a transaction.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn end(self, tx: SystemTx<'_>) -> Result<()> {
        let (actor, details) = (self.actor.to_string(), self.details.to_string());
        let id = &*self.trace.correlation_id;
        tx.last().rows::<()>(ADD, &[&actor, &self.action, &self.subject, &details, &id]).await.map(drop)
    }

    /// Adds it to a transaction.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn add(self, tx: &mut TenantTx<'_>) -> Result<()> {
        let (actor, details) = (self.actor.to_string(), self.details.to_string());
        let id = &*self.trace.correlation_id;
        tx.rows::<()>(ADD, &[&actor, &self.action, &self.subject, &details, &id]).await.map(drop)
    }
}

impl App {
    /// Tells of something that the process did by itself, or that came in on the management surface.
    ///
    /// # Errors
    /// As the database answers.
    pub(crate) async fn tell_platform(
        &self,
        action: &'static str,
        details: Value,
        trace: &Trace,
    ) -> Result<()> {
        let system = self.system(&TELL);
        let entry = PlatformEntry { actor: system.actor(), action, subject: None, details, trace };
        entry.end(system.begin(trace)).await
    }
}

/// A start without an entry would be a change of settings that nobody sees: it is told as soon as the database takes it.
async fn tell_of_starts(app: App, stop: Stop) {
    let trace = Trace::new("platform-log");
    let details = json!({ "version": app.version, "settings": app.config.given });
    while let Err(error) = app.tell_platform("platform.started", details.clone(), &trace).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "The start is not in the platform log yet");
        if !stop.sleep(AGAIN).await {
            return;
        }
    }
    stop.requested().await;
    if let Err(error) = app.tell_platform("platform.stopped", json!({ "version": app.version }), &trace).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "The stop is not in the platform log");
    }
}
