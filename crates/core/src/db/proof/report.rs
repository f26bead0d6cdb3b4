//! What the proof found, for the terminal, for CI and for the audit log.

use std::fmt::Write;

use aws_lc_rs::digest;
use serde::Serialize;

use super::canary::UNTRIED;
use super::checks::UNREGISTERED;
use super::judge::SAMPLE_MISSING;
use crate::db::schema::Schema;
use crate::shared::hex;

/// The outcome of one proof.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether the live part took place.
    pub mode: Mode,
    /// PostgreSQL's version, as it states it.
    pub server_version: String,
    /// The role that was proven: the runtime role.
    pub role: String,
    /// The same of the system's login, once it was proven too. Its findings are among the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemVerdicts>,
    /// A verdict for each registered relation, in the order of their creation.
    pub relations: Vec<RelationVerdict>,
    /// What the database has been migrated by.
    #[serde(skip)]
    pub migrations: Vec<String>,
    /// The columns that the register of personal data has, each with its table.
    #[serde(skip)]
    pub personal: Vec<(String, String)>,
    /// The tables that are narrowed to one's own rows, each with the permission that lifts it.
    #[serde(skip)]
    pub row_conditions: Vec<(String, String)>,
    /// Everything that breaks isolation or could not be tried; empty is the proof.
    pub findings: Vec<Finding>,
}

/// What the proof says of the system's login.
#[derive(Debug, Clone, Serialize)]
pub struct SystemVerdicts {
    /// The role.
    pub role: String,
    /// A verdict for each registered relation, in the order of their creation.
    pub relations: Vec<RelationVerdict>,
}

/// How much was proven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Catalogue and live canary.
    #[default]
    Full,
    /// The catalogue alone: the server is read-only.
    Partial,
}

/// What the canary tenants could do to each other in one relation.
#[derive(Debug, Clone, Serialize)]
pub struct RelationVerdict {
    /// The relation, with its schema.
    pub relation: String,
    /// How it is registered: `tenant`, `shared-read` or `member-scoped`.
    pub kind: String,
    /// Reading the other tenant's rows.
    pub select: Verdict,
    /// Adding a row for the other tenant.
    pub insert: Verdict,
    /// Changing the other tenant's row, and moving one's own to it.
    pub update: Verdict,
    /// Deleting the other tenant's row.
    pub delete: Verdict,
    /// Reading and adding without any tenant.
    pub unset: Verdict,
}

/// One cell of the matrix; the worse is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everybody may; it is the same for all tenants.
    Shared,
    /// The system's login may, across tenants, since the registry says so.
    Granted,
    /// The login lacks the privilege.
    Denied,
    /// Tried, without effect on the other tenant.
    Isolated,
    /// Not tried: no live part, no sample, or an error on the way.
    Untried,
    /// It worked, and should not have.
    Leaks,
}

/// Something that breaks isolation, or could not be tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The check: `T-02 force-rls`.
    pub check: &'static str,
    /// What is wrong: a relation, role, function …
    pub object: String,
    /// How it is wrong.
    pub detail: String,
    /// What to do.
    pub fix: String,
}

impl RelationVerdict {
    /// The cells in the order of the matrix; one without a verdict was not tried.
    pub(super) fn new(relation: &str, kind: &str, cells: [Option<Verdict>; 5]) -> Self {
        let [select, insert, update, delete, unset] = cells.map(|cell| cell.unwrap_or(Verdict::Untried));
        Self { relation: relation.to_owned(), kind: kind.to_owned(), select, insert, update, delete, unset }
    }

    const fn cells(&self) -> [Verdict; 5] {
        [self.select, self.insert, self.update, self.delete, self.unset]
    }

    fn line(&self) -> String {
        let cells = self.cells().map(Verdict::word).join(" ");
        format!("{}\t{}\t{cells}", self.relation, self.kind)
    }
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Isolated => "isolated",
            Self::Untried => "untried",
            Self::Leaks => "LEAKS",
        }
    }
}

impl Report {
    /// The same for a binary that knows `schema` only. On a schema that is ahead of it, as a rolling deploy has one,
    /// there are tables that it has no sample for and no code: the version that brought them has tried them, and here
    /// the catalogue's word has to do.
    #[must_use]
    pub fn for_version(mut self, schema: &Schema) -> Self {
        if !self.migrations.iter().all(|name| schema.knows(name)) {
            self.findings.retain(|finding| finding.check != SAMPLE_MISSING);
        }
        for finding in self.findings.iter_mut().filter(|finding| finding.check == UNREGISTERED) {
            if let Some(migration) = schema.maker_of(&finding.object) {
                finding.detail = format!("{} (made by migration {migration})", finding.detail);
            }
        }
        self
    }

