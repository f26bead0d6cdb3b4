use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::{Error, ErrorCode, codes};
use crate::shared::{LARGEST_EXACT, MoneyFault};

/// The type that draft-ietf-httpapi-ratelimit-headers registers for a quota that is used up.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// One thing that is wrong with a request, with where it stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Violation {
    /// A JSON pointer (RFC 6901) into the body, or `?name` for a query parameter; of a refused transition, into the
    /// resource.
    pub pointer: String,
    /// What is wrong, for machines: `type`, `unknown`, `missing`, `duplicate`, `length`, `precision`, `range`,
    /// `character`, `state` or `invalid`.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
    /// What the detail holds, for a client that says it in another language.
    #[serde(skip_serializing_if = "ViolationParams::is_empty")]
    pub params: ViolationParams,
}

impl Violation {
    /// A violation without params.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into(), params: ViolationParams::default() }
    }

    /// What is wrong with the amount of money at `pointer`.
    pub fn of_money(pointer: impl Into<String>, fault: MoneyFault) -> Self {
        let code = match fault {
            MoneyFault::Places(..) => "precision",
            MoneyFault::Digits(_) => "length",
            MoneyFault::Negative => "range",
            MoneyFault::Decimal | MoneyFault::Currency | MoneyFault::Mixed(..) => "invalid",
        };
        let params = match fault.bounds() {
            Some((most, actual)) => ViolationParams::span(None, Some(most.into()), Some(actual)),
            None => ViolationParams::default(),
        };
        Self { params, ..Self::new(pointer, code, fault.to_string()) }
    }
}

/// Amounts of a request that do not add up: 422. Where one of them is to blame, say so with [`Violation::of_money`].
impl From<MoneyFault> for Error {
    fn from(fault: MoneyFault) -> Self {
        Self::new(&codes::INVALID).violation(Violation::of_money("", fault))
    }
}

/// The numbers and words of a violation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ViolationParams {
    /// The least that is allowed: of characters, elements or digits (`length`), or of the value (`range`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Number")]
    pub min: Option<Number>,
    /// The most that is allowed, of decimal places too (`precision`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Number")]
    pub max: Option<Number>,
    /// How many characters, elements or digits there are (`length`), or decimal places (`precision`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Number")]
    pub actual: Option<Number>,
    /// The state that a document is in (`state`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub from: Option<String>,
    /// The state that it was to come to (`state`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub to: Option<String>,
    /// The values or names that are allowed (`unknown`), or the states from which that one can be reached (`state`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Value>,
    /// The types that are expected (`type`), or the format (`invalid`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
}

impl ViolationParams {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Bounds, and what was there.
    pub(crate) fn span(min: Option<Number>, max: Option<Number>, actual: Option<usize>) -> Self {
        Self { min, max, actual: actual.map(Number::from), ..Self::default() }
    }
}

/// A quota of the tenant's plan that there is no room in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceededQuota {
    /// What is counted: a row of `docs/reference/tenants.md`.
    pub meter: Cow<'static, str>,
    /// How much the plan has.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub limit: i64,
    /// How much of it is used.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub used: i64,
}

/// The body of an error (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem<'a> {
    /// `urn:erp:problem:` and the code; of a used-up limit the type that is registered for it.
    r#type: Cow<'static, str>,
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
    /// The rate limits that are used up.
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated_policies: &'a [&'static str],
    /// The quota of the tenant's plan that there is no room in.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<&'a ExceededQuota>,
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

    /// The answer that the client gets. `debug` adds the chain of causes and the permission that is missing: in development only.
    pub(crate) fn render(&self, instance: &str, correlation_id: &str, debug: bool) -> Response {
        let code = self.code();
        let problem = Problem {
            r#type: type_of(code),
            title: code.title,
            status: code.status,
            detail: self.0.detail.as_deref().unwrap_or(code.what),
            instance,
            code: code.code,
            correlation_id,
            errors: &self.0.violations,
            violated_policies: &self.0.violated,
            quota: self.0.quota.as_ref(),
            debug: (debug && self.cause().is_some())
                .then(|| Debug { causes: chain(self), backtrace: backtrace(self) }),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status(), [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let missing = self.needed().filter(|_| debug).and_then(|name| HeaderValue::try_from(name).ok());
        if let Some(permission) = missing {
            headers.insert("x-missing-permission", permission);
        }
        if let Some(wait) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if let Some(methods) = self.0.allow.as_deref().and_then(|methods| methods.parse().ok()) {
            headers.insert(header::ALLOW, methods);
        }
        if code == &codes::UNSUPPORTED_CODING {
            // RFC 9110, 12.5.3: tells it from an unsupported media type.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if code.status == 401 {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"erp-backend\""));
        }
        response
    }
}

/// The type of an error's problem.
pub(crate) fn type_of(code: &ErrorCode) -> Cow<'static, str> {
    if code == &codes::RATE_LIMITED || code == &codes::QUOTA_USED_UP {
        return QUOTA_EXCEEDED.into();
    }
    format!("urn:erp:problem:{}", code.code).into()
}

/// Whole seconds, begun ones included, and at least one.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

/// The causes of `error`, outermost first.
fn chain(error: &Error) -> Vec<String> {
    std::iter::successors(error.cause(), |error| error.source()).map(ToString::to_string).collect()
}

/// The lines of the backtrace, if one was taken.
fn backtrace(error: &Error) -> Vec<String> {
    error
        .backtrace()
        .map(|trace| trace.to_string().lines().map(|line| line.trim().to_owned()).collect())
        .unwrap_or_default()
}
