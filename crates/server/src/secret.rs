//! `secret rotate`: another `JWT_SECRET`, and the steps in which it takes the place of the one before.

use std::process::ExitCode;

use clap::Command;
use erp_core::config::new_secret;
use erp_core::lifecycle::StartError;
use erp_core::shared::SystemRng;
use serde_json::json;

use crate::arguments::verb;
use crate::inspect::print;

/// The steps: each is a roll of all instances, which may come one after the other.
const STEPS: [(&str, &str); 3] = [
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
];

/// The verb with those below it.
pub(crate) fn command() -> Command {
    verb("secret", "The secrets of the deployment").arg_required_else_help(true).subcommand(verb(
        "rotate",
        "Make the next JWT_SECRET, and say how to bring it in without a refused token",
    ))
}

/// Prints a new secret and the steps. It changes nothing: secrets are where the operator keeps them.
pub(crate) fn rotate(json: bool) -> Result<ExitCode, StartError> {
    let secret = new_secret(&SystemRng::new());
    let secret = secret.expose();
    if json {
        let steps = STEPS.map(|(what, then)| json!({ "do": what, "then": then }));
        print(&json!({ "secret": secret, "steps": steps }).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("The next secret, shown this once:\n\n  {secret}\n"));
    for (number, (what, then)) in STEPS.iter().enumerate() {
        print(&format!("{}. {what}\n   {then}", number + 1));
    }
    Ok(ExitCode::SUCCESS)
}
