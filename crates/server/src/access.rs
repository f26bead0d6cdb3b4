//! `access`: why somebody may do something, who all may, whether all that is as a file expects it, and how far its reviews are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use erp_core::auth::PermissionTable;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::{permissions, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{Clock as _, SystemClock, SystemRng, TenantId};
use erp_modules::identity::access::{self, ListedReview};
use erp_modules::identity::explain::{
    self, AccessHolders, AccessReason, Explanation, GrantPath, KnownPrincipal,
};
use serde::{Deserialize, Serialize};

use crate::arguments::{tenant, usage, verb};
use crate::inspect::{internal, print, unreachable};

/// What is asked for.
pub(crate) struct AccessVerb {
    tenant: String,
    verb: AccessQuestion,
}

enum AccessQuestion {
    Explain { principal: String, permission: String },
    Who { permission: Option<String>, role: Option<String> },
    Test(PathBuf),
    Reviews,
}

/// What a file expects of one principal, by names of permissions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessExpectation {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

/// Where a tenant is not as a file expects it.
#[derive(Serialize)]
struct AccessDifference {
    principal: String,
    permission: String,
    expected: &'static str,
    found: &'static str,
    because: String,
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str| Arg::new(name).value_name(value);
    let principal = text("principal", "WHO").required(true).help("An id, or a member's address");
    let permission = || text("permission", "PERMISSION").help("Its name, such as catalog.item.write");
    let role = text("role", "ROLE").long("role").help("Those who hold this role");
    let file = text("file", "FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("JSON: {\"WHO\": {\"allow\": [PERMISSION…], \"deny\": [PERMISSION…]}, …}");
    let tenant = || tenant().required(true);
    verb("access", "Who may do what in a tenant, as DATABASE_SYSTEM_URL sees it")
        .arg_required_else_help(true)
        .subcommand(verb("explain", "Say why somebody may do something, or may not: 1 where not").args([
            principal,
            permission().required(true),
            tenant(),
        ]))
        .subcommand(verb("who", "List those who have a permission, or any access at all").args([
            permission(),
            role,
            tenant(),
        ]))
        .subcommand(
            verb("test", "Compare a tenant with a file of expectations: 1 where it differs")
                .args([file, tenant()]),
        )
        .subcommand(
            verb("review", "List the reviews of access, and how far they are: 1 where one is overdue")
                .arg(tenant()),
        )
}

/// Reads what stands behind `access`.
pub(crate) fn read(matches: &ArgMatches) -> Option<AccessVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let verb = match name {
        "explain" => {
            AccessQuestion::Explain { principal: text("principal")?, permission: text("permission")? }
        }
        "review" => AccessQuestion::Reviews,
        "test" => AccessQuestion::Test(given.get_one::<PathBuf>("file")?.clone()),
        _ => AccessQuestion::Who { permission: text("permission"), role: text("role") },
    };
    Some(AccessVerb { tenant: text("tenant")?, verb })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    AccessVerb { tenant, verb }: AccessVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let asked = AccessInquiry {
        table: permissions(product),
        session: OperatorSession::open(&config, &SystemRng::new(), explain::WORK)?,
        json,
    };
    let outcome = Box::pin(asked.answer(&tenant, verb)).await;
    asked.session.close().await;
    outcome
}

/// One question, and how it is answered.
struct AccessInquiry {
    table: PermissionTable,
    session: OperatorSession,
    json: bool,
}

impl AccessInquiry {
    async fn answer(&self, slug: &str, verb: AccessQuestion) -> Result<ExitCode, StartError> {
        let tenant = self.session.tenant(slug).await.map_err(failed)?;
        let tenant = tenant.ok_or_else(|| usage(format!("There is no tenant '{slug}'")))?;
        let good = match verb {
            AccessQuestion::Explain { principal, permission } => {
                let found = self.explain(tenant, (&principal, &permission)).await?;
                let found = found.ok_or_else(|| usage(format!("There is no principal '{principal}'")))?;
                self.show(&found, explained)?;
                found.allowed
            }
            AccessQuestion::Who { permission, role } => {
                let tx = self.session.within(tenant).await.map_err(failed)?;
                let asked = (permission.as_deref(), role.as_deref());
                let found = explain::who(&self.table, tx, tenant, asked).await.map_err(failed)?;
                self.show(&found, listed)?;
                true
            }
            AccessQuestion::Reviews => {
                let tx = self.session.within(tenant).await.map_err(failed)?;
                let found = access::reviews(tx, tenant).await.map_err(failed)?;
                self.show(&found, |found| found.iter().map(reviewed).collect())?;
                let now = SystemClock.now();
                found.iter().all(|review| review.closed_at.is_some() || review.due_at > now)
            }
            AccessQuestion::Test(file) => {
                let found = self.differences(tenant, &expectations(&file)?).await?;
                self.show(&found, |found| differing(found))?;
                found.is_empty()
            }
        };
        Ok(ExitCode::from(if good { Exit::Done } else { Exit::Finding } as u8))
    }

