//! Reads the credential of a route that wants one, and asks the database for it where only that can tell.
//!
//! Assumes that the way from the client is encrypted (see `https.rs`), since a bearer token is good for everybody who has
//! it; that all instances have the same `JWT_SECRET`; and that their clocks are within a minute of each other.
//! `crates/server/tests/it/admission/tokens.rs` and `grants.rs` show it.

use axum::extract::Request;

use crate::app::App;
use crate::auth::Credential;
use crate::error::{Error, codes};
use crate::module::{Authentication, OperatorAuthentication, Route};

/// What the request brings to say who sends it; nothing is looked at on routes that want nobody.
///
/// # Errors
/// `core.unauthenticated` where a member or an operator is wanted and there is no credential, or one that cannot be read.
pub(in crate::middleware) fn enter(
    (authentication, operators): (Option<&Authentication>, Option<&OperatorAuthentication>),
    app: &App,
    route: &Route,
    request: &Request,
) -> Result<Credential, Error> {
    let unauthenticated = || Error::new(&codes::UNAUTHENTICATED);
    let read = if route.is_operators() {
        let operators = operators.ok_or_else(unauthenticated)?;
        (operators.credential)(app, app.system(operators.system), request.headers())?
    } else if route.is_members() {
        let authentication = authentication.ok_or_else(unauthenticated)?;
        (authentication.credential)(app, app.system(authentication.system), request.headers())?
    } else {
        return Ok(Credential::Missing);
    };
    match read {
        Credential::Missing => Err(unauthenticated()),
        credential => Ok(credential),
    }
}
