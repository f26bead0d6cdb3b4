//! The route's access rule.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Request;

use super::authenticate::bearer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{Error, codes};
use crate::module::{Access, Route};

/// Whether the caller may use the route.
pub(super) fn check(route: &Route, caller: &Caller) -> Result<(), Error> {
    match route.access {
        Access::Permission(permission) => caller.require(permission),
        Access::SignedIn | Access::Public | Access::Management => Ok(()),
    }
}

/// Whether somebody without a credential may use the route.
///
/// The management surface is open in development; elsewhere it wants `METRICS_TOKEN`, and is otherwise not there.
pub(super) fn check_stranger(app: &App, route: &Route, request: &Request) -> Result<(), Error> {
    match route.access {
        Access::Public => Ok(()),
        Access::Management if app.config.profile().open_management => Ok(()),
        Access::Management => {
            let token = bearer(request.headers()).ok().flatten().unwrap_or_default();
            let expected = app.config.metrics_token.as_ref();
            let known = expected.is_some_and(|secret| {
                verify_slices_are_equal(secret.expose().as_bytes(), token.as_bytes()).is_ok()
            });
            if known { Ok(()) } else { Err(Error::new(&codes::NOT_FOUND)) }
        }
        Access::SignedIn | Access::Permission(_) => Err(Error::new(&codes::UNAUTHENTICATED)),
    }
}
