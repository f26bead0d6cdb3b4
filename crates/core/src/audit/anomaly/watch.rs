use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AlertSeverity, AnomalyRule, AnomalyRules, AnomalyTest, WatchedEvent};

/// How many keys of a rule are remembered: the one that was seen least lately is forgotten.
const MOST_KEYS: usize = 2000;
/// How many events of a key are remembered; beyond, the oldest are.
const MOST_EVENTS: usize = 500;
/// How many values of a part are remembered.
const MOST_VALUES: usize = 64;
/// How many rows an alert names.
const MOST_ROWS: usize = 1000;

/// What an anomaly was found by: which rule, which numbers, which rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnomalyAlert {
    /// The rule.
    pub rule: String,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// What has happened, in a sentence.
    pub about: String,
    /// What the events have in common: an actor, an address, an account.
    pub key: String,
    /// The first of the events.
    pub began_at: Timestamp,
    /// The last one.
    pub last_at: Timestamp,
    /// The numbers that it has come to, each beside the one that it takes.
    pub numbers: BTreeMap<String, i64>,
    /// The rows, 1,000 at most.
    pub rows: Vec<i64>,
    /// What comes within so many seconds belongs to it.
    pub within: u32,
}

/// Rules at work: what they remember of the events so far.
#[derive(Debug, Clone)]
pub struct AnomalyWatch {
    rules: Vec<AnomalyRule>,
    memory: WatchMemory,
    alerts: Vec<AnomalyAlert>,
}

/// What is remembered, by the name of the rule and by key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchMemory(BTreeMap<String, BTreeMap<String, KeyMemory>>);

/// What is remembered of one key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct KeyMemory {
    /// The last event.
    last: Timestamp,
    /// Those within the rule's time.
    recent: VecDeque<SeenEvent>,
    /// How many events tell what is usual.
    seen: i64,
    /// Which values they had.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    values: BTreeSet<String>,
    /// At which hours of the day they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hours: Vec<i64>,
    /// How many times with events there were before this one, and how many events in them.
    #[serde(default)]
    times: (i64, i64),
    /// The number of this time, and how many events are in it.
    #[serde(default)]
    now: (i64, i64),
    /// The last event of an alert, and the value that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alerted: Option<(Timestamp, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SeenEvent {
    seq: i64,
    at: Timestamp,
    count: i64,
    value: String,
}

/// What a test has found: its numbers, and the value that it is about.
type RuleMatch = (BTreeMap<String, i64>, String);

impl AnomalyWatch {
    /// Rules that remember nothing yet, or what `kept` holds of another run.
    ///
    /// # Errors
    /// Where that was kept by something else.
    pub fn new(rules: &AnomalyRules, kept: Option<&str>) -> serde_json::Result<Self> {
        let mut memory: WatchMemory = kept.map(serde_json::from_str).transpose()?.unwrap_or_default();
        memory.0.retain(|name, _| rules.0.iter().any(|rule| rule.name == *name));
        Ok(Self { rules: rules.0.clone(), memory, alerts: Vec::new() })
    }

    /// Takes the next event.
    pub fn push(&mut self, event: &WatchedEvent) {
        for rule in &self.rules {
            let (is_on, is_usual) =
                (rule.when.matches(event), rule.history.as_ref().unwrap_or(&rule.when).matches(event));
            let Some(key) = rule.by.of(event).filter(|_| is_on || is_usual) else { continue };
            let keys = self.memory.0.entry(rule.name.clone()).or_default();
            if !keys.contains_key(key) {
                make_room(keys);
            }
            let memory = keys.entry(key.to_owned()).or_default();
            let found = is_on.then(|| memory.look(rule, event)).flatten();
            if is_usual {
                memory.learn(rule, event);
            }
            if let Some((numbers, value)) = found {
                let rows = memory.rows(&rule.test, event, &value);
                tell(
                    &mut self.alerts,
                    rule,
                    (key, event.at),
                    (numbers, rows),
                    memory.alerted.replace((event.at, value)),
                );
            }
        }
    }

    /// What was found since this was asked before. One alert comes again, with the same beginning, while its events go on.
    pub fn take_alerts(&mut self) -> Vec<AnomalyAlert> {
        std::mem::take(&mut self.alerts)
    }

