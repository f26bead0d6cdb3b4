//! The fixtures of the routes that the crates themselves bring.

use erp_core::auth::Role;
use serde_json::json;

use super::{Fixture, Prepared, Setup, Sweep};

const NO_KIND: &str = "no kind of the product's is read by its id; the tests of files have one";
const NO_FILE: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// Of core's routes and identity's; a product may lack some.
pub(super) const FIXTURES: &[Fixture] = &[
    // No file has this name, and which names there are changes with what is in them.
    Fixture::new("GET /docs/{file}", |_| Box::pin(async { Prepared::at(["no-such-file"]) })).answers(404),
    Fixture::new("GET /assets/{file}", |_| Box::pin(async { Prepared::at(["no-such-file"]) })).answers(404),
    // No kind of the product is read by its id alone; the tests of files have one.
    Fixture::new("GET /api/v1/files/{id}", |_| Box::pin(async { Prepared::at([NO_FILE]) }))
        .answers(404)
        .except(&[(Sweep::Isolation, NO_KIND)]),
    Fixture::new("GET /api/v1/files/{id}/content", |_| Box::pin(async { Prepared::at([NO_FILE]) }))
        .answers(404)
        .except(&[(Sweep::Isolation, NO_KIND), (Sweep::Condition, NO_KIND)]),
    Fixture::new("GET /api/v1/files/linked", |_| Box::pin(async { Prepared::default() }))
        .answers(422)
        .except(&[(Sweep::Condition, NO_KIND)]),
    // Development alone has these, of mails that were sent there.
    Fixture::new("GET /dev/mail/{id}", |_| Box::pin(no_mail())).answers(404),
    Fixture::new("GET /dev/mail/{id}/html", |_| Box::pin(no_mail())).answers(404),
    // The level that tests have already.
    Fixture::new("PUT /log-level", |_| Box::pin(async { Prepared::body(json!({ "level": "debug" })) })),
    Fixture::new("POST /api/v1/auth/login", |setup| Box::pin(login(setup))),
];

async fn no_mail() -> Prepared {
    Prepared::at(["00000000-0000-7000-8000-000000000000"])
}

async fn login(setup: &Setup<'_>) -> Prepared {
    let credential = &setup.app().person(setup.tenant(), Role::Member).credential;
    Prepared::body(json!({
        "tenant": credential.tenant, "email": credential.email, "password": credential.password
    }))
}
