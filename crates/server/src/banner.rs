//! What a person sees on standard error: the banner, and why the process could not go on.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use erp_core::bootstrap::Running;
use erp_core::lifecycle::StartError;
use erp_core::module::Product;
use erp_core::shared::authority;

/// The reason for an end: one line, or one for each problem, with what lies behind it in brackets when that says more.
pub(crate) fn complain(product: &Product, error: &StartError) {
    let mut text = error.message.clone();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string().replace('\n', " "));
        next = cause.source();
    }
    causes.retain(|cause| !text.contains(cause.as_str()));
    if !causes.is_empty() {
        let _ = write!(text, " ({})", causes.join(": "));
    }
    say(&format!("{} {}\n", paint(&format!("{}:", product.name), "1;31"), spoken(product, &text)));
}

/// A message with the product's name in the commands that it tells a person to type.
pub(crate) fn spoken(product: &Product, message: &str) -> String {
    message.replace("'erp-backend ", &format!("'{} ", product.name))
}

/// The banner of development: what runs where, how isolated it is, and how to sign in.
pub(crate) fn greet(product: &Product, running: &Running) {
    let app = &running.context.edge.app;
    let mut text = String::from("\n");
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {} {value}", paint(&format!("{name:<12}"), "2"));
    };
    row(product.name, &format!("{} · {}", app.version, app.config.process.app_env));
    let scheme = if app.config.transport.certificate().is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{}", authority(&app.config.process.host, running.address.port()));
    row("address", &address);
    if app.mail.is_filed() {
        row("mails", &format!("{address}/dev/mail"));
    }
    row("database", &running.context.database);
    if let Some(proof) = app.proof() {
        row("isolation", &paint(&proof.report.one_line(), "1;32"));
    }
    let phases: Vec<String> =
        running.context.phases.iter().map(|(name, took)| format!("{name} {} ms", took.as_millis())).collect();
    row("started in", &phases.join(" · "));
    let sign_in = sign_in(&app.config.process.data_dir, &address);
    let without = spoken(product, "'erp-backend db seed' makes demo tenants or new passwords for them");
    row("sign in", &sign_in.unwrap_or(without));
    row("stop", "Ctrl-C");
    text.push('\n');
    say(&text);
}

/// A `curl` line that works when pasted.
fn sign_in(data_dir: &Path, address: &str) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("demo-credentials.json")).ok()?;
    let credentials: serde_json::Value = serde_json::from_str(&text).ok()?;
    let owner = credentials.get(0)?;
    let [tenant, email, password] = ["tenant", "email", "password"].map(|name| owner.get(name));
    let (tenant, email, password) = (tenant?, email?, password?);
    let body = format!(r#"{{"tenant":{tenant},"email":{email},"password":{password}}}"#);
    Some(format!("curl -s {address}/api/v1/auth/login -H 'content-type: application/json' -d '{body}'"))
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Colours on a terminal only.
fn paint(text: &str, code: &str) -> String {
    if std::io::stderr().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
