//! Reports of the audit log, over HTTP and by mail.

use axum::response::{Html, IntoResponse, Response};
use erp_core::answer::{Answer, Outputs};
use erp_core::audit::{self, MadeReport, REPORTS, ReportScope};
use erp_core::auth::TenantSetting;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, MediaType, Path, Query};
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::mail::{MailTemplate, Recipient};
use erp_core::resource::Call;
use erp_core::shared::Text;
use erp_core::{from_row, mail_template, stream};
use http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MANAGE_ALERTS, READ_REPORTS, REPORTING};
use crate::identity::facade::addressees;

/// What a report is on unless it is said: the last 30 days.
const PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);
const JSON: &str = "application/json";
const HTML: &str = "text/html";

/// How often those who may see reports get a summary by mail.
pub(super) static MAILS: TenantSetting<String> = TenantSetting::new(
    "audit_trail.report_mails",
    "never",
    "How often those who may see reports of the audit log get their numbers by mail: on Mondays, or on the first of the month.",
    &MANAGE_ALERTS,
)
.one_of(&["never", "weekly", "monthly"]);

/// How often reports are mailed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReportRhythm {
    Weekly,
    Monthly,
}

/// Mails the numbers of all reports, in a tenant that wants it.
pub(super) static SEND: JobKind<ReportRhythm> = JobKind::<ReportRhythm>::new(
    "audit_trail.mail_reports",
    "Mails the numbers of the reports of the audit log to those who may see them, in a tenant that wants it.",
    |job, rhythm| Box::pin(send(job, rhythm)),
)
.system(&REPORTING)
.unhurried();

pub(super) static WEEKLY: Schedule = Schedule::for_each_tenant(
    "audit_trail.weekly_reports",
    "Mails the numbers of the reports of audit logs, in tenants that want them each week.",
    "10 5 * * 1",
    &SEND,
    &ReportRhythm::Weekly,
);

pub(super) static MONTHLY: Schedule = Schedule::for_each_tenant(
    "audit_trail.monthly_reports",
    "Mails the numbers of the reports of audit logs, in tenants that want them each month.",
    "15 5 1 * *",
    &SEND,
    &ReportRhythm::Monthly,
);

/// A report that there is.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListedReport {
    #[schemars(example = &"privileged-acts")]
    name: &'static str,
    title: &'static str,
    /// What it is on.
    about: &'static str,
}

/// All reports.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListedReports {
    reports: Vec<ListedReport>,
}

/// What a report is narrowed to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReportQuery {
    /// Not before this time; 30 days before `until` by default.
    since: Option<Timestamp>,
    /// And before this one; now by default.
    until: Option<Timestamp>,
    /// Of this kind of thing, such as `item`.
    resource: Option<Text<1, 200>>,
    /// Of this one.
    resource_id: Option<Text<1, 400>>,
}

/// A report as JSON, its rows as CSV, or a page that can be printed.
pub(super) struct ReportAnswer(Response);

impl IntoResponse for ReportAnswer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for ReportAnswer {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<MadeReport>(200).text(200, stream::CSV).text(200, HTML);
        outputs.produces(&[JSON, stream::CSV, HTML]);
    }
}

const NAME: &str = "select name from tenant_profiles where tenant_id = $1";

struct ReportedTenant {
    name: String,
}
from_row!(ReportedTenant { name });

/// What the mail says.
pub(super) struct ReportMail {
    tenant: String,
    since: String,
    until: String,
    lines: Vec<ReportLine>,
}

/// One report in it.
struct ReportLine {
    title: &'static str,
    name: &'static str,
    times: i64,
}

pub(super) static SUMMARY: MailTemplate<ReportMail> = mail_template!(
    "audit_trail.reports", "Tells those who may see reports of the audit log how much each of them has.", ReportMail,
    "en": { subject: "Audit log of {{ mail.tenant }}, {{ mail.since }} to {{ mail.until }}", text: "audit_trail/mails/reports.en.txt" },
    "de": { subject: "Prüfprotokoll von {{ mail.tenant }}, {{ mail.since }} bis {{ mail.until }}", text: "audit_trail/mails/reports.de.txt" },
);

pub(super) async fn list(_: Call) -> Result<Json<ListedReports>> {
    let listed = REPORTS.iter().map(|report| ListedReport {
        name: report.name,
        title: report.title,
        about: report.about,
    });
    Ok(Json(ListedReports { reports: listed.collect() }))
}

/// Makes a report.
pub(super) async fn read(
    call: Call,
    Path(name): Path<String>,
    Query(query): Query<ReportQuery>,
    MediaType(media): MediaType,
) -> Result<ReportAnswer> {
    let report = audit::report(&name).ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let scope = query.scope(call.now())?;
    let mut tx = call.tenant_read();
    let mut made = report.make(&mut tx, &scope).await?;
    let concealed = call.app.guarded_columns.concealed_from(&call.caller).await?;
    made.rows.iter_mut().for_each(|event| event.leave_out(&concealed));
    Ok(ReportAnswer(match media {
        stream::CSV => {
            ([(CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], made.to_csv()).into_response()
        }
        HTML => {
            let ReportedTenant { name } = tx.row(NAME, &[&call.caller.tenant()]).await?;
            Html(made.to_html(&name)).into_response()
        }
        _ => Json(made).into_response(),
    }))
}

impl ReportQuery {
    fn scope(self, now: Timestamp) -> Result<ReportScope> {
        let until = self.until.unwrap_or(now);
        let since = self.since.or_else(|| until.checked_sub(PERIOD).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        if since >= until {
            let violation = Violation::new("?since", "range", "is not before `until`".to_owned());
            return Err(Error::new(&core::INVALID).violation(violation));
        }
        Ok(ReportScope {
            since,
            until,
            resource: self.resource.map(|text| text.as_str().to_owned()),
            resource_id: self.resource_id.map(|text| text.as_str().to_owned()),
        })
    }
}

async fn send(job: &Job, rhythm: ReportRhythm) -> Result<()> {
    let caller = &job.call.caller;
    let wanted = match caller.entitlements().setting(&MAILS).as_str() {
        "weekly" => Some(ReportRhythm::Weekly),
        "monthly" => Some(ReportRhythm::Monthly),
        _ => None,
    };
    if wanted != Some(rhythm) {
        return Ok(());
    }
    let days = if rhythm == ReportRhythm::Weekly { 7 } else { 30 };
    let until = job.scheduled_at().unwrap_or_else(|| job.call.now());
    let since = until.checked_sub(SignedDuration::from_hours(24 * days)).map_err(Error::internal)?;
    let scope = ReportScope { since, until, resource: None, resource_id: None };
    let mut tx = job.system()?.begin(caller.trace()).within(caller.tenant()).await?;
    let mut lines = Vec::new();
    for report in REPORTS {
        let counts = report.counts(&mut tx, &scope).await?;
        lines.push(ReportLine {
            title: report.title,
            name: report.name,
            times: counts.iter().map(|count| count.times).sum(),
        });
    }
    let ReportedTenant { name: tenant } = tx.row(NAME, &[&caller.tenant()]).await?;
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    let mail = ReportMail { tenant, since: day(since), until: day(until), lines };
    for address in addressees(&mut tx, caller.tenant(), &READ_REPORTS).await? {
        job.call.app.mail_to(&mut tx, caller.trace(), &SUMMARY, &Recipient::new(address), &mail)?;
    }
    tx.commit().await
}
