//! Reads the credential of a route that wants one, and asks the database for it where only that can tell.
//!
//! Assumes that the way from the client is encrypted (see `https.rs`), since a bearer token is good for everybody who has
//! it; that all instances have the same `JWT_SECRET`; and that their clocks are within a minute of each other.
//! `crates/server/tests/it/admission/tokens.rs` and `grants.rs` show it.

use axum::extract::Request;

use crate::app::App;
use crate::auth::Credential;
use crate::error::{Error, codes};
use crate::module::{Authentication, Route};

/// What the request brings to say who sends it; nothing is looked at on routes that want no member.
///
/// # Errors
/// `core.unauthenticated` where a member is wanted and there is no credential, or one that cannot be read.
pub(in crate::middleware) fn enter(
    authentication: Option<&Authentication>,
    app: &App,
    route: &Route,
    request: &Request,
) -> Result<Credential, Error> {
    if !route.is_members() {
        return Ok(Credential::Missing);
    }
    let unauthenticated = || Error::new(&codes::UNAUTHENTICATED);
    let authentication = authentication.ok_or_else(unauthenticated)?;
    match (authentication.credential)(app, app.system(authentication.system), request.headers())? {
        Credential::Missing => Err(unauthenticated()),
        credential => Ok(credential),
    }
}
