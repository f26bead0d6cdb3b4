use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::from_row;

/// An event, as far as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedEvent {
    /// The number of its row; of a line of a file without one, the number of the line.
    #[serde(default)]
    pub seq: i64,
    /// When it happened.
    #[serde(alias = "timestamp", alias = "time")]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Did what.
    pub action: String,
    /// To what kind of thing.
    #[serde(default)]
    pub resource: String,
    /// To which one.
    #[serde(default, alias = "resource_id")]
    pub resource_id: Option<String>,
    /// `success`, `failure` or `denied`.
    #[serde(default = "success")]
    pub outcome: String,
    /// From where.
    #[serde(default, alias = "client_ip", alias = "ip")]
    pub client_ip: Option<String>,
    /// How often, where one row stands for several.
    #[serde(default = "once")]
    pub count: i64,
}
from_row!(WatchedEvent { seq, at, actor, action, resource, resource_id, outcome, client_ip, count });

impl WatchedEvent {
    /// Its columns, for a statement on `audit_log`.
    pub const COLUMNS: &'static str = "seq, at, actor, action, resource, resource_id, outcome, client_ip, \
         coalesce(case when jsonb_typeof(details -> 'count') = 'number' then (details ->> 'count')::numeric::bigint end, 1) as count";
}

/// An event of a file, and whether somebody says that it is part of an anomaly.
#[derive(Debug, Clone)]
pub struct LabelledEvent {
    /// The event.
    pub event: WatchedEvent,
    /// Which anomaly it is part of; none: of none.
    pub label: Option<String>,
}

/// Words that label an event which is part of no anomaly.
const NORMAL: [&str; 6] = ["", "0", "benign", "false", "none", "normal"];

#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    event: WatchedEvent,
    #[serde(default, alias = "anomaly", alias = "isAnomaly", deserialize_with = "label")]
    label: Option<String>,
    #[serde(default)]
    details: Option<Value>,
}

impl LabelledEvent {
    /// Reads a line of JSON; `number` is the line's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str, number: i64) -> Result<Self, String> {
        let Line { mut event, label, details } =
            serde_json::from_str(line).map_err(|error| error.to_string())?;
        if event.seq == 0 {
            event.seq = number;
        }
        if event.count == 1 {
            event.count = details.as_ref().and_then(|details| details.get("count")?.as_i64()).unwrap_or(1);
        }
        event.count = event.count.max(1);
        Ok(Self { event, label })
    }
}

/// A word, a truth or a number.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let label = match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(word) => Some(word),
        other => Some(other.to_string()),
    };
    Ok(label.filter(|word| !NORMAL.contains(&word.to_lowercase().as_str())))
}

fn success() -> String {
    "success".to_owned()
}

fn once() -> i64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_others_write_it() {
        let read = |line: &str| LabelledEvent::read(line, 7).unwrap();
        let full = read(
            r#"{"seq":3,"at":"2027-01-01T00:00:00Z","actor":"a","action":"identity.sign_in","resource":"user","resourceId":"u",
               "outcome":"failure","clientIp":"192.0.2.1","details":{"count":5},"label":"brute-force","more":1}"#,
        );
        assert_eq!((full.event.seq, full.event.count, full.label.as_deref()), (3, 5, Some("brute-force")));
        let bare = read(
            r#"{"timestamp":"2027-01-01T00:00:00Z","actor":"a","action":"x","resource_id":"u","client_ip":"::1","label":"normal"}"#,
        );
        assert_eq!((bare.event.seq, bare.event.outcome.as_str(), bare.label), (7, "success", None));
        assert_eq!(
            (bare.event.resource_id.as_deref(), bare.event.client_ip.as_deref()),
            (Some("u"), Some("::1"))
        );
        for (label, expected) in [
            ("true", Some("true")),
            ("false", None),
            ("1", Some("1")),
            ("0", None),
            ("null", None),
            ("\"Benign\"", None),
        ] {
            let line = format!(r#"{{"at":"2027-01-01T00:00:00Z","actor":"a","action":"x","label":{label}}}"#);
            assert_eq!(read(&line).label.as_deref(), expected, "{label}");
        }
        for wrong in
            ["", "{", "[]", r#"{"actor":"a","action":"x"}"#, r#"{"at":"yesterday","actor":"a","action":"x"}"#]
        {
            assert!(LabelledEvent::read(wrong, 1).is_err(), "{wrong}");
        }
    }
}
