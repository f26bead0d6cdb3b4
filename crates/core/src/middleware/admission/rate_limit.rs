//! Limits how much one client may ask, and slows it down before that (L-01 to L-06).
//!
//! One decision a request, over all of its counters at once: with Redis that is one round trip
//! (docs/decisions/0011-one-limit-decision-per-request.md). It comes after a credential that is verified without any
//! input or output, and before everything that costs more. A credential of which only the database can tell is counted
//! twice: first for its address, so that nobody can have the database asked without a limit; and once it is known whose
//! it is, for the principal and its tenant in place of the address. Assumes that the client's address is the client's:
//! `TRUSTED_PROXIES` (see `client.rs`).

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, StatusCode};
use smallvec::SmallVec;

use super::Asked;
use crate::app::App;
use crate::auth::{Credential, Identity, Trace};
use crate::error::{Error, codes};
use crate::extract::HeaderField;
use crate::limits::{Attempt, Charge, CountedIn, Counts, DEFAULT, Policy, Quota, REFUSALS, Standing, Whom};
use crate::middleware::headers;
use crate::middleware::origin::is_managed;
use crate::module::Route;
use crate::shares::Party;

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `RateLimit`, as the contract tells of it.
pub(crate) static FIELD: HeaderField = HeaderField {
    name: "RateLimit",
    what: "The limit nearest to its end, how many requests it has left, and the seconds until there is one more.",
    pattern: Some("^\"[^\"]+\";r=[0-9]+;t=[0-9]+$"),
    example: "\"default\";r=99;t=1",
    always: false,
};
/// `RateLimit-Policy`, as the contract tells of it.
pub(crate) static POLICY_FIELD: HeaderField = HeaderField {
    name: "RateLimit-Policy",
    what: "That limit's requests, and the seconds for which they are.",
    pattern: Some("^\"[^\"]+\";q=[0-9]+;w=[0-9]+$"),
    example: "\"default\";q=100;w=60",
    always: false,
};

/// How long a request waits to hear of its tenant's own limit. What was known last holds while the database cannot tell.
const PATIENCE: Duration = Duration::from_millis(250);

/// What was counted on a request's way in, and is told on its way out.
#[derive(Default)]
pub(in crate::middleware) struct Tally {
    standing: Option<Standing>,
    /// On a route whose limit counts failures.
    attempt: Option<Attempt>,
    /// Where the address's refusals are noted.
    refusals: Option<Charge>,
    /// What the address was charged until it is known whose the credential is. Not inline as where they are made, since few
    /// requests have any and all would carry their size.
    provisional: Option<(Vec<Charge>, CountedIn)>,
}

/// Whom a request counts for.
#[derive(Clone, Copy)]
pub(in crate::middleware) struct Counted {
    address: IpAddr,
    identity: Option<Identity>,
    /// The limit of the route's own.
    own: Option<&'static Policy>,
    /// The credential is still to be verified.
    provisional: bool,
}

/// Whom a request counts for. What is refused before there is a route or an identity counts for its address all the
/// same. What operators and probes use does not count, nor does anything on the management listener.
pub(in crate::middleware) fn counted(
    trace: &Trace,
    asked: &Result<Asked<'_>, Error>,
    request: &Request,
) -> Option<Counted> {
    let (route, credential) = match asked {
        Ok(Asked::Route(route, credential)) => (Some(*route), Some(credential)),
        // Browsers ask before each new path, for everybody in an office, and it costs nothing.
        Ok(Asked::Options(_)) => return None,
        Ok(Asked::Redirected(_)) | Err(_) => (None, None),
    };
    let exempt = is_managed(request) || route.is_some_and(Route::is_management);
    let provisional = matches!(credential, Some(Credential::Unverified(_)));
    let identity = match credential {
        Some(Credential::Verified(identity)) => Some(*identity),
        _ => None,
    };
    let own = route.and_then(|route| route.limit).filter(|policy| policy.counts == Counts::Requests);
    (!exempt).then_some(Counted { address: trace.client_ip?, identity, own, provisional })
}

/// Counts the request, refuses it beyond the limit, and holds it back above half of it.
pub(in crate::middleware) async fn enter(
    app: &App,
    tally: &mut Tally,
    trace: &Trace,
    counted: Counted,
) -> Result<(), Error> {
    let charges = charges(app, trace, &counted).await;
    let (decision, place) = app.limits.decide(&charges).await;
    tally.standing = decision.standing;
    decision.check()?;
    let refused = slow_down(app, tally, &counted).await;
    if refused.is_err() {
        // Nobody pays for finding no place to wait at.
        Box::pin(app.limits.refund(&charges, place)).await;
        tally.standing = tally.standing.map(Standing::with_one_more);
    } else if counted.provisional {
        tally.provisional = Some((charges.into_vec(), place));
    }
    refused
}

