//! One route as an operation of the document.

use http::Method;
use serde_json::{Map, Value, json};

use super::document::Schemas;
use super::headers;
use super::refusals::{self, PROBLEM, Refusals};
use crate::error::ErrorCode;
use crate::extract::{HeaderField, Inputs};
use crate::module::{Access, Answer, Content, Link, Operation, Route};

/// An operation, and the headers that it names.
pub(super) struct Documented {
    pub(super) value: Value,
    pub(super) headers: Vec<&'static HeaderField>,
}

/// Describes `route`, if it says what it is; adds to `errors` the codes that are met for the first time.
pub(super) fn describe(route: &Route, schemas: &mut Schemas, refusals: &mut Refusals) -> Option<Documented> {
    let operation = route.operation.as_deref()?;
    let mut inputs = Inputs::default();
    (route.inputs)(&mut inputs);
    headers::add_inputs(route, operation, &mut inputs);
    let codes = refusals::of(route, operation, &inputs);
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [route.module],
        "responses": responses(route, operation, &codes, schemas, refusals),
        "security": security(route.access),
    });
    let mut set = |name: &str, part: Value| value[name] = part;
    if let Some(about) = about(route, operation) {
        set("description", about.into());
    }
    let parameters = parameters(route.path, &inputs, schemas);
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    if let Some(body) = inputs.body {
        let media = json!({ "schema": body(&mut schemas.read) });
        let mut content = json!({ "application/json": media });
        if route.method == Method::PATCH {
            content["application/merge-patch+json"] = media;
        }
        set("requestBody", json!({ "required": true, "content": content }));
    }
    let headers = operation.answers.iter().flat_map(|answer| answer.headers.iter().copied()).collect();
    Some(Documented { value, headers })
}

fn about(route: &Route, operation: &Operation) -> Option<String> {
    let needs = match route.access {
        Access::Permission(permission) => format!("Needs the permission `{}`.", permission.name),
        Access::Management => "For operators.".to_owned(),
        Access::SignedIn | Access::Public => String::new(),
    };
    let text =
        [operation.about, &needs].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

fn security(access: Access) -> Value {
    match access {
        Access::Public => json!([]),
        Access::Management => json!([{}, { "metricsToken": [] }]),
        Access::SignedIn | Access::Permission(_) => json!([{ "accessToken": [] }]),
    }
}

fn parameters(path: &str, inputs: &Inputs, schemas: &mut Schemas) -> Vec<Value> {
    let mut all = Vec::new();
    let name = path.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(name, _)| name);
    if let (Some(name), Some(schema)) = (name, inputs.path) {
        all.push(
            json!({ "name": name, "in": "path", "required": true, "schema": schema(&mut schemas.read) }),
        );
    }
    if let Some(query) = inputs.query.map(|query| query(&mut schemas.read)) {
        all.extend(query_parameters(query.as_value()));
    }
    all.extend(inputs.headers.iter().map(|field| headers::parameter(field)));
    all
}

/// An object's properties as parameters. In a query there is no `null`: what is optional is left out.
fn query_parameters(query: &Value) -> Vec<Value> {
    let required: Vec<&str> = query
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = query.get("properties").and_then(Value::as_object).into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let mut parameter = json!({ "name": name, "in": "query" });
        if let Some(fields) = schema.as_object_mut() {
            fields.retain(|key, value| key != "default" || !value.is_null());
            let only = fields.get("type").and_then(Value::as_array).and_then(|types| types.first().cloned());
            fields.extend(only.map(|only| ("type".to_owned(), only)));
            if let Some(description) = fields.remove("description") {
                parameter["description"] = description;
            }
        }
        if required.contains(&name.as_str()) {
            parameter["required"] = true.into();
        }
        parameter["schema"] = schema;
        parameter
    };
    properties.map(parameter).collect()
}

fn responses(
    route: &Route,
    operation: &Operation,
    codes: &[&'static ErrorCode],
    schemas: &mut Schemas,
    refusals: &mut Refusals,
) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for answer in &operation.answers {
        let (status, mut response) = (answer.status.to_string(), success(route, operation, answer, schemas));
        if let Some(known) = all.get_mut(&status) {
            // The same status in another media type.
            if let (Some(known), Some(more)) =
                (known["content"].as_object_mut(), response["content"].as_object_mut())
            {
                known.append(more);
            }
        } else {
            all.insert(status, response);
        }
    }
    if headers::is_conditional(route, operation) {
        let headers = headers::of_not_modified(route);
        all.insert("304".to_owned(), json!({ "description": "Not Modified", "headers": headers }));
    }
    for codes in codes.chunk_by(|a, b| a.status == b.status) {
        let Some(status) = codes.first().map(|code| code.status.to_string()) else { continue };
        match all.get_mut(&status) {
            Some(known) => known["content"][PROBLEM] = refusals.media(codes),
            None => _ = all.insert(status, refusals.response(codes)),
        }
    }
    all.into()
}

fn success(route: &Route, operation: &Operation, answer: &Answer, schemas: &mut Schemas) -> Value {
    let status = http::StatusCode::from_u16(answer.status).ok();
    let mut response =
        json!({ "description": status.and_then(|status| status.canonical_reason()).unwrap_or("Answer") });
    match answer.content {
        Content::Nothing => {}
        Content::Json(schema) => {
            response["content"] = json!({ "application/json": { "schema": schema(&mut schemas.answered) } });
        }
        Content::Text(media_type) => {
            response["content"] = json!({ media_type: { "schema": { "type": "string" } } });
        }
    }
    let headers = headers::of_answer(route, answer);
    if !headers.is_empty() {
        response["headers"] = headers.into();
    }
    if !operation.links.is_empty() && answer.status < 300 {
        response["links"] = operation.links.iter().map(link).collect::<Map<_, _>>().into();
    }
    response
}

fn link(link: &Link) -> (String, Value) {
    let from = format!("$response.body#{}", link.pointer);
    (
        link.operation.to_owned(),
        json!({ "operationId": link.operation, "parameters": { link.parameter: from } }),
    )
}
