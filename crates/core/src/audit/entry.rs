//! Entries: an audit row in the one form in which it is hashed, stored, exported and verified.
//!
//! An entry is a JSON object as RFC 8785 writes it: members in the order of their names, no space, one way to write a text. Two
//! rules more keep it the same wherever it is read: a number is a text, with every digit that it has (a reader in JavaScript loses
//! some beyond 2⁵³), and a time is the microseconds since 1970, as a text too. What is null in a row is left out.
//!
//! An entry has at most 64 KiB. Of a longer one the largest members stand as the SHA-256 of what they would have been, and
//! `abridged` names them: who has the value can still show that it is this one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

use super::note::Checkpoint;
use crate::from_row;
use crate::shared::{TenantId, hex};

/// The most bytes of an entry.
pub const MOST_BYTES: usize = 64 * 1024;
/// The form of entries, as each of them says.
const VERSION: &str = "1";
/// Deeper values are hashed as PostgreSQL writes them.
const MOST_DEPTH: usize = 128;

/// A row of the audit log, as an entry takes it. **The columns stand here, in [`AuditRow::COLUMNS`] and in
/// `AuditRow::members`, and nowhere else in this folder.**
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Its number in its tenant.
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    actor: String,
    action: String,
    resource: String,
    resource_id: Option<String>,
    before: Option<String>,
    after: Option<String>,
    outcome: String,
    correlation_id: Option<String>,
    client_ip: Option<String>,
    details: Option<String>,
}
from_row!(AuditRow {
    seq,
    at,
    actor,
    action,
    resource,
    resource_id,
    before,
    after,
    outcome,
    correlation_id,
    client_ip,
    details
});

impl AuditRow {
    /// The columns of a row, for a statement on `audit_log`.
    ///
    /// What is personal enters as the commitment to it, so that it can be erased and every proof still holds.
    pub const COLUMNS: &'static str = "seq, at, actor, action, resource, resource_id, outcome, correlation_id, \
         app.committed(before, salt, 'before')::text as before, app.committed(after, salt, 'after')::text as after, \
         app.committed(details, salt, 'details')::text as details, \
         case when client_ip is not null then jsonb_build_object('commitment', case when salt is null then client_ip \
           else app.commitment(salt, 'client_ip', client_ip) end) end::text as client_ip";

    fn members(&self) -> Vec<(&'static str, String)> {
        let json = |value: &Option<String>| value.as_deref().map(canonical);
        let texts = [
            ("actor", Some(&self.actor)),
            ("action", Some(&self.action)),
            ("resource", Some(&self.resource)),
            ("resource_id", self.resource_id.as_ref()),
            ("outcome", Some(&self.outcome)),
            ("correlation_id", self.correlation_id.as_ref()),
        ];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, text(value?))));
        let values = [
            ("before", json(&self.before)),
            ("after", json(&self.after)),
            ("client_ip", json(&self.client_ip)),
            ("details", json(&self.details)),
        ];
        texts.chain(values.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect()
    }

    /// The entry of this row in the log of a tenant.
    pub fn entry(&self, tenant: TenantId) -> String {
        let fixed = [
            ("at", text(&self.at.as_microsecond().to_string())),
            ("kind", text("event")),
            ("seq", text(&self.seq.to_string())),
            ("tenant", text(&tenant.to_string())),
            ("v", text(VERSION)),
        ];
        bounded(&fixed.into_iter().collect(), self.members().into_iter().collect())
    }

    /// The tenant whose checkpoint the row says to have been in force, in the log of the platform.
    pub fn head_of(&self) -> Option<TenantId> {
        (self.action == HEAD_ACTION).then(|| self.resource_id.as_deref()?.parse().ok())?
    }
}

