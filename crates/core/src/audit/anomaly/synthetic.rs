//! Two weeks of a tenant's events that are made up, with attacks in them that are labelled: `labelled.jsonl`. BLESS=1 writes it anew.
//!
//! Normal people fail now and then, clean up some rows, change roles by day, work from another address, and export a list: what a rule must
//! leave alone. Among the attacks are some that no rule finds, such as one guess each half hour.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AnomalyRules, LabelledEvent, replay};

const FILE: &str = "src/audit/anomaly/labelled.jsonl";
/// A Monday.
const START: i64 = 1_798_416_000;
const DAY: i64 = 86_400;
const PEOPLE: [&str; 6] = ["ada", "ben", "cleo", "dan", "eve", "finn"];

/// A sequence that is the same each time (Knuth, MMIX).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % limit.unsigned_abs()).unwrap()
    }
}

struct Story {
    random: Sequence,
    events: Vec<(i64, Value)>,
}

impl Story {
    fn add(
        &mut self,
        at: i64,
        who: (&str, &str),
        what: (&str, &str, String),
        outcome: &str,
        label: Option<&str>,
    ) {
        let ((actor, ip), (action, resource, id)) = (who, what);
        let time = Timestamp::from_second(START + at).unwrap();
        self.events.push((
            at,
            json!({ "at": time, "actor": actor, "action": action, "resource": resource, "resourceId": id, "outcome": outcome,
                "clientIp": ip, "label": label.unwrap_or("normal") }),
        ));
    }

    /// A person's day: from 7 to 17 o'clock, now and then with a failure, some deletions, an export, a change of a role.
    fn day(&mut self, person: usize, day: i64) {
        let name = PEOPLE[person];
        let home = format!("192.0.2.{}", 10 + person);
        let away = format!("198.51.100.{}", 10 + person);
        let from = day * DAY + 7 * 3600;
        let ip = if self.random.below(8) == 0 { &away } else { &home };
        for _ in 0..self.random.below(3) {
            let at = from + self.random.below(600);
            self.add(
                at,
                ("system:sign-in", ip),
                ("identity.sign_in", "user", name.to_owned()),
                "failure",
                None,
            );
        }
        self.add(from + 900, (name, ip), ("identity.sign_in", "user", name.to_owned()), "success", None);
        for nth in 0..18 + self.random.below(12) {
            let at = from + 1000 + self.random.below(35_000);
            let action = ["item.updated", "item.created", "order.approved", "order.updated"]
                [self.random.below(4) as usize];
            let resource = action.split('.').next().unwrap();
            self.add(at, (name, ip), (action, resource, format!("{name}-{day}-{nth}")), "success", None);
        }
        if self.random.below(3) == 0 {
            let at = from + self.random.below(30_000);
            for nth in 0..3 + self.random.below(12) {
                self.add(
                    at + 20 * nth,
                    (name, ip),
                    ("item.deleted", "item", format!("{name}-old-{day}-{nth}")),
                    "success",
                    None,
                );
            }
        }
        if self.random.below(4) == 0 {
            self.add(
                from + 20_000,
                (name, ip),
                ("core.exported", "list", "items".to_owned()),
                "success",
                None,
            );
        }
        if self.random.below(5) == 0 {
            for nth in 0..1 + self.random.below(4) {
                self.add(
                    from + 25_000 + 9 * nth,
                    (name, &home),
                    ("catalog.item.write", "route", format!("{nth}")),
                    "denied",
                    None,
                );
            }
        }
        if person == 0 && day % 3 == 0 {
            self.add(
                from + 12_000,
                (name, &home),
                ("grant.created", "grant", format!("grant-{day}")),
                "success",
                None,
            );
        }
    }

