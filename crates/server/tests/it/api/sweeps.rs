//! Sweeps the product: each route as nobody, without permission, as another tenant, twice under one key, and with right.

use erp_core::auth::{Permission, RequiredAction, Role};
use erp_core::extract::Json;
use erp_core::module::{
    Access, Module, Routes, Surface, too_weak, undeclared_field_permissions, undeclared_secrets,
};
use erp_core::shared::{Secret, ShownSecret};
use erp_testkit::TestApp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::fixtures::sweeps;

#[tokio::test]
async fn every_route_can_be_swept() {
    let app = TestApp::start().await;
    let lacking = sweeps(&app).await.lacking();
    assert!(lacking.is_empty(), "{lacking:#?}");
    app.finish().await;
}

#[tokio::test]
async fn with_right_every_route_answers() {
    let app = TestApp::start().await;
    sweeps(&app).await.right().await;
    app.finish().await;
}

#[tokio::test]
async fn h_05_as_nobody_every_route_but_the_public_ones_is_401() {
    let app = TestApp::start().await;
    sweeps(&app).await.nobody().await;
    app.finish().await;
}

#[tokio::test]
async fn t_16_no_credential_of_a_tenant_opens_an_operators_route_nor_the_other_way_round() {
    let app = TestApp::start().await;
    sweeps(&app).await.operators().await;
    app.finish().await;
}

#[tokio::test]
async fn an_operator_in_a_persons_place_changes_no_credentials_roles_or_members() {
    let app = TestApp::start().await;
    let sweeps = sweeps(&app).await;
    sweeps.impersonation().await;
    // What is the person's own affair follows from the table of routes: of identity, all that changes something.
    let open = sweeps.routes().filter(|route| {
        let changes = !route.method.is_safe() && route.surface == Surface::Tenant;
        route.module == "identity" && changes && !route.is_for_oneself()
    });
    assert_eq!(open.map(|route| route.path).collect::<Vec<_>>(), Vec::<&str>::new());
    app.finish().await;
}

#[tokio::test]
async fn m_03_a_session_of_which_something_is_wanted_first_opens_nothing_else() {
    let app = TestApp::start().await;
    let sweeps = sweeps(&app).await;
    sweeps.required().await;
    // What it opens is to do that, or to leave.
    let open = |action| {
        let routes = sweeps.routes().filter(move |route| route.opens_for.contains(&action));
        let alone = routes.filter(|route| route.opens_for.len() == 1);
        alone.map(|route| route.path).collect::<Vec<_>>()
    };
    assert_eq!(open(RequiredAction::ChangePassword), ["/account/password", "/api/v1/auth/password/change"]);
    assert_eq!(
        open(RequiredAction::SecondFactor),
        [
            "/account/factor",
            "/account/factor/confirm",
            "/account/prove",
            "/api/v1/auth/mfa/totp",
            "/api/v1/auth/mfa/totp/confirm",
            "/api/v1/auth/passkeys",
            "/api/v1/auth/passkeys",
            "/api/v1/auth/passkeys/options",
            "/api/v1/auth/passkeys/challenge",
            "/api/v1/auth/step-up"
        ]
    );
    assert_eq!(
        open(RequiredAction::AcceptTerms),
        ["/account/terms", "/api/v1/auth/terms", "/api/v1/auth/terms/accept"]
    );
    let always = sweeps.routes().filter(|route| route.opens_for == RequiredAction::ALL);
    assert_eq!(
        always.map(|route| route.path).collect::<Vec<_>>(),
        [
            "/account",
            "/account/sign-out",
            "/account/sign-out-everywhere",
            "/api/v1/auth/csrf-token",
            "/api/v1/auth/logout",
            "/api/v1/auth/logout-all",
            "/api/v1/me"
        ]
    );
    app.finish().await;
}

#[tokio::test]
async fn without_the_permission_every_route_is_403() {
    let app = TestApp::start().await;
    sweeps(&app).await.permission().await;
    app.finish().await;
}

#[tokio::test]
async fn t_16_anothers_id_answers_like_one_that_does_not_exist() {
    let app = TestApp::start().await;
    sweeps(&app).await.isolation().await;
    app.finish().await;
}

#[tokio::test]
async fn h_09_every_change_is_made_once_under_one_key() {
    let app = TestApp::start().await;
    sweeps(&app).await.idempotency().await;
    app.finish().await;
}

#[tokio::test]
async fn h_10_every_condition_on_a_version_is_kept() {
    let app = TestApp::start().await;
    sweeps(&app).await.condition().await;
    app.finish().await;
}

#[tokio::test]
async fn u_01_every_change_has_its_audit_rows() {
    let app = TestApp::start().await;
    sweeps(&app).await.audit().await;
    app.finish().await;
}

