//! Puts the app and the modules' routes together: what answers requests.

use std::sync::Arc;

use crate::app::App;
use crate::health::HEALTH;
use crate::lifecycle::StartError;
use crate::middleware::{Edge, RouteTable};
use crate::module::{Module, Product};

/// The product's modules, and the core's own.
pub fn modules(product: &Product) -> impl Iterator<Item = &'static Module> {
    std::iter::once(&HEALTH).chain(product.modules.iter().copied())
}

/// Creates what answers requests.
///
/// # Errors
/// `Exit::Internal` when two routes claim the same method and path.
pub fn create_app(app: App, product: &Product) -> Result<Arc<Edge>, StartError> {
    let routes = RouteTable::new(modules(product).flat_map(|module| (module.routes)().of(module.name)))?;
    Ok(Arc::new(Edge { app, routes }))
}
