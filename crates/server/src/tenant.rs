//! `tenant`: makes tenants, lists them, and moves them from state to state.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use erp_core::auth::EntitlementTable;
use erp_core::bootstrap::OperatorSession;
use erp_core::config::Layers;
use erp_core::error::{Error, codes as core};
use erp_core::factory::{entitlements, settings};
use erp_core::lifecycle::{Exit, StartError};
use erp_core::mail::MailAddress;
use erp_core::mailer::link_base;
use erp_core::module::Product;
use erp_core::shared::{SystemClock, SystemRng};
use erp_modules::identity::IdentitySettings;
use erp_modules::identity::erasure::{self, ErasureTerms};
use erp_modules::identity::operator::{self, CreatedTenant, NewTenant, Slug, TenantMove, TenantTerms};
use erp_modules::tenants::first_day::equip;
use serde_json::{Value, json};

use crate::arguments::{assignment, confirmed, usage, verb, why, yes};
use crate::inspect::{done, internal, print, refused, unreachable};

/// What is asked for.
pub(crate) enum TenantVerb {
    List,
    Create { new: NewTenant, plan: Option<String>, settings: BTreeMap<String, Value> },
    Move(TenantMove, Slug, String),
    Erase { slug: Slug, why: String, yes: bool },
}

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let slug =
        || Arg::new("slug").value_name("SLUG").required(true).value_parser(|text: &str| text.parse::<Slug>());
    verb("tenant", "Tenants, as DATABASE_SYSTEM_URL sees them")
        .arg_required_else_help(true)
        .subcommand(verb("list", "List all tenants"))
        .subcommand(
            verb("create", "Make a tenant, and show the link by which its first owner chooses a password")
                .arg(slug().help("What it is found by: small letters, digits and hyphens"))
                .arg(
                    Arg::new("name")
                        .long("name")
                        .value_name("TEXT")
                        .required(true)
                        .value_parser(name)
                        .help("What it calls itself"),
                )
                .arg(
                    Arg::new("owner")
                        .long("owner")
                        .value_name("ADDRESS")
                        .required(true)
                        .value_parser(|text: &str| text.parse::<MailAddress>())
                        .help("The first owner's e-mail address"),
                )
                .arg(Arg::new("plan").long("plan").value_name("PLAN").help("What it pays for"))
                .arg(
                    Arg::new("set")
                        .long("set")
                        .value_name("SETTING=VALUE")
                        .action(ArgAction::Append)
                        .value_parser(assignment)
                        .help("A setting of the tenant's, such as tenants.currency=CHF; any number of them"),
                ),
        )
        .subcommand(verb("suspend", "Let nobody of a tenant in until it is resumed").arg(slug()).arg(why()))
        .subcommand(verb("resume", "Let a tenant work again").arg(slug()).arg(why()))
        .subcommand(verb("close", "Let nobody of a tenant in any more").arg(slug()).arg(why()))
        .subcommand(
            verb(
                "erase",
                "Delete all of a tenant that has been closed for IDENTITY_CLOSED_FOR; a worker does it",
            )
            .args([slug(), why(), yes()]),
        )
}

fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    good.then(|| text.to_owned()).ok_or_else(|| "1 to 200 characters".to_owned())
}

