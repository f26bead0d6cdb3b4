//! Reports of the audit log: what auditors ask for again and again, declared once, for HTTP, the command line and mails.

use std::fmt::Write as _;

use bytes::BytesMut;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::search::AuditEvent;
use crate::db::TenantTx;
use crate::error::Result;
use crate::stream::CsvLine;
use crate::{from_row, sql};

/// How many rows a report has at most.
const MOST_ROWS: i64 = 10_000;

/// A report.
pub struct AuditReport {
    /// Its name, as paths and the command line have it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it is on, in a sentence.
    pub about: &'static str,
    rows: &'static str,
    counts: &'static str,
}

/// `NAME: "title", "about", condition;` for each. A condition is on `l`, a row of the log.
macro_rules! reports {
    ($($name:literal: $title:literal, $about:literal, $condition:literal;)+) => {
        /// All reports.
        pub static REPORTS: &[AuditReport] = &[$(AuditReport {
            name: $name,
            title: $title,
            about: $about,
            rows: sql!["select ", AuditEvent::COLUMNS, FROM, $condition, ") order by l.at desc, l.seq desc limit $5"],
            counts: sql!["select l.action, l.outcome, sum(coalesce(case when jsonb_typeof(l.details -> 'count') = 'number' then (l.details ->> 'count')::numeric::bigint end, 1))::bigint as times", FROM, $condition,
                ") group by 1, 2 order by 3 desc, 1, 2"],
        }),+];
    };
}

/// Rows of a time, and of a kind of thing and one of these where that is asked for.
const FROM: &str = " from audit_log l where l.at >= $1 and l.at < $2 and ($3::text is null or l.resource = $3) \
     and ($4::text is null or l.resource_id = $4) and (";

reports! {
    "privileged-acts": "Privileged acts",
        "Who has changed who may do what, keys, settings and plans, and what operators have done in the tenant.",
        "l.resource in ('api_key', 'audit_hold', 'audit_log', 'grant', 'invitation', 'membership', 'role', 'role_permission', \
           'service_account', 'tenant', 'tenant_flag', 'tenant_plan', 'tenant_setting', 'webhook') \
         and l.outcome = 'success' or l.actor like 'operator:%' or l.action like 'operators.%' or l.action like 'core.key\\_%' \
         or l.action in ('identity.factor_removed', 'identity.imported', 'identity.key_created', 'identity.key_rotated', 'identity.key_changed')";
    "failed-sign-ins": "Failed sign-ins",
        "Sign-ins and second factors that have failed, lock-outs, and tokens that were used twice; one row for an account and a minute.",
        "l.outcome <> 'success' and l.action in ('identity.sign_in', 'identity.factor_failed', 'identity.lock_out', 'identity.stepped_up') \
         or l.action in ('identity.lock_out', 'identity.token_reuse', 'identity.passkey_copied')";
    "denials": "Refusals",
        "What was refused to people and machines that have signed in, for want of a permission or of the tenant.",
        "l.outcome = 'denied' and l.action <> 'identity.lock_out'";
    "exports": "Exports",
        "Who has taken whole lists along.",
        "l.action = 'core.exported' or split_part(l.action, '.', 2) in ('exported', 'downloaded')";
    "changes-by-resource": "Changes by resource",
        "What was made, changed and removed, of a kind of thing or of one of them.",
        "l.before is not null or l.after is not null";
}

/// What a report is narrowed to.
#[derive(Debug, Clone)]
pub struct ReportScope {
    /// Not before.
    pub since: Timestamp,
    /// And before.
    pub until: Timestamp,
    /// Of this kind of thing.
    pub resource: Option<String>,
    /// Of this one.
    pub resource_id: Option<String>,
}

/// How often something has happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedCount {
    /// What.
    #[schemars(example = &"identity.sign_in")]
    pub action: String,
    /// `success`, `failure` or `denied`.
    #[schemars(example = &"failure")]
    pub outcome: String,
    /// How often.
    #[schemars(range(min = 0, max = crate::shared::LARGEST_EXACT))]
    pub times: i64,
}
from_row!(ReportedCount { action, outcome, times });

/// A report that was made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeReport {
    /// Its name.
    #[schemars(example = &"privileged-acts")]
    pub report: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Not before.
    pub since: Timestamp,
    /// And before.
    pub until: Timestamp,
    /// How often each thing has happened, also beyond the rows.
    pub counts: Vec<ReportedCount>,
    /// The rows, the newest first, 10,000 at most.
    pub rows: Vec<AuditEvent>,
    /// Whether there are more.
    pub is_cut: bool,
}

/// The report of a name.
pub fn report(name: &str) -> Option<&'static AuditReport> {
    REPORTS.iter().find(|report| report.name == name)
}

impl AuditReport {
    /// How often each thing has happened that the report is on.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn counts(&self, tx: &mut TenantTx<'_>, scope: &ReportScope) -> Result<Vec<ReportedCount>> {
        tx.rows(self.counts, &[&scope.since, &scope.until, &scope.resource, &scope.resource_id]).await
    }

    /// Makes the report on the tenant of a transaction.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn make(&self, tx: &mut TenantTx<'_>, scope: &ReportScope) -> Result<MadeReport> {
        let ReportScope { since, until, resource, resource_id } = scope;
        let one_more = MOST_ROWS + 1;
        let mut rows: Vec<AuditEvent> =
            tx.rows(self.rows, &[since, until, resource, resource_id, &one_more]).await?;
        let is_cut = rows.len() as i64 > MOST_ROWS;
        rows.truncate(usize::try_from(MOST_ROWS).unwrap_or_default());
        let counts = self.counts(tx, scope).await?;
        let (since, until) = (*since, *until);
        Ok(MadeReport { report: self.name, title: self.title, since, until, counts, rows, is_cut })
    }
}

