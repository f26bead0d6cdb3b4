//! Anomalies: rules over a stream of audit events. A rule is data (`rules.json`), and each alert says which rule it is by, which
//! numbers it has come to, and which rows are its reason.
//!
//! [`AnomalyWatch`] takes events one by one, in the order in which they happened, and remembers a bounded part of them, which can be kept
//! between two runs. The same program watches what happens, goes over history, and is measured on events that somebody has labelled
//! (`replay.rs`; [decision 0056](../../../../../../docs/decisions/0056-anomalies.md)).

mod event;
mod replay;
mod rule;
#[cfg(test)]
mod synthetic;
mod watch;

pub use event::{LabelledEvent, WatchedEvent};
pub use replay::{ReplayReport, RuleScore, replay};
pub use rule::{AlertSeverity, AnomalyRule, AnomalyRules, AnomalyTest, EventField, EventPattern};
pub use watch::{AnomalyAlert, AnomalyWatch};