/// Reads what stands behind `tenant`.
pub(crate) fn read(matches: &ArgMatches) -> Option<TenantVerb> {
    let (verb, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    let slug = || given.try_get_one::<Slug>("slug").ok().flatten().cloned();
    let moved = |what| Some(TenantVerb::Move(what, slug()?, text("why")?));
    match verb {
        "create" => {
            let first_owner = given.get_one::<MailAddress>("owner")?.clone();
            let settings = given.get_many::<(String, Value)>("set").into_iter().flatten().cloned().collect();
            let new = NewTenant { slug: slug()?, name: text("name")?, first_owner };
            Some(TenantVerb::Create { new, plan: text("plan"), settings })
        }
        "suspend" => moved(TenantMove::Suspend),
        "resume" => moved(TenantMove::Resume),
        "close" => moved(TenantMove::Close),
        "erase" => Some(TenantVerb::Erase { slug: slug()?, why: text("why")?, yes: given.get_flag("yes") }),
        _ => Some(TenantVerb::List),
    }
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &'static Product,
    layers: &Layers,
    asked: TenantVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    let config = settings(product).load(layers)?;
    let rng = SystemRng::new();
    let own = config.of_module::<IdentitySettings>().ok_or_else(no_module)?;
    let base = link_base(&config);
    let (lifetime, grace, clock) = (own.invitation_lifetime, own.closed_for, SystemClock);
    let session = OperatorSession::open(&config, &rng, operator::WORK)?;
    let terms = |base| TenantTerms { base, invitation_lifetime: lifetime, clock: &clock, rng: &rng };
    let outcome = match asked {
        TenantVerb::List => list(&session, json).await,
        TenantVerb::Create { new, plan, settings } => match base {
            Some(base) => {
                let table = entitlements(product, &config)?;
                let equipment = (plan.as_deref(), &settings);
                let made = Box::pin(create(&session, (&new, terms(base)), (&table, equipment))).await;
                made.map_err(failed).and_then(|made| show(&made, json))
            }
            None => {
                Err(StartError::new(Exit::Configuration, "Set PUBLIC_URL: the owner's link begins with it"))
            }
        },
        TenantVerb::Move(what, slug, why) => {
            let moved = Box::pin(steer(&session, slug.as_str(), what, &why)).await;
            let told = json!({ "slug": slug.as_str(), "done": true });
            moved.map_err(failed).map(|()| done(json, &told))
        }
        TenantVerb::Erase { slug, yes, .. } if !yes && !confirmed(&question(&slug)) => {
            Err(usage("Nothing is done: it cannot be undone, so say --yes"))
        }
        TenantVerb::Erase { slug, why, .. } => {
            let terms = ErasureTerms { grace, clock: &clock, rng: &rng };
            let begun = Box::pin(erase(&session, slug.as_str(), &why, &terms)).await;
            begun.map_err(failed).map(|()| match json {
                true => print(&json!({ "slug": slug.as_str(), "begun": true }).to_string()),
                false => print("It has begun. A worker does it; 'tenant list' shows when it is done."),
            })
        }
    };
    session.close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn question(slug: &Slug) -> String {
    format!("Erase all data of {} for good? [y/N] ", slug.as_str())
}

async fn erase(
    session: &OperatorSession,
    slug: &str,
    why: &str,
    terms: &ErasureTerms<'_>,
) -> Result<(), Error> {
    let id = operator::find(&mut session.begin(), slug).await?;
    let id = id.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    erasure::begin(|| session.begin(), session.trace(), (id, why), terms).await
}

async fn create(
    session: &OperatorSession,
    (new, terms): (&NewTenant, TenantTerms<'_>),
    (table, equipment): (&EntitlementTable, (Option<&str>, &BTreeMap<String, Value>)),
) -> Result<CreatedTenant, Error> {
    let (mut tx, made) = operator::create(session.begin(), new, terms).await?;
    equip(table, &mut tx, equipment).await?;
    tx.commit().await?;
    Ok(made)
}

async fn steer(session: &OperatorSession, slug: &str, what: TenantMove, why: &str) -> Result<(), Error> {
    let mut tx = session.begin();
    let id = operator::find(&mut tx, slug).await?.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    operator::steer(tx, id, what, why).await
}

async fn list(session: &OperatorSession, json: bool) -> Result<(), StartError> {
    let tenants = operator::list(session.begin(), ("", None), i64::MAX).await.map_err(failed)?;
    if json {
        print(&serde_json::to_string_pretty(&tenants).map_err(internal)?);
    } else if tenants.is_empty() {
        print("There is no tenant yet: erp-backend tenant create SLUG --name TEXT --owner ADDRESS");
    }
    for tenant in tenants.iter().filter(|_| !json) {
        let since = tenant.created_at.strftime("%Y-%m-%d");
        print(&format!("{:<32} {:<10} {since}  {}", tenant.slug, tenant.status, tenant.id));
    }
    Ok(())
}

fn show(made: &CreatedTenant, json: bool) -> Result<(), StartError> {
    if json {
        print(&serde_json::to_string_pretty(made).map_err(internal)?);
        return Ok(());
    }
    let done = if made.created { "is made" } else { "was there, without an owner" };
    let until = made.expires_at.strftime("%Y-%m-%d %H:%M UTC");
    print(&format!(
        "The tenant '{}' {done}. Its first owner chooses a password by this link, once, until {until}:\n\n    {}\n",
        made.slug,
        made.invitation.expose()
    ));
    Ok(())
}

fn no_module() -> StartError {
    StartError::new(Exit::Usage, "The product has no module 'identity'")
}

fn failed(error: Error) -> StartError {
    let code = error.code();
    match code.status {
        404 => StartError::new(Exit::Usage, "There is no such tenant"),
        409 => StartError::new(Exit::Finding, error.told().to_owned()),
        _ if !error.violations().is_empty() => refused(&error),
        _ if code == &core::INVALID => StartError::new(Exit::Usage, code.what),
        _ => unreachable("The tenants cannot be reached", error),
    }
}
