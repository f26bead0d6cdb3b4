//! What single settings cannot tell: rules between them. They are judged on what can be read, whatever else is wrong:
//! all problems come in one message.

use super::{Config, PostgresUrl, SslMode};

/// Whether the database that `url` names is reached over a network in a way that may not be encrypted. A URL that cannot
/// be read is a problem of its own.
pub(super) fn in_the_clear(url: &str) -> bool {
    PostgresUrl::parse(url).is_ok_and(|url| url.ssl < SslMode::Require && !url.is_local())
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
        blind.into_iter().collect()
    }
}
