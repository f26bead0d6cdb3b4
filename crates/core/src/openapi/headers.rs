//! The headers of requests and answers: what the handler takes and the route states, and what the chain adds to all
//! routes of a kind.

use http::Method;
use serde_json::{Map, Value, json};

use crate::answer::{LOCATION, Outputs, Success};
use crate::error::{ErrorCode, codes};
use crate::extract::{ETag, HeaderField, Inputs};
use crate::middleware::admission::rate_limit;
use crate::middleware::idempotency;
use crate::middleware::representation::conditional;
use crate::module::{Deprecation, Route};

/// `X-Tenant-ID`: what every route of members takes.
static TENANT_ID: HeaderField = HeaderField {
    name: "X-Tenant-ID",
    what: "The slug or id of another tenant that the caller is a member of. Without it, the access token's.",
    pattern: Some("^([a-z0-9-]{1,63}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"),
    example: "acme",
    always: false,
};

/// Headers of answers that many operations have.
pub(super) static SHARED: [&HeaderField; 5] =
    [&ETag::FIELD, &LOCATION, &idempotency::REPLAYED_FIELD, &rate_limit::FIELD, &rate_limit::POLICY_FIELD];

/// Adds what the chain takes for the handler.
pub(super) fn add_inputs(route: &Route, outputs: &Outputs, inputs: &mut Inputs) {
    if route.is_members() {
        inputs.headers.push(&TENANT_ID);
    }
    if route.takes_keys() {
        idempotency::describe(inputs);
    }
    if is_conditional(route, outputs) {
        inputs.headers.push(&conditional::FIELD);
    }
}

/// Whether it can answer 304.
pub(super) fn is_conditional(route: &Route, outputs: &Outputs) -> bool {
    route.method == Method::GET && outputs.is_tagged()
}

/// The headers of an answer other than a problem, as references.
pub(super) fn of_answer(route: &Route, answer: &Success) -> Map<String, Value> {
    let replayed = route.takes_keys().then_some(&idempotency::REPLAYED_FIELD);
    let all =
        answer.headers.iter().copied().chain(replayed).chain(limits(route)).chain(of_deprecation(route));
    all.map(reference).collect()
}

/// The headers of a 304.
pub(super) fn of_not_modified(route: &Route) -> Map<String, Value> {
    [&ETag::FIELD].into_iter().chain(limits(route)).chain(of_deprecation(route)).map(reference).collect()
}

fn limits(route: &Route) -> impl Iterator<Item = &'static HeaderField> + use<> {
    let limited = !route.is_management();
    [&rate_limit::FIELD, &rate_limit::POLICY_FIELD].into_iter().filter(move |_| limited)
}

/// The headers of every answer of a deprecated route.
pub(super) fn of_deprecation(route: &Route) -> impl Iterator<Item = &'static HeaderField> + use<> {
    route.deprecation().map(Deprecation::fields).into_iter().flatten()
}

/// The headers of a problem of `route` with one of `codes`, all of one status.
pub(super) fn of_problem(route: &Route, codes: &[&ErrorCode]) -> Map<String, Value> {
    let status = codes.first().map_or(0, |code| code.status);
    let mut all: Map<String, Value> = of_deprecation(route).map(reference).collect();
    if status == 401 {
        let schema = json!({ "type": "string" });
        let challenge = json!({ "description": "How to sign in.", "required": true, "schema": schema });
        all.insert("WWW-Authenticate".to_owned(), challenge);
    }
    // A conflict passes by itself only where the same request is still being worked on.
    if matches!(status, 429 | 503) || codes.contains(&&codes::IDEMPOTENCY_IN_FLIGHT) {
        let schema = json!({ "type": "integer", "minimum": 1 });
        let mut wait = json!({ "description": "Seconds to wait for.", "schema": schema });
        if status == 429 {
            wait["required"] = true.into();
        }
        all.insert("Retry-After".to_owned(), wait);
    }
    if status == 429 {
        all.extend([&rate_limit::FIELD, &rate_limit::POLICY_FIELD].map(reference));
    }
    all
}

/// A header of requests, as a parameter.
pub(super) fn parameter(field: &HeaderField) -> Value {
    let mut parameter = describe(field);
    parameter["name"] = field.name.into();
    parameter["in"] = "header".into();
    parameter
}

/// A header of answers, as a component.
pub(super) fn component(field: &HeaderField) -> (String, Value) {
    let mut header = describe(field);
    if field.always {
        header["required"] = true.into();
    }
    (field.name.to_owned(), header)
}

fn describe(field: &HeaderField) -> Value {
    let mut schema = json!({ "type": "string" });
    if let Some(pattern) = field.pattern {
        schema["minLength"] = 1.into();
        schema["pattern"] = pattern.into();
    }
    json!({ "description": field.what, "schema": schema, "example": field.example })
}

fn reference(field: &HeaderField) -> (String, Value) {
    (field.name.to_owned(), json!({ "$ref": format!("#/components/headers/{}", field.name) }))
}
