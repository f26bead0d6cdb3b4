//! What single settings cannot tell: rules between them.

use super::{ClientAuth, Config, PostgresUrl, Problem, SslMode};

/// Names of the database URLs that reach another machine over a connection that may not be encrypted.
pub(super) fn in_the_clear(config: &Config) -> Vec<&'static str> {
    let urls = [
        ("DATABASE_URL", config.database_url.as_ref()),
        ("DATABASE_OWNER_URL", config.database_owner_url.as_ref()),
    ];
    let exposed = |url: &PostgresUrl| url.ssl < SslMode::Require && !url.is_local();
    let parsed =
        urls.into_iter().filter_map(|(name, url)| Some((name, PostgresUrl::parse(url?.expose()).ok()?)));
    let exposed = parsed.filter(|(_, url)| exposed(url)).map(|(name, _)| name);
    if config.require_tls { exposed.collect() } else { Vec::new() }
}

/// Settings of the listener's TLS that make no sense without each other.
pub(super) fn half_tls(config: &Config) -> Vec<Problem> {
    let (certificate, key) = (config.tls_cert_path.is_some(), config.tls_key_path.is_some());
    let (asked, authorities) =
        (config.tls_client_auth != ClientAuth::Off, config.tls_client_ca_path.is_some());
    let rules = [
        (certificate && !key, "TLS_KEY_PATH", "is not set, and TLS_CERT_PATH is", "Set both or neither"),
        (key && !certificate, "TLS_CERT_PATH", "is not set, and TLS_KEY_PATH is", "Set both or neither"),
        (
            asked && !authorities,
            "TLS_CLIENT_CA_PATH",
            "is not set, and TLS_CLIENT_AUTH asks for certificates",
            "Set it to a PEM file with the authorities that sign them",
        ),
        (
            authorities && !asked,
            "TLS_CLIENT_AUTH",
            "is off, and TLS_CLIENT_CA_PATH is set",
            "Set it to optional or required, or remove TLS_CLIENT_CA_PATH",
        ),
        (
            asked && !certificate,
            "TLS_CLIENT_AUTH",
            "needs TLS to end here",
            "Set TLS_CERT_PATH and TLS_KEY_PATH",
        ),
        (
            config.http_redirect_port.is_some() && !certificate,
            "HTTP_REDIRECT_PORT",
            "redirects to HTTPS, which is not spoken here",
            "Set TLS_CERT_PATH and TLS_KEY_PATH, or let the proxy redirect",
        ),
    ];
    let broken = rules.into_iter().filter(|(broken, ..)| *broken);
    broken
        .map(|(_, name, message, fix)| Problem {
            name: name.into(),
            message: message.into(),
            fix: fix.into(),
        })
        .collect()
}
