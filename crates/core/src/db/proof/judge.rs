//! What the outcomes of the live part mean. It is judged here and not in the database, so that it can be tested, and
//! so that an outcome nobody expected is never taken for a pass.

use super::Sample;
use super::canary::{CanaryActor, CanaryStep, MatrixColumn, Must, OWN_ROWS, SAMPLE, STEPS, UNTRIED};
use super::report::{Finding, Mode, RelationVerdict, Report, Verdict};

/// A tenant table that nothing could be tried in.
pub(super) const SAMPLE_MISSING: &str = "C-04 sample-missing";

/// A line of the registry.
pub(super) struct Registered {
    relation: String,
    kind: String,
    privileges: Vec<String>,
    /// Whether the system's login, which is proven, sees the rows of all tenants.
    across: bool,
    /// Whether the runtime role, which is proven, shows one one's own rows only.
    own_rows: bool,
}

impl Registered {
    pub(super) fn new(relation: &str, kind: &str, privileges: &str, across: bool) -> Self {
        let privileges = privileges.split(',').map(str::to_owned).collect();
        Self { relation: relation.to_owned(), kind: kind.to_owned(), privileges, across, own_rows: false }
    }

    pub(super) fn with_own_rows(mut self, own_rows: bool) -> Self {
        self.own_rows = own_rows;
        self
    }

    /// Whether a step is meant for it.
    fn is_meant_by(&self, step: &CanaryStep) -> bool {
        step.kind == self.kind || (step.kind == OWN_ROWS && self.own_rows)
    }

    fn may(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|held| held == privilege)
    }
}

/// What came of a step, by its place in [`STEPS`]: a number of rows, or an SQLSTATE.
struct Tried<'a> {
    relation: &'a str,
    no: usize,
    said: &'a str,
}

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
            && !relation.across
            && relation.may("insert")
            && !has_sample(samples, &relation.relation)
        {
            let detail = "has no sample row to try it with".to_owned();
            add(report, SAMPLE_MISSING, &relation.relation, detail);
        }
        let verdict = judge_relation(report, relation, &outcomes);
        report.relations.push(verdict);
    }
    let server = Registered::new("the server", "server", "", false);
    judge_relation(report, &server, &outcomes);
    // The canary stops at the first lock, which is a finding then; else it owes an outcome for every step.
    if full && !outcomes.iter().any(|outcome| outcome.said == LOCKED) {
        for relation in registry.iter().chain([&server]) {
            if !complete(relation, &outcomes, samples) {
                add(report, UNTRIED, &relation.relation, "was not tried in full".to_owned());
            }
        }
    }
}

/// Whether every step that is due on every connection took place.
fn complete(relation: &Registered, outcomes: &[Tried<'_>], samples: &[Sample]) -> bool {
    let row_is_there =
        relation.may("select") && (relation.may("insert") || !has_sample(samples, &relation.relation));
    let due = |step: &CanaryStep| {
        relation.is_meant_by(step)
            && !relation.across
            && step.acting != CanaryActor::Fresh
            && step.sql != SAMPLE
            && (row_is_there || !step.needs_own_row())
    };
    let tried = |no| outcomes.iter().any(|outcome| outcome.relation == relation.relation && outcome.no == no);
    STEPS.iter().enumerate().all(|(no, step)| !due(step) || tried(no))
}

fn has_sample(samples: &[Sample], relation: &str) -> bool {
    samples.iter().any(|sample| sample.qualified() == relation)
}

fn parse(triples: &[String]) -> Vec<Tried<'_>> {
    fn outcome(triple: &[String]) -> Option<Tried<'_>> {
        let [relation, no, said] = triple else { return None };
        Some(Tried { relation, no: no.parse().ok()?, said })
    }
    triples.chunks_exact(3).filter_map(outcome).collect()
}

