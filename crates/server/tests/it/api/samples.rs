//! What the sweeps send to each route.

use erp_core::auth::Role;
use erp_core::module::Route;
use erp_testkit::TestApp;
use serde_json::{Value, json};

use Body::Made;

/// A body; the number makes it unique.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// Made by a function.
    Made(fn(&TestApp, u32) -> Value),
    /// The example of the contract, with its schema.
    Example(&'static Value, &'static Value),
}

impl Body {
    pub(crate) fn make(self, app: &TestApp, number: u32) -> Value {
        match self {
            Self::Made(make) => make(app, number),
            Self::Example(example, schema) => unique(example, schema, number),
        }
    }
}

/// A request that succeeds when it is made with right.
pub(crate) struct Sample {
    method: &'static str,
    path: &'static str,
    /// The status of success.
    pub(crate) success: u16,
    /// The body, for a route that reads one.
    pub(crate) body: Option<Body>,
    /// For a route with an id: the collection to POST to for a thing of one's own, and its body.
    pub(crate) made_by: Option<(&'static str, Body)>,
}

/// Routes whose samples do not follow from the contract. Those of a resource do: see [`derived`].
const SAMPLES: &[Sample] = &[
    read("/ping"),
    read("/livez"),
    read("/readyz"),
    read("/health"),
    read("/health/detailed"),
    read("/metrics"),
    read("/log-level"),
    read("/openapi.json"),
    read("/docs"),
    read("/docs/start.js"),
    // No file has this name: tests/it/api/contract.rs takes those of the page.
    Sample { success: 404, ..read("/docs/{file}") },
    Sample { method: "PUT", path: "/log-level", success: 200, body: Some(Made(level)), made_by: None },
    // No file has this name: tests/it/representation/assets.rs brings one.
    Sample { success: 404, ..read("/assets/{file}") },
    read("/api/v1/me"),
    Sample {
        method: "POST",
        path: "/api/v1/auth/login",
        success: 200,
        body: Some(Made(login)),
        made_by: None,
    },
];

const fn read(path: &'static str) -> Sample {
    Sample { method: "GET", path, success: 200, body: None, made_by: None }
}

/// The sample of a route, if there is one.
pub(crate) fn of(route: &Route) -> Option<&'static Sample> {
    let written = SAMPLES.iter().find(|sample| route.method == sample.method && route.path == sample.path);
    written.or_else(|| derived(route))
}

/// The sample of a resource's route: its body is the example of the contract, and what it is done to is made by a POST to
/// the collection above it.
fn derived(route: &Route) -> Option<&'static Sample> {
    let document: &'static Value = Box::leak(Box::new(super::contract::document()));
    let method = route.method.as_str().to_ascii_lowercase();
    let operation = document["paths"].get(route.path)?.get(&method)?;
    let success = operation["responses"].as_object()?.keys().find(|status| status.starts_with('2'))?;
    let made_by = match route.path.split_once("/{") {
        None => None,
        Some((collection, rest)) if rest.ends_with('}') && !rest.contains('/') => {
            Some((collection, example(document, &document["paths"][collection]["post"])?))
        }
        Some(_) => return None,
    };
    let body = example(document, operation);
    let sample = Sample { method: "", path: route.path, success: success.parse().ok()?, body, made_by };
    Some(Box::leak(Box::new(sample)))
}

/// The body that the contract shows for an operation.
fn example(document: &'static Value, operation: &'static Value) -> Option<Body> {
    let media = operation.pointer("/requestBody/content/application~1json")?;
    Some(Body::Example(&media["example"], super::contract::resolve(document, &media["schema"])))
}

/// The example with a number in each of its texts, so that what must be unique is.
fn unique(example: &Value, schema: &Value, number: u32) -> Value {
    let mut body = example.clone();
    for (name, value) in body.as_object_mut().into_iter().flatten() {
        let schema = &schema["properties"][name];
        let is_text = ["text", "identifier"].iter().any(|format| schema["format"] == *format);
        if let (true, Some(text)) = (is_text, value.as_str()) {
            *value = format!("{text} {number}").into();
        }
        // What refers to another row may be left out: the contract does not know one.
        if schema["format"] == "uuid"
            && schema["type"].as_array().is_some_and(|types| types.contains(&"null".into()))
        {
            *value = Value::Null;
        }
    }
    body
}

/// The level that tests have already.
fn level(_: &TestApp, _: u32) -> Value {
    json!({ "level": "debug" })
}

fn login(app: &TestApp, _: u32) -> Value {
    let credential = &app.person("acme", Role::Owner).credential;
    json!({ "tenant": credential.tenant, "email": credential.email, "password": credential.password })
}
