//! What follows from the contract: a route's body and status, and how a thing is made.

use std::collections::BTreeSet;

use erp_core::module::Route;
use http::Method;
use serde_json::Value;

use super::{Fixture, Prepared, Setup, Sweeps, filled, name};

/// What follows from the contract, or what to write.
type Derived<T> = Result<T, String>;

impl Sweeps<'_> {
    /// The routes that want a fixture, since their requests do not follow from the contract: each with what to write.
    pub fn lacking(&self) -> BTreeSet<String> {
        self.routes().filter_map(|route| self.can_be_prepared(route).err()).collect()
    }

    pub(super) fn fixture(&self, route: &Route) -> Option<&Fixture> {
        let name = name(route);
        self.fixtures.iter().find(|fixture| fixture.route == name)
    }

    pub(super) fn success(&self, route: &Route) -> u16 {
        let said = self.fixture(route).and_then(|fixture| fixture.success);
        let status = || {
            let mut statuses = self.operation(route)?["responses"].as_object()?.keys();
            statuses.find(|status| status.starts_with('2'))?.parse().ok()
        };
        said.or_else(status)
            .unwrap_or_else(|| panic!("{}", no_fixture(route, "the contract has no answer of 2xx")))
    }

    /// The operation of a route in the contract.
    pub fn operation(&self, route: &Route) -> Option<&Value> {
        self.document["paths"].get(route.path)?.get(route.method.as_str().to_ascii_lowercase())
    }

    pub(super) async fn prepare_in(&self, route: &Route, setup: &Setup<'_>) -> Prepared {
        if let Some(prepare) = self.fixture(route).and_then(|fixture| fixture.prepare) {
            return prepare(setup).await;
        }
        if let Err(why) = self.can_be_prepared(route) {
            panic!("{why}");
        }
        let values = match collection(route.path) {
            Some(collection) => self.make(collection, setup).await,
            None => Vec::new(),
        };
        let body = match self.twin(route) {
            Some(post) => Box::pin(self.prepare_in(post, setup)).await.body,
            None => self.example(route).ok().flatten(),
        };
        Prepared { values, body }
    }

    /// The ids of what the colleague has made by a POST to a collection, from the outermost in.
    pub(super) async fn make(&self, collection: &str, setup: &Setup<'_>) -> Vec<String> {
        let post = self.post(collection).unwrap_or_else(|| panic!("there is no route POST {collection}"));
        let maker = self.permitted(post, setup.tenant, &setup.colleague).await;
        let swapped = Setup {
            sweeps: self,
            tenant: setup.tenant,
            caller: setup.colleague.clone(),
            colleague: setup.caller.clone(),
        };
        let prepared = Box::pin(self.prepare_in(post, &swapped)).await;
        let made = maker.send(Method::POST, &filled(post.path, &prepared.values), prepared.body).await;
        let made = made.assert(self.success(post)).json();
        let id = made["id"].as_str().unwrap_or_else(|| panic!("POST {collection} answers no id: {made}"));
        [prepared.values, vec![id.to_owned()]].concat()
    }

    pub(super) fn post(&self, collection: &str) -> Option<&Route> {
        self.routes().find(|route| route.method == Method::POST && route.path == collection)
    }

    /// The POST that takes the same body as this PUT, if its body is written in a fixture.
    fn twin(&self, route: &Route) -> Option<&Route> {
        let post = self.post(collection(route.path)?)?;
        let schema = |route| Some(&self.media(route)?["schema"]["$ref"]);
        let same = route.method == Method::PUT && schema(route)? == schema(post)?;
        (same && self.fixture(post)?.prepare.is_some()).then_some(post)
    }

    fn can_be_prepared(&self, route: &Route) -> Derived<()> {
        if self.fixture(route).is_some_and(|fixture| fixture.prepare.is_some()) {
            return Ok(());
        }
        if self.operation(route).is_none() {
            return Err(no_fixture(
                route,
                "it is not in the contract: add .doc(Operation::new(…)) after the route",
            ));
        }
        if let Some(collection) = collection(route.path) {
            let post = self.post(collection);
            let post =
                post.ok_or_else(|| no_fixture(route, &format!("there is no POST {collection} to make one")))?;
            self.can_be_prepared(post)?;
        }
        if self.twin(route).is_none() {
            self.example(route)?;
        }
        Ok(())
    }

    fn media(&self, route: &Route) -> Option<&Value> {
        self.operation(route)?.pointer("/requestBody/content/application~1json")
    }

    /// The body that the contract shows, with a number in its texts and without the references that may be left out.
    fn example(&self, route: &Route) -> Derived<Option<Value>> {
        let Some(media) = self.media(route) else { return Ok(None) };
        let schema = &media["schema"];
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        let schema = reference.map_or(schema, |path| self.document.pointer(path).unwrap_or(schema));
        let mut body = media["example"].clone();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let Some(fields) = body.as_object_mut() else { break };
            if schema["format"] == "uuid" && !required.contains(&field.as_str().into()) {
                fields.remove(field);
            } else if schema["format"] == "text" || schema["format"] == "identifier" {
                number(fields.get_mut(field), self.number());
            }
        }
        match references(&body).first() {
            Some(pointer) => Err(no_fixture(route, &format!("its body refers to something at {pointer}"))),
            None => Ok(Some(body)),
        }
    }
}

/// Appends a number, so that what must be unique is.
fn number(text: Option<&mut Value>, number: u32) {
    if let Some(text) = text
        && let Some(said) = text.as_str()
    {
        *text = format!("{said} {number}").into();
    }
}

/// The collection above what a path leads to: `/orders` of `/orders/{id}` and of `/orders/{id}/approve`.
pub(super) fn collection(path: &str) -> Option<&str> {
    path.rsplit_once("/{").map(|(collection, _)| collection)
}

/// The JSON pointers of the ids in a body.
pub(super) fn references(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => vec![String::new()],
        Value::Array(items) => below(items.iter().enumerate().map(|(index, item)| (index.to_string(), item))),
        Value::Object(fields) => below(fields.iter().map(|(name, field)| (name.clone(), field))),
        _ => Vec::new(),
    }
}

fn below<'a>(parts: impl Iterator<Item = (String, &'a Value)>) -> Vec<String> {
    let within = |(name, part)| references(part).into_iter().map(move |rest| format!("/{name}{rest}"));
    parts.flat_map(within).collect()
}

fn no_fixture(route: &Route, why: &str) -> String {
    let name = name(route);
    format!(
        "{name} cannot be swept, since {why}. Add its row to FIXTURES in tests.rs of the module, \
         Fixture::new(\"{name}\", |setup| Box::pin(…)), and FIXTURES to the list of the test that sweeps"
    )
}
