//! What the verbs of operators have in common: how they narrow what is meant, and ask before they change much.

use std::io::{self, IsTerminal as _, Write as _};
use std::str::FromStr;

use clap::{Arg, ArgAction, Command};
use erp_core::lifecycle::{Exit, StartError};

/// A verb, with what it does.
pub(crate) fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about)
}

/// `--tenant SLUG`.
pub(crate) fn tenant() -> Arg {
    Arg::new("tenant").long("tenant").value_name("SLUG").help("Of this tenant")
}

/// `--limit N`.
pub(crate) fn limit(help: &'static str) -> Arg {
    let range = clap::value_parser!(i64).range(1..=100_000);
    Arg::new("limit").long("limit").value_name("N").value_parser(range).help(help)
}

/// `ID…`, any number of them.
pub(crate) fn ids<I>(help: &'static str) -> Arg
where
    I: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    Arg::new("id").value_name("ID").num_args(0..).value_parser(|text: &str| text.parse::<I>()).help(help)
}

/// `SETTING=VALUE`, of a tenant's settings: the value is JSON, or else text as it stands.
pub(crate) fn assignment(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("SETTING=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// `--why TEXT`.
pub(crate) fn why() -> Arg {
    let text = |text: &str| {
        let good = (1..=500).contains(&text.trim().chars().count()) && !text.chars().any(char::is_control);
        good.then(|| text.trim().to_owned()).ok_or_else(|| "1 to 500 characters".to_owned())
    };
    Arg::new("why")
        .long("why")
        .value_name("TEXT")
        .required(true)
        .value_parser(text)
        .help("For the tenant's audit log")
}

/// `--yes`.
pub(crate) fn yes() -> Arg {
    Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do not ask first")
}

/// Asks on the terminal; without one the answer is no.
pub(crate) fn confirmed(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut answer = String::new();
    let asked = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stdin().read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// A verb that was not said in a way that could be done.
pub(crate) fn usage(message: impl Into<String>) -> StartError {
    StartError::new(Exit::Usage, message)
}
