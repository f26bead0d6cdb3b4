//! A tenant's audit log, for its auditors: who did what, and that a row is in it as it was signed.
//!
//! The log itself is the core's (`erp_core::audit`); here are its routes, and what is done each night or every few minutes in each tenant:
//! what is kept no longer is removed, rules look for anomalies, and reports are mailed.

mod alerts;
mod holds;
mod reports;
mod retention;
mod search;
mod stream;

use erp_core::answer::Refusing;
use erp_core::audit;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::metrics::MetricTable;
use erp_core::module::{Access, Module, Operation, Routes, SystemGauge};
use erp_core::resource::Call;
use erp_core::shared::{Int, LARGEST_EXACT};
use schemars::JsonSchema;
use serde::Serialize;

/// The audit trail module.
pub static MODULE: Module = Module {
    name: "audit_trail",
    about: "The audit log for a tenant's auditors: search, reports and alerts, retention and legal holds, and proofs that others verify.",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    uses: &["identity"],
    system: SYSTEM,
    events: &[&alerts::RAISED],
    mails: &[&alerts::FOUND, &reports::SUMMARY],
    metrics: &[MetricTable::of::<AuditTrailMetrics>()],
    gauges: &[&PARTITIONS, &UNACKNOWLEDGED],
    jobs: &[&retention::PRUNE, &alerts::WATCH, &reports::SEND, &stream::SEND],
    schedules: &[
        &retention::NIGHTLY,
        &alerts::EVERY_FIVE_MINUTES,
        &reports::WEEKLY,
        &reports::MONTHLY,
        &stream::EVERY_FIVE_MINUTES,
    ],
    tenant_settings: &[
        &retention::SECURITY_DAYS,
        &retention::ACCESS_DAYS,
        &retention::CHANGE_DAYS,
        &alerts::RULES,
        &alerts::MAILS,
        &reports::MAILS,
        &stream::RECEIVER,
    ],
    ..Module::BARE
};

erp_core::permissions! {
    /// The permissions of the module.
    pub PERMISSIONS {
        READ = "audit_trail.entry.read" to [Owner, Auditor]: "Search the audit log.";
        PROVE = "audit_trail.entry.prove" to [Owner, Auditor]: "Get proofs of the audit log's entries, and its checkpoint.";
        READ_REPORTS = "audit_trail.report.read" to [Owner, Auditor]: "Make reports of the audit log.";
        READ_ALERTS = "audit_trail.alert.read" to [Owner, Auditor]: "See what rules for anomalies have found in the audit log.";
        MANAGE_ALERTS = "audit_trail.alert.manage" to [Owner]: "Acknowledge alerts, set the rules for anomalies, and say who gets mails of alerts and reports.";
        READ_HOLDS = "audit_trail.hold.read" to [Owner, Auditor]: "See legal holds on the audit log.";
        MANAGE_HOLDS = "audit_trail.hold.manage" to [Owner]: "Place and release legal holds on the audit log.";
        SET_STREAM = "audit_trail.stream.set" to [Owner]: "Set where rows of the audit log are streamed to.";
        RETAIN = "audit_trail.retention.set" to [Owner]: "Set for how long the audit log keeps its rows.";
    }
}

erp_core::system_work! {
    /// What is done about tenants' audit logs as the system.
    SYSTEM {
        RETENTION = "audit-retention": "Removes rows of tenants' audit logs that they keep no longer: nobody who asks for something may do so.";
        WATCHING = "audit-watch": "Goes over tenants' audit logs by their rules for anomalies, and keeps what is found.";
        STREAMING = "audit-own-stream": "Streams rows of tenants' audit logs to the receivers that they have set.";
        REPORTING = "audit-reports": "Counts what reports of tenants' audit logs have, for the mails of those who may see them.";
    }
}

erp_core::error_codes! {
    /// The codes of the module.
    pub ERRORS in codes {
        NOT_SEALED = "audit_trail.not_sealed", 409, "Not sealed yet";
            "Nothing of the audit log is sealed yet: that is done about once a second.";
            "Ask again in a few seconds.";
    }
}

erp_core::metrics! {
    /// The metrics of the module.
    pub struct AuditTrailMetrics of MODULE;

    /// Partitions of the audit log: of the months to come (`ahead`), and of rows that no month had room for (`default`).
    audit_trail_partitions: Gauge[kind] {
        unit: "partitions", alert: "kind=\"ahead\": below 2; kind=\"default\": over 0; run `erp-backend db maintain`",
    }

    /// Alerts of the rules for anomalies, of all tenants, that nobody has acknowledged.
    audit_trail_unacknowledged_alerts: Gauge[severity] {
        unit: "alerts", alert: "critical: over 0; high: over 0 for 1 hour; docs/guides/incident-response.md",
    }
}

/// Whether there is room for the rows of the months to come.
static PARTITIONS: SystemGauge = SystemGauge {
    metric: "audit_trail_partitions",
    work: &WATCHING,
    sql: "select 'ahead' as label, count(*)::float8 as value from pg_catalog.pg_class c join pg_catalog.pg_inherits i on i.inhrelid = c.oid \
        where i.inhparent = 'public.audit_log'::regclass and c.relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$' \
          and c.relname > 'audit_log_' || to_char(now() at time zone 'UTC', 'YYYY_MM') \
        union all select 'default', (pg_relation_size('public.audit_log_default') > 0)::int::float8",
    labels: &["ahead", "default"],
    set: |metrics, kind, partitions| {
        metrics.of::<AuditTrailMetrics>()?.audit_trail_partitions.with(&[kind]).set(partitions);
        Ok(())
    },
};