    async fn explain(
        &self,
        tenant: TenantId,
        asked: (&str, &str),
    ) -> Result<Option<Explanation>, StartError> {
        let tx = self.session.within(tenant).await.map_err(failed)?;
        explain::explain(&self.table, tx, tenant, asked).await.map_err(failed)
    }

    async fn differences(
        &self,
        tenant: TenantId,
        expected: &BTreeMap<String, AccessExpectation>,
    ) -> Result<Vec<AccessDifference>, StartError> {
        let mut differences = Vec::new();
        for (principal, AccessExpectation { allow, deny }) in expected {
            let allowed = allow.iter().map(|permission| (permission, true));
            for (permission, expected) in allowed.chain(deny.iter().map(|permission| (permission, false))) {
                let found = self.explain(tenant, (principal, permission)).await?;
                differences.extend(difference(principal, permission, expected, found.as_ref()));
            }
        }
        Ok(differences)
    }

    fn show<T: Serialize>(&self, found: &T, lines: impl Fn(&T) -> Vec<String>) -> Result<(), StartError> {
        if self.json {
            print(&serde_json::to_string_pretty(found).map_err(internal)?);
        } else {
            lines(found).iter().for_each(|line| print(line));
        }
        Ok(())
    }
}

/// What is not as expected. A principal that is not there, and a permission that no module declares, are no refusals: a typing
/// mistake in the file would pass for one.
fn difference(
    principal: &str,
    permission: &str,
    expected: bool,
    found: Option<&Explanation>,
) -> Option<AccessDifference> {
    let known = found.filter(|found| found.because != AccessReason::Undeclared);
    if known.is_some_and(|found| found.allowed == expected) {
        return None;
    }
    let word = |allowed| if allowed { "allow" } else { "deny" };
    Some(AccessDifference {
        principal: principal.to_owned(),
        permission: permission.to_owned(),
        expected: word(expected),
        found: known.map_or("nothing", |found| word(found.allowed)),
        because: found.map_or_else(|| "no_such_principal".to_owned(), |found| reason(found.because)),
    })
}

fn expectations(file: &Path) -> Result<BTreeMap<String, AccessExpectation>, StartError> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| usage(format!("{shown} cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| usage(format!("{shown} holds no expectations: {error}")))
}

fn explained(found: &Explanation) -> Vec<String> {
    let may = if found.allowed { "may" } else { "may not" };
    let why = reason(found.because);
    let head = format!("{} {may} {}: {why}", called(&found.principal), found.permission);
    std::iter::once(head).chain(found.grants.iter().map(path)).collect()
}

fn listed(found: &AccessHolders) -> Vec<String> {
    let lines = found
        .principals
        .iter()
        .flat_map(|holder| std::iter::once(called(&holder.principal)).chain(holder.grants.iter().map(path)));
    lines.collect()
}

fn differing(found: &[AccessDifference]) -> Vec<String> {
    if found.is_empty() {
        return vec!["All is as expected.".to_owned()];
    }
    let line = |columns: [&str; 5]| {
        let [principal, permission, expected, found, because] = columns;
        format!("{principal:<38} {permission:<36} {expected:<8} {found:<8} {because}")
    };
    let head = line(["PRINCIPAL", "PERMISSION", "EXPECTED", "FOUND", "BECAUSE"]);
    let rows = found
        .iter()
        .map(|row| line([&row.principal, &row.permission, row.expected, row.found, &row.because]));
    std::iter::once(head).chain(rows).collect()
}

fn reviewed(review: &ListedReview) -> String {
    let ListedReview { name, due_at, closed_at, items, undecided } = review;
    let state = match closed_at {
        Some(at) => format!("closed {}", at.strftime("%Y-%m-%d")),
        None => format!("due {}", due_at.strftime("%Y-%m-%d")),
    };
    format!("{name:<40} {state:<18} {} of {items} decided", items - undecided)
}

fn called(principal: &KnownPrincipal) -> String {
    let KnownPrincipal { id, kind, name, email, .. } = principal;
    let address = email.as_ref().map(|email| format!(" <{email}>")).unwrap_or_default();
    format!("{kind} {name}{address} {id}")
}

fn path(grant: &GrantPath) -> String {
    let allows = if grant.allows { "by" } else { "holds" };
    let since = grant.granted_at.strftime("%Y-%m-%d");
    let end = match (grant.expires_at, grant.ended) {
        (Some(at), true) => format!(", ended {at}"),
        (Some(at), false) => format!(", until {at}"),
        (None, _) => String::new(),
    };
    format!("  {allows} {} since {since}{end}", grant.role)
}

fn reason(because: AccessReason) -> String {
    serde_json::to_value(because).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn failed(error: Error) -> StartError {
    unreachable("Who may do what cannot be looked at", error)
}
