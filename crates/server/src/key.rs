//! `key`: the API keys of a tenant, and the end of one.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::Error;
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::{PrincipalId, SystemRng};
use erp_modules::identity::access::{self, ListedKey};
use jiff::Timestamp;
use serde_json::json;

use crate::arguments::{tenant, usage, verb, why};
use crate::inspect::{done, internal, print, unreachable};

/// What is asked for, in which tenant.
pub(crate) struct KeyVerb {
    tenant: String,
    /// The key that is to be revoked, and why; without one all are listed.
    revoke: Option<(PrincipalId, String)>,
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let id = Arg::new("id").value_name("ID").required(true);
    let id = id.value_parser(|text: &str| text.parse::<PrincipalId>()).help("As 'key list' shows it");
    let tenant = || tenant().required(true);
    verb("key", "The API keys of a tenant, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List the keys that were not revoked").arg(tenant()))
        .subcommand(verb("revoke", "Revoke a key: it opens nothing any more").args([id, tenant(), why()]))
}

/// Reads what stands behind `key`.
pub(crate) fn read(matches: &ArgMatches) -> Option<KeyVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.get_one::<String>(name).cloned();
    let revoke = match name {
        "revoke" => Some((*given.get_one::<PrincipalId>("id")?, text("why")?)),
        _ => None,
    };
    Some(KeyVerb { tenant: text("tenant")?, revoke })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    KeyVerb { tenant, revoke }: KeyVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let session = OperatorSession::open(&config, &SystemRng::new(), access::WORK)?;
    let outcome = Box::pin(answer(&session, &tenant, revoke, json)).await;
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn answer(
    session: &OperatorSession,
    slug: &str,
    revoke: Option<(PrincipalId, String)>,
    json: bool,
) -> Result<(), StartError> {
    let tenant = session.tenant(slug).await.map_err(failed)?;
    let tenant = tenant.ok_or_else(|| usage(format!("There is no tenant '{slug}'")))?;
    let tx = session.within(tenant).await.map_err(failed)?;
    let Some((key, why)) = revoke else {
        return show(&access::keys(tx, tenant).await.map_err(failed)?, json);
    };
    access::revoke_key(tx, tenant, (key, &why)).await.map_err(failed)?;
    done(json, &json!({ "id": key, "done": true }));
    Ok(())
}

fn show(keys: &[ListedKey], json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(keys).map_err(internal)?);
    }
    let day = |at: Option<Timestamp>| at.map_or("never".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    for key in keys.iter().filter(|_| !json) {
        let (used, end) = (day(key.last_used_at), day(key.expires_at));
        print(&format!("{}  {:<30} {:<34} used: {used:<10}  ends: {end}", key.id, key.name, key.holder));
    }
    Ok(())
}

fn failed(error: Error) -> StartError {
    match error.code().status {
        404 => StartError::new(Exit::Usage, "There is no such key, or it was revoked"),
        _ => unreachable("The keys cannot be reached", error),
    }
}