/// The checkpoint of the log before, as the first entry of a log has it; none where there was no log before.
pub fn previous(opening: &str) -> Option<Checkpoint> {
    let entry: serde_json::Value = serde_json::from_str(opening).ok()?;
    let said = |name: &str| entry["previous"][name].as_str().map(str::to_owned);
    let root = said("root")?;
    let bytes: Option<Vec<u8>> =
        (0..root.len() / 2).map(|at| u8::from_str_radix(root.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    Some(Checkpoint {
        origin: said("origin")?,
        size: said("size")?.parse().ok()?,
        root: bytes?.try_into().ok()?,
    })
}

/// What an entry says of itself.
#[derive(Debug, Deserialize)]
struct OwnMembers {
    kind: String,
    tenant: String,
    seq: Option<String>,
}

/// The kind, the tenant and the number that an entry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// `event`, `opening` or `missing`.
    pub kind: String,
    /// Whose it is.
    pub tenant: String,
    /// The number of its row.
    pub seq: Option<i64>,
}

impl ReadEntry {
    /// Reads an entry; none where it is none.
    pub fn of(entry: &str) -> Option<Self> {
        let OwnMembers { kind, tenant, seq } = serde_json::from_str(entry).ok()?;
        let seq = match seq {
            Some(seq) => Some(seq.parse().ok()?),
            None => None,
        };
        Some(Self { kind, tenant, seq })
    }
}

/// The checkpoint that an entry of the platform's log says to have been in force; none where it says none.
pub fn head(entry: &str) -> Option<Checkpoint> {
    let entry: serde_json::Value = serde_json::from_str(entry).ok()?;
    let said = |name: &str| entry["details"][name].as_str().map(str::to_owned);
    let root = BASE64_STANDARD.decode(said("root")?).ok()?.try_into().ok()?;
    let is_head = entry["action"] == HEAD_ACTION;
    Some(Checkpoint { origin: said("origin")?, size: said("size")?.parse().ok()?, root }).filter(|_| is_head)
}

/// The action of the platform's rows that hold the checkpoint of a tenant.
pub const HEAD_ACTION: &str = "audit.checkpoint";

/// The entry that stands in the place of a row that had vanished before it was sealed.
pub fn missing(tenant: TenantId, seq: i64) -> String {
    let seq = seq.to_string();
    let members = [("kind", "missing"), ("seq", &seq), ("tenant", &tenant.to_string()), ("v", VERSION)];
    written(&members.map(|(name, value)| (name, text(value))).into_iter().collect())
}

/// The first entry of a log: whose it is, and the log before it, where there was one, at its last checkpoint.
pub fn opening(tenant: TenantId, origin: &str, first: i64, previous: Option<(&Checkpoint, &str)>) -> String {
    let mut members = BTreeMap::from([
        ("first_seq", text(&first.to_string())),
        ("kind", text("opening")),
        ("origin", text(origin)),
        ("tenant", text(&tenant.to_string())),
        ("v", text(VERSION)),
    ]);
    if let Some((Checkpoint { origin, size, root }, why)) = previous {
        let before = [("origin", origin.as_str()), ("root", &hex(root)), ("size", &size.to_string())];
        members.insert(
            "previous",
            written(&before.map(|(name, value)| (name, text(value))).into_iter().collect()),
        );
        members.insert("why", text(why));
    }
    written(&members)
}

/// All members within [`MOST_BYTES`]: the largest of those that may be are replaced by their hash until they are.
fn bounded(fixed: &BTreeMap<&'static str, String>, mut given: BTreeMap<&'static str, String>) -> String {
    let mut abridged: Vec<&str> = Vec::new();
    loop {
        let mut all = fixed.clone();
        all.extend(given.iter().map(|(name, value)| (*name, value.clone())));
        if !abridged.is_empty() {
            abridged.sort_unstable();
            all.insert(
                "abridged",
                format!("[{}]", abridged.iter().map(|name| text(name)).collect::<Vec<_>>().join(",")),
            );
        }
        let entry = written(&all);
        let largest =
            given.iter().filter(|(name, _)| !abridged.contains(name)).max_by_key(|(_, value)| value.len());
        let Some(largest) = largest.map(|(name, _)| *name).filter(|_| entry.len() > MOST_BYTES) else {
            return entry;
        };
        if let Some(value) = given.get_mut(largest) {
            *value = text(&hex(digest(&SHA256, value.as_bytes()).as_ref()));
        }
        abridged.push(largest);
    }
}

/// An object of members that are written already; their names are plain ASCII, so that the order is that of RFC 8785.
fn written(members: &BTreeMap<&str, String>) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A text as RFC 8785 writes it, which is how serde_json does.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What PostgreSQL has written of a `jsonb`, as an entry has it.
fn canonical(json: &str) -> String {
    let mut reading = JsonText { bytes: json.as_bytes(), text: json, at: 0 };
    let mut out = String::with_capacity(json.len() + 16);
    match reading.value(&mut out, 0) {
        Some(()) => out,
        None => text(&hex(digest(&SHA256, json.as_bytes()).as_ref())),
    }
}

/// JSON that is well-formed, since it comes from a `jsonb`. `serde_json::Value` would round its numbers.
struct JsonText<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
}

impl<'a> JsonText<'a> {
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Goes past a byte, if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        match self.peek()? {
            _ if depth > MOST_DEPTH => None,
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => {
                out.push_str(&text(&self.string()?));
                Some(())
            }
            _ => {
                let literal = self.literal()?;
                let is_word = matches!(literal, "true" | "false" | "null");
                out.push_str(&if is_word { Cow::Borrowed(literal) } else { Cow::Owned(text(literal)) });
                Some(())
            }
        }
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Option<()> {
        let mut members = Vec::new();
        self.take(b'{');
        while !self.take(b'}') {
            self.take(b',');
            let name = self.string()?;
            self.take(b':');
            let mut value = String::new();
            self.value(&mut value, depth + 1)?;
            members.push((name, value));
        }
        members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        out.push('{');
        for (index, (name, value)) in members.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            out.push_str(&text(name));
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Some(())
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.take(b'[');
        out.push('[');
        let mut is_first = true;
        while !self.take(b']') {
            if !std::mem::take(&mut is_first) {
                self.take(b',');
                out.push(',');
            }
            self.value(out, depth + 1)?;
        }
        out.push(']');
        Some(())
    }