    /// The same while serving, and the tables that nobody registered: no one but the owner can reach them, so that they
    /// stop a start and no server that runs.
    pub fn while_serving(mut self) -> (Self, Vec<Finding>) {
        let unreachable = self.findings.extract_if(.., |finding| finding.check == UNREGISTERED).collect();
        (self, unreachable)
    }

    /// With what the same proof says of the system's login. What both have found is told once.
    #[must_use]
    pub fn and_system(mut self, system: Self) -> Self {
        let Self { mode, role, relations, findings, .. } = system;
        if mode == Mode::Partial {
            self.mode = mode;
        }
        for finding in findings {
            if !self.findings.contains(&finding) {
                let detail = format!("as {role}: {}", finding.detail);
                self.findings.push(Finding { detail, ..finding });
            }
        }
        self.system = Some(SystemVerdicts { role, relations });
        self
    }

    /// Nothing was found. [`Mode::Partial`] passes too: ask [`Report::mode`] where that is not enough.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// The verdict when the proof itself failed.
    pub fn not_made() -> Self {
        let finding = Finding {
            check: "C-00 proof",
            object: "the isolation proof".to_owned(),
            detail: "cannot be made any more".to_owned(),
            fix: "see the log for its error, and run 'erp-backend doctor isolation'".to_owned(),
        };
        Self { findings: vec![finding], ..Self::default() }
    }

    /// Not passed, but only for what could not be tried, such as a table under migration: prove again.
    pub fn inconclusive(&self) -> bool {
        !self.passed() && self.findings.iter().all(|finding| finding.check == UNTRIED)
    }

    /// SHA-256, in hex, over mode, role, verdicts and findings in sorted order: it changes when what was proven does.
    pub fn hash(&self) -> String {
        let mut lines = vec![format!("{:?} {}", self.mode, self.role)];
        lines.extend(self.relations.iter().map(RelationVerdict::line));
        if let Some(SystemVerdicts { role, relations }) = &self.system {
            lines.extend(relations.iter().map(|verdict| format!("{role}\t{}", verdict.line())));
        }
        lines.extend(self.findings.iter().map(|f| [f.check, &f.object, &f.detail, &f.fix].join("\t")));
        lines.sort_unstable();
        hex(digest::digest(&digest::SHA256, lines.join("\n").as_bytes()).as_ref())
    }

    /// One line for the log and the banner.
    pub fn one_line(&self) -> String {
        let found = self.findings.len();
        match self.findings.first() {
            None => {
                let mode =
                    if self.mode == Mode::Full { "" } else { ", catalogue only (the server is read-only)" };
                let hash: String = self.hash().chars().take(12).collect();
                let and =
                    self.system.as_ref().map(|system| format!(" and {}", system.role)).unwrap_or_default();
                let (relations, role) = (self.relations.len(), &self.role);
                format!("isolation proven: {relations} relations as {role}{and}{mode}, {hash}")
            }
            Some(first) => {
                let count =
                    if found == 1 { "1 finding".to_owned() } else { format!("{found} findings, the first") };
                format!("isolation not proven: {count}: {}: {} {}", first.check, first.object, first.detail)
            }
        }
    }

    /// The matrix and the findings as text, for the terminal.
    pub fn matrix(&self) -> String {
        let mut text = table(&self.relations);
        if let Some(SystemVerdicts { role, relations }) = &self.system {
            let _ = write!(text, "\nAs {role}, the login of the system:\n{}", table(relations));
        }
        for Finding { check, object, detail, fix } in &self.findings {
            let _ = write!(text, "\n{check}: {object} {detail}\n  fix: {fix}\n");
        }
        text + "\n" + &self.one_line() + "\n"
    }
}

fn table(relations: &[RelationVerdict]) -> String {
    let width = relations.iter().map(|verdict| verdict.relation.len()).max().unwrap_or(0).max(8);
    let mut text =
        format!("{:width$}  kind           select    insert    update    delete    no tenant\n", "relation");
    for verdict in relations {
        let name = &verdict.relation;
        let _ = write!(text, "{name:width$}  {:13}", verdict.kind);
        for cell in verdict.cells() {
            let _ = write!(text, "  {:8}", cell.word());
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
