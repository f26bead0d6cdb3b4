//! The document as a whole: operations by path, and what they refer to.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::refusals::DocumentedRefusals;
use super::{Contract, example, headers, operation};
use crate::auth::SESSION_COOKIE;
use crate::error::Problem;
use crate::extract::HeaderField;
use crate::module::{PERMISSION_MARK, Route};

/// The schemas of what is read and of what is answered: a field with a default may be left out of the one, and is always
/// in the other.
pub(super) struct Schemas {
    pub(super) read: SchemaGenerator,
    pub(super) answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12()
                .with(|settings| settings.definitions_path = "/components/schemas".into())
                .with_transform(RecursiveTransform(without_null_default))
                .with_transform(RecursiveTransform(without_guarded_requirement))
        };
        Self { read: settings().into_generator(), answered: settings().for_serialize().into_generator() }
    }

    /// All types by name. A type that is both read and answered is one, since it cannot differ: a test compares.
    fn definitions(&mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        for (name, schema) in self.read.take_definitions(true) {
            let same = all.get(&name).is_none_or(|known| *known == schema);
            debug_assert!(same, "{name} is not read as it is answered: make it two types");
            all.insert(name, schema);
        }
        all
    }
}

/// A default of `null` says nothing but that a field may be left out.
fn without_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// A field that wants a permission of its own is not always there.
fn without_guarded_requirement(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let properties = object.get("properties").and_then(Value::as_object);
    let guarded = properties.into_iter().flatten().filter(|(_, part)| part.get(PERMISSION_MARK).is_some());
    let guarded: Vec<String> = guarded.map(|(name, _)| name.clone()).collect();
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| guarded.iter().all(|field| field != name)));
    }
}

pub(super) fn build(contract: &Contract, routes: &[&Route]) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.answered.subschema_for::<Problem<'_>>().to_value();
    let mut refusals = DocumentedRefusals::new(problem, contract.codes.clone());
    let mut fields: Vec<&'static HeaderField> = headers::SHARED.to_vec();
    let mut paths = Map::new();
    for route in routes {
        let Some(documented) = operation::describe(route, routes, &mut schemas, &mut refusals) else {
            continue;
        };
        fields.extend(documented.headers);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = documented.value;
    }
    let mut document = json!({
        "openapi": "3.1.1",
        "info": { "title": contract.name, "version": contract.version, "description": INTRODUCTION },
        "servers": [{ "url": "/" }],
        "tags": tags(contract, routes),
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "responses": refusals.responses,
            "examples": refusals.examples,
            "headers": fields.into_iter().map(headers::component).collect::<Map<_, _>>(),
            "securitySchemes": security_schemes(),
        },
    });
    add_examples(&mut document);
    document
}

const INTRODUCTION: &str = "Sign in with `POST /api/v1/auth/login` and send the access token as a bearer. Every refusal \
    is a problem document (RFC 9457) whose `code` a program can decide by. What belongs to another tenant answers like \
    what does not exist.";

fn tags(contract: &Contract, routes: &[&Route]) -> Value {
    let used = contract.tags.iter().filter(|(name, _)| routes.iter().any(|route| route.module == *name));
    used.map(|(name, about)| json!({ "name": name, "description": about })).collect()
}

fn security_schemes() -> Value {
    json!({
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The `accessToken` of the sign-in, or an API key, `erp_…`, which `X-API-Key` may bring instead.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SESSION_COOKIE,
            "description": "The session of a browser, which the page `/sign-in` begins. With it, a change wants `X-CSRF-Token`, too.",
        },
        "operatorToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "The `accessToken` of an operator's sign-in, `erp_operator_…`: no tenant's route takes it.",
        },
        "metricsToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "METRICS_TOKEN. In development, and on METRICS_PORT, none is asked for.",
        },
    })
}

/// Gives every JSON body the example that its schema's own examples make, where it has none.
fn add_examples(document: &mut Value) {
    let root = document.clone();
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in operations.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let mut parts: Vec<&mut Value> = Vec::new();
        let Some(fields) = operation.as_object_mut() else { continue };
        for (name, part) in fields {
            match name.as_str() {
                "requestBody" => parts.push(part),
                "responses" => parts.extend(part.as_object_mut().into_iter().flat_map(Map::values_mut)),
                _ => {}
            }
        }
        let contents = parts.into_iter().filter_map(|part| part.get_mut("content")?.as_object_mut());
        for media in contents.flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            if !media.contains_key("examples") {
                let made = media.get("schema").map(|schema| example::of(&root, schema));
                media.extend(made.filter(|made| !made.is_null()).map(|made| ("example".to_owned(), made)));
            }
        }
    }
}