/// The second step of a request whose credential only the database could verify: it counts for its principal and its
/// tenant, and no longer for its address.
pub(in crate::middleware) async fn enter_verified(
    app: &App,
    tally: &mut Tally,
    trace: &Trace,
    (counted, identity): (Counted, Identity),
) -> Result<(), Error> {
    if let Some((charges, place)) = tally.provisional.take() {
        app.limits.refund(&charges, place).await;
    }
    let counted = Counted { identity: Some(identity), provisional: false, ..counted };
    enter(app, tally, trace, counted).await
}

/// The counters of a request: of its address, or behind a credential of its person and its office in the tenant.
async fn charges(app: &App, trace: &Trace, counted: &Counted) -> SmallVec<[Charge; 3]> {
    let Counted { address, identity, own, provisional } = *counted;
    let counter =
        |policy: &'static Policy, whom| app.limits.counter(policy, (policy.quota)(&app.config), whom);
    let mut charges = SmallVec::new();
    let member = identity.and_then(|identity| Some((identity, identity.actor.principal()?)));
    let client = if let Some((identity, principal)) = member {
        let quota = tenant_quota(app, identity, trace).await;
        let (office, member) =
            (Whom::Office(identity.tenant, address), Whom::Member(identity.tenant, principal));
        charges.extend([office, member].map(|whom| app.limits.counter(&DEFAULT, quota, whom)));
        member
    } else {
        let stranger = Whom::Stranger(address);
        charges.push(counter(&DEFAULT, stranger));
        stranger
    };
    charges.extend(own.filter(|_| !provisional).map(|policy| counter(policy, client)));
    charges
}

/// The general limit, as it is by the plan of the caller's tenant.
async fn tenant_quota(app: &App, identity: Identity, trace: &Trace) -> Quota {
    let general = (DEFAULT.quota)(&app.config);
    let entitlements = match tokio::time::timeout(PATIENCE, app.entitlements_of(identity.tenant, trace)).await
    {
        Ok(Ok(entitlements)) => entitlements,
        Ok(Err(_)) | Err(_) => app.entitlements.last(identity.tenant).unwrap_or_default(),
    };
    match entitlements.plan().and_then(|plan| plan.rate_limit_max) {
        Some(limit) => general.with_limit(limit),
        None => general,
    }
}

/// Holds the request back when its client has used more than half of its limit, or its address was refused often.
async fn slow_down(app: &App, tally: &mut Tally, counted: &Counted) -> Result<(), Error> {
    if !app.slow_down.is_on() {
        return Ok(());
    }
    let quota = (REFUSALS.quota)(&app.config);
    let refusals = app.limits.counter(&REFUSALS, quota, Whom::Stranger(counted.address));
    let refused = app.slow_down.delay(app.limits.noted(&refusals), quota.limit());
    tally.refusals = Some(refusals);
    let used = tally.standing.map(|standing| app.slow_down.delay(standing.used(), standing.quota.limit()));
    let delay = used.unwrap_or_default().max(refused);
    if delay.is_zero() {
        return Ok(());
    }
    app.metrics.rate_limit_delayed_total.with(&[]).inc();
    let stranger = Party::Stranger(counted.address);
    let party = counted.identity.map_or(stranger, |identity| Party::Tenant(identity.tenant));
    let slept = app.slow_down.pause(delay, party, app.lifecycle.stop_serving());
    Box::pin(slept).await.map_err(|_| {
        let (policy, next) =
            tally.standing.map_or((&DEFAULT, delay), |standing| (standing.policy, standing.next));
        Error::new(&codes::RATE_LIMITED).retry_after(delay.max(next)).violated(vec![policy.name])
    })
}

/// Gives the handler of a route whose limit counts failures the right to try.
pub(in crate::middleware) fn offer(
    app: &App,
    tally: &mut Tally,
    trace: &Trace,
    route: &Route,
    request: &mut Request,
) {
    let policy = route.limit.filter(|policy| policy.counts == Counts::Failures);
    if let (Some(policy), Some(address)) = (policy, trace.client_ip) {
        let attempt = Attempt::new(app.limits.clone(), policy, (policy.quota)(&app.config), address);
        request.extensions_mut().insert(attempt.clone());
        tally.attempt = Some(attempt);
    }
}

