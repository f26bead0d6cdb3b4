//! The audit log as a transparency log: what is sealed, what is found when somebody changes the past, and what is never signed.

mod alerts;
mod reports;
mod retention;
mod sealing;
mod search;
mod streaming;
mod tampering;
mod witness;

use std::sync::Arc;

use erp_core::audit::VerifiedLog;
use erp_core::audit::note::Checkpoint;
use erp_core::bootstrap::{AuditOperator, AuditedTenant};
use erp_core::config::Config;
use erp_core::shared::{Rng, Secret, SystemRng};
use erp_testkit::TestApp;

/// What is found in a log that is as it was signed.
pub(crate) const NOTHING: [(&str, i64); 0] = [];

pub(crate) fn config(app: &TestApp) -> Config {
    let mut config = app.edge().app.config.clone();
    let roles = &app.database().roles; // the app keeps no URL
    config.database.url = Some(Secret::new(roles.runtime_url.clone()));
    config.database.system_url = Some(Secret::new(roles.system_url.clone()));
    config
}

pub(crate) fn operator(app: &TestApp) -> AuditOperator {
    let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
    AuditOperator::open(config(app), &rng).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) async fn tenant(operator: &AuditOperator, slug: &str) -> AuditedTenant {
    operator.tenants(Some(slug)).await.unwrap().remove(0)
}

/// Adds rows to acme's audit log up to this number, each with a number beyond 2⁵³ in it.
pub(crate) async fn fill(app: &TestApp, last: u32) {
    let sql = format!(
        "select app.audit('test.done', 'thing', g::text, details => jsonb_build_object('n', 9007199254740993, 'of', g)) \
         from generate_series((select seq + 1 from audit_heads where tenant_id = (select id from tenants where slug = 'acme')), {last}) g"
    );
    app.execute_in("acme", &sql).await;
}

/// The logs of acme, by checkpoints that somebody has kept.
pub(crate) async fn verified(app: &TestApp, kept: &[Checkpoint]) -> Vec<VerifiedLog> {
    let operator = operator(app);
    let acme = tenant(&operator, "acme").await;
    let logs = Box::pin(operator.verify(&acme, kept)).await.unwrap();
    operator.close().await;
    logs
}

/// The kinds and numbers of what is wrong with acme's log.
pub(crate) async fn found(app: &TestApp, kept: &[Checkpoint]) -> Vec<(&'static str, i64)> {
    let logs = verified(app, kept).await;
    logs.iter().flat_map(|log| &log.findings).map(|finding| (finding.what, finding.seq)).collect()
}
