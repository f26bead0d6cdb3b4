//! Walks the route table: each route as nobody, without permission, as another tenant, and with right.

use std::cell::Cell;

use erp_core::auth::{Permission, Role};
use erp_core::module::{Access, Module, Route, Routes, too_weak};
use erp_testkit::{Actor, Answer, TestApp};
use serde_json::Value;

use crate::api::samples::{self, Sample};

/// Lower it whenever a line of `sweeps.exceptions` goes.
const MOST_EXCEPTIONS: usize = 0;
const RANDOM_ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

struct Sweep<'app> {
    app: &'app TestApp,
    next: Cell<u32>,
}

impl<'app> Sweep<'app> {
    fn over(app: &'app TestApp) -> Self {
        Self { app, next: Cell::new(0) }
    }

    /// The routes that have a sample.
    fn routes(&self) -> Vec<(&'app Route, &'static Sample)> {
        let routes = self.app.edge().routes.iter();
        routes.filter_map(|route| samples::of(route).map(|sample| (route, sample))).collect()
    }

    fn number(&self) -> u32 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// The path of a thing that `owner` has just made, or the plain path of a route without an id.
    async fn path(&self, route: &Route, sample: &Sample, owner: &Actor<'_>) -> String {
        let Some((collection, body)) = sample.made_by else { return route.path.to_owned() };
        let made = owner.post(collection, body.make(self.app, self.number())).await.assert(201).json();
        route.path.replace("{id}", made["id"].as_str().unwrap())
    }

