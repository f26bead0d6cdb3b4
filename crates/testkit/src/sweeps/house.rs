//! The fixtures of the routes that the crates themselves bring.

use erp_core::auth::Role;
use serde_json::json;

use super::{Fixture, Prepared, Setup};

/// Of core's routes and identity's; a product may lack some.
pub(super) const FIXTURES: &[Fixture] = &[
    // No file has this name, and which names there are changes with what is in them.
    Fixture::new("GET /docs/{file}", |_| Box::pin(async { Prepared::at(["no-such-file"]) })).answers(404),
    Fixture::new("GET /assets/{file}", |_| Box::pin(async { Prepared::at(["no-such-file"]) })).answers(404),
    // The level that tests have already.
    Fixture::new("PUT /log-level", |_| Box::pin(async { Prepared::body(json!({ "level": "debug" })) })),
    Fixture::new("POST /api/v1/auth/login", |setup| Box::pin(login(setup))),
];

async fn login(setup: &Setup<'_>) -> Prepared {
    let credential = &setup.app().person(setup.tenant(), Role::Owner).credential;
    Prepared::body(json!({
        "tenant": credential.tenant, "email": credential.email, "password": credential.password
    }))
}
