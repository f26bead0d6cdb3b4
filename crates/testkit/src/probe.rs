use axum::response::{IntoResponse as _, Response};
use erp_core::auth::Caller;
use erp_core::db::System;
use erp_core::module::{Access, Module, Routes};

/// A module that hands a test the [`Caller`] of a request, and the right to work as the system: see
/// [`crate::TestApp::caller`] and [`crate::TestApp::system`].
pub static PROBE: Module = Module { name: "test", routes, system: SYSTEM, ..Module::BARE };

erp_core::system_work! {
    /// What tests do as the system.
    SYSTEM {
        TEST = "test": "Lets a test do what only the system does.";
    }
}

fn routes() -> Routes {
    Routes::new()
        .get("/test/caller", Access::SignedIn, caller)
        .get("/test/system", Access::Public, system)
        .system(&TEST)
}

async fn caller(caller: Caller) -> Response {
    handed_over(caller)
}

async fn system(system: System) -> Response {
    handed_over(system)
}

/// Extensions stay within the process: a client over HTTP gets an empty answer.
fn handed_over<T: Clone + Send + Sync + 'static>(what: T) -> Response {
    let mut response = ().into_response();
    response.extensions_mut().insert(what);
    response
}
