//! What follows from the contract: a route's body and status, and how a thing is made.

use std::collections::BTreeSet;

use erp_core::module::Route;
use http::Method;
use serde_json::Value;

use super::{Fixture, PDF, Prepared, Setup, Sweeps, filled, name, request};

/// What follows from the contract, or what to write.
type Derived<T> = Result<T, String>;

impl Sweeps<'_> {
    /// The routes that want a fixture, since their requests do not follow from the contract, and those that do not say that they
    /// show a secret: each with what to write.
    pub fn lacking(&self) -> BTreeSet<String> {
        let unprepared = self.routes().filter_map(|route| self.can_be_prepared(route).err());
        let hiding = self.routes().filter(|route| route.hides_its_secret());
        let hiding = hiding.map(|route| format!("{} shows a secret: add `.shows_secret()`", name(route)));
        unprepared.chain(hiding).collect()
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
            Some(post) => self.body_of_twin(route, post, setup).await,
            None => self.example(route).ok().flatten(),
        };
        Prepared { values, body, ..Prepared::default() }
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
        let path = filled(post.path, &prepared.values);
        let made =
            maker.request(request(post, &path, prepared.body.as_ref(), http::Request::builder())).await;
        let made = made.assert(self.success(post)).json();
        let id = made["id"].as_str().unwrap_or_else(|| panic!("POST {collection} answers no id: {made}"));
        [prepared.values, vec![id.to_owned()]].concat()
    }

    pub(super) fn post(&self, collection: &str) -> Option<&Route> {
        self.routes().find(|route| route.method == Method::POST && route.path == collection)
    }

    /// The POST that takes all that this PUT or PATCH must be given, if its body is written in a fixture.
    fn twin(&self, route: &Route) -> Option<&Route> {
        let post = self.post(collection(route.path)?)?;
        let known = &self.schema(post)?["properties"];
        let required = self.schema(route)?["required"].as_array().into_iter().flatten();
        let is_given = required.filter_map(Value::as_str).all(|field| known.get(field).is_some());
        let changes = route.method == Method::PUT || route.method == Method::PATCH;
        (changes && is_given && self.fixture(post)?.prepare.is_some()).then_some(post)
    }

    /// What of the POST's body this route takes, too.
    async fn body_of_twin(&self, route: &Route, post: &Route, setup: &Setup<'_>) -> Option<Value> {
        let mut body = Box::pin(self.prepare_in(post, setup)).await.body?;
        let known = &self.schema(route)?["properties"];
        body.as_object_mut()?.retain(|field, _| known.get(field).is_some());
        Some(body)
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

    /// The schema of a route's body.
    fn schema(&self, route: &Route) -> Option<&Value> {
        let schema = self.media(route)?.get("schema")?;
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        reference.map_or(Some(schema), |path| self.document.pointer(path))
    }

    /// The body that the contract shows, with a number in its texts. It may name no other resource: what could be another
    /// tenant's is a fixture's to name, so that the sweeps try just that.
    fn example(&self, route: &Route) -> Derived<Option<Value>> {
        if let Some(kind) = route.upload {
            let is_pdf = kind.types.iter().any(|media| media.name == "application/pdf");
            return if is_pdf {
                Ok(Some(PDF.into()))
            } else {
                Err(no_fixture(route, "it takes a file that is no PDF"))
            };
        }
        let (Some(media), Some(schema)) = (self.media(route), self.schema(route)) else { return Ok(None) };
        let mut body = media["example"].clone();
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            if schema["format"] == "text" || schema["format"] == "identifier" {
                number(body.get_mut(field), self.number());
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