    /// What is remembered, as [`new`](Self::new) reads it.
    ///
    /// # Errors
    /// None that is known.
    pub fn memory(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.memory)
    }
}

/// Adds an alert, or adds to the one of this rule and key that goes on.
fn tell(
    alerts: &mut Vec<AnomalyAlert>,
    rule: &AnomalyRule,
    (key, at): (&str, Timestamp),
    (numbers, rows): (BTreeMap<String, i64>, Vec<(i64, Timestamp)>),
    before: Option<(Timestamp, String)>,
) {
    let goes_on = before.is_some_and(|(last, _)| seconds(last, at) <= i64::from(rule.test.within()));
    let open = alerts.iter_mut().rfind(|alert| alert.rule == rule.name && alert.key == key);
    match open.filter(|_| goes_on) {
        Some(alert) => {
            alert.last_at = at;
            for (name, number) in numbers {
                let most = alert.numbers.entry(name).or_insert(number);
                *most = number.max(*most);
            }
            let known: BTreeSet<i64> = alert.rows.iter().copied().collect();
            alert.rows.extend(rows.iter().map(|(seq, _)| *seq).filter(|seq| !known.contains(seq)));
            alert.rows.truncate(MOST_ROWS);
        }
        None => alerts.push(AnomalyAlert {
            rule: rule.name.clone(),
            severity: rule.severity,
            about: rule.about.clone(),
            key: key.to_owned(),
            began_at: rows.first().map_or(at, |(_, at)| *at),
            last_at: at,
            numbers,
            rows: rows.into_iter().map(|(seq, _)| seq).collect(),
            within: rule.test.within(),
        }),
    }
}

fn make_room(keys: &mut BTreeMap<String, KeyMemory>) {
    if keys.len() >= MOST_KEYS
        && let Some(oldest) = keys.iter().min_by_key(|(_, memory)| memory.last).map(|(key, _)| key.clone())
    {
        keys.remove(&oldest);
    }
}

impl KeyMemory {
    /// Takes an event that the rule is on; what the test finds, if it finds something.
    fn look(&mut self, rule: &AnomalyRule, event: &WatchedEvent) -> Option<RuleMatch> {
        let within = i64::from(rule.test.within());
        let value = match &rule.test {
            AnomalyTest::Distinct { of, .. } | AnomalyTest::First { of, .. } => of.of(event)?.to_owned(),
            _ => String::new(),
        };
        self.recent.retain(|seen| seconds(seen.at, event.at) < within);
        self.recent.push_back(SeenEvent {
            seq: event.seq,
            at: event.at,
            count: event.count,
            value: value.clone(),
        });
        if self.recent.len() > MOST_EVENTS {
            self.recent.pop_front();
        }
        let numbers = match rule.test {
            AnomalyTest::Count { count, .. } => self.count(count),
            AnomalyTest::Distinct { count, .. } => self.distinct(count),
            AnomalyTest::First { after, most, .. } => self.first(&value, (after, most), (event.at, within)),
            AnomalyTest::Hour { after, .. } => self.hour(after, (event.at, within)),
            AnomalyTest::Spike { times, least, after, .. } => {
                self.spike((times, least, after), event, within)
            }
        };
        Some((numbers?, value))
    }

    fn count(&self, wanted: i64) -> Option<BTreeMap<String, i64>> {
        let count: i64 = self.recent.iter().map(|seen| seen.count).sum();
        (count >= wanted).then(|| numbers([("count", count), ("threshold", wanted)]))
    }

    fn distinct(&self, wanted: i64) -> Option<BTreeMap<String, i64>> {
        let values: BTreeSet<&str> = self.recent.iter().map(|seen| seen.value.as_str()).collect();
        let count = values.len() as i64;
        (count >= wanted).then(|| numbers([("distinct", count), ("threshold", wanted)]))
    }

    fn first(
        &self,
        value: &str,
        (after, most): (i64, usize),
        (at, within): (Timestamp, i64),
    ) -> Option<BTreeMap<String, i64>> {
        let goes_on =
            self.alerted.as_ref().is_some_and(|(last, of)| of == value && seconds(*last, at) <= within);
        let is_new = self.seen >= after && self.values.len() <= most && !self.values.contains(value);
        (goes_on || is_new).then(|| numbers([("events", self.seen), ("known", self.values.len() as i64)]))
    }

