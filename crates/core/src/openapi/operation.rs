//! One route as an operation of the document.

use http::Method;
use serde_json::{Map, Value, json};

use super::ContractCodes;
use super::document::Schemas;
use super::headers;
use super::refusals::{self, DocumentedRefusals, PROBLEM};
use crate::answer::{Content, Link, Outputs, Success};
use crate::error::ErrorCode;
use crate::extract::{HeaderField, Inputs};
use crate::files::size_words;
use crate::module::{Access, Operation, Route};
use crate::resource::Transition;

/// An operation, and the headers that it names.
pub(super) struct Documented {
    pub(super) value: Value,
    pub(super) headers: Vec<&'static HeaderField>,
}

/// Describes one of `routes`, if it says what it is; adds to `refusals` the codes that are met for the first time.
pub(super) fn describe(
    route: &Route,
    routes: &[&Route],
    schemas: &mut Schemas,
    refusals: &mut DocumentedRefusals,
) -> Option<Documented> {
    let operation = route.operation.as_deref()?;
    let (inputs, outputs) = parts(route);
    let codes = refusals::of(route, &inputs, &outputs, refusals.known());
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [route.module],
        "responses": responses(route, routes, &outputs, &codes, schemas, refusals),
        "security": security(route.access),
    });
    let mut set = |name: &str, part: Value| value[name] = part;
    if let Some(about) = about(route, operation, &outputs) {
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
    if let Some(kind) = route.upload {
        let content: Map<_, _> = kind.types.iter().map(|media| (media.name.to_owned(), json!({}))).collect();
        let size = size_words(kind.at_most);
        let about = format!("{} It has {size} at most.", kind.about);
        set("requestBody", json!({ "required": true, "description": about, "content": content }));
    }
    if let Some(deprecation) = route.deprecation() {
        set("deprecated", true.into());
        if let Some(sunset) = deprecation.sunset() {
            set("x-sunset", sunset.to_string().into());
        }
    }
    let headers = outputs.answers.iter().flat_map(|answer| answer.headers.iter().copied());
    let headers = headers.chain(headers::of_deprecation(route)).collect();
    Some(Documented { value, headers })
}

/// What the handler and the chain take, and what the handler answers.
fn parts(route: &Route) -> (Inputs, Outputs) {
    let mut inputs = route.inputs();
    let mut outputs = Outputs::default();
    (route.outputs)(&mut outputs);
    headers::add_inputs(route, &outputs, &mut inputs);
    (inputs, outputs)
}

/// Every code that `route` may refuse with, of those of all modules.
pub(super) fn refusals_of(route: &Route, known: &ContractCodes) -> Vec<&'static ErrorCode> {
    let (inputs, outputs) = parts(route);
    refusals::of(route, &inputs, &outputs, known)
}

fn about(route: &Route, operation: &Operation, outputs: &Outputs) -> Option<String> {
    let needs = match route.access {
        Access::Permission(permission) => format!("Needs the permission `{}`.", permission.name),
        Access::Management => "For monitoring.".to_owned(),
        Access::Operator => "For operators.".to_owned(),
        Access::SignedIn | Access::Public => String::new(),
    };
    let always = changes(route, outputs);
    let step = route.transition.map_or(String::new(), Transition::sentence);
    let deprecated = route.deprecation().map_or(String::new(), |deprecation| format!("It is {deprecation}."));
    let parts = [operation.about, outputs.about, always, &step, &needs, &deprecated].into_iter();
    let text = parts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// What holds of every operation that changes a record.
fn changes(route: &Route, outputs: &Outputs) -> &'static str {
    match route.method {
        Method::PUT if route.transition.is_some() => "Never creates one.",
        Method::PUT if !outputs.tables.is_empty() => {
            "Never creates one. A change of nothing keeps `version` and `updatedAt`."
        }
        Method::PATCH if !outputs.tables.is_empty() => {
            "As RFC 7396 says: what is absent is kept, `null` clears. A change of nothing keeps `version` and `updatedAt`."
        }
        _ => "",
    }
}

fn security(access: Access) -> Value {
    match access {
        Access::Public => json!([]),
        Access::Management => json!([{}, { "metricsToken": [] }]),
        Access::Operator => json!([{ "operatorToken": [] }]),
        Access::SignedIn | Access::Permission(_) => json!([{ "accessToken": [] }, { "session": [] }]),
    }
}

/// The names of the parameters in a path's template.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

fn parameters(path: &str, inputs: &Inputs, schemas: &mut Schemas) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, schema) in path_parameters(path).zip(&inputs.path) {
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
    routes: &[&Route],
    outputs: &Outputs,
    codes: &[&'static ErrorCode],
    schemas: &mut Schemas,
    refusals: &mut DocumentedRefusals,
) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for answer in &outputs.answers {
        let status = answer.status.to_string();
        let mut response = success(route, answer, schemas);
        let links: Map<_, _> = outputs.links.iter().flat_map(|link| links(*link, route, routes)).collect();
        if !links.is_empty() {
            response["links"] = links.into();
        }
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
    if headers::is_conditional(route, outputs) {
        let headers = headers::of_not_modified(route);
        all.insert("304".to_owned(), json!({ "description": "Not Modified", "headers": headers }));
    }
    for codes in codes.chunk_by(|a, b| a.status == b.status) {
        let Some(status) = codes.first().map(|code| code.status.to_string()) else { continue };
        match all.get_mut(&status) {
            Some(known) => known["content"][PROBLEM] = refusals.media(codes),
            None => _ = all.insert(status, refusals.response(route, codes)),
        }
    }
    all.into()
}

fn success(route: &Route, answer: &Success, schemas: &mut Schemas) -> Value {
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
    response
}

/// The operations that an answer leads to.
fn links(link: Link, route: &Route, routes: &[&Route]) -> Vec<(String, Value)> {
    let own: Map<String, Value> = path_parameters(route.path)
        .map(|name| (name.to_owned(), format!("$request.path.{name}").into()))
        .collect();
    let lead = |to: &Route, name: &str, pointer: &str| {
        let id = to.operation.as_deref()?.id;
        let mut parameters = own.clone();
        parameters.insert(name.to_owned(), format!("$response.body#{pointer}").into());
        Some((id.to_owned(), json!({ "operationId": id, "parameters": parameters })))
    };
    match link {
        Link::ToNextPage => lead(route, "cursor", "/nextCursor").into_iter().collect(),
        Link::ToCreated => {
            routes.iter().filter_map(|to| lead(to, below(route.path, to.path)?, "/id")).collect()
        }
    }
}

/// The name of the one parameter that `path` has more than the collection above it.
fn below<'a>(collection: &str, path: &'a str) -> Option<&'a str> {
    let (name, rest) = path.strip_prefix(collection)?.strip_prefix("/{")?.split_once('}')?;
    (!rest.contains('{')).then_some(name)
}
