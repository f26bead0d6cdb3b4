//! The route's access rule.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Request;

use super::authenticate::bearer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{Error, codes};
use crate::module::{Access, Route};

/// Marks a request that came to the management listener.
#[derive(Clone, Copy)]
pub(super) struct Managed;

/// The management listener has operators' routes and probes, and nothing that tenants use.
pub(super) fn check_listener(route: &Route, request: &Request) -> Result<(), Error> {
    if route.is_operators() || !is_managed(request) { Ok(()) } else { Err(Error::new(&codes::NOT_FOUND)) }
}

/// Whether the request came to the management listener.
pub(super) fn is_managed(request: &Request) -> bool {
    request.extensions().get::<Managed>().is_some()
}

/// Whether the caller may use the route.
pub(super) fn check(route: &Route, caller: &Caller) -> Result<(), Error> {
    match route.access {
        Access::Permission(permission) => caller.require(permission),
        Access::SignedIn | Access::Public | Access::Management => Ok(()),
    }
}

/// Whether somebody without a credential may use the route.
///
/// The management surface is open in development and on its own listener. Elsewhere it wants `METRICS_TOKEN` where it has
/// no listener of its own, and is otherwise not there.
pub(super) fn check_stranger(app: &App, route: &Route, request: &Request) -> Result<(), Error> {
    match route.access {
        Access::Public => Ok(()),
        Access::Management if app.config.profile().open_management || is_managed(request) => Ok(()),
        Access::Management if app.config.metrics_port.is_some() => Err(Error::new(&codes::NOT_FOUND)),
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
