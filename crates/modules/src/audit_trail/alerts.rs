//! Alerts: what a tenant's rules for anomalies have found in its audit log, and who has looked at it.

use std::collections::BTreeMap;

use erp_core::audit::anomaly::{AlertSeverity, AnomalyAlert, AnomalyRules, AnomalyWatch, WatchedEvent};
use erp_core::auth::TenantSetting;
use erp_core::db::{FromSql, TenantTx, ToSql, Type};
use erp_core::error::{Error, Result, codes as core};
use erp_core::events::EventKind;
use erp_core::extract::{Json, Path};
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::mail::{MailTemplate, Recipient};
use erp_core::resource::{Call, Listed, Page, Tagged};
use erp_core::shared::{Id, LARGEST_EXACT, Text, Version};
use erp_core::stream::{Cell, CsvLine};
use erp_core::{choice, from_row, input, list, mail_template, record, sql};
use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MANAGE_ALERTS, READ_ALERTS, WATCHING};
use crate::identity::facade::addressees;

/// How many rows one transaction looks at.
const BATCH: i64 = 2000;
/// What was over for so long when the rules came to it is history, and no alert: they have just begun, or were away.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// The rules that a tenant is watched by.
pub(super) static RULES: TenantSetting<AnomalyRules> = TenantSetting::new(
    "audit_trail.anomaly_rules",
    "",
    "Which rules go over the audit log for anomalies; those that are built in, unless the tenant has its own.",
    &MANAGE_ALERTS,
);

/// From which severity on people are told of an alert by mail.
pub(super) static MAILS: TenantSetting<String> = TenantSetting::new(
    "audit_trail.alert_mails",
    "high",
    "From which severity on those who may see alerts are told of one by mail.",
    &MANAGE_ALERTS,
)
.one_of(&["low", "medium", "high", "critical", "never"]);

/// Goes over what is new, in a tenant.
pub(super) static WATCH: JobKind<()> = JobKind::<()>::new(
    "audit_trail.watch",
    "Goes over what is new in the audit log by the tenant's rules for anomalies.",
    |job, ()| Box::pin(watch(job)),
)
.system(&WATCHING);

pub(super) static EVERY_FIVE_MINUTES: Schedule = Schedule::for_each_tenant(
    "audit_trail.anomalies",
    "Goes over what is new in audit logs, and tells of anomalies.",
    "*/5 * * * *",
    &WATCH,
    &(),
);

choice! {
    /// How bad an anomaly is.
    pub(super) Severity {
        /// Look at it when there is time.
        Low = "low",
        /// Look at it today.
        Medium = "medium",
        /// Look at it now.
        High = "high",
        /// Act now.
        Critical = "critical",
    }
}

/// The numbers that an alert has come to, by name: `count` and `threshold`, say.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct AlertNumbers(BTreeMap<String, i64>);

/// The numbers of rows, as many as an alert names.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct AlertRows(Vec<i64>);

impl JsonSchema for AlertNumbers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AlertNumbers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json!({ "type": "integer", "minimum": 0, "maximum": LARGEST_EXACT });
        json_schema!({ "type": "object", "additionalProperties": number, "examples": [{ "count": 12, "threshold": 10 }] })
    }
}

impl JsonSchema for AlertRows {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AlertRows".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json!({ "type": "integer", "minimum": 1, "maximum": LARGEST_EXACT });
        json_schema!({ "type": "array", "items": number, "examples": [[101, 102]] })
    }
}

impl<'a> FromSql<'a> for AlertNumbers {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(serde_json::from_value(Value::from_sql(ty, raw)?)?))
    }

    fn accepts(ty: &Type) -> bool {
        <Value as FromSql<'_>>::accepts(ty)
    }
}

impl<'a> FromSql<'a> for AlertRows {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Vec::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<i64> as FromSql<'_>>::accepts(ty)
    }
}

impl Cell for AlertNumbers {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(&json!(self).to_string());
    }
}

impl Cell for AlertRows {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(&json!(self).to_string());
    }
}

