use std::backtrace::BacktraceStatus;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::Error;

/// One thing that is wrong with a request, with where it stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Violation {
    /// A JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// What is wrong, for machines: `type`, `unknown`, `missing`, `duplicate`, `length`, `range`, `character`
    /// or `invalid`.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
}

/// The body of an error (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem<'a> {
    /// `urn:erp:problem:` and the code.
    r#type: String,
    /// The same for every occurrence of the code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: &'a str,
    /// The path that was asked for.
    instance: &'a str,
    /// What a program decides by; it never changes its meaning.
    code: &'a str,
    /// Name it when you ask for help: the log knows it.
    correlation_id: &'a str,
    /// Everything that is wrong with the body or the query.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Violation],
    /// The chain of causes: in development only.
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<Debug>,
}

/// What only a developer sees.
#[derive(Serialize, JsonSchema)]
struct Debug {
    /// The chain of causes, outermost first.
    causes: Vec<String>,
    /// Where a fault of ours was noticed, line by line; with `RUST_BACKTRACE=1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<String>,
}

/// Carries the error from a handler to the edge, which alone knows the correlation id.
#[derive(Clone)]
pub(crate) struct Carried(std::sync::Arc<std::sync::Mutex<Option<Error>>>);

impl Carried {
    /// Takes the error out; there is one only once.
    pub(crate) fn take(&self) -> Option<Error> {
        self.0.lock().ok().and_then(|mut error| error.take())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Carried(std::sync::Arc::new(std::sync::Mutex::new(Some(self)))));
        response
    }
}

impl Error {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer that the client gets. `debug` adds the chain of causes: in development only.
    pub(crate) fn render(&self, instance: &str, correlation_id: &str, debug: bool) -> Response {
        let code = self.code();
        let problem = Problem {
            r#type: format!("urn:erp:problem:{}", code.code),
            title: code.title,
            status: code.status,
            detail: self.0.detail.as_deref().unwrap_or(code.what),
            instance,
            code: code.code,
            correlation_id,
            errors: &self.0.violations,
            debug: (debug && self.cause().is_some())
                .then(|| Debug { causes: chain(self), backtrace: backtrace(self) }),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status(), [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if let Some(methods) = self.0.allow.as_deref().and_then(|methods| methods.parse().ok()) {
            headers.insert(header::ALLOW, methods);
        }
        if code.status == 401 {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"erp-backend\""));
        }
        response
    }
}

/// The causes of `error`, outermost first.
fn chain(error: &Error) -> Vec<String> {
    std::iter::successors(error.cause(), |error| error.source()).map(ToString::to_string).collect()
}

/// The lines of the backtrace, if one was taken.
fn backtrace(error: &Error) -> Vec<String> {
    let taken = error.0.backtrace.as_ref().filter(|trace| trace.status() == BacktraceStatus::Captured);
    taken
        .map(|trace| trace.to_string().lines().map(|line| line.trim().to_owned()).collect())
        .unwrap_or_default()
}
