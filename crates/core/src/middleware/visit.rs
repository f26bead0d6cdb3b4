//! One request on its way through the chain: what the layers have learnt of it, from its first step to its last.

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use tracing::Span;

use super::Edge;
use super::admission::rate_limit::Counted;
use super::admission::{Asked, access, authenticate, rate_limit, size, tenant, unread};
use super::boundary::access_log;
use super::origin::client::Client;
use super::origin::{cors, request_id};
use super::representation::{head, security_headers};
use super::routing::RouteMatch;
use crate::auth::{Caller, Credential, Identity, Operator, Trace};
use crate::error::{Error, codes};
use crate::extract::SelectedTenant;
use crate::module::{Access, BoxFuture, Route, SecurityHeaders};
use crate::shared::{OperatorId, SessionId};
use crate::shares::{Party, RequestUnderWay};

/// A request between its first and its last step.
pub(super) struct Visit<'edge> {
    edge: &'edge Edge,
    client: Client,
    method: Method,
    trace: Trace,
    asking: Option<cors::Asking>,
    log: access_log::AccessLogEntry<'edge>,
    tally: rate_limit::Tally,
    /// Counted among its tenant's as long as it is worked on.
    under_way: Option<RequestUnderWay>,
}

impl<'edge> Visit<'edge> {
    /// Gives the request its ids, and starts its log line and its clock.
    pub(super) fn enter(edge: &'edge Edge, client: Client, request: &mut Request) -> Self {
        let trace = request_id::enter(edge.app.rng.as_ref(), request, client.address);
        let asking = edge.cors.as_ref().map(|cors| cors.enter(request));
        let log = access_log::enter(&edge.app, &trace, request, edge.switches.request_log);
        let tally = rate_limit::Tally::default();
        let method = request.method().clone();
        Self { edge, client, method, trace, asking, log, tally, under_way: None }
    }

    /// The span whose fields are on every line of the request.
    pub(super) fn span(&self) -> Span {
        self.log.span().clone()
    }

