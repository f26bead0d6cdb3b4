//! `secret`: another secret of the deployment, with the steps in which it takes the place of the one before; and the keys that encrypt
//! what tenants have.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use erp_core::bootstrap::{KeysOfTenant, SecretOperator};
use erp_core::config::{Layers, dev_secrets, new_secret};
use erp_core::factory::settings;
use erp_core::lifecycle::{Exit, StartError};
use erp_core::module::Product;
use erp_core::shared::SystemRng;
use serde_json::{Value, json};

use crate::arguments::{confirmed, tenant, verb, yes};
use crate::inspect::{print, unreachable};

/// What is to be done with which secret.
pub(crate) enum SecretVerb {
    /// Another secret, and its steps.
    New(&'static Steps),
    /// Another version of tenants' data keys.
    RotateData(Option<String>),
    Status(Option<String>),
    Rewrap,
    Retire(Option<String>),
    Destroy {
        tenant: String,
        yes: bool,
    },
}

/// How a secret is replaced: each step is a roll of all instances, which may come one after the other.
pub(crate) struct Steps {
    /// What is typed.
    name: &'static str,
    /// What is done, and what holds then.
    steps: &'static [(&'static str, &'static str)],
}

const TOKENS: Steps = Steps {
    name: "tokens",
    steps: &[
        (
            "Set JWT_SECRET_NEXT to it and restart the instances, one after the other.",
            "All of them know the secret, and none signs with it.",
        ),
        (
            "Move JWT_SECRET to JWT_SECRET_PREVIOUS and JWT_SECRET_NEXT to JWT_SECRET, and restart the instances again.",
            "They sign with it. Tokens of either secret are good on each of them.",
        ),
        (
            "After IDENTITY_SESSION_LIFETIME, 30 days unless it is set, remove JWT_SECRET_PREVIOUS.",
            "Who has not come since signs in again. After a leak remove it at once: everybody does.",
        ),
    ],
};

const KEY_ENCRYPTION: Steps = Steps {
    name: "key-encryption",
    steps: &[
        (
            "Set ENCRYPTION_KEY_NEXT to it and restart the instances, one after the other.",
            "All of them open what it wraps, and none wraps with it.",
        ),
        (
            "Move ENCRYPTION_KEY to ENCRYPTION_KEY_PREVIOUS and ENCRYPTION_KEY_NEXT to ENCRYPTION_KEY, and restart the instances again.",
            "They wrap with it. No data is touched.",
        ),
        (
            "Run 'secret rewrap', and once 'secret status' names no other key, remove ENCRYPTION_KEY_PREVIOUS.",
            "Keep the former key as long as a backup that it opens.",
        ),
    ],
};

const WEBHOOKS: Steps = Steps {
    name: "webhooks",
    steps: &[
        (
            "Move WEBHOOK_SECRET to WEBHOOK_SECRET_PREVIOUS, set WEBHOOK_SECRET to it, and restart the instances, one after the other.",
            "What the former one has sealed opens. Endpoints' secrets are encrypted with their tenants' keys, and stay as they are.",
        ),
        (
            "After the next night, when the schedule 'webhooks.nightly' has run, remove WEBHOOK_SECRET_PREVIOUS.",
            "Nothing is left that the former one has sealed.",
        ),
    ],
};

const METRICS: Steps = Steps {
    name: "metrics",
    steps: &[
        (
            "Move METRICS_TOKEN to METRICS_TOKEN_PREVIOUS, set METRICS_TOKEN to it, and restart the instances, one after the other.",
            "Each of them that was restarted takes either.",
        ),
        ("Give it to what scrapes the metrics.", "The former one is not used any more."),
        ("Remove METRICS_TOKEN_PREVIOUS and restart the instances.", "The former one opens nothing."),
    ],
};

const AUDIT_SIGNING: Steps = Steps {
    name: "audit-signing",
    steps: &[
        (
            "Move AUDIT_SIGNING_KEY to AUDIT_SIGNING_KEY_PREVIOUS, set AUDIT_SIGNING_KEY to it, and restart the instances, one after the other.",
            "Each audit log is signed anew with it within a minute after the last restart.",
        ),
        (
            "Give auditors the new public key ('audit export' writes it).",
            "Checkpoints that were taken along before verify with the former public key.",
        ),
        (
            "Remove AUDIT_SIGNING_KEY_PREVIOUS and restart the instances.",
            "Nobody signs with the former key, nor is it believed.",
        ),
    ],
};

/// The secrets that are ours to make. How those of other servers are replaced is told in docs/guides/rotate-secrets.md.
const MADE: [&Steps; 5] = [&TOKENS, &KEY_ENCRYPTION, &WEBHOOKS, &METRICS, &AUDIT_SIGNING];

/// The verb with those below it.
pub(crate) fn command() -> Command {
    let what = Arg::new("what")
        .value_name("WHAT")
        .value_parser(["tokens", "encryption", "key-encryption", "webhooks", "metrics", "audit-signing"])
        .default_value("tokens")
        .help("JWT_SECRET, the data keys of tenants, ENCRYPTION_KEY, WEBHOOK_SECRET, METRICS_TOKEN, or AUDIT_SIGNING_KEY");
    verb("secret", "The secrets of the deployment, and the keys of tenants")
        .arg_required_else_help(true)
        .subcommand(
            verb(
                "rotate",
                "Make another secret, and say how to bring it in; or another version of data keys",
            )
            .args([what, tenant()]),
        )
        .subcommand(
            verb(
                "status",
                "Show the versions of tenants' data keys, and how many rows each of them has encrypted",
            )
            .arg(tenant()),
        )
        .subcommand(verb("rewrap", "Wrap data keys with ENCRYPTION_KEY that another key has wrapped"))
        .subcommand(
            verb("retire", "End the versions of data keys of which no row is left: they open nothing more")
                .arg(tenant()),
        )
        .subcommand(
            verb(
                "destroy",
                "Destroy a tenant's data keys, and with them all that they have encrypted, for ever",
            )
            .args([tenant().required(true), yes()]),
        )
}

/// Reads what stands behind `secret`.
pub(crate) fn read(matches: &ArgMatches) -> Option<SecretVerb> {
    let (name, given) = matches.subcommand()?;
    let text = |name: &str| given.try_get_one::<String>(name).ok().flatten().cloned();
    Some(match (name, text("what").as_deref()) {
        ("rotate", Some("encryption")) => SecretVerb::RotateData(text("tenant")),
        ("rotate", what) => {
            SecretVerb::New(MADE.iter().find(|steps| Some(steps.name) == what).unwrap_or(&&TOKENS))
        }
        ("status", _) => SecretVerb::Status(text("tenant")),
        ("rewrap", _) => SecretVerb::Rewrap,
        ("retire", _) => SecretVerb::Retire(text("tenant")),
        _ => SecretVerb::Destroy {
            tenant: text("tenant")?,
            yes: given.try_get_one::<bool>("yes").ok().flatten().copied().unwrap_or_default(),
        },
    })
}

/// Does what is asked for.
pub(crate) async fn run(
    product: &Product,
    layers: &Layers,
    asked: SecretVerb,
    json: bool,
) -> Result<ExitCode, StartError> {
    if let SecretVerb::New(steps) = asked {
        return Ok(made(steps, json));
    }
    let mut config = settings(product).load(layers)?;
    dev_secrets(&mut config, &SystemRng::new())?; // the key that a server of this machine has
    let operator = SecretOperator::open(&config, Arc::new(SystemRng::new()))?;
    let outcome = Box::pin(perform(&operator, asked, json)).await;
    operator.close().await;
    outcome
}

/// Prints a new secret and the steps. It changes nothing: secrets are where the operator keeps them.
fn made(steps: &Steps, json: bool) -> ExitCode {
    let secret = new_secret(&SystemRng::new());
    let secret = secret.expose();
    if json {
        let told = steps.steps.iter().map(|(what, then)| json!({ "do": what, "then": then }));
        print(
            &json!({ "what": steps.name, "secret": secret, "steps": told.collect::<Vec<_>>() }).to_string(),
        );
        return ExitCode::SUCCESS;
    }
    print(&format!("The next secret, shown this once:\n\n  {secret}\n"));
    for (number, (what, then)) in steps.steps.iter().enumerate() {
        print(&format!("{}. {what}\n   {then}", number + 1));
    }
    ExitCode::SUCCESS
}

async fn perform(operator: &SecretOperator, asked: SecretVerb, json: bool) -> Result<ExitCode, StartError> {
    match asked {
        SecretVerb::New(steps) => Ok(made(steps, json)),
        SecretVerb::RotateData(slug) => rotate(operator, slug.as_deref(), json).await,
        SecretVerb::Status(slug) => status(operator, slug.as_deref(), json).await,
        SecretVerb::Rewrap => rewrap(operator, json).await,
        SecretVerb::Retire(slug) => retire(operator, slug.as_deref(), json).await,
        SecretVerb::Destroy { tenant, yes } => destroy(operator, &tenant, yes, json).await,
    }
}

async fn tenants(operator: &SecretOperator, slug: Option<&str>) -> Result<Vec<KeysOfTenant>, StartError> {
    let tenants = operator.tenants(slug).await.map_err(failed)?;
    match slug {
        Some(slug) if tenants.is_empty() => {
            Err(StartError::new(Exit::Usage, format!("There is no tenant '{slug}' that has a data key")))
        }
        _ => Ok(tenants),
    }
}

async fn rotate(operator: &SecretOperator, slug: Option<&str>, json: bool) -> Result<ExitCode, StartError> {
    let mut told = Vec::new();
    for KeysOfTenant { id, slug } in tenants(operator, slug).await? {
        let version = operator.rotate(id).await.map_err(failed)?;
        if let (Some(version), false) = (version, json) {
            print(&format!("{slug:<24} version {version} encrypts, on all instances within 60 s"));
        }
        told.push(json!({ "tenant": slug, "version": version }));
    }
    if json {
        print(&Value::from(told).to_string());
    } else {
        print(
            "What the versions before have encrypted is encrypted anew by the jobs 'encryption.rewrap': see 'secret status'.",
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(operator: &SecretOperator, slug: Option<&str>, json: bool) -> Result<ExitCode, StartError> {
    let mut told = Vec::new();
    for KeysOfTenant { id, slug } in tenants(operator, slug).await? {
        let (versions, of_before) = operator.status(id).await.map_err(failed)?;
        for key in versions.iter().filter(|_| !json) {
            let state = match (key.destroyed, key.retired) {
                (true, _) => "destroyed",
                (_, true) => "retired",
                _ => "in use",
            };
            let by = key.wrapped_by.as_deref().unwrap_or("-");
            print(&format!(
                "{slug:<24} v{:<6} {state:<10} {:>12} rows  wrapped by {by}",
                key.version, key.rows
            ));
        }
        if of_before > 0 && !json {
            print(&format!("{slug:<24} {of_before} secrets are in the form from before: they move at night"));
        }
        told.push(json!({ "tenant": slug, "versions": versions, "ofBefore": of_before }));
    }
    if json {
        print(&json!({ "wrapsWith": operator.current(), "tenants": told }).to_string());
    } else if let Some(current) = operator.current() {
        print(&format!("ENCRYPTION_KEY is {current}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn rewrap(operator: &SecretOperator, json: bool) -> Result<ExitCode, StartError> {
    let (wrapped, unopened) = operator.rewrap().await.map_err(failed)?;
    if json {
        print(&json!({ "wrapped": wrapped, "unopened": unopened }).to_string());
    } else {
        print(&format!("{wrapped} data keys are wrapped anew, and {unopened} do not open"));
    }
    Ok(ExitCode::from(if unopened == 0 { Exit::Done } else { Exit::Finding } as u8))
}

async fn retire(operator: &SecretOperator, slug: Option<&str>, json: bool) -> Result<ExitCode, StartError> {
    let mut told = Vec::new();
    for KeysOfTenant { id, slug } in tenants(operator, slug).await? {
        let versions = operator.retire(id).await.map_err(failed)?;
        for version in versions.iter().filter(|_| !json) {
            print(&format!("{slug:<24} v{version} is retired"));
        }
        told.push(json!({ "tenant": slug, "retired": versions }));
    }
    if json {
        print(&Value::from(told).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

async fn destroy(
    operator: &SecretOperator,
    slug: &str,
    yes: bool,
    json: bool,
) -> Result<ExitCode, StartError> {
    let tenants = tenants(operator, Some(slug)).await?;
    let question = format!("Destroy all that is encrypted of the tenant '{slug}', for ever?");
    if !yes && !confirmed(&question) {
        return Err(StartError::new(Exit::Usage, "Nothing was destroyed: say --yes"));
    }
    let mut destroyed = 0;
    for tenant in tenants {
        destroyed += operator.destroy(tenant.id).await.map_err(failed)?;
    }
    if json {
        print(&json!({ "tenant": slug, "destroyed": destroyed }).to_string());
    } else {
        print(&format!(
            "{destroyed} versions are destroyed: within 60 s what they have encrypted opens nowhere"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: erp_core::error::Error) -> StartError {
    unreachable("The keys of tenants cannot be looked at", error)
}
