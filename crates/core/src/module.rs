//! What a feature module is: static tables, and routes that do not compile without an access rule.

use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::Method;

use crate::app::App;
pub use crate::app::Probe;
use crate::auth::Permission;
use crate::db::Migration;
use crate::db::proof::Sample;
use crate::error::ErrorCode;
use crate::lifecycle::StartError;
use crate::limits::Policy;

/// Everything that is built into one binary.
#[derive(Clone, Copy)]
pub struct Product {
    /// The product's name, as in the banner.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its modules.
    pub modules: &'static [&'static Module],
    /// Its migrations, in order.
    pub migrations: &'static [Migration],
    /// A sample row for each tenant table, for the isolation proof.
    pub samples: &'static [Sample],
    /// Makes the demo tenants of development.
    pub seed: fn(Seed<'_>) -> BoxFuture<'_, Result<(), StartError>>,
}

/// What making the demo tenants needs.
pub struct Seed<'a> {
    /// The database, as its owner.
    pub owner: &'a crate::db::Owner,
    /// Hashes the demo passwords.
    pub passwords: &'a crate::auth::Passwords,
    /// Where `demo-credentials.json` goes.
    pub data_dir: &'a std::path::Path,
    /// The time, for ids.
    pub clock: &'a dyn crate::shared::Clock,
    /// Randomness, for ids and passwords.
    pub rng: &'a dyn crate::shared::Rng,
}

/// A feature: what it adds to each of the house's tables.
pub struct Module {
    /// One lower-case word; the first part of its permissions' and errors' names, and `module` in its log lines.
    pub name: &'static str,
    /// Its permissions, from `permissions!`.
    pub permissions: &'static [&'static Permission],
    /// Its error codes, from `error_codes!`.
    pub errors: &'static [&'static ErrorCode],
    /// Its routes.
    pub routes: fn() -> Routes,
    /// What it depends on beside the database.
    pub probes: &'static [Probe],
}

impl Module {
    /// A module with nothing in it: write what yours has, and `..Module::BARE` for the rest.
    pub const BARE: Self = Self { name: "", permissions: &[], errors: &[], routes: Routes::new, probes: &[] };
}

/// Who may call a route.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Anybody: probes and sign-in.
    Public,
    /// Operators only: everybody in development, else whoever holds `METRICS_TOKEN`; to others it is not there.
    Management,
    /// Any member of a tenant.
    SignedIn,
    /// Members with this permission.
    Permission(&'static Permission),
}

/// A module's routes, in the order in which they are listed and documented.
#[derive(Default)]
pub struct Routes(Vec<Route>);

/// One operation of the API.
pub struct Route {
    /// Its method; HEAD is answered by the GET route.
    pub method: Method,
    /// Its path template, such as `/api/v1/items/{id}`; the label in metrics.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// A limit of its own, beside the general one.
    pub limit: Option<&'static Policy>,
    /// The module that it belongs to.
    pub module: &'static str,
    pub(crate) handler: BoxedHandler,
}

pub(crate) type BoxedHandler = Arc<dyn Fn(Request, App) -> BoxFuture<'static, Response> + Send + Sync>;

impl Routes {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A route that reads. Its request is cancelled, with its SQL, when the client hangs up.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, access: Access, handler: impl Handler<T, App>) -> Self {
        self.add(Method::GET, path, access, handler)
    }

    /// A route that creates or acts. It runs to its end or its deadline, whoever hangs up.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, access: Access, handler: impl Handler<T, App>) -> Self {
        self.add(Method::POST, path, access, handler)
    }

    /// A route that replaces.
    #[must_use]
    pub fn put<T: 'static>(self, path: &'static str, access: Access, handler: impl Handler<T, App>) -> Self {
        self.add(Method::PUT, path, access, handler)
    }

    /// A route that changes a part (RFC 7396).
    #[must_use]
    pub fn patch<T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::PATCH, path, access, handler)
    }

    /// A route that removes.
    #[must_use]
    pub fn delete<T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::DELETE, path, access, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        let handler: BoxedHandler =
            Arc::new(move |request, app| Box::pin(handler.clone().call(request, app)));
        self.0.push(Route { method, path, access, limit: None, module: "", handler });
        self
    }

    /// Gives the route that was just added a limit of its own.
    #[must_use]
    pub fn limit(self, policy: &'static Policy) -> Self {
        self.with(|route| route.limit = Some(policy))
    }

    /// Says more about the route that was just added.
    fn with(mut self, change: impl FnOnce(&mut Route)) -> Self {
        if let Some(route) = self.0.last_mut() {
            change(route);
        }
        self
    }

    pub(crate) fn of(self, module: &'static str) -> impl Iterator<Item = Route> {
        self.0.into_iter().map(move |route| Route { module, ..route })
    }
}
