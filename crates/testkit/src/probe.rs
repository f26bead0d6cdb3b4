use axum::response::{IntoResponse as _, Response};
use erp_core::auth::Caller;
use erp_core::module::{Access, Module, Routes};

/// A module that hands a test the [`Caller`] of a request: see [`crate::TestApp::caller`].
pub static PROBE: Module = Module { name: "test", permissions: &[], errors: &[], routes };

fn routes() -> Routes {
    Routes::new().get("/test/caller", Access::SignedIn, caller)
}

/// Extensions stay within the process: a client over HTTP gets an empty answer.
async fn caller(caller: Caller) -> Response {
    let mut response = ().into_response();
    response.extensions_mut().insert(caller);
    response
}