    /// What is asked for, and by whom. A request that is refused here counts all the same.
    pub(super) fn look(&mut self, request: &mut Request) -> Result<Asked<'edge>, Error> {
        unread::check(request)?;
        size::check(request)?;
        let found = self.edge.routes.find(request);
        size::check_body(request, found.as_ref().ok().and_then(RouteMatch::route))?;
        if let Some(https) = &self.edge.https {
            let route = found.as_ref().ok().and_then(RouteMatch::route);
            if let Some(redirection) = https.check(self.client, request, route)? {
                return Ok(Asked::Redirected(redirection));
            }
        }
        let route = match found? {
            RouteMatch::Route(route) => route,
            RouteMatch::Options(response) => return Ok(Asked::Options(response)),
        };
        access::check_listener(route, request)?;
        self.log.routed(route);
        let credential = authenticate::enter(
            (self.edge.authentication, self.edge.operators),
            &self.edge.app,
            route,
            request,
        )?;
        if let Credential::Verified(identity) = credential {
            self.log.signed_in(identity);
        }
        Ok(Asked::Route(route, credential))
    }

    /// Whom the request counts for.
    pub(super) fn counted(&self, asked: &Result<Asked<'_>, Error>, request: &Request) -> Option<Counted> {
        if self.edge.switches.rate_limit { rate_limit::counted(&self.trace, asked, request) } else { None }
    }

    /// Counts the request for its limits, and refuses it beyond them.
    pub(super) async fn count(&mut self, counted: Option<Counted>) -> Result<(), Error> {
        let Some(counted) = counted else { return Ok(()) };
        let app = &self.edge.app;
        rate_limit::enter(app, &mut self.tally, &self.trace, counted).await
    }

    /// Whose credential it is. One of which only the database can tell has a stranger's place while it is asked; from then
    /// on the request counts for its principal, and no longer for its address.
    pub(super) async fn identify(
        &mut self,
        route: &Route,
        credential: Credential,
        (counted, request): (Option<Counted>, &mut Request),
    ) -> Result<Option<Identity>, Error> {
        let verdict = match credential {
            Credential::Missing => return Ok(None),
            Credential::Verified(identity) => return Ok(Some(identity)),
            Credential::Unverified(verdict) => verdict,
            Credential::OfOperator(verdict) => {
                self.identify_operator(route, verdict, request).await?;
                return Ok(None);
            }
        };
        let Edge { app, capacity, .. } = self.edge;
        let _place = capacity.enter(app, route, Party::Stranger(self.client.address))?;
        let identity = verdict.await?;
        self.log.signed_in(identity);
        if let Some(counted) = counted {
            let known = (counted, identity);
            // Boxed, since few requests come this way and all would carry its size.
            let counting = rate_limit::enter_verified(app, &mut self.tally, &self.trace, known);
            Box::pin(counting).await?;
        }
        Ok(Some(identity))
    }

    /// Which operator it is, who has no tenant: its requests count for its address, and it stands in the request from here on.
    async fn identify_operator(
        &mut self,
        route: &Route,
        verdict: BoxFuture<'static, Result<(OperatorId, SessionId), Error>>,
        request: &mut Request,
    ) -> Result<(), Error> {
        let Edge { app, capacity, .. } = self.edge;
        let _place = capacity.enter(app, route, Party::Stranger(self.client.address))?;
        let (id, session) = verdict.await?;
        self.log.operated_by(id);
        request.extensions_mut().insert(Operator::new((id, session), self.trace.clone()));
        Ok(())
    }

    /// Gives the handler of a route whose limit counts failures the right to try.
    pub(super) fn offer_attempt(&mut self, route: &Route, request: &mut Request) {
        rate_limit::offer(&self.edge.app, &mut self.tally, &self.trace, route, request);
    }

    /// The caller in the tenant that it works in, if the route may be used.
    pub(super) async fn admit(
        &mut self,
        route: &Route,
        identity: Identity,
        head: (&HeaderMap, Option<&SelectedTenant>),
    ) -> Result<Caller, Error> {
        let app = &self.edge.app;
        let authentication = self.edge.authentication.ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
        let caller = tenant::enter(authentication, app, identity, self.trace.clone(), head).await?;
        self.log.called_by(&caller);
        let checked = app.check_address(&caller).and_then(|()| access::check(route, &caller));
        checked.inspect_err(|error| access::refused(app, route, &caller, error))?;
        self.under_way = Some(app.enter_load(&caller)?);
        app.count_request(&caller)?;
        Ok(caller)
    }

    /// Makes the answer of the outcome, and gives it what all answers have.
    pub(super) fn leave(&mut self, outcome: Result<Response, Error>) -> Response {
        let app = &self.edge.app;
        let mut response = outcome.unwrap_or_else(|error| {
            self.log.failed(&error);
            if app.config.profile().error_detail {
                self.check_contract(&error);
            }
            match self.log.route().and_then(|route| route.refusal) {
                Some(page) => page(app, &self.method, self.log.path(), &error),
                None => {
                    let detail = app.config.profile().error_detail;
                    error.render(self.log.path(), &self.trace.correlation_id, detail)
                }
            }
        });
        if let Some(headers) = self.security_headers() {
            security_headers::leave(headers, self.client.https, &mut response);
        }
        self.tell_deprecation(&mut response);
        rate_limit::leave(app, &self.tally, &mut response);
        if let Some(asking) = self.asking.take() {
            cors::leave(asking, &mut response);
        }
        request_id::leave(&self.trace, &mut response);
        head::leave(&self.method, &mut response);
        self.log.leave(&response);
        response
    }

    /// In development, and so in tests: a refusal that the contract does not know of is a fault of the route's.
    fn check_contract(&self, error: &Error) {
        let declared = self.log.route().and_then(|route| route.refuses.as_ref().map(|codes| (route, codes)));
        if let Some((route, codes)) = declared
            && !codes.contains(&error.code())
        {
            tracing::error!(
                code = error.code().code,
                method = %route.method,
                route = route.path,
                "The contract does not say that the route refuses with this code: the handler returns \
                 Result<…, Refusing<codes::…>>"
            );
        }
    }

    /// Says on every answer of a deprecated route, refusals among them, that it is one. A stranger to an operators' route is
    /// told nothing that a path without a route does not tell.
    fn tell_deprecation(&self, response: &mut Response) {
        if let Some(route) = self.log.route()
            && let Some(deprecation) = route.deprecation()
            && !(matches!(route.access, Access::Management) && response.status() == StatusCode::NOT_FOUND)
        {
            deprecation.apply(response.headers_mut());
        }
    }

    /// The route's own headers, or else the application's.
    fn security_headers(&self) -> Option<&'edge SecurityHeaders> {
        let ours = self.edge.switches.security_headers.as_ref()?;
        Some(self.log.route().and_then(|route| route.security_headers.as_ref()).unwrap_or(ours))
    }
}
