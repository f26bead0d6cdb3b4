//! The request chain: one function that calls each layer's plain functions in order.
//!
//! Not a tower of nested services: that costs four times as much, and hides the order that matters.

mod acceptable;
mod access;
mod access_log;
mod authenticate;
mod cache;
mod client;
mod compression;
pub(crate) mod conditional;
mod cors;
mod custom;
mod deadline;
mod encoder;
mod forwarded;
mod head;
mod header_value;
mod https;
pub(crate) mod idempotency;
mod outside;
mod overload;
mod panic_guard;
pub(crate) mod rate_limit;
mod redirect;
mod request_id;
mod routing;
mod security_headers;
mod size;
mod tenant;
#[cfg(test)]
mod tests;
mod unread;
mod untaken;
mod vary;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use tracing::Instrument as _;

pub use custom::{Application, Peer};
pub(crate) use custom::{Wrap, wrap};
pub(crate) use https::location;
pub use routing::RouteTable;
pub(crate) use unread::Unread;

use crate::app::App;
use crate::auth::{Caller, Identity, Trace};
use crate::error::{self, Error};
use crate::module::{Route, SecurityHeaders};
use client::{Client, Proxies};
use compression::Encoders;
use cors::Cors;
use header_value::header_value;
use https::Https;
use outside::Outside;
use overload::{Capacity, Party};
use routing::Found;
use security_headers::Dressed;

/// What the chain needs: the app, and the table of routes.
pub struct Edge {
    /// The app that handlers get.
    pub app: App,
    /// Every route of every module.
    pub routes: RouteTable,
    switches: Switches,
    proxies: Proxies,
    cors: Option<Cors>,
    https: Option<Https>,
    capacity: Capacity,
    encoders: Encoders,
    /// The chain with custom layers around it, where there are any.
    custom: Option<Application>,
}

/// The layers that can be left out.
pub(crate) struct Switches {
    pub(crate) request_log: bool,
    pub(crate) cors: bool,
    /// The application's headers; `None`: nobody's.
    pub(crate) security_headers: Option<SecurityHeaders>,
    pub(crate) deadline: bool,
    pub(crate) compression: bool,
    pub(crate) rate_limit: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            request_log: true,
            cors: true,
            security_headers: Some(SecurityHeaders::json()),
            deadline: true,
            compression: true,
            rate_limit: true,
        }
    }
}

impl Edge {
    pub(crate) fn new(app: App, routes: RouteTable, switches: Switches, layers: Vec<Wrap>) -> Arc<Self> {
        let proxies = Proxies::new(&app.config.http.trusted_proxies);
        let cors = switches.cors.then(|| Cors::new(&app.config));
        let https = Https::new(&app.config);
        let capacity = Capacity::new(Arc::clone(&app.requests));
        Arc::new_cyclic(|edge| {
            let custom = custom::surround(edge.clone(), Arc::clone(&app.rng), layers);
            let encoders = Encoders::default();
            Self { app, routes, switches, proxies, cors, https, capacity, encoders, custom }
        })
    }

    /// Answers one request, custom middleware first, which may answer itself.
    pub async fn handle(self: Arc<Self>, peer: Peer, request: Request) -> Response {
        let (client, noted) = (self.proxies.client(peer, request.headers()), Outside::note(&request));
        let outcome = match &self.custom {
            None => match panic_guard::around(pin!(self.detach(client, request))).await {
                Ok(response) => return response,
                failed => failed,
            },
            Some(application) => {
                panic_guard::around(custom::through(application.clone(), peer, request)).await
            }
        };
        let mut response = outcome.unwrap_or_else(|error| noted.answer(self.app.rng.as_ref(), &error));
        self.complete(client.https, &mut response);
        response
    }

    /// Answers one request that came to the management listener: operators' routes and probes only, without a token.
    pub async fn manage(self: Arc<Self>, peer: Peer, mut request: Request) -> Response {
        request.extensions_mut().insert(access::Managed);
        self.handle(peer, request).await
    }