    /// A text between quotes, without its escapes.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let from = self.peek().filter(|byte| *byte == b'"').map(|_| self.at)?;
        self.at += 1;
        let mut is_plain = true;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => (is_plain, self.at) = (false, self.at + 2),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        if is_plain {
            return self.text.get(from + 1..self.at - 1).map(Cow::Borrowed);
        }
        serde_json::from_str::<String>(self.text.get(from..self.at)?).ok().map(Cow::Owned)
    }

    /// A number or a word.
    fn literal(&mut self) -> Option<&'a str> {
        let from = self.at;
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
        while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        self.text.get(from..self.at).filter(|literal| !literal.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "00000000-0000-7000-8000-00000000c001".parse().unwrap()
    }

    fn row() -> AuditRow {
        AuditRow {
            seq: 7,
            at: "2026-11-30T12:00:00.000001Z".parse().unwrap(),
            actor: "alice".to_owned(),
            action: "item.updated".to_owned(),
            resource: "item".to_owned(),
            resource_id: None,
            before: Some(r#"{"quantity": 9007199254740992}"#.to_owned()),
            after: Some(r#"{"quantity": 9007199254740993}"#.to_owned()),
            outcome: "success".to_owned(),
            correlation_id: None,
            client_ip: None,
            details: None,
        }
    }

    #[test]
    fn an_entry_is_written_in_one_way_with_every_digit() {
        let expected = concat!(
            r#"{"action":"item.updated","actor":"alice","after":{"quantity":"9007199254740993"},"at":"1796040000000001","#,
            r#""before":{"quantity":"9007199254740992"},"kind":"event","outcome":"success","resource":"item","seq":"7","#,
            r#""tenant":"00000000-0000-7000-8000-00000000c001","v":"1"}"#
        );
        assert_eq!(row().entry(tenant()), expected);
    }

    #[test]
    fn values_keep_what_they_are_and_lose_how_they_were_written() {
        for (json, expected) in [
            ("null", "null"),
            (" [ 1 , true,false , null , [ ] , { } ] ", r#"["1",true,false,null,[],{}]"#),
            ("1.50", r#""1.50""#),
            ("-0.1e3", r#""-0.1e3""#),
            (
                "123456789012345678901234567890.000000000000000001",
                r#""123456789012345678901234567890.000000000000000001""#,
            ),
            (r#"{"b": 1, "a": {"d": "x", "c": 2}}"#, r#"{"a":{"c":"2","d":"x"},"b":"1"}"#),
            // By UTF-16, as RFC 8785 wants it: U+1F600 begins with D83D, and comes before U+FB33.
            (
                "{\"\u{fb33}\": 1, \"\u{1f600}\": 2, \"\u{80}\": 3, \"\\r\": 4}",
                "{\"\\r\":\"4\",\"\u{80}\":\"3\",\"\u{1f600}\":\"2\",\"\u{fb33}\":\"1\"}",
            ),
            (
                r#""\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\/""#,
                "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"",
            ),
            ("\"\u{7f}\"", "\"\u{7f}\""),
        ] {
            assert_eq!(canonical(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_deep_stands_as_its_hash() {
        let long = AuditRow { after: Some(format!("\"{}\"", "x".repeat(MOST_BYTES))), ..row() };
        let entry = long.entry(tenant());
        let sum = hex(digest(&SHA256, format!("\"{}\"", "x".repeat(MOST_BYTES)).as_bytes()).as_ref());
        assert!(
            entry.len() < 1000 && entry.contains(r#""abridged":["after"]"#) && entry.contains(&sum),
            "{entry}"
        );
        assert!(entry.contains("9007199254740992"), "what is short stays: {entry}");
        let all = AuditRow {
            actor: "a".repeat(MOST_BYTES),
            resource_id: Some("r".repeat(MOST_BYTES)),
            details: Some(format!("[{}]", vec!["1"; MOST_BYTES].join(", "))),
            ..long
        };
        let entry = all.entry(tenant());
        assert!(
            entry.len() < 2000 && entry.contains(r#""abridged":["actor","after","details","resource_id"]"#),
            "{entry}"
        );
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(canonical(&deep), text(&hex(digest(&SHA256, deep.as_bytes()).as_ref())));
    }

    #[test]
    fn other_entries_say_what_they_are() {
        let id = "00000000-0000-7000-8000-00000000c001";
        assert_eq!(
            missing(tenant(), 3),
            format!(r#"{{"kind":"missing","seq":"3","tenant":"{id}","v":"1"}}"#)
        );
        let first = opening(tenant(), "erp/audit/x", 1, None);
        assert_eq!(
            first,
            format!(r#"{{"first_seq":"1","kind":"opening","origin":"erp/audit/x","tenant":"{id}","v":"1"}}"#)
        );
        let before = Checkpoint { origin: "erp/audit/x".to_owned(), size: 9, root: [0xab; 32] };
        let again = opening(tenant(), "erp/audit/x/2", 5, Some((&before, "restored")));
        let root = "ab".repeat(32);
        assert_eq!((previous(&again), previous(&first)), (Some(before), None));
        assert!(
            again.contains(&format!(r#""previous":{{"origin":"erp/audit/x","root":"{root}","size":"9"}}"#)),
            "{again}"
        );
    }
}