#[tokio::test]
async fn h_08_outside_development_the_management_surface_wants_its_token() {
    let token = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let app =
        TestApp::builder().setting("APP_ENV", "production").setting("METRICS_TOKEN", token).start().await;
    let sweeps = sweeps(&app).await;
    for route in sweeps.routes() {
        let in_development = route.path.starts_with("/dev/"); // and nowhere else
        if !matches!(route.access, Access::Management) || in_development {
            continue;
        }
        let ready = sweeps.ready(route, "acme").await;
        for stranger in [app.anonymous(), app.alice(), app.anonymous().with_token(&token[1..])] {
            ready.send_as(&stranger, route).await.assert(404).problem("core.not_found");
        }
        ready.send_as(&app.anonymous().with_token(token), route).await.assert(ready.success);
    }
    app.finish().await;
}

#[test]
fn f57_no_route_changes_something_for_those_who_may_only_read() {
    let weak = too_weak(erp_modules::ALL);
    assert!(weak.is_empty(), "{}", weak.join("\n"));
}

#[test]
fn f57_a_rule_that_is_too_weak_is_found_unless_there_is_a_reason() {
    static READ: Permission = Permission {
        name: "weak.thing.read",
        what: "",
        roles: &[Role::Owner, Role::ReadOnly],
        owners_alone: false,
    };
    static CHANGE: Permission =
        Permission { name: "weak.thing.change", what: "", roles: &[Role::Owner], owners_alone: false };
    async fn done() {}
    static WEAK: Module = Module {
        name: "weak",
        routes: || {
            Routes::new()
                .post("/weak/signed-in", Access::SignedIn, done)
                .put("/weak/reader", Access::Permission(&READ), done)
                .put("/weak/owner", Access::Permission(&CHANGE), done)
                .get("/weak/read", Access::Permission(&READ), done)
                .delete("/weak/own", Access::SignedIn, done)
                .open_to_readers("it ends the caller's own session")
        },
        ..Module::BARE
    };
    let found = too_weak(&[&WEAK]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("POST /weak/signed-in of 'weak'"), "{found:?}");
    assert!(found[1].starts_with("PUT /weak/reader"), "{found:?}");
}

#[test]
fn every_field_that_wants_a_permission_wants_one_that_is_declared() {
    let undeclared = undeclared_field_permissions(erp_modules::ALL);
    assert!(undeclared.is_empty(), "{}", undeclared.join("\n"));
}

#[test]
fn a_field_that_wants_a_permission_which_nobody_declares_is_found() {
    #[derive(Serialize, JsonSchema)]
    struct Priced {
        #[schemars(extend("x-permission" = "priced.cost.se"))]
        cost: i64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Shelf {
        things: Vec<Option<Priced>>,
    }
    static PRICED: Module = Module {
        name: "priced",
        routes: || {
            let shelf = async || Json(Shelf { things: vec![Some(Priced { cost: 1 })] });
            Routes::new().get("/priced", Access::SignedIn, shelf)
        },
        ..Module::BARE
    };
    let found = undeclared_field_permissions(&[&PRICED]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("'things.*.cost' wants the permission 'priced.cost.se'"), "{found:?}");
}

#[test]
fn every_route_that_shows_a_secret_says_so() {
    let undeclared = undeclared_secrets(erp_modules::ALL);
    assert!(undeclared.is_empty(), "{}", undeclared.join("\n"));
}

#[test]
fn a_route_that_shows_a_secret_and_does_not_say_so_is_found() {
    #[derive(Serialize, JsonSchema)]
    struct Key {
        key: ShownSecret,
    }
    #[derive(Serialize, JsonSchema)]
    struct Keys {
        keys: Vec<Option<Key>>,
    }
    #[derive(Serialize, JsonSchema)]
    struct Named {
        name: String,
        #[serde(flatten)]
        key: Key,
    }
    async fn deep() -> Json<Keys> {
        Json(Keys { keys: Vec::new() })
    }
    async fn flat() -> Json<Named> {
        let key = Key { key: Secret::new("key".to_owned()).into() };
        Json(Named { name: "name".to_owned(), key })
    }
    static TALKATIVE: Module = Module {
        name: "talkative",
        routes: || {
            Routes::new()
                .post("/talkative/deep", Access::SignedIn, deep)
                .post("/talkative/flat", Access::SignedIn, flat)
                .post("/talkative/declared", Access::SignedIn, flat)
                .shows_secret()
                .post("/talkative/plain", Access::SignedIn, async || "nothing")
        },
        ..Module::BARE
    };
    let found = undeclared_secrets(&[&TALKATIVE]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("POST /talkative/deep of 'talkative'"), "{found:?}");
    assert!(found[1].ends_with("add `.shows_secret()`"), "{found:?}");
}