impl MadeReport {
    /// The rows as CSV.
    pub fn to_csv(&self) -> String {
        let mut out = BytesMut::new();
        let names =
            "seq,at,actor,action,resource,resourceId,outcome,clientIp,correlationId,before,after,details";
        out.extend_from_slice(names.as_bytes());
        out.extend_from_slice(b"\r\n");
        for row in &self.rows {
            let json = |value: &Option<serde_json::Value>| {
                value.as_ref().map(ToString::to_string).unwrap_or_default()
            };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            CsvLine::new(&mut out)
                .value(row.seq)
                .value(row.at)
                .text(&row.actor)
                .text(&row.action)
                .text(&row.resource)
                .text(&text(&row.resource_id))
                .text(&row.outcome)
                .text(&text(&row.client_ip))
                .text(&text(&row.correlation_id))
                .text(&json(&row.before))
                .text(&json(&row.after))
                .text(&json(&row.details));
            out.extend_from_slice(b"\r\n");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The report as a page that can be printed: no script, no style sheet, nothing from elsewhere.
    pub fn to_html(&self, tenant: &str) -> String {
        let (title, tenant) = (escaped(self.title), escaped(tenant));
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}: {tenant}</title></head><body>\n\
             <h1>{title}</h1>\n<p>{tenant}, {} to {}</p>\n<table border=\"1\" cellpadding=\"4\"><thead><tr><th>Action</th><th>Outcome</th>\
             <th>Times</th></tr></thead><tbody>\n",
            self.since, self.until
        );
        for ReportedCount { action, outcome, times } in &self.counts {
            let cells = [escaped(action), escaped(outcome), times.to_string()];
            line(&mut html, &cells);
        }
        html.push_str("</tbody></table>\n<h2>Rows</h2>\n<table border=\"1\" cellpadding=\"4\"><thead><tr>");
        for name in ["Row", "At", "Actor", "Action", "Of", "Outcome", "Address", "Before", "After", "Details"]
        {
            let _ = write!(html, "<th>{name}</th>");
        }
        html.push_str("</tr></thead><tbody>\n");
        for row in &self.rows {
            let json =
                |value: &Option<serde_json::Value>| value.as_ref().map(|value| escaped(value.to_string()));
            let of = format!("{} {}", row.resource, row.resource_id.as_deref().unwrap_or_default());
            let address = row.client_ip.as_deref().unwrap_or_default();
            let values =
                [json(&row.before), json(&row.after), json(&row.details)].map(Option::unwrap_or_default);
            let texts = [row.actor.as_str(), &row.action, of.trim(), &row.outcome, address].map(escaped);
            let cells: Vec<String> =
                [row.seq.to_string(), row.at.to_string()].into_iter().chain(texts).chain(values).collect();
            line(&mut html, &cells);
        }
        html.push_str("</tbody></table>\n");
        if self.is_cut {
            let _ = writeln!(html, "<p>There are more than {MOST_ROWS} rows; the oldest are left out.</p>");
        }
        html.push_str("</body></html>\n");
        html
    }
}

fn line(html: &mut String, cells: &[String]) {
    html.push_str("<tr>");
    for cell in cells {
        let _ = write!(html, "<td>{cell}</td>");
    }
    html.push_str("</tr>\n");
}

fn escaped(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> MadeReport {
        let row = AuditEvent {
            seq: 7,
            at: "2027-01-02T03:04:05Z".parse().unwrap(),
            actor: "=cmd()".to_owned(),
            action: "item.updated".to_owned(),
            resource: "item".to_owned(),
            resource_id: None,
            outcome: "success".to_owned(),
            correlation_id: None,
            client_ip: Some("192.0.2.1".to_owned()),
            before: None,
            after: Some(serde_json::json!({ "name": "<script>alert('x')</script>" })),
            details: None,
        };
        MadeReport {
            report: "exports",
            title: "Exports",
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
            counts: Vec::new(),
            rows: vec![row],
            is_cut: false,
        }
    }

    #[test]
    fn a_page_runs_nothing_and_a_spreadsheet_neither() {
        let html = made().to_html("Acme & Co");
        assert!(html.contains("Acme &amp; Co") && html.contains("&lt;script&gt;"), "{html}");
        assert!(!html.contains("<script"), "{html}");
        let csv = made().to_csv();
        assert!(
            csv.contains(r#"7,2027-01-02T03:04:05Z,"'=cmd()",item.updated,item,,success,192.0.2.1,,,"#),
            "{csv}"
        );
    }

    #[test]
    fn each_report_has_a_name_of_its_own() {
        for (nth, one) in REPORTS.iter().enumerate() {
            assert!(report(one.name).is_some_and(|found| found.title == one.title));
            assert!(REPORTS[..nth].iter().all(|other| other.name != one.name));
            assert!(one.name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
        }
    }
}
