//! The problems that an operation can answer with: which codes follow from its declaration, and what they look like.

use http::Method;
use serde_json::{Map, Value, json};

use super::{ContractCodes, headers};
use crate::answer::Outputs;
use crate::auth::RequiredAction;
use crate::error::{ErrorCode, codes, type_of};
use crate::extract::Inputs;
use crate::module::{Access, Route};

/// The media type of a refusal.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What any route can answer.
const ALWAYS: &[&ErrorCode] = &[
    &codes::MALFORMED_HEADER,
    &codes::TOO_LARGE,
    &codes::URI_TOO_LONG,
    &codes::HEADERS_TOO_LARGE,
    &codes::INTERNAL,
    &codes::UNAVAILABLE,
    &codes::OVERLOADED,
    &codes::TIMEOUT,
];

/// The codes that the access rule, the method, the arguments the record's table and the handler can refuse with, by status.
pub(super) fn of(
    route: &Route,
    inputs: &Inputs,
    outputs: &Outputs,
    known: &ContractCodes,
) -> Vec<&'static ErrorCode> {
    let by_access: &[&'static ErrorCode] = match route.access {
        Access::Public => &[],
        Access::Management => &[&codes::NOT_FOUND],
        Access::Operator => &[&codes::UNAUTHENTICATED],
        Access::SignedIn => &[
            &codes::TENANT_SELECTION,
            &codes::UNAUTHENTICATED,
            &codes::TENANT_MISMATCH,
            &codes::ADDRESS_REFUSED,
        ],
        Access::Permission(_) => &[
            &codes::TENANT_SELECTION,
            &codes::UNAUTHENTICATED,
            &codes::FORBIDDEN,
            &codes::TENANT_MISMATCH,
            &codes::ADDRESS_REFUSED,
        ],
    };
    let by_action: Vec<&'static ErrorCode> = RequiredAction::ALL
        .into_iter()
        .filter(|action| route.is_members() && !route.opens_for.contains(action))
        .map(RequiredAction::code)
        .collect();
    let by_place: &[&'static ErrorCode] = if route.is_for_oneself() { &[&codes::IMPERSONATED] } else { &[] };
    let by_method: &[&'static ErrorCode] =
        if route.method.is_safe() { &[] } else { &[&codes::OUTCOME_UNKNOWN, &codes::READ_ONLY] };
    let by_browser: &[&'static ErrorCode] = match route.method.is_safe() {
        true if route.is_members() => &[&codes::FOREIGN_PAGE],
        false if route.is_members() => &[&codes::FOREIGN_PAGE, &codes::CSRF_TOKEN],
        false if route.takes_form => &[&codes::FOREIGN_PAGE],
        _ => &[],
    };
    let by_kind: &[&'static ErrorCode] =
        if route.produces.is_empty() { &[] } else { &[&codes::NOT_ACCEPTABLE] };
    let by_limit: &[&'static ErrorCode] = match route.is_management() {
        true => &[],
        false if route.is_members() => &[&codes::RATE_LIMITED, &codes::QUOTA_USED_UP],
        false => &[&codes::RATE_LIMITED],
    };
    let adds =
        route.method == Method::POST && outputs.tables.iter().any(|table| known.metered.contains(table));
    let by_quota: &[&'static ErrorCode] = if adds { &[&codes::OVER_QUOTA] } else { &[] };
    let by_table = if route.method.is_safe() { Vec::new() } else { of_tables(outputs.tables, &known.all) };
    let by_step: &[&'static ErrorCode] = match route.transition {
        None => &[],
        Some(step) if step.unlike.is_empty() => &[&codes::WRONG_STATE],
        Some(_) => &[&codes::WRONG_STATE, &codes::SEPARATION_OF_DUTIES],
    };
    let by_handler = [&inputs.refusals[..], &outputs.refusals, &by_table, &by_action];
    let lists = [ALWAYS, by_limit, by_access, by_place, by_method, by_browser, by_kind, by_step, by_quota]
        .into_iter()
        .chain(by_handler);
    let mut all: Vec<&'static ErrorCode> = lists.flatten().copied().collect();
    all.sort_by_key(|code| (code.status, code.code));
    all.dedup();
    all
}

/// The codes of the constraints of these tables.
fn of_tables(tables: &[&str], known: &[&'static ErrorCode]) -> Vec<&'static ErrorCode> {
    let breaks = |code: &&ErrorCode| code.constraints.iter().any(|one| tables.contains(&one.table));
    known.iter().copied().filter(breaks).collect()
}

/// The refusals that operations share: one response for each set of codes, one example for each code.
pub(super) struct DocumentedRefusals {
    problem: Value,
    known: ContractCodes,
    pub(super) responses: Map<String, Value>,
    pub(super) examples: Map<String, Value>,
}

impl DocumentedRefusals {
    /// `problem` is the schema of all of them; `known` are the codes of all modules.
    pub(super) fn new(problem: Value, known: ContractCodes) -> Self {
        Self { problem, known, responses: Map::new(), examples: Map::new() }
    }

    /// The codes of all modules.
    pub(super) fn known(&self) -> &ContractCodes {
        &self.known
    }

    /// A reference to the response of `route` with one of `codes`, all of one status. Deprecated routes share others, which
    /// have their headers.
    pub(super) fn response(&mut self, route: &Route, codes: &[&ErrorCode]) -> Value {
        let headers = headers::of_deprecation(route).map(|field| field.name);
        let names: Vec<&str> = codes.iter().map(|code| code.code).chain(headers).collect();
        let name = names.join("-");
        if !self.responses.contains_key(&name) {
            let titles: Vec<&str> = codes.iter().map(|code| code.title).collect();
            let mut response =
                json!({ "description": titles.join("; "), "content": { PROBLEM: self.media(codes) } });
            let headers = headers::of_problem(route, codes);
            if !headers.is_empty() {
                response["headers"] = headers.into();
            }
            self.responses.insert(name.clone(), response);
        }
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    /// A problem whose `code` is one of `codes`.
    pub(super) fn media(&mut self, codes: &[&ErrorCode]) -> Value {
        let names: Vec<&str> = codes.iter().map(|code| code.code).collect();
        let mut examples = Map::new();
        for code in codes {
            self.examples.entry(code.code).or_insert_with(|| example(code));
            let reference = format!("#/components/examples/{}", code.code);
            examples.insert(code.code.to_owned(), json!({ "$ref": reference }));
        }
        let code = json!({ "properties": { "code": { "enum": names } } });
        json!({ "schema": { "allOf": [self.problem, code] }, "examples": examples })
    }
}

fn example(code: &ErrorCode) -> Value {
    let mut problem = json!({
        "type": type_of(code),
        "title": code.title,
        "status": code.status,
        "detail": code.what,
        "instance": "/api/v1/items",
        "code": code.code,
        "correlationId": "req_0123456789abcdef0123456789abcdef",
    });
    if code == &codes::RATE_LIMITED {
        problem["violated-policies"] = json!(["default"]);
    }
    if code == &codes::QUOTA_USED_UP {
        problem["violated-policies"] = json!(["core.requests"]);
        problem["quota"] = json!({ "meter": "core.requests", "limit": 100_000, "used": 100_000 });
    }
    if code == &codes::OVER_QUOTA {
        problem["quota"] = json!({ "meter": "catalog.items", "limit": 1000, "used": 1000 });
    }
    if code == &codes::INVALID {
        problem["errors"] = json!([{
            "pointer": "/sku",
            "code": "length",
            "detail": "has 65 characters; 1 to 64 are allowed",
            "params": { "min": 1, "max": 64, "actual": 65 },
        }]);
    }
    json!({ "summary": code.fix, "value": problem })
}