    /// Answers one request that came to the listener that leads to HTTPS: with `location`, or a refusal where there is none.
    pub async fn redirect(
        self: Arc<Self>,
        peer: Peer,
        mut request: Request,
        location: Option<HeaderValue>,
    ) -> Response {
        request.extensions_mut().insert(redirect::Elsewhere(location));
        self.handle(peer, request).await
    }

    /// Unsafe methods run to their end whoever hangs up; reads are dropped with the client.
    ///
    /// # Errors
    /// 503 when a hard stop cuts it off.
    async fn detach(self: &Arc<Self>, client: Client, request: Request) -> Result<Response, Error> {
        if request.method().is_safe() {
            return Ok(pin!(self.chain(client, request)).await); // not moved, since it is large
        }
        let edge = Arc::clone(self);
        let work = async move { panic_guard::around(async { Ok(edge.chain(client, request).await) }).await };
        self.app.lifecycle.serve(work).await.ok().flatten().unwrap_or_else(|| Err(Error::unavailable()))
    }

    /// Adds to an answer that the chain has not seen what all answers have.
    fn complete(&self, https: bool, response: &mut Response) {
        let seen = response.extensions_mut().remove::<Dressed>().is_some();
        if let (Some(headers), false) = (&self.switches.security_headers, seen) {
            security_headers::complete(headers, https, response);
        }
        if self.cors.is_some() && !seen {
            vary::add(response.headers_mut(), "Origin");
        }
    }

    /// The chain, outermost layer first.
    async fn chain(&self, client: Client, mut request: Request) -> Response {
        let trace = request_id::enter(self.app.rng.as_ref(), &mut request, client.address);
        let visit = self.cors.as_ref().map(|cors| cors.enter(&request));
        let mut log = access_log::enter(&self.app, &trace, &request, self.switches.request_log);
        let (span, method) = (log.span().clone(), request.method().clone());
        let mut tally = rate_limit::Tally::default();
        // Pinned once, since each layer that takes a future by value moves it, and it is large.
        let outcome = panic_guard::around(pin!(self.answer(&mut log, &mut tally, &trace, client, request)))
            .instrument(span)
            .await;
        let mut response = outcome.unwrap_or_else(|error| {
            log.failed(&error);
            error.render(log.path(), &trace.correlation_id, self.app.config.profile().error_detail)
        });
        if let Some(headers) = self.security_headers(log.route()) {
            security_headers::leave(headers, client.https, &mut response);
        }
        rate_limit::leave(&self.app, &tally, &mut response);
        if let Some(visit) = visit {
            cors::leave(visit, &mut response);
        }
        request_id::leave(&trace, &mut response);
        head::leave(&method, &mut response);
        log.leave(&response);
        response
    }

    /// The route's own headers, or else the application's.
    fn security_headers<'a>(&'a self, route: Option<&'a Route>) -> Option<&'a SecurityHeaders> {
        let ours = self.switches.security_headers.as_ref()?;
        Some(route.and_then(|route| route.security_headers.as_ref()).unwrap_or(ours))
    }