    async fn send(&self, actor: &Actor<'_>, route: &Route, sample: &Sample, path: &str) -> Answer {
        let body = sample.body.map(|body| body.make(self.app, self.number()));
        actor.send(route.method.clone(), path, body).await
    }
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

#[tokio::test]
async fn every_route_has_a_sample() {
    let app = TestApp::start().await;
    let text = include_str!("sweeps.exceptions");
    let exceptions: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let without: Vec<String> =
        app.edge().routes.iter().filter(|route| samples::of(route).is_none()).map(name).collect();
    for route in &without {
        assert!(
            exceptions.iter().any(|line| line.starts_with(&format!("{route} — "))),
            "{route} has no sample, and none follows from the contract: add a row to SAMPLES in tests/it/api/samples.rs \
             with its body and its status of success, so that the sweeps call it as nobody, without permission and as \
             another tenant"
        );
    }
    for line in &exceptions {
        let needed = without.iter().any(|route| line.starts_with(route.as_str()));
        assert!(needed, "'{line}' is no exception any more: remove it, and lower MOST_EXCEPTIONS");
    }
    assert!(
        (0..=MOST_EXCEPTIONS).contains(&exceptions.len()),
        "sweeps.exceptions may only shrink: write samples instead"
    );
    app.finish().await;
}

#[tokio::test]
async fn with_right_every_route_answers() {
    let app = TestApp::start().await;
    let sweep = Sweep::over(&app);
    for (route, sample) in sweep.routes() {
        let path = sweep.path(route, sample, &app.bob()).await;
        let actor = match route.access {
            Access::Public | Access::Management => app.anonymous(),
            Access::SignedIn | Access::Permission(_) => app.bob(),
        };
        sweep.send(&actor, route, sample, &path).await.assert(sample.success);
    }
    app.finish().await;
}

#[tokio::test]
async fn h_05_as_nobody_every_route_but_the_public_ones_is_401() {
    let app = TestApp::start().await;
    let sweep = Sweep::over(&app);
    for (route, sample) in sweep.routes() {
        if matches!(route.access, Access::Public | Access::Management) {
            continue;
        }
        let path = sweep.path(route, sample, &app.alice()).await;
        let answer = sweep.send(&app.anonymous(), route, sample, &path).await.assert(401);
        answer.problem("core.unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", name(route));
    }
    app.finish().await;
}

#[tokio::test]
async fn without_the_permission_every_route_is_403() {
    let app = TestApp::start().await;
    let sweep = Sweep::over(&app);
    let mut refused = 0;
    for (route, sample) in sweep.routes() {
        let Access::Permission(Permission { roles, .. }) = route.access else { continue };
        for role in
            [Role::Owner, Role::Member, Role::ReadOnly].into_iter().filter(|role| !roles.contains(role))
        {
            let path = sweep.path(route, sample, &app.alice()).await;
            let answer = sweep.send(&app.actor("acme", role), route, sample, &path).await.assert(403);
            answer.problem("core.forbidden");
            refused += 1;
        }
    }
    assert!(refused >= 4, "the read-only role is refused somewhere");
    app.finish().await;
}

#[tokio::test]
async fn t_16_anothers_id_answers_like_one_that_does_not_exist() {
    let app = TestApp::start().await;
    let (sweep, alice, bob) = (Sweep::over(&app), app.alice(), app.bob());
    for (route, sample) in sweep.routes().into_iter().filter(|(route, _)| route.path.contains("{id}")) {
        let theirs = sweep.path(route, sample, &bob).await;
        let random = route.path.replace("{id}", RANDOM_ID);
        let before = bob.get(&theirs).await.assert(200).json();
        for if_match in [None, Some("\"1\""), Some("\"999\"")] {
            let found = attack(&sweep, &alice, (route, sample), &theirs, if_match).await;
            let missing = attack(&sweep, &alice, (route, sample), &random, if_match).await;
            found.problem("core.not_found");
            assert_eq!(found.comparable(), missing.comparable(), "{}", name(route));
            assert_eq!(headers(&found), headers(&missing), "{}", name(route));
        }
        assert_eq!(
            bob.get(&theirs).await.assert(200).json(),
            before,
            "{} changed what is bob's",
            name(route)
        );
        sweep.send(&bob, route, sample, &theirs).await.assert(sample.success);
    }
    app.finish().await;
}

async fn attack(
    sweep: &Sweep<'_>,
    actor: &Actor<'_>,
    (route, sample): (&Route, &Sample),
    path: &str,
    if_match: Option<&str>,
) -> Answer {
    let mut request = http::Request::builder().method(route.method.clone()).uri(path);
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    let body = sample.body.map(|body| body.make(sweep.app, 0)).map(|body: Value| body.to_string());
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    actor.request(request.body(body.unwrap_or_default()).unwrap()).await
}

/// The names of the headers, and the values of those that do not differ from request to request.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let differs = ["x-request-id", "x-correlation-id", "traceparent", "date", "ratelimit"];
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), format!("{value:?}")));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !differs.contains(&name.as_str())).collect();
    headers.sort();
    headers
}

#[tokio::test]
async fn h_08_outside_development_the_management_surface_wants_its_token() {
    let token = "pL5vXo2Rk9Zt7Qw3Nc8Yb1Hs6Jd4Mf0G";
    let app =
        TestApp::builder().setting("APP_ENV", "production").setting("METRICS_TOKEN", token).start().await;
    let sweep = Sweep::over(&app);
    for (route, sample) in sweep.routes() {
        if !matches!(route.access, Access::Management) {
            continue;
        }
        for stranger in [app.anonymous(), app.alice(), app.anonymous().with_token(&token[1..])] {
            let answer = sweep.send(&stranger, route, sample, route.path).await.assert(404);
            answer.problem("core.not_found");
        }
        let operator = app.anonymous().with_token(token);
        sweep.send(&operator, route, sample, route.path).await.assert(sample.success);
    }
    app.finish().await;
}

#[test]
fn f57_no_route_changes_something_for_those_who_may_only_read() {
    assert_eq!(too_weak(erp_modules::ALL), [] as [String; 0]);
}

#[test]
fn f57_a_rule_that_is_too_weak_is_found_unless_there_is_a_reason() {
    static READ: Permission =
        Permission { name: "weak.thing.read", what: "", roles: &[Role::Owner, Role::ReadOnly] };
    static CHANGE: Permission = Permission { name: "weak.thing.change", what: "", roles: &[Role::Owner] };
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