    fn hour(&self, after: i64, (at, within): (Timestamp, i64)) -> Option<BTreeMap<String, i64>> {
        let goes_on = self.alerted.as_ref().is_some_and(|(last, _)| seconds(*last, at) <= within);
        let hour = hour_of(at);
        let near: i64 = [hour + 23, hour, hour + 1].iter().filter_map(|hour| self.hours.get(hour % 24)).sum();
        let is_unusual = self.seen >= after && near * 100 < self.seen;
        (goes_on || is_unusual)
            .then(|| numbers([("events", self.seen), ("atThisHour", near), ("hour", hour as i64)]))
    }

    fn spike(
        &mut self,
        (times, least, after): (i64, i64, i64),
        event: &WatchedEvent,
        within: i64,
    ) -> Option<BTreeMap<String, i64>> {
        let time = event.at.as_second().div_euclid(within);
        if time != self.now.0 {
            if self.now.1 > 0 {
                self.times = (self.times.0 + 1, self.times.1.saturating_add(self.now.1));
            }
            self.now = (time, 0);
        }
        self.now.1 += event.count;
        let (known, events) = self.times;
        let is_spike = known >= after
            && self.now.1 >= least
            && self.now.1.saturating_mul(known) >= times.saturating_mul(events);
        let usual = events / known.max(1);
        is_spike.then(|| {
            numbers([("count", self.now.1), ("usual", usual), ("threshold", least.max(usual * times))])
        })
    }

    /// Takes an event that tells what is usual. What an alert is about is not learnt before it is over.
    fn learn(&mut self, rule: &AnomalyRule, event: &WatchedEvent) {
        self.last = event.at;
        self.seen = self.seen.saturating_add(1);
        match &rule.test {
            AnomalyTest::First { of, .. } => {
                if let Some(value) = of.of(event).filter(|_| self.values.len() < MOST_VALUES) {
                    self.values.insert(value.to_owned());
                }
            }
            AnomalyTest::Hour { .. } => {
                self.hours.resize(24, 0);
                if let Some(times) = self.hours.get_mut(hour_of(event.at)) {
                    *times = times.saturating_add(1);
                }
            }
            _ => {}
        }
    }

    /// The rows that are the reason: of a count those within its time, else those of the value that it is about.
    fn rows(&self, test: &AnomalyTest, event: &WatchedEvent, value: &str) -> Vec<(i64, Timestamp)> {
        let time = |at: Timestamp| at.as_second().div_euclid(i64::from(test.within()));
        let is_reason = |seen: &&SeenEvent| match test {
            AnomalyTest::Count { .. } | AnomalyTest::Distinct { .. } => true,
            AnomalyTest::First { .. } => seen.value == value,
            AnomalyTest::Hour { .. } => seen.seq == event.seq,
            AnomalyTest::Spike { .. } => time(seen.at) == time(event.at),
        };
        self.recent.iter().filter(is_reason).map(|seen| (seen.seq, seen.at)).collect()
    }
}

fn numbers<const N: usize>(numbers: [(&str, i64); N]) -> BTreeMap<String, i64> {
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect()
}

/// From one to another, none where the second is before the first.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_second() - from.as_second()).max(0)
}

