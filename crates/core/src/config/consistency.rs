//! What single settings cannot tell: rules between them.

use super::{Config, PostgresUrl, SslMode};

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
