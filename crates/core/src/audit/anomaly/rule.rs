use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::WatchedEvent;
use crate::auth::SettingValue;

/// More rules than anybody looks after.
const MOST_RULES: usize = 50;
/// The longest window, in seconds: 31 days.
const LONGEST: u32 = 31 * 24 * 3600;

/// What is unusual, how it is told, and how bad that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnomalyRule {
    /// Its name, which alerts have.
    pub name: String,
    /// What has happened, in a sentence.
    pub about: String,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// Which events it is on.
    pub when: EventPattern,
    /// Which events tell what is usual; those that it is on where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<EventPattern>,
    /// Events are looked at together that have the same of this.
    pub by: EventField,
    /// When they are an anomaly.
    pub test: AnomalyTest,
}

/// How bad an anomaly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Look at it when there is time.
    Low,
    /// Look at it today.
    Medium,
    /// Look at it now.
    High,
    /// Act now.
    Critical,
}

impl AlertSeverity {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Which events: those that have one of each list that is not empty. A word that begins or ends with `*` stands for all that end or begin
/// with the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventPattern {
    /// What was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// To what kinds of things.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// With what outcomes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
}

/// A part of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventField {
    /// Who has done it.
    Actor,
    /// What was done.
    Action,
    /// To what kind of thing.
    Resource,
    /// To which one.
    ResourceId,
    /// From where.
    ClientIp,
}

/// When events are an anomaly. `within` is in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum AnomalyTest {
    /// So many of them within a time.
    Count {
        /// How many.
        count: i64,
        /// Within which time.
        within: u32,
    },
    /// So many different ones of a part, within a time.
    Distinct {
        /// Of what.
        of: EventField,
        /// How many.
        count: i64,
        /// Within which time.
        within: u32,
    },
    /// A part that it has never had, once so many events are known, and no more than `most` of that part.
    First {
        /// Of what.
        of: EventField,
        /// How many events tell what is usual.
        after: i64,
        /// Of how many known ones another is still unusual.
        most: usize,
        /// What comes from there within this time belongs to it.
        within: u32,
    },
    /// An hour of the day, in UTC, at which with the ones before and after less than one in a hundred of the known events were.
    Hour {
        /// How many events tell what is usual.
        after: i64,
        /// What comes within this time belongs to it.
        within: u32,
    },
    /// So many times the usual number within a time, and `least` in any case.
    Spike {
        /// How many times.
        times: i64,
        /// And so many at least.
        least: i64,
        /// How many such times with events tell what is usual.
        after: i64,
        /// Within which time.
        within: u32,
    },
}

impl AnomalyTest {
    /// The time that it looks at, in seconds.
    pub const fn within(&self) -> u32 {
        match self {
            Self::Count { within, .. }
            | Self::Distinct { within, .. }
            | Self::First { within, .. }
            | Self::Hour { within, .. }
            | Self::Spike { within, .. } => *within,
        }
    }

    /// Its smallest number, which is at least 1.
    fn least(&self) -> i64 {
        match self {
            Self::Count { count, .. } | Self::Distinct { count, .. } => *count,
            Self::First { after, .. } | Self::Hour { after, .. } => *after,
            Self::Spike { times, least, after, .. } => (*times).min(*least).min(*after),
        }
    }
}

impl EventField {
    /// This part of an event, if it has it.
    pub fn of(self, event: &WatchedEvent) -> Option<&str> {
        match self {
            Self::Actor => Some(&event.actor),
            Self::Action => Some(&event.action),
            Self::Resource => Some(&event.resource),
            Self::ResourceId => event.resource_id.as_deref(),
            Self::ClientIp => event.client_ip.as_deref(),
        }
    }
}

impl EventPattern {
    /// Whether an event is one of these.
    pub fn matches(&self, event: &WatchedEvent) -> bool {
        let any =
            |words: &[String], text: &str| words.is_empty() || words.iter().any(|word| is_like(word, text));
        any(&self.actions, &event.action)
            && any(&self.resources, &event.resource)
            && any(&self.outcomes, &event.outcome)
            && any(&self.actors, &event.actor)
    }
}

fn is_like(word: &str, text: &str) -> bool {
    match (word.strip_prefix('*'), word.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (_, Some(begin)) => text.starts_with(begin),
        _ => word == text,
    }
}

/// The rules that a tenant is watched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnomalyRules(pub Vec<AnomalyRule>);

impl AnomalyRules {
    /// Those that every tenant has, unless it has its own.
    pub fn built_in() -> Self {
        Self::parse(include_str!("rules.json")).unwrap_or_else(|_| Self::fallback())
    }

    fn checked(self) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        if self.0.len() > MOST_RULES {
            return Err(format!("has more than {MOST_RULES} rules"));
        }
        for rule in &self.0 {
            let name_is_good = (1..=60).contains(&rule.name.len())
                && rule
                    .name
                    .chars()
                    .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
            if !name_is_good || !names.insert(&rule.name) {
                return Err(format!(
                    "has a rule {:?}, whose name is no small word or is another's, too",
                    rule.name
                ));
            }
            if rule.about.chars().count() > 300
                || !(1..=LONGEST).contains(&rule.test.within())
                || rule.test.least() < 1
            {
                return Err(format!(
                    "has a rule {:?} with a number or a text out of all proportion",
                    rule.name
                ));
            }
        }
        Ok(self)
    }
}

/// As a setting: a JSON array of rules, or an empty text for those that are built in.
impl SettingValue for AnomalyRules {
    const KIND: &'static str =
        "rules for anomalies, as a JSON array, or an empty text for those that are built in";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::built_in());
        }
        let rules = serde_json::from_str(text).map_err(|error| format!("is no list of rules: {error}"))?;
        Self(rules).checked()
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn fallback() -> Self {
        Self(Vec::new())
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        match json {
            Value::String(text) => Self::parse(text),
            rules => Self::parse(&rules.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_are_built_in_can_be_read_and_written() {
        let rules = AnomalyRules::built_in();
        assert!(rules.0.len() >= 8);
        assert_eq!(AnomalyRules::from_json(&rules.to_json()).unwrap(), rules);
    }

    #[test]
    fn a_rule_out_of_all_proportion_is_refused() {
        let with = |test: &str| {
            format!(
                r#"[{{"name":"x","about":"X.","severity":"low","when":{{}},"by":"actor","test":{test}}}]"#
            )
        };
        assert!(AnomalyRules::parse(&with(r#"{"kind":"count","count":1,"within":60}"#)).is_ok());
        for test in [
            r#"{"kind":"count","count":0,"within":60}"#,
            r#"{"kind":"count","count":1,"within":0}"#,
            r#"{"kind":"count","count":1,"within":99999999}"#,
            r#"{"kind":"count","count":1}"#,
            r#"{"kind":"spike","times":-1,"least":1,"after":1,"within":60}"#,
            r#"{"kind":"guess"}"#,
        ] {
            assert!(AnomalyRules::parse(&with(test)).is_err(), "{test}");
        }
        let two = with(r#"{"kind":"count","count":1,"within":60}"#);
        let two = format!("{},{}", &two[..two.len() - 1], &two[1..]);
        assert!(AnomalyRules::parse(&two).is_err(), "one name twice");
        for wrong in ["{}", "[1]", "[", "null"] {
            assert!(AnomalyRules::parse(wrong).is_err(), "{wrong}");
        }
    }
}
