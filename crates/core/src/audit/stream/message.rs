//! A row as a receiver gets it: RFC 5424 with octet counting, or a line of JSON with the fields of OCSF.

use serde_json::{Value, json};

use crate::audit::AuditEvent;
use crate::config::AuditStreamFormat;
use crate::shared::TenantId;

/// Facility 13, which is the audit log's; severities of RFC 5424.
const FACILITY: u8 = 13;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
/// The longest MSGID.
const LONGEST_ID: usize = 32;

/// Adds a row of a tenant to what is sent. Its id, `tenant:number`, is the same however often it is sent.
pub(super) fn write(
    format: AuditStreamFormat,
    host: &str,
    tenant: TenantId,
    event: &AuditEvent,
    out: &mut Vec<u8>,
) {
    match format {
        AuditStreamFormat::Syslog => {
            let message = syslog(host, tenant, event);
            out.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
        }
        AuditStreamFormat::Ocsf => {
            out.extend_from_slice(ocsf(tenant, event).to_string().as_bytes());
            out.push(b'\n');
        }
    }
}

fn syslog(host: &str, tenant: TenantId, event: &AuditEvent) -> String {
    let severity = if event.outcome == "success" { INFORMATIONAL } else { WARNING };
    let fields = [
        ("id", Some(format!("{tenant}:{}", event.seq))),
        ("tenant", Some(tenant.to_string())),
        ("seq", Some(event.seq.to_string())),
        ("actor", Some(event.actor.clone())),
        ("action", Some(event.action.clone())),
        ("resource", Some(event.resource.clone())),
        ("resourceId", event.resource_id.clone()),
        ("outcome", Some(event.outcome.clone())),
        ("clientIp", event.client_ip.clone()),
        ("correlationId", event.correlation_id.clone()),
    ];
    let fields =
        fields.into_iter().filter_map(|(name, value)| Some(format!(" {name}=\"{}\"", escaped(&value?))));
    let fields: String = fields.collect();
    // 32473 is the number that RFC 5612 sets aside for examples: we have none of our own.
    format!(
        "<{}>1 {} {} erp-backend - {} [audit@32473{fields}] \u{feff}{}",
        FACILITY * 8 + severity,
        event.at,
        printable(host, 255),
        printable(&event.action, LONGEST_ID),
        values(event)
    )
}

/// The fields that have changed and what else the event tells: personal values as their commitments.
fn values(event: &AuditEvent) -> Value {
    json!({ "before": event.before, "after": event.after, "details": event.details })
}

/// A value of structured data (RFC 5424, 6.3.3), without line breaks.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(if letter.is_control() { ' ' } else { letter });
    }
    out
}

/// A field of the header: printable ASCII without spaces.
fn printable(text: &str, longest: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(longest).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// What kind of event it is in OCSF 1.3, and what was done.
fn class(event: &AuditEvent) -> (u32, u32) {
    const AUTHENTICATION: u32 = 3002;
    const ENTITY_MANAGEMENT: u32 = 3004;
    match event.action.rsplit('.').next() {
        Some("sign_in" | "signed_in" | "factor_failed" | "stepped_up") => (AUTHENTICATION, 1),
        Some("session_ended" | "sessions_ended" | "signed_out") => (AUTHENTICATION, 2),
        Some("created") => (ENTITY_MANAGEMENT, 1),
        Some("read" | "exported" | "downloaded") => (ENTITY_MANAGEMENT, 2),
        Some("updated") => (ENTITY_MANAGEMENT, 3),
        Some("deleted" | "removed") => (ENTITY_MANAGEMENT, 4),
        _ => (ENTITY_MANAGEMENT, 99),
    }
}

fn ocsf(tenant: TenantId, event: &AuditEvent) -> Value {
    let (class, activity) = class(event);
    let succeeded = event.outcome == "success";
    let mut line = json!({
        "metadata": {
            "version": "1.3.0",
            "product": { "name": "erp-backend", "vendor_name": "erp-backend" },
            "uid": format!("{tenant}:{}", event.seq),
            "tenant_uid": tenant.to_string(),
            "log_name": "audit",
            "sequence": event.seq,
            "correlation_uid": event.correlation_id,
        },
        "time": event.at.as_millisecond(),
        "category_uid": 3,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "severity_id": if succeeded { 1 } else { 3 },
        "status_id": if succeeded { 1 } else { 2 },
        "status_detail": event.outcome,
        "message": event.action,
        "actor": { "user": { "uid": event.actor } },
        "unmapped": values(event),
    });
    if let Some(ip) = &event.client_ip {
        line["src_endpoint"] = json!({ "ip": ip });
    }
    let of = json!({ "type": event.resource, "uid": event.resource_id });
    let name = if class == 3002 { "user" } else { "entity" };
    line[name] = of;
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> AuditEvent {
        AuditEvent {
            seq: 7,
            at: "2027-01-02T03:04:05.678901Z".parse().unwrap(),
            actor: "a \"b\" [c] \\ d\ne".to_owned(),
            action: "identity.sign_in".to_owned(),
            resource: "user".to_owned(),
            resource_id: Some("u-1".to_owned()),
            outcome: "failure".to_owned(),
            correlation_id: None,
            client_ip: Some("192.0.2.1".to_owned()),
            before: None,
            after: Some(json!({ "name": "Zoë\n" })),
            details: None,
        }
    }

    fn tenant() -> TenantId {
        "00000000-0000-7000-8000-00000000c001".parse().unwrap()
    }

    #[test]
    fn a_message_says_how_long_it_is_and_has_no_line_break() {
        let mut out = Vec::new();
        write(AuditStreamFormat::Syslog, "erp.example.com", tenant(), &event(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len(), "in bytes");
        assert!(message.starts_with(
            "<108>1 2027-01-02T03:04:05.678901Z erp.example.com erp-backend - identity.sign_in [audit@32473 id=\"00000000-0000-7000-8000-00000000c001:7\""
        ), "{message}");
        assert!(message.contains(r#"actor="a \"b\" [c\] \\ d e""#), "{message}");
        assert!(
            !message.contains('\n') && message.ends_with(r#""details":null}"#)
                || message.contains("\"after\""),
            "{message}"
        );
    }

    #[test]
    fn a_line_of_json_has_the_fields_of_ocsf() {
        let mut out = Vec::new();
        write(AuditStreamFormat::Ocsf, "", tenant(), &event(), &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (line["class_uid"].as_u64(), line["type_uid"].as_u64(), line["status_id"].as_u64()),
            (Some(3002), Some(300_201), Some(2))
        );
        assert_eq!(line["metadata"]["uid"], "00000000-0000-7000-8000-00000000c001:7");
        assert_eq!((&line["user"]["uid"], &line["src_endpoint"]["ip"]), (&json!("u-1"), &json!("192.0.2.1")));
        assert_eq!(line["time"].as_i64(), Some(1_798_859_045_678));
    }
}
