//! What single settings cannot tell: rules between them. They are judged on what can be read, whatever else is wrong:
//! all problems come in one message.

use super::{Config, PostgresUrl, Problem, SslMode};

/// Whether the database that `url` names is reached over a network in a way that may not be encrypted. A URL that cannot
/// be read is a problem of its own.
pub(super) fn in_the_clear(url: &str) -> bool {
    PostgresUrl::parse(url).is_ok_and(|url| url.ssl < SslMode::Require && !url.is_local())
}

/// Settings of the listener's TLS that make no sense without each other; `asked` is whether clients are asked for a
/// certificate.
pub(super) fn half_tls(asked: bool, is_set: impl Fn(&str) -> bool) -> Vec<Problem> {
    let [certificate, key, authorities, redirect] =
        ["TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CLIENT_CA_PATH", "HTTP_REDIRECT_PORT"].map(is_set);
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
            redirect && !certificate,
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

impl Config {
    /// Whether plain HTTP is kept out: `FORCE_HTTPS`, as far as the server can tell how a client came.
    pub fn enforces_https(&self) -> bool {
        self.force_https && (self.tls_cert_path.is_some() || !self.trusted_proxies.is_empty())
    }

    /// What is accepted, and yet hardly what was meant.
    pub fn warnings(&self) -> Vec<&'static str> {
        let blind = self.force_https && !self.enforces_https();
        let blind = blind.then_some(
            "FORCE_HTTPS is on, but without TRUSTED_PROXIES or TLS_CERT_PATH the server cannot tell encrypted requests \
             from plain ones and refuses none: set TRUSTED_PROXIES to the networks of the proxy that ends TLS, or \
             FORCE_HTTPS=false",
        );
        let gullible = self.proxy_protocol && self.trusted_proxies.is_empty();
        let gullible = gullible.then_some(
            "PROXY_PROTOCOL is on, and without TRUSTED_PROXIES whoever reaches the port can claim any address: set \
             TRUSTED_PROXIES to the networks of the load balancer",
        );
        blind.into_iter().chain(gullible).collect()
    }
}