record! {
    /// What a rule has found.
    pub(super) AuditAlert in "audit_alerts" as "audit_alert" {
        id: Id<AuditAlert>,
        /// By which rule.
        #[schemars(example = &"failed-sign-ins")]
        rule: String,
        /// `low`, `medium`, `high` or `critical`.
        #[schemars(example = &"high")]
        severity: String,
        /// What has happened, in a sentence.
        about: String,
        /// What the events have in common: an actor, an address, an account.
        key: String,
        /// The first of the events.
        began_at: Timestamp,
        /// The last one.
        last_at: Timestamp,
        /// The numbers that it has come to, each beside the one that it takes.
        numbers: AlertNumbers,
        /// The numbers of the rows, 1,000 at most.
        rows: AlertRows,
        created_at: Timestamp,
        /// Since when somebody looks after it.
        acknowledged_at: Option<Timestamp>,
        /// What was found out.
        note: Option<String>,
        version: Version,
    }
}

input! {
    /// What a list of alerts can be narrowed to.
    pub(super) AlertSearch {
        rule: Option<Text<1, 60>>,
        severity: Option<Severity>,
    }
}

list! {
    /// Alerts, the newest first.
    pub(super) Alerts of AuditAlert by AlertSearch from "audit_alerts" sorted [-created_at]
}

/// The body of an acknowledgement.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    /// What was found out.
    note: Option<Text<1, 2000>>,
}

/// What the event tells.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertRaised {
    /// By which rule.
    rule: String,
    /// How bad it is.
    severity: AlertSeverity,
    /// What the events have in common.
    key: String,
    /// The first of the events.
    began_at: Timestamp,
}

/// An anomaly was found. Further events of it change the alert, and are not told.
pub(super) static RAISED: EventKind<AlertRaised> =
    EventKind::new("audit_trail.alert_raised", "A rule has found an anomaly in the audit log.");

/// What the mail says.
pub(super) struct AlertMail {
    severity: &'static str,
    about: String,
    rule: String,
    key: String,
    began: String,
    rows: usize,
    id: String,
}

pub(super) static FOUND: MailTemplate<AlertMail> = mail_template!(
    "audit_trail.alert", "Tells those who may see alerts of an anomaly in the audit log.", AlertMail,
    "en": { subject: "Alert: {{ mail.about }}", text: "audit_trail/mails/alert.en.txt" },
    "de": { subject: "Warnung: {{ mail.about }}", text: "audit_trail/mails/alert.de.txt" },
);

const READ_ONE: &str = sql!["select ", AuditAlert::COLUMNS, " from audit_alerts where id = $1"];
const ACKNOWLEDGE: &str = sql![
    "update audit_alerts set acknowledged_at = coalesce(acknowledged_at, now()), acknowledged_by = coalesce(acknowledged_by, $2), \
     note = coalesce($3, note) where id = $1 returning ",
    AuditAlert::COLUMNS
];
const CURSOR: &str =
    "select seq, at, memory::text as memory from audit_cursors where reader = 'anomalies' for update";
const KEEP: &str = "insert into audit_cursors (reader, seq, at, memory) values ('anomalies', $1, $2, $3::text::jsonb) \
     on conflict (tenant_id, reader) do update set seq = excluded.seq, at = excluded.at, memory = excluded.memory returning seq";
const NEW: &str = sql![
    "select ",
    WatchedEvent::COLUMNS,
    " from audit_log where at >= $2 and seq > $1 order by at, seq limit $3"
];
/// Adds to the alert of the rule and key that goes on.
const EXTEND: &str = "update audit_alerts a set last_at = greatest(a.last_at, $4), numbers = $5::text::jsonb, \
       rows = array(select distinct r from unnest(a.rows || $6::bigint[]) r order by r limit 1000) \
     where a.id = (select o.id from audit_alerts o where o.rule = $1 and o.key = $2 \
       and o.last_at >= $3::timestamptz - make_interval(secs => $7::bigint) order by o.last_at desc limit 1) returning a.id";
const ADD: &str = "insert into audit_alerts (id, rule, severity, about, key, began_at, last_at, numbers, rows) \
     values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9) returning id";

struct WatchCursor {
    seq: i64,
    at: Timestamp,
    memory: String,
}
from_row!(WatchCursor { seq, at, memory });

struct KeptCursor {
    #[allow(dead_code, reason = "that it is kept is enough")]
    seq: i64,
}
from_row!(KeptCursor { seq });

struct KeptAlert {
    #[allow(dead_code, reason = "that there is one is enough")]
    id: Id<AuditAlert>,
}
from_row!(KeptAlert { id });

pub(super) async fn list(call: Call, page: Page<Alerts>) -> Result<Listed<Alerts>> {
    call.list(page).await
}

pub(super) async fn read(call: Call, Path(id): Path<Id<AuditAlert>>) -> Result<Tagged<AuditAlert>> {
    call.read(READ_ONE, id).await
}