/// How many alerts wait for somebody.
static UNACKNOWLEDGED: SystemGauge = SystemGauge {
    metric: "audit_trail_unacknowledged_alerts",
    work: &WATCHING,
    sql: "select severity as label, count(*)::float8 as value from audit_alerts where acknowledged_at is null group by severity",
    labels: &["low", "medium", "high", "critical"],
    set: |metrics, severity, alerts| {
        metrics.of::<AuditTrailMetrics>()?.audit_trail_unacknowledged_alerts.with(&[severity]).set(alerts);
        Ok(())
    },
};

fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/audit", Access::Permission(&READ), search::list)
        .doc(Operation::new("searchAuditLog", "Search the audit log").about(
            "By who did it, what was done, to what, and when; the newest first. What is searched for by one of these is found at once \
             among millions of rows. A text is looked for row by row, some 16,000 for a page: where a page ends before the rows do, it \
             can hold fewer than `limit`, and `nextCursor` goes on.",
        ))
        .get("/api/v1/audit/checkpoint", Access::Permission(&PROVE), checkpoint)
        .doc(Operation::new("readAuditCheckpoint", "Read the checkpoint of the audit log").about(
            "The name of the log, how many entries it has, and the root of the Merkle tree over them, signed (C2SP tlog-checkpoint). \
             Who keeps it can tell later that nothing before it was changed.",
        ))
        .get("/api/v1/audit/{seq}/proof", Access::Permission(&PROVE), proof)
        .doc(Operation::new("proveAuditEntry", "Prove that an entry is in the audit log").about(
            "The bytes that were hashed, and the proof that leads from their hash to the signed checkpoint (C2SP tlog-proof). 404 also \
             for a row that is not sealed yet, which takes about a second.",
        ))
        .get("/api/v1/reports", Access::Permission(&READ_REPORTS), reports::list)
        .doc(Operation::new("listReports", "List the reports of the audit log"))
        .get("/api/v1/reports/{name}", Access::Permission(&READ_REPORTS), reports::read)
        .doc(Operation::new("makeReport", "Make a report of the audit log").about(
            "Of the last 30 days, unless the query says otherwise: how often each thing has happened, and its rows, 10,000 at most. As CSV the \
             rows; as HTML a page that can be printed.",
        ))
        .get("/api/v1/audit/alerts", Access::Permission(&READ_ALERTS), alerts::list)
        .doc(Operation::new("listAuditAlerts", "List what rules for anomalies have found"))
        .get("/api/v1/audit/alerts/{id}", Access::Permission(&READ_ALERTS), alerts::read)
        .doc(Operation::new("readAuditAlert", "Read an alert"))
        .post("/api/v1/audit/alerts/{id}/acknowledge", Access::Permission(&MANAGE_ALERTS), alerts::acknowledge)
        .doc(Operation::new("acknowledgeAuditAlert", "Say that one looks after an alert, and what was found out"))
        .get("/api/v1/audit/holds", Access::Permission(&READ_HOLDS), holds::list)
        .doc(Operation::new("listAuditHolds", "List legal holds on the audit log"))
        .post("/api/v1/audit/holds", Access::Permission(&MANAGE_HOLDS), holds::create)
        .doc(Operation::new("placeAuditHold", "Place a legal hold on rows of the audit log").about(
            "What a hold covers is removed by no retention: rows of a kind of thing, of one of them, or rows that somebody has caused or that \
             concern or name him.",
        ))
        .post("/api/v1/audit/holds/{id}/release", Access::Permission(&MANAGE_HOLDS), holds::release)
        .doc(Operation::new("releaseAuditHold", "Release a legal hold"))
}

/// What is signed of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditCheckpoint {
    /// The name of the log.
    origin: String,
    /// How many entries it has.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    size: i64,
    /// The signed note.
    checkpoint: String,
}

/// That an entry is in the audit log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvenAuditEntry {
    /// The number of the row.
    #[schemars(range(min = 1, max = LARGEST_EXACT))]
    seq: i64,
    /// Its place in the log.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    index: i64,
    /// The entry: SHA-256 of a zero byte and these bytes is the leaf. None where they were removed.
    entry: Option<String>,
    /// The proof, with the checkpoint.
    proof: String,
}

async fn checkpoint(call: Call) -> Result<Json<AuditCheckpoint>, Refusing<codes::NOT_SEALED>> {
    let log = audit::open_log(&mut call.tenant_read()).await?;
    let log = log.ok_or_else(|| Error::new(&codes::NOT_SEALED))?;
    Ok(Json(AuditCheckpoint { origin: log.origin, size: log.size, checkpoint: log.note }))
}

async fn proof(call: Call, Path(seq): Path<Int<1, LARGEST_EXACT>>) -> Result<Json<ProvenAuditEntry>> {
    let seq = seq.get();
    // The bytes of an entry are the evidence: nothing can be left out of them.
    call.app.guarded_columns.concealed_from(&call.caller).await?.refuse("/entry")?;
    let proof = audit::prove(&mut call.tenant_read(), seq).await?;
    let proof = proof.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let index = i64::try_from(proof.index).map_err(Error::internal)?;
    Ok(Json(ProvenAuditEntry { seq, index, entry: proof.entry, proof: proof.proof }))
}
