use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{AnomalyAlert, AnomalyRules, AnomalyWatch, LabelledEvent};

/// How good the rules are on labelled events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleScore {
    /// Rows that alerts name and that somebody has labelled.
    pub right: u64,
    /// Rows that alerts name, and nobody has labelled.
    pub wrong: u64,
    /// Rows that somebody has labelled, and no alert names.
    pub missed: u64,
}

impl RuleScore {
    /// The share of what alerts name that is labelled, in percent, rounded down; 100 where they name nothing.
    pub fn precision(&self) -> u64 {
        percent(self.right, self.right + self.wrong)
    }

    /// The share of what is labelled that alerts name, in percent, rounded down; 100 where nothing is labelled.
    pub fn recall(&self) -> u64 {
        percent(self.right, self.right + self.missed)
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100).checked_div(whole).unwrap_or(100)
}

/// What rules have found in history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// How many events there were.
    pub events: u64,
    /// What was found.
    pub alerts: Vec<AnomalyAlert>,
    /// How good that is, where somebody has labelled events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<RuleScore>,
    /// How many rows of each label some alert names, and how many there are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, (u64, u64)>,
}

/// Lets rules go over events, in the order in which they happened. `is_labelled`: whether somebody has said of all of them what they are.
///
/// # Errors
/// None that is known.
pub fn replay(
    rules: &AnomalyRules,
    events: &mut [LabelledEvent],
    is_labelled: bool,
) -> serde_json::Result<ReplayReport> {
    events.sort_by_key(|labelled| (labelled.event.at, labelled.event.seq));
    let mut watch = AnomalyWatch::new(rules, None)?;
    events.iter().for_each(|labelled| watch.push(&labelled.event));
    let alerts = watch.take_alerts();
    let named: BTreeSet<i64> = alerts.iter().flat_map(|alert| alert.rows.iter().copied()).collect();
    let (mut score, mut labels) = (RuleScore { right: 0, wrong: 0, missed: 0 }, BTreeMap::new());
    for LabelledEvent { event, label } in events.iter() {
        let is_named = named.contains(&event.seq);
        if let Some(label) = label {
            let (found, all) = labels.entry(label.clone()).or_insert((0, 0));
            (*found, *all) = (*found + u64::from(is_named), *all + 1);
        }
        match (is_named, label.is_some()) {
            (true, true) => score.right += 1,
            (true, false) => score.wrong += 1,
            (false, true) => score.missed += 1,
            (false, false) => {}
        }
    }
    let score = is_labelled.then_some(score);
    Ok(ReplayReport { events: events.len() as u64, alerts, score, labels })
}