/// Says that somebody looks after an alert, and what he has found out.
pub(super) async fn acknowledge(
    call: Call,
    Path(id): Path<Id<AuditAlert>>,
    Json(given): Json<Acknowledgement>,
) -> Result<Tagged<AuditAlert>> {
    let by = call.caller.actor().principal().map(|principal| *principal.as_uuid());
    let tx = call.tenant().action("audit_alert.acknowledged").last();
    let alert = tx.optional(ACKNOWLEDGE, &[&id, &by, &given.note]).await?;
    alert.map(Tagged).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

async fn watch(job: &Job) -> Result<()> {
    let caller = &job.call.caller;
    let rules = caller.entitlements().setting(&RULES);
    let (mut seen, mut raised) = (0_u64, 0_u64);
    loop {
        let mut tx = job.system()?.begin(caller.trace()).within(caller.tenant()).await?;
        let cursor: Option<WatchCursor> = tx.optional(CURSOR, &[]).await?;
        let cursor =
            cursor.unwrap_or(WatchCursor { seq: 0, at: Timestamp::UNIX_EPOCH, memory: "{}".to_owned() });
        let events: Vec<WatchedEvent> = tx.rows(NEW, &[&cursor.seq, &cursor.at, &BATCH]).await?;
        let Some(last) = events.last() else { break };
        let mut watch = AnomalyWatch::new(&rules, Some(&cursor.memory)).map_err(Error::internal)?;
        events.iter().for_each(|event| watch.push(event));
        for alert in watch.take_alerts() {
            raised += u64::from(keep(job, &mut tx, &alert).await?);
        }
        let memory = watch.memory().map_err(Error::internal)?;
        let _: Option<KeptCursor> = tx.optional(KEEP, &[&last.seq, &last.at, &memory]).await?;
        tx.commit().await?;
        seen += events.len() as u64;
        if events.len() as i64 != BATCH {
            break;
        }
    }
    job.result(&json!({ "rows": seen, "alerts": raised }))
}

/// Keeps an alert, and tells of one that is new; whether it is.
async fn keep(job: &Job, tx: &mut TenantTx<'_>, alert: &AnomalyAlert) -> Result<bool> {
    let now = job.call.now();
    if alert.last_at < now.checked_sub(STALE).map_err(Error::internal)? {
        return Ok(false);
    }
    let AnomalyAlert { rule, severity, about, key, began_at, last_at, numbers, rows, within } = alert;
    let (numbers, within) = (json!(numbers).to_string(), i64::from(*within));
    let params: [&(dyn ToSql + Sync); 7] = [rule, key, began_at, last_at, &numbers, rows, &within];
    if tx.optional::<KeptAlert>(EXTEND, &params).await?.is_some() {
        return Ok(false);
    }
    let id: Id<AuditAlert> = job.call.new_id();
    let severity_name = severity.as_str();
    let params: [&(dyn ToSql + Sync); 9] =
        [&id, rule, &severity_name, about, key, began_at, last_at, &numbers, rows];
    let _: Option<KeptAlert> = tx.optional(ADD, &params).await?;
    let told = AlertRaised { rule: rule.clone(), severity: *severity, key: key.clone(), began_at: *began_at };
    job.call.emit(tx, &RAISED, id, &told)?;
    mail(job, tx, id, alert).await?;
    Ok(true)
}

async fn mail(job: &Job, tx: &mut TenantTx<'_>, id: Id<AuditAlert>, alert: &AnomalyAlert) -> Result<()> {
    let caller = &job.call.caller;
    let least = match caller.entitlements().setting(&MAILS).as_str() {
        "low" => AlertSeverity::Low,
        "medium" => AlertSeverity::Medium,
        "high" => AlertSeverity::High,
        "critical" => AlertSeverity::Critical,
        _ => return Ok(()),
    };
    if alert.severity < least {
        return Ok(());
    }
    let mail = AlertMail {
        severity: alert.severity.as_str(),
        about: alert.about.clone(),
        rule: alert.rule.clone(),
        key: alert.key.clone(),
        began: alert.began_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        rows: alert.rows.len(),
        id: id.to_string(),
    };
    for address in addressees(tx, caller.tenant(), &READ_ALERTS).await? {
        job.call.app.mail_to(tx, caller.trace(), &FOUND, &Recipient::new(address), &mail)?;
    }
    Ok(())
}