    async fn answer<'a>(
        &'a self,
        log: &mut access_log::Entry<'a>,
        tally: &mut rate_limit::Tally,
        trace: &Trace,
        client: Client,
        request: Request,
    ) -> Result<Response, Error> {
        if let Some(elsewhere) = redirect::enter(&request)? {
            return Ok(elsewhere);
        }
        let limit =
            if self.switches.deadline { self.app.config.traffic.request_timeout } else { Duration::MAX };
        deadline::around(limit, pin!(self.route(log, tally, trace, client, request))).await
    }

    fn compresses(&self) -> bool {
        self.switches.compression && self.app.config.http.compression
    }

    async fn route<'a>(
        &'a self,
        log: &mut access_log::Entry<'a>,
        tally: &mut rate_limit::Tally,
        trace: &Trace,
        client: Client,
        mut request: Request,
    ) -> Result<Response, Error> {
        request.extensions_mut().remove::<Caller>(); // there is one only after this
        let asked = self.look(log, client, &mut request);
        if let Ok(Asked::Route(_, Some(identity))) = &asked {
            log.signed_in(*identity);
        }
        if self.switches.rate_limit
            && let Some(counted) = rate_limit::counted(trace, &asked, &request)
        {
            rate_limit::enter(&self.app, tally, trace, counted).await?;
        }
        let (route, identity) = match asked? {
            Asked::Route(route, identity) => (route, identity),
            Asked::Options(response) | Asked::Redirected(response) => return Ok(response),
        };
        let party =
            identity.map_or(Party::Stranger(client.address), |identity| Party::Tenant(identity.tenant));
        let _place = self.capacity.enter(&self.app, route, party)?; // not while it is held back
        rate_limit::offer(&self.app, tally, trace, route, &mut request);
        let caller = match identity {
            Some(identity) => {
                let caller = tenant::enter(&self.app, identity, trace.clone(), request.headers()).await?;
                log.called_by(&caller);
                access::check(route, &caller)
                    .inspect_err(|error| access::refused(&self.app, route, &caller, error))?;
                Some(caller)
            }
            None => access::check_stranger(&self.app, route, &request).map(|()| None)?,
        };
        acceptable::enter(route, &mut request)?;
        let accepted = compression::enter(self.compresses(), route, request.headers())?;
        let (known, repeatable) = (conditional::enter(&request), request.method().is_safe());
        let outcome = self.call(route, caller.clone(), request).await;
        if let (Err(error), Some(caller)) = (&outcome, &caller)
            && error.code().status == 403
        {
            access::refused(&self.app, route, caller, error);
        }
        let mut response = outcome?;
        cache::leave(route.cache, &mut response);
        acceptable::leave(route, &mut response);
        conditional::leave(&known, &mut response);
        compression::leave(&self.encoders, accepted, self.compresses(), route, &mut response).await?;
        untaken::leave(&self.app, untaken::taker(route, party), repeatable, &mut response)?;
        Ok(response)
    }

    /// The handler's answer, or the one that is kept for the request's key.
    async fn call(
        &self,
        route: &Route,
        caller: Option<Caller>,
        mut request: Request,
    ) -> Result<Response, Error> {
        if let Some(caller) = caller {
            if route.takes_keys()
                && let Some(key) = idempotency::key(request.headers())?
            {
                // Boxed, since few requests come this way and all would carry its size.
                return Box::pin(idempotency::around(&self.app, route, key, &caller, request)).await;
            }
            request.extensions_mut().insert(caller);
        }
        unpack((route.handler)(request, self.app.clone()).await)
    }

    /// What is asked for, and by whom. Whoever is refused here is counted all the same.
    fn look<'a>(
        &'a self,
        log: &mut access_log::Entry<'a>,
        client: Client,
        request: &mut Request,
    ) -> Result<Asked<'a>, Error> {
        unread::check(request)?;
        size::check(request)?;
        let found = self.routes.find(request);
        if let Some(https) = &self.https
            && let Some(redirection) =
                https.check(client, request, found.as_ref().ok().and_then(Found::route))?
        {
            return Ok(Asked::Redirected(redirection));
        }
        let route = match found? {
            Found::Route(route) => route,
            Found::Options(response) => return Ok(Asked::Options(response)),
        };
        access::check_listener(route, request)?;
        log.routed(route);
        Ok(Asked::Route(route, authenticate::enter(&self.app, route, request)?))
    }
}

/// What a request is about, before anything is read for it.
enum Asked<'edge> {
    /// A route, and who asks, if it wants to know.
    Route(&'edge Route, Option<Identity>),
    /// Which methods there are: it is answered already.
    Options(Response),
    /// Plain HTTP: it is answered already.
    Redirected(Response),
}

/// A handler's error travels inside its response; here it becomes an error again, so that there is one way out.
fn unpack(mut response: Response<Body>) -> Result<Response, Error> {
    match response.extensions_mut().remove::<error::Carried>().and_then(|carried| carried.take()) {
        Some(error) => Err(error),
        None => Ok(response),
    }
}
