//! One `http` line and one set of metrics a request, whichever way it ends: answered, refused, panicked, or left.
//!
//! Assumes that paths hold no secret: they are logged as they come, and a query, which may hold one, is not. The address is
//! the client's where `TRUSTED_PROXIES` is right (see `client.rs`). It needs a whole app:
//! `crates/server/tests/it/origin/context.rs` shows what it writes, and what not.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, Uri, header};
use http_body::Body as _;
use tracing::Span;

use crate::app::App;
use crate::auth::{Actor, Caller, Identity, Trace};
use crate::error::{Error, ErrorCode};
use crate::logging::redacted;
use crate::middleware::origin::request_id;
use crate::module::Route;
use crate::shared::{OperatorId, TenantId, TraceContext};

/// What nginx logs when the client closed the connection before it was answered.
const CLIENT_LEFT: u16 = 499;
/// The metric's path of requests that no route knows.
const NO_ROUTE: &str = "unmatched";

/// A request between its first and its last byte.
pub(in crate::middleware) struct AccessLogEntry<'edge> {
    app: App,
    span: Span,
    method: Method,
    target: Uri,
    route: Option<&'edge Route>,
    /// Who the token was issued to; the tenant is the one that is worked in.
    identity: Option<Identity>,
    tenant: Option<TenantId>,
    ip: Option<IpAddr>,
    user_agent: Option<HeaderValue>,
    started: Instant,
    answered: bool,
    logged: bool,
}

/// Starts the clock, and the span whose fields are on every line of the request.
pub(in crate::middleware) fn enter<'edge>(
    app: &App,
    trace: &Trace,
    request: &Request,
    logged: bool,
) -> AccessLogEntry<'edge> {
    let span = tracing::info_span!(
        "request",
        correlation_id = &*trace.correlation_id,
        tenant_id = tracing::field::Empty,
        user_id = tracing::field::Empty,
        operator_id = tracing::field::Empty,
        module = tracing::field::Empty,
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty,
    );
    if let Some(TraceContext { trace_id, span_id, .. }) = request_id::shown(trace) {
        span.record("trace_id", tracing::field::display(format_args!("{trace_id:032x}")));
        span.record("span_id", tracing::field::display(format_args!("{span_id:016x}")));
    }
    if app.config.profile().request_details {
        span.in_scope(|| tracing::debug!(headers = redacted(request.headers()), "Request headers"));
    }
    AccessLogEntry {
        app: app.clone(),
        span,
        method: request.method().clone(),
        target: request.uri().clone(),
        route: None,
        identity: None,
        tenant: None,
        ip: trace.client_ip,
        user_agent: request.headers().get(header::USER_AGENT).cloned(),
        started: Instant::now(),
        answered: false,
        logged,
    }
}

impl<'edge> AccessLogEntry<'edge> {
    pub(in crate::middleware) fn span(&self) -> &Span {
        &self.span
    }

    pub(in crate::middleware) fn path(&self) -> &str {
        self.target.path()
    }

    /// The route, once it is known.
    pub(in crate::middleware) fn route(&self) -> Option<&'edge Route> {
        self.route
    }

    pub(in crate::middleware) fn routed(&mut self, route: &'edge Route) {
        self.route = Some(route);
        self.span.record("module", route.module);
    }

    /// Notes whose token it is: who is refused before there is a caller, by a limit for example, is told of all the same.
    pub(in crate::middleware) fn signed_in(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Notes which operator asks, who has no tenant.
    pub(in crate::middleware) fn operated_by(&mut self, operator: OperatorId) {
        self.span.record("operator_id", tracing::field::display(operator));
    }

    pub(in crate::middleware) fn called_by(&mut self, caller: &Caller) {
        self.tenant = Some(caller.tenant());
        self.span.record("tenant_id", tracing::field::display(caller.tenant()));
        if let Actor::Impersonator { operator, .. } = caller.actor() {
            self.operated_by(operator);
        }
        if let Some(principal) = caller.actor().principal() {
            self.span.record("user_id", tracing::field::display(principal));
        }
    }

    /// Logs the cause of an error that the client is not told: once, here.
    pub(in crate::middleware) fn failed(&mut self, error: &Error) {
        if let (None, Some(Identity { tenant, actor, .. })) = (self.tenant, self.identity) {
            self.tenant = Some(tenant);
            self.span.record("tenant_id", tracing::field::display(tenant));
            if let Some(principal) = actor.principal() {
                self.span.record("user_id", tracing::field::display(principal));
            }
        }
        let ErrorCode { code, status, .. } = error.code();
        let _entered = self.span.enter();
        let cause = error.cause();
        match (status, cause) {
            (500, Some(cause)) => {
                let backtrace = error.backtrace().map(tracing::field::display);
                tracing::error!(code, error = cause, backtrace, "Request failed");
            }
            (500, None) => tracing::error!(code, "Request failed"),
            (501.., Some(cause)) => tracing::warn!(code, error = cause, "Request not served"),
            (_, Some(cause)) => tracing::debug!(code, error = cause, "Request refused"),
            _ => {}
        }
    }

    pub(in crate::middleware) fn leave(&mut self, response: &Response) {
        // Of a body that is still being made, streamed or compressed piece by piece, nobody knows yet: no field, and no 0.
        self.finish(response.status().as_u16(), response.body().size_hint().exact());
    }

    fn finish(&mut self, status: u16, bytes: Option<u64>) {
        self.answered = true;
        let elapsed = self.started.elapsed();
        let route = self.route.map_or(NO_ROUTE, |route| route.path);
        if let Some(tenant) = self.tenant {
            self.app.db.loads().ended(tenant, status >= 500);
        }
        self.app.metrics.record_request(self.method.as_str(), route, status, elapsed, self.tenant);
        // Whole microseconds, so that the line shows 3.229 and not 3.2292050000000003.
        let duration = elapsed.as_micros() as f64 / 1000.0;
        if !self.logged {
            return;
        }
        let path = self.target.path();
        let user_agent = self.user_agent.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        // This and the address are put together by hand: `fmt` takes five times as long.
        let message = [self.method.as_str(), " ", path, " ", itoa::Buffer::new().format(status)].concat();
        let _entered = self.span.enter();
        tracing::info!(
            target: "http",
            message,
            method = self.method.as_str(),
            path,
            status_code = status,
            duration,
            bytes,
            ip = self.ip.map(text),
            user_agent,
        );
    }
}

fn text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for octet in address.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

impl Drop for AccessLogEntry<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.finish(CLIENT_LEFT, Some(0));
        }
    }
}
