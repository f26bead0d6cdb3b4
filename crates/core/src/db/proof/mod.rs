//! The isolation proof: asked of the catalogue and acted out live, as the runtime role and then as the system's login,
//! each on a connection of its own.
//!
//! After BEGIN one message goes to the server and one answer comes back: a transaction that reads the catalogue with every
//! [`Question`], lets two reserved tenants attack each other in every registered table, and rolls back. It is safe on a
//! database in use: it touches rows of the reserved tenants only, waits at most [`LOCK_TIMEOUT`] for a lock, and keeps
//! nothing. What it could not try is a finding, never a pass.

mod canary;
mod checks;
mod judge;
mod report;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use crate::db::schema::Sample;
pub use canary::{CanaryActor, CanaryStep, Must, STEPS};
pub use checks::{Question, all as checks};
pub use report::{Finding, Mode, RelationVerdict, Report, Verdict};

/// How long the live part waits for a table that a migration has locked. After that the table is a finding,
/// `C-03 live-untried`, and [`Report::inconclusive`] tells the caller to prove again rather than to refuse.
pub const LOCK_TIMEOUT: &str = "2s";

/// Which of the two logins is proven. Each may do what the registry says of it: `app.relations` has the privileges of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenLogin {
    /// The runtime role, which serves requests.
    Runtime,
    /// The system's login, which does the declared work of the system.
    System,
}

impl ProvenLogin {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::System => "system",
        }
    }
}

/// Proves the isolation of the database that `client` is connected to, as the role it is connected as.
///
/// The connection must be outside a transaction; it is returned so, and without any setting of the proof. An `Err`
/// means that the proof did not take place, for instance because the connection broke: treat it as not proven.
pub async fn prove(client: &Client, login: ProvenLogin, samples: &[Sample]) -> Result<Report, Error> {
    let proving = async {
        send(client, BEGIN).await?;
        send(client, &message(login, samples)).await
    };
    match proving.await {
        Ok(answer) => Ok(read(&answer, samples)),
        Err(error) => {
            send(client, "rollback").await?;
            explain(client, error).await
        }
    }
}

/// Proves the isolation as each of the two logins: see [`prove`].
pub async fn prove_both(runtime: &Client, system: &Client, samples: &[Sample]) -> Result<Report, Error> {
    let report = prove(runtime, ProvenLogin::Runtime, samples).await?;
    Ok(report.and_system(prove(system, ProvenLogin::System, samples).await?))
}

/// Before the message, which is read with what it sets: what a role or database has set for other programs does not
/// change how strings are read and names are written.
const BEGIN: &str = "begin isolation level read committed;
    set local standard_conforming_strings = on; set local quote_all_identifiers = off";

/// The proof as one simple-query message, after [`BEGIN`].
fn message(login: ProvenLogin, samples: &[Sample]) -> String {
    format!(
        "set local search_path = pg_catalog; set local jit = off; set local enable_mergejoin = off;
        set local enable_memoize = off; set local join_collapse_limit = 1; set local from_collapse_limit = 1;
        set local lock_timeout = '{LOCK_TIMEOUT}'; set local statement_timeout = '15s'; set local app.proof_login = '{}';
        select 'server', current_setting('server_version'), current_user, current_setting('transaction_read_only');
        {};
        select 'migration', name from app.migrations;
        select 'personal', relation, col from app.personal_data;
        {};
        set local search_path to default; set local row_security = on; set local app.proof_plan = {};
        {};
        select 'outcomes', nullif(current_setting('app.proof_outcomes', true), '');
        rollback",
        login.as_str(),
        checks::query(),
        REGISTRY,
        literal(&canary::plan(samples)),
        include_str!("canary.sql"),
    )
}

/// What the login that is proven may do, relation by relation. Of a tenants' table it may see all
/// rows, or one's own only.
const REGISTRY: &str = "select 'relation', relation, kind,
      array_to_string(case when current_setting('app.proof_login') = 'system' then system_privileges else privileges end, ','),
      system_across and current_setting('app.proof_login') = 'system',
      case when current_setting('app.proof_login') = 'runtime' then row_lifted_by end
    from app.relations order by ordinal";

