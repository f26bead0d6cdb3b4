//! The request chain: one function that calls each layer's plain functions in order.
//!
//! Not a tower of nested services: that costs four times as much, and hides the order that matters.

mod headers;

pub(crate) mod origin;

pub(crate) mod admission;

pub(crate) mod representation;

mod boundary;

mod routing;

pub(crate) mod idempotency;

mod visit;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use tracing::Instrument as _;

pub(crate) use admission::unread::Unread;
pub use boundary::custom::Application;
pub(crate) use boundary::custom::{Wrap, wrap};
pub use origin::Peer;
pub(crate) use origin::https::location;
pub use routing::RouteTable;

use admission::overload::Capacity;
use admission::{Asked, access, csrf, fields};
use boundary::outside::Outside;
use boundary::{custom, deadline, panic_guard};
use origin::client::{Client, TrustedProxies};
use origin::cors::Cors;
use origin::https::Https;
use origin::{Managed, WithoutApi, redirect, selection};
use representation::compression::Encoders;
use representation::security_headers::HeadersSet;
use representation::{acceptable, cache, compression, conditional, security_headers, untaken};
use visit::Visit;

use crate::app::App;
use crate::auth::{Caller, Operator};
use crate::error::Error;
use crate::module::{Authentication, OperatorAuthentication, SecurityHeaders};
use crate::shares::Party;

