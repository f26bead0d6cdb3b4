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
