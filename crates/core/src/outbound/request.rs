//! One call: what is sent, how often, and what is noted of it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::destination::{Aim, OutboundTarget, origin};
use super::known::DestinationKey;
use super::{BreakerChange, Outbound, OutboundError, OutboundResponse};
use crate::auth::Trace;

/// Most bytes of a body that is sent, and of one that is answered unless the caller says otherwise.
const MOST_SENT: usize = 10 * 1024 * 1024;
const MOST_ANSWERED: usize = 1024 * 1024;
/// How often a call is sent at most.
const MOST_ATTEMPTS: u32 = 3;
/// The longest wait before the first repetition; doubled for the second. Any shorter wait is as likely.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// A call that is about to be sent: see [`Outbound::request`].
#[must_use = "nothing is sent before `send`"]
pub struct OutboundRequest<'a> {
    outbound: &'a Outbound,
    method: Method,
    aim: Aim,
    headers: HeaderMap,
    body: Bytes,
    fault: Option<Box<dyn std::error::Error + Send + Sync>>,
    within: Duration,
    most: usize,
    attempts: u32,
}

impl<'a> OutboundRequest<'a> {
    pub(super) fn new(outbound: &'a Outbound, trace: &Trace, method: Method, target: OutboundTarget) -> Self {
        let OutboundTarget(aim) = target;
        let attempts = if method.is_idempotent() { MOST_ATTEMPTS } else { 1 };
        let headers = traced(trace, &aim);
        let within = outbound.0.timeout;
        let (body, fault, most) = (Bytes::new(), None, MOST_ANSWERED);
        Self { outbound, method, aim, headers, body, fault, within, most, attempts }
    }

    /// Sends a header along.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(self.headers.insert(name, value)),
            (Err(error), _) => self.fault = Some(error.into()),
            (_, Err(error)) => self.fault = Some(error.into()),
        }
        self
    }

    /// Sends a body along, of at most 10 MiB.
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body.into();
        self
    }

    /// Sends a value along as JSON.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body("application/json", body),
            Err(error) => {
                self.fault = Some(error.into());
                self
            }
        }
    }

    /// How long all of it may take: connections, repetitions, and the answer to its last byte. Default: `OUTBOUND_TIMEOUT`.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Most bytes that the body of the answer may have. Default: 1 MiB.
    pub fn most(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
    }

    /// Lets the call be repeated though its method is not idempotent (RFC 9110, 9.2.2): the destination must recognise a
    /// repetition, for instance by a key that is sent along.
    pub fn repeatable(mut self) -> Self {
        self.attempts = MOST_ATTEMPTS;
        self
    }

    /// Sends the call once only, whatever becomes of it: for callers that have a schedule of their own.
    pub fn once(mut self) -> Self {
        self.attempts = 1;
        self
    }

    /// Sends the call and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// As [`OutboundError`] tells. What became of the last attempt is told.
    pub async fn send(self) -> Result<OutboundResponse, OutboundError> {
        let mut note = Note::of(&self);
        let result = self.exchange(&mut note).await;
        note.finish(result.as_ref());
        result
    }

    async fn exchange(&self, note: &mut Note<'_>) -> Result<OutboundResponse, OutboundError> {
        if let Some(fault) = &self.fault {
            return Err(OutboundError::Malformed(fault.to_string().into()));
        }
        let url = self.aim.url().map_err(|fault| OutboundError::Malformed(fault.into()))?;
        if self.body.len() > MOST_SENT {
            return Err(OutboundError::Malformed("the body is larger than 10 MiB".into()));
        }
        if !self.outbound.0.policy.sends(url) {
            return Err(OutboundError::Held);
        }
        let key = DestinationKey::of(&self.aim, url);
        self.outbound.0.known.admit(&key).map_err(OutboundError::LeftAlone)?;
        let deadline = Instant::now() + self.within;
        loop {
            note.attempts += 1;
            let attempt = timeout_at(deadline, self.attempt(url));
            let result = attempt.await.unwrap_or(Err(OutboundError::TimedOut));
            self.judge(&key, &result);
            let Some(wait) = self.wait(&result, note.attempts) else { return result };
            let comes_in_time = Instant::now() + wait < deadline;
            if !comes_in_time || !self.may_repeat(&key) {
                return result;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, url: &Url) -> Result<OutboundResponse, OutboundError> {
        let client = self.outbound.client(&self.aim).await?;
        let request = client.request(self.method.clone(), url.clone()).headers(self.headers.clone());
        let response = request.body(self.body.clone()).send().await.map_err(OutboundError::of)?;
        OutboundResponse::read(response, self.most).await
    }

    /// Tells the breaker.
    fn judge(&self, key: &DestinationKey, result: &Result<OutboundResponse, OutboundError>) {
        let failed = match result {
            Ok(response) => response.status.is_server_error(),
            Err(error) => error.is_failure(),
        };
        let Some(change) = self.outbound.0.known.note(key, failed) else { return };
        let name = self.aim.name();
        let open = self.outbound.0.known.open(name);
        self.outbound.0.metrics.outbound_breakers_open.with(&[name]).set(open as f64);
        match (change, self.aim.tenant()) {
            // Of tenants' URLs there are many, and they fail as they please.
            (change, Some(_)) => tracing::debug!(?change, "The breaker of a tenant's URL has changed"),
            (BreakerChange::Opened, None) => {
                tracing::warn!(destination = name, "A destination fails, and is left alone");
            }
            (BreakerChange::Closed, None) => {
                tracing::info!(destination = name, "A destination answers again");
            }
        }
    }

    /// How long to wait before the call is repeated; `None` if it is not to be.
    fn wait(&self, result: &Result<OutboundResponse, OutboundError>, made: u32) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let longest = FIRST_WAIT * 2_u32.pow(made - 1);
        let wait = longest.mul_f64(self.outbound.dice());
        match result {
            Err(OutboundError::Unreachable(_) | OutboundError::Broken(_)) => Some(wait),
            Ok(response) if is_passing(response.status) => {
                let asked = response.retry_after(self.outbound.0.clock.now());
                Some(wait.max(asked.unwrap_or_default()))
            }
            Ok(_) | Err(_) => None,
        }
    }

    fn may_repeat(&self, key: &DestinationKey) -> bool {
        let granted = self.outbound.0.known.repeats(key);
        let outcome = if granted { "sent" } else { "over_budget" };
        self.outbound.0.metrics.outbound_retries_total.with(&[self.aim.name(), outcome]).inc();
        granted
    }
}