fn judge_relation(report: &mut Report, relation: &Registered, outcomes: &[Tried<'_>]) -> RelationVerdict {
    let mut cells = [None; 5];
    for Tried { no, said, .. } in outcomes.iter().filter(|outcome| outcome.relation == relation.relation) {
        let Some(step) = STEPS.get(*no) else { continue };
        let (is, detail) = weigh(step, relation, said);
        // A control that worked is no verdict: it only lends weight to the others.
        if step.must != Must::TouchOne || detail.is_some() {
            let cell = &mut cells[step.column as usize];
            *cell = (*cell).max(Some(is));
        }
        if let Some(detail) = detail {
            let failed_control = step.must == Must::TouchOne && *said != LOCKED;
            let check = if is == Verdict::Leaks || failed_control { step.check } else { UNTRIED };
            add(report, check, &relation.relation, format!("{}: {detail}", told(step)));
        }
    }
    // That a login holds exactly what is registered is asked of the catalogue.
    if relation.kind == "private" || relation.across {
        let granted = |may: bool| Some(if may { Verdict::Granted } else { Verdict::Denied });
        let may = ["select", "insert", "update", "delete"].map(|privilege| granted(relation.may(privilege)));
        cells = [may[0], may[1], may[2], may[3], granted(relation.may("select") || relation.may("insert"))];
    }
    if relation.kind == "shared-read" {
        let read = if relation.may("select") { Verdict::Shared } else { Verdict::Denied };
        cells[MatrixColumn::Select as usize] = Some(read);
        cells[MatrixColumn::Unset as usize] = Some(read);
    }
    RelationVerdict::new(&relation.relation, &relation.kind, cells)
}

const REFUSED: &str = "42501";
const LOCKED: &str = "55P03";

/// The verdict on one outcome, with a detail when it is a finding.
fn weigh(step: &CanaryStep, relation: &Registered, outcome: &str) -> (Verdict, Option<String>) {
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
fn told(step: &CanaryStep) -> String {
    let who = if step.acting == CanaryActor::Fresh { "nobody" } else { step.acting.name() };
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
        SAMPLE_MISSING => {
            "add the file samples/TABLE.sql to the module of {object}, and its name to the module's samples"
        }
        "T-10 live-write" => "revoke insert, update, delete on {object} from public, {role}",
        "T-10 live-triggers-off" => "revoke set on parameter session_replication_role from public, {role}",
        "T-06 live-rows" => "select app.row_condition('{object}', …), as the migration of the table says",
        _ => "drop the policies on {object}, then select app.isolate('{object}')",
    };
    let fix = fix.replace("{object}", object).replace("{role}", &report.role);
    report.findings.push(Finding { check, object: object.to_owned(), detail, fix });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[Sample] = &[Sample { table: "items", insert: "insert into items" }];

    /// Judges a healthy table, but for the outcomes given.
    fn judged(mode: Mode, outcomes: Option<&[(usize, &str)]>, samples: &[Sample]) -> Report {
        let mut report = Report { mode, ..Report::default() };
        let outcomes = outcomes.map(|given| {
            let healthy =
                STEPS.iter().enumerate().filter(|(_, step)| ["tenant", "server"].contains(&step.kind));
            let triples = healthy.map(|(no, step)| {
                let usual = match step.must {
                    Must::TouchOne => "1",
                    Must::TouchNothing => "0",
                    Must::BeRefused => REFUSED,
                };
                let outcome = given.iter().find(|(at, _)| *at == no).map_or(usual, |(_, outcome)| outcome);
                let name = if step.kind == "server" { "the server" } else { "public.items" };
                format!(r#""{name}","{no}","{outcome}""#)
            });
            format!("[{}]", triples.collect::<Vec<_>>().join(","))
        });
        let registry = [Registered::new("public.items", "tenant", "select,insert,update,delete", false)];
        judge(&mut report, &registry, outcomes.as_deref(), samples);
        report
    }

    fn step_no(check: &str, acting: CanaryActor) -> usize {
        STEPS.iter().position(|step| step.check == check && step.acting == acting).expect(check)
    }

    #[test]
    fn an_outcome_nobody_expected_is_never_a_pass() {
        for step in 0..STEPS.iter().filter(|step| step.kind == "tenant").count() {
            for outcome in ["7", "XX000", "P0001", "55P03", "57014", "22P02", ""] {
                let report = judged(Mode::Full, Some(&[(step, outcome)]), SAMPLES);
                assert_eq!(report.findings.len(), 1, "step {step} {outcome}: {}", report.matrix());
            }
        }
    }

    #[test]
    fn a_row_that_is_stopped_by_its_constraints_went_past_the_policy() {
        let insert = step_no("T-06 live-insert", CanaryActor::Two);
        for (outcome, verdict) in
            [("42501", Verdict::Isolated), ("23502", Verdict::Leaks), ("23514", Verdict::Untried)]
        {
            let report = judged(Mode::Full, Some(&[(insert, outcome)]), SAMPLES);
            assert_eq!(report.relations[0].insert, verdict, "{outcome}");
            assert_eq!(report.passed(), verdict == Verdict::Isolated, "{outcome}");
        }
    }

    #[test]
    fn a_canary_that_did_not_sing_is_a_finding_but_on_a_read_only_server() {
        assert!(judged(Mode::Full, Some(&[]), SAMPLES).passed());
        assert!(judged(Mode::Full, None, SAMPLES).inconclusive());
        let mut cut_short = Report::default();
        let registry = [Registered::new("public.items", "tenant", "select", false)];
        judge(&mut cut_short, &registry, Some("[]"), SAMPLES);
        assert_eq!(cut_short.findings.len(), 2, "{}", cut_short.matrix());
        assert!(judged(Mode::Partial, None, SAMPLES).passed());
        let unsampled = judged(Mode::Full, Some(&[]), &[]);
        assert_eq!(unsampled.findings[0].check, "C-04 sample-missing");
        assert!(!unsampled.inconclusive());
    }
}