fn read(answer: &[SimpleQueryMessage], samples: &[Sample]) -> Report {
    let mut report = Report::default();
    let mut registry = Vec::new();
    let mut outcomes = None;
    for row in rows(answer) {
        let field = |index| row.try_get(index).ok().flatten().unwrap_or_default();
        match field(0) {
            "server" => {
                report.server_version = field(1).to_owned();
                report.role = field(2).to_owned();
                report.mode = if field(3) == "on" { Mode::Partial } else { Mode::Full };
            }
            "finding" => report.findings.extend(finding(field(1), field(2), field(3), &report.role)),
            "migration" => report.migrations.push(field(1).to_owned()),
            "personal" => report.personal.push((field(1).to_owned(), field(2).to_owned())),
            "relation" => {
                let registered = judge::Registered::new(field(1), field(2), field(3), field(4) == "t");
                registry.push(registered.with_own_rows(!field(5).is_empty()));
                if !field(5).is_empty() {
                    report.row_conditions.push((field(1).to_owned(), field(5).to_owned()));
                }
            }
            "outcomes" => outcomes = row.try_get(1).ok().flatten(),
            _ => {}
        }
    }
    judge::judge(&mut report, &registry, outcomes, samples);
    report
}

fn finding(id: &str, object: &str, detail: &str, role: &str) -> Option<Finding> {
    let check = checks::find(id)?;
    let fix = check.fix.replace("{object}", object).replace("{role}", role);
    Some(Finding { check: check.id, object: object.to_owned(), detail: detail.to_owned(), fix })
}

/// A registry that cannot be read and a proof that waited too long are findings; anything else is the caller's error.
async fn explain(client: &Client, error: Error) -> Result<Report, Error> {
    const MISSING: [SqlState; 3] =
        [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::INSUFFICIENT_PRIVILEGE];
    let Some(cause) = error.as_db_error() else { return Err(error) };
    let (check, object, fix) = if MISSING.contains(cause.code()) {
        let fix = "run the migrations, with app.runtime_role set to the runtime role";
        ("R-00 registry", "app.relations".to_owned(), fix)
    } else if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(cause.code()) {
        let answer = send(client, LOCKED).await?;
        let locked =
            rows(&answer).next().and_then(|row| row.try_get(0).ok().flatten()).unwrap_or("the server");
        (canary::UNTRIED, locked.to_owned(), "prove again once nothing holds it, a migration perhaps")
    } else {
        return Err(error);
    };
    let finding = Finding { check, object, detail: cause.message().to_owned(), fix: fix.to_owned() };
    Ok(Report { findings: vec![finding], ..Report::default() })
}

/// The tables that somebody holds for himself: even reading the catalogue about them waits.
const LOCKED: &str =
    "select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname collate \"C\", c.relname collate \"C\")
    from pg_catalog.pg_locks l
    join pg_catalog.pg_class c on c.oid = l.relation and c.relkind in ('r', 'p')
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where l.granted and l.mode = 'AccessExclusiveLock'
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())";

#[expect(clippy::disallowed_methods, reason = "several statements in one round trip, without tenant data")]
async fn send(client: &Client, message: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
    client.simple_query(message).await
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// A string constant that reads the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The reference page of all checks and steps, as Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# The isolation proof\n\nGenerated from `crates/core/src/db/proof`; `BLESS=1 script/test` writes it anew.\n\n\
        The proof runs as the runtime role, and again as the system's login, before the port is bound, after each\n\
        migration, on reconnect and every five minutes. *The login* below is the one that is proven; what it may do is what\n\
        the registry `app.relations` says of it. A finding names the object and its fix; the server then exits with 77, or turns unready.\n\n\
        ## Asked of the catalogue\n\n| check | what holds | fix |\n| --- | --- | --- |\n",
    );
    let cell = |text: &str| text.replace('|', "\\|");
    for check in checks::all() {
        page += &format!("| {} | {} | {} |\n", check.id, cell(check.what), cell(check.fix));
    }
    page += "\n## Acted out by the two canary tenants\n\nIn this order, for every registered relation, in a transaction \
        that is rolled back. With no tenant set, both forms are tried:\nnever set (a fresh connection) and `''` (after a \
        COMMIT).\n\n| check | relations | acting | statement | must |\n| --- | --- | --- | --- | --- |\n";
    for step in STEPS {
        let acting = step.acting.name();
        page += &format!(
            "| {} | {} | {acting} | `{}` | {} |\n",
            step.check,
            step.kind,
            cell(step.sql),
            step.must.words()
        );
    }
    page + canary::NOTES
}