fn hour_of(at: Timestamp) -> usize {
    usize::try_from(at.as_second().div_euclid(3600).rem_euclid(24)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(test: &str) -> AnomalyRules {
        let rule = format!(
            r#"[{{"name":"x","about":"X.","severity":"low","when":{{"actions":["thing.*"]}},"history":{{}},"by":"actor","test":{test}}}]"#
        );
        serde_json::from_str(&rule).map(AnomalyRules).unwrap()
    }

    fn event(seq: i64, second: i64, ip: &str) -> WatchedEvent {
        WatchedEvent {
            seq,
            at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
            actor: "a".to_owned(),
            action: "thing.done".to_owned(),
            resource: "thing".to_owned(),
            resource_id: Some(format!("id {seq}")),
            outcome: "success".to_owned(),
            client_ip: Some(ip.to_owned()),
            count: 1,
        }
    }

    fn found(watch: &mut AnomalyWatch, events: impl IntoIterator<Item = WatchedEvent>) -> Vec<AnomalyAlert> {
        events.into_iter().for_each(|event| watch.push(&event));
        watch.take_alerts()
    }

    #[test]
    fn a_run_of_events_is_one_alert_with_its_numbers_and_rows() {
        let mut watch = AnomalyWatch::new(&rules(r#"{"kind":"count","count":3,"within":60}"#), None).unwrap();
        let run = found(&mut watch, (1..=5).map(|seq| event(seq, seq * 10, "1")));
        assert_eq!(run.len(), 1);
        assert_eq!((run[0].rows.clone(), run[0].numbers["count"]), (vec![1, 2, 3, 4, 5], 5));
        assert!(found(&mut watch, [event(6, 500, "1"), event(7, 510, "1")]).is_empty(), "two are no run");
        assert_eq!(found(&mut watch, [event(8, 520, "1")])[0].rows, [6, 7, 8], "another one");
        let mut many = event(9, 9000, "1");
        many.count = 3;
        assert_eq!(found(&mut watch, [many])[0].rows, [9], "one row stands for three");
    }

    #[test]
    fn a_new_value_is_told_once_enough_is_known_and_with_what_follows() {
        let rules = rules(r#"{"kind":"first","of":"clientIp","after":20,"most":2,"within":600}"#);
        let mut watch = AnomalyWatch::new(&rules, None).unwrap();
        assert!(found(&mut watch, (1..=20).map(|seq| event(seq, seq, "home"))).is_empty());
        let new = found(&mut watch, [event(21, 100, "away"), event(22, 110, "home"), event(23, 120, "away")]);
        assert_eq!((new.len(), new[0].rows.clone()), (1, vec![21, 23]));
        assert!(found(&mut watch, [event(24, 5000, "away")]).is_empty(), "known by now");
        found(&mut watch, [event(25, 6000, "third")]);
        assert!(found(&mut watch, [event(26, 9000, "fourth")]).is_empty(), "who moves about is never new");
    }

    #[test]
    fn what_is_kept_between_two_runs_is_what_one_run_remembers() {
        for test in [
            r#"{"kind":"count","count":4,"within":100}"#,
            r#"{"kind":"distinct","of":"resourceId","count":5,"within":100}"#,
            r#"{"kind":"first","of":"clientIp","after":9,"most":2,"within":60}"#,
            r#"{"kind":"hour","after":30,"within":60}"#,
            r#"{"kind":"spike","times":3,"least":5,"after":2,"within":60}"#,
        ] {
            let rules = rules(test);
            let events: Vec<WatchedEvent> = (1..=60)
                .map(|seq| event(seq, seq * 17 % 1000 + seq * 400, ["1", "2"][seq as usize / 40]))
                .collect();
            let mut whole = AnomalyWatch::new(&rules, None).unwrap();
            let expected: BTreeSet<i64> =
                found(&mut whole, events.clone()).into_iter().flat_map(|alert| alert.rows).collect();
            let (mut rows, mut kept) = (BTreeSet::new(), None::<String>);
            for event in events {
                let mut watch = AnomalyWatch::new(&rules, kept.as_deref()).unwrap();
                rows.extend(found(&mut watch, [event]).into_iter().flat_map(|alert| alert.rows));
                kept = Some(watch.memory().unwrap());
            }
            assert_eq!(rows, expected, "{test}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut watch = AnomalyWatch::new(
            &rules(r#"{"kind":"distinct","of":"clientIp","count":9999,"within":100000}"#),
            None,
        )
        .unwrap();
        for seq in 0..20_000 {
            let mut event = event(seq, seq, &format!("{seq}"));
            event.actor = format!("{}", seq % 5000);
            watch.push(&event);
        }
        assert!(watch.memory.0["x"].len() <= MOST_KEYS);
        for seq in 0..5_000 {
            watch.push(&event(seq, 20_000, &format!("{seq}")));
        }
        assert!(watch.memory.0["x"]["a"].recent.len() <= MOST_EVENTS);
        assert!(watch.memory().unwrap().len() < 2_000_000);
    }
}
