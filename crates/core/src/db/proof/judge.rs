//! What the outcomes of the live part mean. It is judged here and not in the database, so that it can be tested, and
//! so that an outcome nobody expected is never taken for a pass.

use super::Sample;
use super::canary::{Acting, Column, Must, STEPS, Step, UNTRIED, qualified};
use super::report::{Finding, Mode, RelationVerdict, Report, Verdict};

/// A line of the registry.
pub(super) struct Registered {
    relation: String,
    kind: String,
    privileges: Vec<String>,
}

impl Registered {
    pub(super) fn new(relation: &str, kind: &str, privileges: &str) -> Self {
        let privileges = privileges.split(',').map(str::to_owned).collect();
        Self { relation: relation.to_owned(), kind: kind.to_owned(), privileges }
    }

    fn may(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|held| held == privilege)
    }
}

/// What one step said: a number of rows, or an SQLSTATE.
type Outcomes<'a> = Vec<(&'a str, &'a Step, &'a str)>;

/// Adds a verdict for each registered relation, and a finding for whatever leaks or could not be tried.
pub(super) fn judge(
    report: &mut Report,
    registry: &[Registered],
    outcomes: Option<&str>,
    samples: &[Sample],
) {
    let outcomes: Option<Vec<String>> = outcomes.and_then(|json| serde_json::from_str(json).ok());
    let full = report.mode == Mode::Full;
    if full && outcomes.is_none() {
        add(report, UNTRIED, "the server", "the live part gave no outcome".to_owned());
    }
    let outcomes = outcomes.as_deref().map(parse).unwrap_or_default();
    for relation in registry {
        if full
            && relation.kind == "tenant"
            && relation.may("insert")
            && !has_sample(samples, &relation.relation)
        {
            add(
                report,
                "C-04 sample-missing",
                &relation.relation,
                "has no sample row to try it with".to_owned(),
            );
        }
        let verdict = judge_relation(report, relation, &outcomes);
        report.relations.push(verdict);
    }
    let server = Registered::new("the server", "server", "");
    judge_relation(report, &server, &outcomes);
}

fn has_sample(samples: &[Sample], relation: &str) -> bool {
    samples.iter().any(|sample| qualified(sample.table) == relation)
}

fn parse(outcomes: &[String]) -> Outcomes<'_> {
    let known =
        |triple: &'_ [String]| -> Option<&'static Step> { STEPS.get(triple.get(1)?.parse::<usize>().ok()?) };
    outcomes
        .chunks_exact(3)
        .filter_map(|triple| Some((triple.first()?.as_str(), known(triple)?, triple.get(2)?.as_str())))
        .collect()
}

fn judge_relation(report: &mut Report, relation: &Registered, outcomes: &Outcomes<'_>) -> RelationVerdict {
    let mut cells = [None; 5];
    for (_, step, outcome) in outcomes.iter().filter(|(name, ..)| *name == relation.relation) {
        let (is, detail) = weigh(step, relation, outcome);
        // A control that worked is no verdict: it only lends weight to the others.
        if step.must != Must::TouchOne || detail.is_some() {
            let cell = &mut cells[step.column as usize];
            *cell = (*cell).max(Some(is));
        }
        if let Some(detail) = detail {
            let failed_control = step.must == Must::TouchOne && *outcome != LOCKED;
            let check = if is == Verdict::Leaks || failed_control { step.check } else { UNTRIED };
            add(report, check, &relation.relation, format!("{}: {detail}", told(step)));
        }
    }
    if relation.kind == "shared-read" {
        cells[Column::Select as usize] = Some(Verdict::Shared);
        cells[Column::Unset as usize] = Some(Verdict::Shared);
    }
    RelationVerdict::new(&relation.relation, &relation.kind, cells)
}

const REFUSED: &str = "42501";
const LOCKED: &str = "55P03";

/// The verdict on one outcome, with a detail when it is a finding.
fn weigh(step: &Step, relation: &Registered, outcome: &str) -> (Verdict, Option<String>) {
    let leaks = |what: String| (Verdict::Leaks, Some(what));
    let untried = |what: &str| (Verdict::Untried, Some(what.to_owned()));
    let touched: Option<u64> = Some(outcome).filter(|text| text.len() < 5).and_then(|text| text.parse().ok());
    let privilege = step.sql.split(' ').next().unwrap_or_default();
    let may = relation.may(privilege);
    match (step.must, touched) {
        (Must::TouchOne, Some(1)) | (Must::TouchNothing, Some(0)) => (Verdict::Isolated, None),
        (Must::TouchOne, Some(_)) => {
            untried("the tenant does not see its own row, so the rest proves nothing")
        }
        (Must::BeRefused, Some(0)) if relation.kind == "tenant" => untried("there was no row to try it on"),
        (Must::BeRefused, Some(0)) => leaks("was allowed".to_owned()),
        (_, Some(rows)) => leaks(format!("touched {rows} foreign row{}", if rows == 1 { "" } else { "s" })),
        (_, None) if outcome == LOCKED => untried("the table is locked, by a migration perhaps"),
        (Must::TouchOne, None) => untried(&format!("failed with {outcome}")),
        (Must::TouchNothing, None) if outcome == REFUSED && !may => (Verdict::Denied, None),
        (Must::TouchNothing, None) if outcome == REFUSED && privilege == "update" => {
            leaks("reached the other tenant's row".to_owned())
        }
        (Must::BeRefused, None) if outcome == REFUSED => {
            (if may && relation.kind == "tenant" { Verdict::Isolated } else { Verdict::Denied }, None)
        }
        // The policy is checked before the row's constraints, but after it is routed to a partition (23514).
        (Must::BeRefused, None) if outcome.starts_with("23") && outcome != "23514" => {
            leaks(format!("went past the policy and failed with {outcome} only"))
        }
        (_, None) if outcome == "22P02" => {
            leaks("fails with 22P02, as a cast of the unset tenant does".to_owned())
        }
        (_, None) => untried(&format!("failed with {outcome}")),
    }
}

/// The step in words: `canary-two: delete from {table} where …`.
fn told(step: &Step) -> String {
    let who = if step.acting == Acting::Fresh { "nobody" } else { step.acting.name() };
    format!("{who}: {}", step.sql.split(" where ").next().unwrap_or_default().replace(" {table}", ""))
}

/// Adds a finding, once for each check and object; of what could not be tried on an object (`C-…`), the first only,
/// since the others follow from it.
fn add(report: &mut Report, check: &'static str, object: &str, detail: String) {
    let same = |known: &str| known == check || (known.starts_with("C-") && check.starts_with("C-"));
    if report.findings.iter().any(|finding| finding.object == object && same(finding.check)) {
        return;
    }
    let fix = match check {
        "C-02 live-sample" | "C-02 live-control" => {
            "make the sample one row that the samples of earlier tables allow"
        }
        UNTRIED => "prove again when nothing holds {object}; if it stays, see why the statement fails",
        "C-04 sample-missing" => "add the sample of {object} to migrations/samples",
        "T-10 live-write" => "revoke insert, update, delete on {object} from public, {role}",
        "T-10 live-triggers-off" => "revoke set on parameter session_replication_role from public, {role}",
        _ => "drop the policies on {object}, then select app.isolate('{object}')",
    };
    let fix = fix.replace("{object}", object).replace("{role}", &report.role);
    report.findings.push(Finding { check, object: object.to_owned(), detail, fix });
}