    fn attacks(&mut self) {
        let bad = "203.0.113.66";
        for (day, victim, tries, pause) in [(4, "ben", 60, 4), (8, "cleo", 24, 20), (11, "finn", 40, 11)] {
            for nth in 0..tries {
                let what = ("identity.sign_in", "user", victim.to_owned());
                self.add(
                    day * DAY + 50_000 + nth * pause,
                    ("system:sign-in", bad),
                    what,
                    "failure",
                    Some("guessing"),
                );
            }
        }
        for nth in 0..45 {
            let what = ("identity.sign_in", "user", format!("account-{nth}"));
            self.add(
                9 * DAY + 11_000 + nth * 15,
                ("system:sign-in", "203.0.113.9"),
                what,
                "failure",
                Some("stuffing"),
            );
        }
        for nth in 0..70 {
            self.add(
                10 * DAY + 40_000 + nth * 5,
                ("dan", "192.0.2.13"),
                ("item.deleted", "item", format!("gone-{nth}")),
                "success",
                Some("deletion"),
            );
        }
        for nth in 0..14 {
            self.add(
                11 * DAY + 60_000 + nth * 90,
                ("eve", "192.0.2.14"),
                ("core.exported", "list", format!("list-{nth}")),
                "success",
                Some("exfiltration"),
            );
        }
        for nth in 0..50 {
            self.add(
                7 * DAY + 45_000 + nth * 8,
                ("finn", "192.0.2.15"),
                ("identity.role.write", "route", format!("{nth}")),
                "denied",
                Some("probing"),
            );
        }
        for nth in 0..4 {
            self.add(
                8 * DAY + 2 * 3600 + nth * 60,
                ("ada", "192.0.2.10"),
                ("grant.created", "grant", format!("night-{nth}")),
                "success",
                Some("escalation"),
            );
        }
        for nth in 0..5 {
            self.add(
                11 * DAY + 33_000 + nth * 70,
                ("ben", bad),
                ("api_key.created", "api_key", format!("key-{nth}")),
                "success",
                Some("takeover"),
            );
        }
        self.add(
            10 * DAY + 30_000,
            ("cleo", bad),
            ("identity.token_reuse", "session", "session-1".to_owned()),
            "denied",
            Some("theft"),
        );
        // One guess each half hour: below what any rule counts.
        for nth in 0..24 {
            let what = ("identity.sign_in", "user", "dan".to_owned());
            self.add(
                12 * DAY + nth * 1800,
                ("system:sign-in", "203.0.113.77"),
                what,
                "failure",
                Some("slow guessing"),
            );
        }
    }
}

fn written() -> String {
    let mut story = Story { random: Sequence(42), events: Vec::new() };
    for day in (0..14).filter(|day| day % 7 < 5) {
        (0..PEOPLE.len()).for_each(|person| story.day(person, day));
    }
    story.attacks();
    story.events.sort_by_key(|(at, _)| *at);
    let lines = story.events.into_iter().enumerate().map(|(nth, (_, mut event))| {
        event["seq"] = json!(nth + 1);
        format!("{event}\n")
    });
    lines.collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whether to write the file is the environment's to say")]
fn the_labelled_events_are_those_that_are_made_here() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, written()).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == written(), "BLESS=1 writes them anew");
}

#[test]
fn the_rules_find_four_of_five_labelled_events_and_name_few_others() {
    let mut events: Vec<LabelledEvent> = written()
        .lines()
        .enumerate()
        .map(|(nth, line)| LabelledEvent::read(line, nth as i64 + 1).unwrap())
        .collect();
    let report = replay(&AnomalyRules::built_in(), &mut events, true).unwrap();
    let score = report.score.unwrap();
    println!(
        "{score:?}: precision {} %, recall {} %; {:?}",
        score.precision(),
        score.recall(),
        report.labels
    );
    assert!(score.precision() >= 80 && score.recall() >= 80, "{score:?} {:?}", report.labels);
    assert!(score.missed > 0, "a set in which everything is found measures nothing");
    for (label, (found, all)) in &report.labels {
        assert!(*found * 2 > *all || label == "slow guessing", "{label}: {found} of {all}");
    }
}