/// What the chain needs: the app, and the table of routes.
pub struct Edge {
    /// The app that handlers get.
    pub app: App,
    /// Every route of every module.
    pub routes: RouteTable,
    authentication: Option<&'static Authentication>,
    operators: Option<&'static OperatorAuthentication>,
    switches: Switches,
    proxies: TrustedProxies,
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
    /// How the product tells who asks, and what they may do.
    pub(crate) fn authentication(&self) -> Option<&'static Authentication> {
        self.authentication
    }

    pub(crate) fn new(
        app: App,
        routes: RouteTable,
        (authentication, operators): (
            Option<&'static Authentication>,
            Option<&'static OperatorAuthentication>,
        ),
        switches: Switches,
        layers: Vec<Wrap>,
    ) -> Arc<Self> {
        let proxies = TrustedProxies::new(&app.config.http.trusted_proxies);
        let cors = switches.cors.then(|| Cors::new(&app.config));
        let https = Https::new(&app.config);
        let capacity = Capacity::new(Arc::clone(&app.requests));
        Arc::new_cyclic(|edge: &Weak<Self>| {
            let custom = custom::surround(innermost(edge.clone()), Arc::clone(&app.rng), layers);
            let encoders = Encoders::default();
            Self {
                app,
                routes,
                authentication,
                operators,
                switches,
                proxies,
                cors,
                https,
                capacity,
                encoders,
                custom,
            }
        })
    }

    /// Answers one request, custom middleware first, which may answer itself.
    pub async fn handle(self: Arc<Self>, peer: Peer, request: Request) -> Response {
        let client = self.proxies.client(peer, request.headers());
        let noted = Outside::note(&request);
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
        request.extensions_mut().insert(Managed);
        self.handle(peer, request).await
    }

    /// Answers one request to a process that serves no API: the same routes as there, with the token where one is wanted.
    pub async fn probe(self: Arc<Self>, peer: Peer, mut request: Request) -> Response {
        request.extensions_mut().insert(WithoutApi);
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

    /// Unsafe methods run to their end, even when the client hangs up; reads are dropped with the client.
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
        let seen = response.extensions_mut().remove::<HeadersSet>().is_some();
        if let (Some(headers), false) = (&self.switches.security_headers, seen) {
            security_headers::complete(headers, https, response);
        }
        if self.cors.is_some() && !seen {
            headers::vary(response.headers_mut(), "Origin");
        }
    }

    /// The chain, outermost layer first.
    async fn chain(&self, client: Client, mut request: Request) -> Response {
        let mut visit = Visit::enter(self, client, &mut request);
        let span = visit.span();
        selection::enter(self.app.config.http.tenant_domain.as_ref(), &mut request);
        let limit = self.time_limit(&request);
        // Each future is pinned where it is made: a local of it would be held twice, and it is large. What the deadline cuts
        // off is dropped inside the span: the lines of its statements carry the request's id.
        let outcome = {
            let work = pin!(async {
                let steps = pin!(async {
                    if let Some(elsewhere) = redirect::enter(&request)? {
                        return Ok(elsewhere);
                    }
                    request.extensions_mut().remove::<Caller>(); // there is one only after this
                    request.extensions_mut().remove::<Operator>();
                    let asked = visit.look(&mut request);
                    let counted = visit.counted(&asked, &request);
                    visit.count(counted).await?;
                    let (route, credential) = match asked? {
                        Asked::Route(route, credential) => (route, credential),
                        Asked::Options(response) | Asked::Redirected(response) => return Ok(response),
                    };
                    let identity = visit.identify(route, credential, (counted, &mut request)).await?;
                    let party =
                        identity.map_or(Party::Stranger(client.address), |who| Party::Tenant(who.tenant));
                    let _place = self.capacity.enter(&self.app, route, party)?; // not while it is held back
                    csrf::check(&self.app, route, &request, identity)?;
                    visit.offer_attempt(route, &mut request);
                    let caller = match identity {
                        Some(identity) => {
                            let head = (request.headers(), request.extensions().get());
                            Some(visit.admit(route, identity, head).await?)
                        }
                        None => access::check_stranger(&self.app, route, &request).map(|()| None)?,
                    };
                    let concealed =
                        fields::enter(&self.app, route, caller.as_ref(), request.uri().query()).await;
                    let concealed = concealed.inspect_err(|error| {
                        access::note_refusal(&self.app, route, caller.as_ref(), error);
                    })?;
                    let caller = concealed.as_ref().map_or(caller, fields::Concealed::caller);
                    acceptable::enter(route, &mut request)?;
                    let accepted = compression::enter(self.compresses(), route, request.headers())?;
                    let known = conditional::enter(&request);
                    let repeatable = request.method().is_safe();
                    let outcome = idempotency::around(&self.app, route, caller.as_ref(), request).await;
                    let mut response =
                        outcome.map_err(|error| self.app.constraints.name(error)).inspect_err(|error| {
                            access::note_refusal(&self.app, route, caller.as_ref(), error);
                        })?;
                    response = fields::leave(concealed, response).await?;
                    cache::leave(route.cache, &mut response);
                    acceptable::leave(route, &mut response);
                    conditional::leave(&known, &mut response);
                    compression::leave(&self.encoders, accepted, self.compresses(), route, &mut response)
                        .await?;
                    untaken::leave(&self.app, untaken::taker(route, party), repeatable, &mut response)?;
                    Ok(response)
                });
                deadline::around(limit, steps).await
            });
            panic_guard::around(work).instrument(span).await
        };
        visit.leave(outcome)
    }

    fn time_limit(&self, request: &Request) -> Duration {
        match self.switches.deadline {
            false => Duration::MAX,
            true if self.routes.sends_a_file(request) => idempotency::longest(&self.app, true),
            true => idempotency::longest(&self.app, false),
        }
    }

    fn compresses(&self) -> bool {
        self.switches.compression && self.app.config.http.compression
    }
}

/// The chain of an edge, as custom layers call it. A layer that outlives the server finds no edge any more.
fn innermost(edge: Weak<Edge>) -> custom::Innermost {
    Arc::new(move |peer, request| {
        let edge = edge.upgrade();
        Box::pin(async move {
            let gone = || Error::internal("a custom layer kept a request beyond the server's end");
            let edge = edge.ok_or_else(gone)?;
            edge.detach(edge.proxies.client(peer, request.headers()), request).await
        })
    })
}
