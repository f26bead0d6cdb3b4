//! What single settings cannot tell: rules between them. They are judged on what can be read, whatever else is wrong:
//! all problems come in one message.

use super::{PostgresUrl, SslMode};

/// Whether the database that `url` names is reached over a network in a way that may not be encrypted. A URL that cannot
/// be read is a problem of its own.
pub(super) fn in_the_clear(url: &str) -> bool {
    PostgresUrl::parse(url).is_ok_and(|url| url.ssl < SslMode::Require && !url.is_local())
}