/// Notes a refusal, and tells the client where it stands (draft-ietf-httpapi-ratelimit-headers).
pub(in crate::middleware) fn leave(app: &App, tally: &Tally, response: &mut Response) {
    if let Some(refusals) = &tally.refusals
        && is_suspicious(response.status())
    {
        app.limits.note(refusals);
    }
    let attempted = tally.attempt.as_ref().and_then(Attempt::standing);
    let Some(standing) = attempted.or(tally.standing) else { return };
    let name = standing.policy.name;
    let quota = standing.quota;
    let policy = headers::value(format_args!("\"{name}\";q={};w={}", quota.limit(), quota.window_seconds()));
    let next = standing.next.as_micros().div_ceil(1_000_000);
    let left = headers::value(format_args!("\"{name}\";r={};t={next}", standing.remaining));
    for (header, value) in [(&RATE_LIMIT_POLICY, policy), (&RATE_LIMIT, left)] {
        if let Some(value) = value {
            response.headers_mut().insert(header, value);
        }
    }
}

/// What probing brings about. Not what people's work does, such as a conflict, nor the limit's own answer.
fn is_suspicious(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 409 | 412 | 422 | 429)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;
    use uuid::Uuid;

    use super::*;
    use crate::auth::Actor;
    use crate::error::codes;
    use crate::module::{Access, Routes, Surface};
    use crate::shared::{TenantId, UserId};

    static REQUESTS: Policy = Policy::requests("test", |_| Quota::new(1, Duration::from_secs(1)));
    static FAILURES: Policy = Policy::failures("test", |_| Quota::new(1, Duration::from_secs(1)));
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn trace() -> Trace {
        Trace { client_ip: Some(ADDRESS), ..Trace::new("test") }
    }

    fn route(access: Access, surface: Surface, limit: &'static Policy) -> Route {
        let routes = Routes::new().get("/x", access, async || "").surface(surface).limit(limit);
        routes.of("test").next().unwrap()
    }

    fn plain() -> Request {
        Request::new(Body::empty())
    }

    #[test]
    fn l_01_whoever_is_refused_counts_and_operators_and_preflights_do_not() {
        let asked = |asked: Result<Asked<'_>, Error>| counted(&trace(), &asked, &plain());
        for refused in [&codes::NOT_FOUND, &codes::UNAUTHENTICATED, &codes::MALFORMED_REQUEST] {
            assert_eq!(asked(Err(Error::new(refused))).unwrap().address, ADDRESS);
        }
        assert!(asked(Ok(Asked::Redirected(Response::new(Body::empty())))).is_some());
        assert!(asked(Ok(Asked::Options(Response::new(Body::empty())))).is_none());
        for (access, surface, counts) in [
            (Access::Public, Surface::Public, true),
            (Access::SignedIn, Surface::Tenant, true),
            (Access::Public, Surface::Probe, false),
            (Access::Management, Surface::Management, false),
        ] {
            let route = route(access, surface, &REQUESTS);
            assert_eq!(
                asked(Ok(Asked::Route(&route, Credential::Missing))).is_some(),
                counts,
                "{access:?} for {surface:?}"
            );
        }
    }

    #[test]
    fn l_01_the_management_listener_and_what_has_no_address_do_not_count() {
        let mut managed = plain();
        managed.extensions_mut().insert(crate::middleware::origin::Managed);
        let unknown = || Err(Error::new(&codes::NOT_FOUND));
        assert!(counted(&trace(), &unknown(), &managed).is_none());
        assert!(counted(&Trace::new("test"), &unknown(), &plain()).is_none());
    }

    #[test]
    fn l_03_a_member_counts_as_one_and_for_the_routes_limit_only_if_it_counts_requests() {
        let (tenant, user) = (TenantId::from_uuid(Uuid::from_u128(1)), UserId::from_uuid(Uuid::from_u128(2)));
        let identity = Identity::new(tenant, Actor::Person(user));
        for (limit, own) in [(&REQUESTS, true), (&FAILURES, false)] {
            let route = route(Access::SignedIn, Surface::Tenant, limit);
            let asked = Ok(Asked::Route(&route, Credential::Verified(identity)));
            let counted = counted(&trace(), &asked, &plain()).unwrap();
            assert_eq!((counted.identity, counted.own.is_some()), (Some(identity), own), "{limit:?}");
        }
    }

    #[test]
    fn probing_is_suspicious_and_work_that_collides_is_not() {
        for status in [400, 401, 403, 404, 405, 406, 413, 415, 431, 499] {
            assert!(is_suspicious(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 304, 399, 409, 412, 422, 429, 500, 503] {
            assert!(!is_suspicious(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
