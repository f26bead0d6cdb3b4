//! The contract: an OpenAPI 3.1 document, made from the route table, the types and the tables of errors.
//!
//! It is made when it is first asked for: a start pays nothing for it, nor does a process that nobody asks.

mod archive;
mod document;
mod example;
mod headers;
mod operation;
mod page;
mod refusals;

use std::sync::Arc;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::answer::{Answer, Outputs};
use crate::assets::Resident;
use crate::error::{Error, ErrorCode, Result};
use crate::module::{Access, Module, Operation, Product, Route, Routes};

/// The core's own module of the contract. Its routes need a [`Contract`], which has them.
pub static OPENAPI: Module =
    Module { name: "openapi", about: "This document, and the page that shows it.", ..Module::BARE };

/// The document, as it is answered.
struct Document(Bytes);

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        (Extension(Resident), [(CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

impl Answer for Document {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<Value>(200);
    }
}

/// What the document is made from, and the document once it has been asked for.
pub struct Contract {
    name: &'static str,
    version: &'static str,
    /// The modules' names and what they are about: the document's tags.
    tags: Vec<(&'static str, &'static str)>,
    routes: Vec<Route>,
    codes: ContractCodes,
    json: OnceCell<Bytes>,
}

/// What the codes of operations are found by.
#[derive(Clone)]
struct ContractCodes {
    /// The error codes of all modules.
    all: Vec<&'static ErrorCode>,
    /// The tables whose rows a plan can have a quota for.
    metered: Vec<&'static str>,
}

impl Contract {
    /// The contract of `product`, whose modules (those of the core among them) have `routes`.
    pub fn new(product: &Product, modules: &[&'static Module], routes: Vec<Route>) -> Arc<Self> {
        let is_core = |module: &&&Module| product.modules.iter().all(|other| other.name != module.name);
        let features = product.modules.iter().chain(modules.iter().filter(is_core));
        let tags = features.map(|module| (module.name, module.about)).collect();
        let codes = ContractCodes {
            all: modules.iter().flat_map(|module| module.errors.iter().copied()).collect(),
            metered: modules
                .iter()
                .flat_map(|module| module.meters)
                .filter_map(|meter| meter.table())
                .collect(),
        };
        let name = product.name;
        let version = product.version;
        let json = OnceCell::new();
        Arc::new(Self { name, version, tags, routes, codes, json })
    }

    /// The routes that tell of the contract.
    fn own_routes(self: &Arc<Self>) -> impl Iterator<Item = Route> {
        let contract = Arc::clone(self);
        let json = move || {
            let contract = Arc::clone(&contract);
            async move {
                let json = contract.json().await?;
                Ok::<_, Error>(Document(json))
            }
        };
        let routes = Routes::new()
            .get("/openapi.json", Access::Management, json)
            .doc(Operation::new("openapi", "Show this document"));
        page::add(routes).of(OPENAPI.name)
    }

    /// These, and all that it is the contract of. Each of them knows what it may refuse with.
    pub(crate) fn all_routes(self: &Arc<Self>) -> Vec<Route> {
        let declared = |route: &Route| {
            route.operation.is_some().then(|| operation::refusals_of(route, &self.codes).into())
        };
        let routes = self.routes.iter().cloned().chain(self.own_routes());
        let mut routes: Vec<Route> = routes.collect();
        routes.iter_mut().for_each(|route| route.refuses = declared(route));
        routes
    }

    /// The document.
    pub fn document(self: &Arc<Self>) -> Value {
        // Its own routes are not kept: they hold it.
        let own: Vec<Route> = self.own_routes().collect();
        let routes: Vec<&Route> = self.routes.iter().chain(&own).collect();
        document::build(self, &routes)
    }

    async fn json(self: &Arc<Self>) -> Result<Bytes> {
        let make =
            || async { serde_json::to_vec(&self.document()).map(Bytes::from).map_err(Error::internal) };
        self.json.get_or_try_init(make).await.cloned()
    }
}
