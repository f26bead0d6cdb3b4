//! `role`: the roles of a tenant, and who is given one or loses it.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{SystemRng, TenantId};
use erp_modules::identity::access::{self, ListedRole, NamedGrant};
use jiff::Timestamp;
use serde_json::json;

use crate::arguments::{tenant, usage, verb, why};
use crate::inspect::{done, internal, print, unreachable};

/// What is asked for, in which tenant.
pub(crate) struct RoleVerb {
    tenant: String,
    verb: RoleChange,
}

enum RoleChange {
    List,
    Give { grant: NamedGrant, until: Option<Timestamp>, why: String },
    Take { grant: NamedGrant, why: String },
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str| Arg::new(name).value_name(value).required(true);
    let who = || text("who", "WHO").help("A member's address or id, or a service account's id");
    let role = || text("role", "ROLE").help("Its name, such as owner");
    let until = Arg::new("until").long("until").value_name("TIME");
    let until = until.value_parser(|text: &str| text.parse::<Timestamp>()).help("Such as 2030-01-01T00:00Z");
    let tenant = || tenant().required(true);
    verb("role", "The roles of a tenant, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(
            verb("list", "List the roles, what the tenant's own allow, and how many hold them").arg(tenant()),
        )
        .subcommand(verb("give", "Give somebody a role: an owner to a tenant that has lost its own").args([
            who(),
            role(),
            until,
            tenant(),
            why(),
        ]))
        .subcommand(verb("take", "Take a role from somebody").args([who(), role(), tenant(), why()]))
}

/// Reads what stands behind `role`.
pub(crate) fn read(matches: &ArgMatches) -> Option<RoleVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let grant = || Some(NamedGrant { principal: text("who")?, role: text("role")? });
    let verb = match name {
        "give" => {
            let until = given.get_one::<Timestamp>("until").copied();
            RoleChange::Give { grant: grant()?, until, why: text("why")? }
        }
        "take" => RoleChange::Take { grant: grant()?, why: text("why")? },
        _ => RoleChange::List,
    };
    Some(RoleVerb { tenant: text("tenant")?, verb })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    RoleVerb { tenant, verb }: RoleVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let session = OperatorSession::open(&config, &SystemRng::new(), access::WORK)?;
    let outcome = Box::pin(answer(&session, &tenant, verb, json)).await;
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn answer(
    session: &OperatorSession,
    slug: &str,
    asked: RoleChange,
    json: bool,
) -> Result<(), StartError> {
    let tenant: Option<TenantId> = session.tenant(slug).await.map_err(failed)?;
    let tenant = tenant.ok_or_else(|| usage(format!("There is no tenant '{slug}'")))?;
    let tx = session.within(tenant).await.map_err(failed)?;
    let (grant, changed) = match asked {
        RoleChange::List => return show(&access::roles(tx, tenant).await.map_err(failed)?, json),
        RoleChange::Give { grant, until, why } => {
            let given = access::give_role(tx, tenant, (&grant, until, &why)).await;
            (grant, given)
        }
        RoleChange::Take { grant, why } => {
            let taken = access::take_role(tx, tenant, (&grant, &why)).await;
            (grant, taken)
        }
    };
    changed.map_err(failed)?;
    done(json, &json!({ "principal": grant.principal, "role": grant.role, "done": true }));
    Ok(())
}

fn show(roles: &[ListedRole], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(roles).map_err(internal)?);
    }
    for role in roles.iter().filter(|_| !json) {
        let allows = match role.built_in {
            true => "of every tenant".to_owned(),
            false => role.permissions.join(" "),
        };
        print(&format!("{:<30} {:>5} hold it  {allows}", role.name, role.holders));
    }
    Ok(())
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, error.told().to_owned()),
        409 => StartError::new(Exit::Finding, error.told().to_owned()),
        _ => unreachable("The roles cannot be reached", error),
    }
}