/// Statuses that say that the same call may succeed in a moment.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// The place of the call in its trace. What other systems have noted of it (`tracestate`) is for the operator's own.
fn traced(trace: &Trace, aim: &Aim) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(Ok(context)) = trace.context.map(|context| HeaderValue::try_from(context.to_string())) {
        headers.insert("traceparent", context);
        if let (Some(state), None) = (&trace.state, aim.tenant())
            && let Ok(state) = HeaderValue::try_from(&**state)
        {
            headers.insert("tracestate", state);
        }
    }
    headers
}

/// What is noted of one call when it ends, also when its caller gives it up.
struct Note<'a> {
    outbound: &'a Outbound,
    aim: Aim,
    method: Method,
    begun: Instant,
    attempts: u32,
    finished: bool,
}

impl<'a> Note<'a> {
    fn of(request: &OutboundRequest<'a>) -> Self {
        let OutboundRequest { outbound, aim, method, .. } = request;
        let (attempts, finished) = (0, false);
        Self { outbound, aim: aim.clone(), method: method.clone(), begun: Instant::now(), attempts, finished }
    }

    fn finish(mut self, result: Result<&OutboundResponse, &OutboundError>) {
        self.finished = true;
        match result {
            Ok(response) => self.write(super::response::outcome(response.status), Some(response), None),
            Err(error) => self.write(error.outcome(), None, Some(error)),
        }
    }

    fn write(
        &self,
        outcome: &'static str,
        response: Option<&OutboundResponse>,
        error: Option<&OutboundError>,
    ) {
        let (name, metrics, elapsed) = (self.aim.name(), &self.outbound.0.metrics, self.begun.elapsed());
        let tenant = metrics.tenant_label(self.aim.tenant());
        metrics.outbound_requests_total.with(&[name, outcome, tenant.as_str()]).inc();
        if self.attempts > 0 {
            metrics.outbound_request_duration_seconds.with(&[name]).observe(elapsed.as_secs_f64());
        }
        tracing::info!(
            target: "http",
            destination = name,
            method = self.method.as_str(),
            url = self.shown(),
            outcome,
            status = response.map(|response| response.status.as_u16()),
            bytes = response.map(|response| response.body.len()),
            attempts = self.attempts,
            duration = elapsed.as_secs_f64() * 1000.0,
            error = error.map(|error| error as &(dyn std::error::Error + 'static)),
            "Outbound call"
        );
    }

    /// What may be logged of the URL: never its query, and of a tenant's no path either, which often is a secret.
    fn shown(&self) -> Option<String> {
        let url = self.aim.url().ok()?;
        let path = if self.aim.tenant().is_some() { "" } else { url.path() };
        Some(origin(url) + path)
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.write("given_up", None, None);
        }
    }
}
