//! The route's access rule.
//!
//! Assumes that only operators reach `METRICS_PORT`, where nobody is asked for a token, and that nobody but its developer
//! reaches a server in development. What strangers may do elsewhere is shown by `crates/server/tests/it/admission/management.rs`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Request;

use crate::app::{App, Denial};
use crate::auth::{Actor, Caller, Operator, bearer};
use crate::error::{Error, codes};
use crate::middleware::origin::{has_no_api, is_managed};
use crate::module::{Access, Route};

/// Refuses a route of tenants on the management listener, and in a process that serves no API: there operators' routes and
/// probes are all that is answered.
pub(in crate::middleware) fn check_listener(route: &Route, request: &Request) -> Result<(), Error> {
    if route.is_management() || !has_no_api(request) { Ok(()) } else { Err(Error::new(&codes::NOT_FOUND)) }
}

/// Whether the caller may use the route.
pub(in crate::middleware) fn check(route: &Route, caller: &Caller) -> Result<(), Error> {
    if route.is_for_oneself() && matches!(caller.actor(), Actor::Impersonator { .. }) {
        return Err(Error::new(&codes::IMPERSONATED));
    }
    if let Some(action) = caller.required().before(route.opens_for) {
        return Err(Error::new(action.code()));
    }
    match route.access {
        Access::Permission(permission) => caller.require(permission),
        Access::SignedIn | Access::Public | Access::Management | Access::Operator => Ok(()),
    }
}

/// Tells the security desk and the tenant's auditor of a caller whom [`check`] or the route's handler has refused, and why. The
/// client is told the code, and in development the permission.
#[cold]
pub(in crate::middleware) fn refused(app: &App, route: &Route, caller: &Caller, error: &Error) {
    let action = match (error.needed(), route.access) {
        (Some(needed), _) => needed,
        (None, Access::Permission(permission)) => permission.name,
        (None, Access::SignedIn | Access::Public | Access::Management | Access::Operator) => "core.call",
    };
    let target = format!("{} {}", route.method, route.path);
    crate::security_event!(
        crate::logging::Severity::Medium,
        "Access denied",
        action = action,
        code = error.code().code,
        why = why(caller, error),
        principal = %caller.actor(),
        ip = caller.trace().client_ip.map(|ip| ip.to_string()),
        role = caller.permissions().roles().join(" ").as_str(),
        target = target.as_str(),
    );
    let denial = Denial {
        tenant: caller.tenant(),
        actor: caller.actor(),
        action,
        resource: "route",
        resource_id: Some(target),
        outcome: "denied",
        code: error.code().code,
    };
    app.deny(denial, caller.trace());
}

/// Why a caller is refused. `erp-backend access explain` says by which role somebody could have the permission.
fn why<'a>(caller: &Caller, error: &'a Error) -> &'a str {
    if error.code() != &codes::FORBIDDEN || error.needed().is_none() {
        return error.told();
    }
    match caller.actor() {
        Actor::Key(_) => "It is beyond the key's scopes, or beyond its owner's roles",
        _ if caller.permissions().roles().is_empty() => "The caller has no role",
        _ => "None of the caller's roles has the permission",
    }
}

/// Tells of a caller whom the route's handler has refused.
pub(in crate::middleware) fn note_refusal(app: &App, route: &Route, caller: Option<&Caller>, error: &Error) {
    if let Some(caller) = caller.filter(|_| error.code().status == 403) {
        refused(app, route, caller, error);
    }
}

/// Whether somebody without a member's credential may use the route.
///
/// The management surface is open in development and on its own listener. Elsewhere it wants `METRICS_TOKEN` where it has
/// no listener of its own, and is otherwise not there.
pub(in crate::middleware) fn check_stranger(
    app: &App,
    route: &Route,
    request: &Request,
) -> Result<(), Error> {
    match route.access {
        Access::Public => Ok(()),
        Access::Management if app.config.profile().open_management || is_managed(request) => Ok(()),
        Access::Management if app.config.process.metrics_port.is_some() => Err(Error::new(&codes::NOT_FOUND)),
        Access::Management => {
            let token = bearer(request.headers()).ok().flatten().unwrap_or_default();
            let metrics = &app.config.metrics;
            let known =
                metrics.token.iter().chain(&metrics.token_previous).any(|secret| {
                    verify_slices_are_equal(secret.expose().as_bytes(), token.as_bytes()).is_ok()
                });
            if known { Ok(()) } else { Err(Error::new(&codes::NOT_FOUND)) }
        }
        Access::Operator if request.extensions().get::<Operator>().is_some() => Ok(()),
        Access::Operator | Access::SignedIn | Access::Permission(_) => {
            Err(Error::new(&codes::UNAUTHENTICATED))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use uuid::Uuid;

    use super::*;
    use crate::auth::{Grants, Permission, PermissionTable, Role, Trace};
    use crate::middleware::origin::Managed;
    use crate::module::{Routes, Surface};
    use crate::shared::{TenantId, UserId};

    static PERMISSION: Permission = Permission {
        name: "test.thing.change",
        what: "",
        roles: &[Role::Owner, Role::Member],
        owners_alone: false,
    };

    fn route(access: Access) -> Routes {
        Routes::new().get("/x", access, async || "")
    }

    fn one(access: Access) -> Route {
        route(access).of("test").next().unwrap()
    }

    #[test]
    fn the_management_listener_has_what_operators_ask_for_and_nothing_else() {
        let plain = Request::new(Body::empty());
        let mut managed = Request::new(Body::empty());
        managed.extensions_mut().insert(Managed);
        for (routes, there) in [
            (route(Access::Management), true),
            (route(Access::Public).surface(Surface::Probe), true),
            (route(Access::Public).surface(Surface::Management), true),
            (route(Access::Public), false),
            (route(Access::SignedIn), false),
            (route(Access::Operator), false),
            (route(Access::Permission(&PERMISSION)), false),
        ] {
            let route = routes.of("test").next().unwrap();
            let refused = check_listener(&route, &managed).map_err(|error| error.code().code);
            let expected = if there { Ok(()) } else { Err("core.not_found") };
            assert_eq!(refused, expected, "{:?} for {:?}", route.access, route.surface);
            assert!(check_listener(&route, &plain).is_ok(), "{:?}", route.surface);
        }
    }

    #[test]
    fn a_role_without_the_permission_is_refused_and_every_member_is_signed_in() {
        for (role, may) in [(Role::Owner, true), (Role::Member, true), (Role::ReadOnly, false)] {
            let (tenant, user) =
                (TenantId::from_uuid(Uuid::from_u128(1)), UserId::from_uuid(Uuid::from_u128(2)));
            let table = Arc::new(PermissionTable::new([&PERMISSION]));
            let permissions = table.resolve(&Grants { built_in: vec![role], ..Grants::default() });
            let caller = Caller::new(tenant, Actor::Person(user), permissions, Trace::new("test"));
            let outcome = check(&one(Access::Permission(&PERMISSION)), &caller);
            let refused = outcome.map_err(|error| error.code().code);
            assert_eq!(refused, if may { Ok(()) } else { Err("core.forbidden") }, "{role}");
            assert!(check(&one(Access::SignedIn), &caller).is_ok(), "{role}");
        }
    }
}
