//! Sweeps: what holds of every route of a product is tried on every route, of every module.
//!
//! Which routes a sweep concerns follows from what the routes declare, and their requests from the contract or a
//! [`Fixture`]. A route that has neither fails the test, and so does a sweep that reaches no route.

mod derive;
mod fixture;
mod house;
mod isolation;
mod rules;

use std::cell::Cell;
use std::fmt;

use erp_core::auth::Role;
use erp_core::factory::contract;
use erp_core::module::{Access, Route, Routes, Surface};
use serde_json::Value;

use crate::{Actor, Answer, TestApp};
pub use fixture::{Fixture, Prepared, Preparing, Setup};

/// What is swept. A [`Fixture`] can exempt its route from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// With right every route succeeds.
    Right,
    /// Without a credential a member's route is 401.
    Nobody,
    /// No credential of a tenant opens an operators' route, and no operator's a tenant's: 401.
    Operators,
    /// An operator in a person's place is 403 where something is the person's own affair.
    Impersonation,
    /// Before what is wanted of a member is done a route is 403.
    Required,
    /// Without its permission a route is 403.
    Permission,
    /// An id of another tenant, in the path or the body, is answered as one that does not exist; lists have none.
    Isolation,
    /// A change that is sent twice under one key is made once.
    Idempotency,
    /// A change on condition of another version is refused; what has not changed is not sent again.
    Condition,
    /// A change has its audit rows: of who made it, and in its tenant.
    Audit,
}

/// The requests of a product's routes, with what they need before.
///
/// The request of a route is that of its [`Fixture`]. Where there is none it follows from the contract: the body is the
/// example that the contract shows, with a number in its texts, unless it names another resource; the body of a PUT or
/// PATCH is that of the POST above it, where that one has a fixture; and what stands in the path was made by a colleague of
/// the caller, by a POST to the collection above it. So a fixture of the POST serves all routes of a resource.
///
/// ```no_run
/// # use erp_testkit::{Fixture, Sweeps, TestApp};
/// # const FIXTURES: &[Fixture] = &[];
/// # async fn test() {
/// let app = TestApp::start().await;
/// Sweeps::over(&app, &[FIXTURES]).await.all().await;
/// app.finish().await;
/// # }
/// ```
pub struct Sweeps<'app> {
    app: &'app TestApp,
    document: Value,
    fixtures: Vec<Fixture>,
    /// Of acme and of globex.
    colleagues: [Actor<'app>; 2],
    next: Cell<u32>,
    /// What the paths of the routes begin with.
    below: &'static str,
}

/// A request that is ready to be sent, and who may send it.
pub struct Ready<'app> {
    /// The path, with its values.
    pub path: String,
    /// The values of its parameters.
    pub values: Vec<String>,
    /// The body, for a route that reads one.
    pub body: Option<Value>,
    /// The status of success.
    pub success: u16,
    /// Somebody who may send it.
    pub actor: Actor<'app>,
}

impl Ready<'_> {
    /// Sends it as `actor`.
    pub async fn send_as(&self, actor: &Actor<'_>, route: &Route) -> Answer {
        actor.request(self.request(route, http::Request::builder())).await
    }

    /// Sends it with a header more.
    pub async fn send_with(&self, actor: &Actor<'_>, route: &Route, name: &str, value: &str) -> Answer {
        actor.request(self.request(route, http::Request::builder().header(name, value))).await
    }

    fn request(&self, route: &Route, begun: http::request::Builder) -> http::Request<String> {
        request(route, &self.path, self.body.as_ref(), begun)
    }
}

/// A request of this route. The body of one that takes a file is the text of the file; that of one that takes a form is an object of
/// its fields.
fn request(
    route: &Route,
    path: &str,
    body: Option<&Value>,
    begun: http::request::Builder,
) -> http::Request<String> {
    let begun = begun.method(route.method.clone()).uri(path);
    let request = match (route.upload, body) {
        (Some(kind), Some(Value::String(text))) => {
            let media = if text.starts_with(PDF) { "application/pdf" } else { kind.types[0].name };
            begun.header("content-type", media).body(text.clone())
        }
        (_, Some(Value::Object(fields))) if route.takes_form => {
            let texts = fields.iter().map(|(name, text)| (name, text.as_str().expect("a form has texts")));
            let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(texts).finish();
            begun.header("content-type", "application/x-www-form-urlencoded").body(text)
        }
        (_, Some(body)) => begun.header("content-type", "application/json").body(body.to_string()),
        (_, None) => begun.body(String::new()),
    };
    request.expect("the path is a URI")
}

/// How a PDF begins: the file that the sweeps send where a route takes one.
const PDF: &str = "%PDF-1.7\n";

impl<'app> Sweeps<'app> {
    /// The sweeps over all routes of `app`, with the fixtures of its modules. Those of core and identity are known.
    ///
    /// # Panics
    /// When a fixture is of no route.
    pub async fn over(app: &'app TestApp, fixtures: &[&[Fixture]]) -> Self {
        let document = contract(app.product(), Routes::new()).document();
        let colleagues = [app.another("acme", Role::Owner).await, app.another("globex", Role::Owner).await];
        let routes = &app.edge().routes;
        let is_there = |fixture: &Fixture| routes.iter().any(|route| name(route) == fixture.route);
        let mut all: Vec<Fixture> = fixtures.concat();
        for fixture in &all {
            assert!(is_there(fixture), "there is no route {}: remove or correct its fixture", fixture.route);
        }
        let known = house::FIXTURES.iter().chain(crate::identity::FIXTURES);
        all.extend(known.filter(|fixture| is_there(fixture)));
        Self { app, document, fixtures: all, colleagues, next: Cell::new(0), below: "" }
    }

    /// The same, over the routes only whose paths begin so: a module's own, of a product that has more.
    #[must_use]
    pub fn below(self, path: &'static str) -> Self {
        Self { below: path, ..self }
    }

    /// Every sweep, one after the other.
    pub async fn all(&self) {
        self.right().await;
        self.nobody().await;
        if self.routes().any(|route| is_operators(route) && route.path.starts_with(self.below)) {
            self.operators().await;
            self.impersonation().await;
        }
        self.required().await;
        self.permission().await;
        self.isolation().await;
        self.idempotency().await;
        self.condition().await;
        self.audit().await;
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &'app Route> + use<'app> {
        self.app.edge().routes.iter()
    }

    /// A number that no other call returns.
    pub fn number(&self) -> u32 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// Prepares the request of a route in acme or globex, to be sent by somebody who may.
    pub async fn ready(&self, route: &Route, tenant: &'static str) -> Ready<'app> {
        let owner = self.app.actor(tenant, Role::Owner);
        let actor = self.permitted(route, tenant, &owner).await;
        let Prepared { values, body, sender } = self.prepare_in(route, &self.setup(tenant, &owner)).await;
        let actor = match sender {
            Some((person, token)) => actor.as_somebody(person, token),
            None => actor,
        };
        Ready { path: filled(route.path, &values), values, body, success: self.success(route), actor }
    }

    /// `person`, or somebody new where the route's permission is not an owner's.
    async fn permitted(&self, route: &Route, tenant: &str, person: &Actor<'app>) -> Actor<'app> {
        match route.access {
            Access::Public | Access::Management => self.app.anonymous(),
            Access::Operator => self.app.operator().await,
            Access::Permission(permission) if !permission.roles.contains(&Role::Owner) => {
                self.app.someone(tenant, &[permission]).await
            }
            Access::SignedIn | Access::Permission(_) => person.clone(),
        }
    }

    fn setup<'a>(&'a self, tenant: &'static str, caller: &Actor<'a>) -> Setup<'a> {
        let [acme, globex] = &self.colleagues;
        let colleague = if tenant == "acme" { acme.clone() } else { globex.clone() };
        Setup { sweeps: self, tenant, caller: caller.clone(), colleague }
    }

    /// Visits the routes that a sweep concerns and no fixture exempts.
    async fn each(&self, sweep: Sweep, concerns: impl Fn(&Route) -> bool, visit: impl AsyncFn(&'app Route)) {
        let mut reached = 0;
        for route in self.routes().filter(|route| route.path.starts_with(self.below)) {
            let exempt =
                self.fixture(route).and_then(|fixture| fixture.exempt.iter().find(|(of, _)| *of == sweep));
            match (concerns(route), exempt) {
                (true, None) => {
                    visit(route).await;
                    reached += 1;
                }
                (false, Some((_, why))) => {
                    panic!(
                        "{sweep} does not concern {} at all: its fixture need not say '{why}'",
                        name(route)
                    )
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        assert!(reached > 0, "{sweep} reached no route: it would hold of whatever there is");
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sweep '{}'", format!("{self:?}").to_lowercase())
    }
}

/// As it is named in a [`Fixture`]: its method and path template.
fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

/// Whether only members of a tenant may ask it.
fn is_members(route: &Route) -> bool {
    route.surface == Surface::Tenant
}

/// Whether only operators may ask it.
fn is_operators(route: &Route) -> bool {
    route.surface == Surface::Operators
}

/// Whether a member changes something by it.
fn changes(route: &Route) -> bool {
    is_members(route) && !route.method.is_safe()
}

/// A path template with values in the place of its parameters.
fn filled(template: &str, values: &[String]) -> String {
    let mut values = values.iter();
    let segments = template.split('/').map(|segment| match segment.starts_with('{') {
        true => values
            .next()
            .unwrap_or_else(|| panic!("{template} has more parameters than its fixture has values")),
        false => segment,
    });
    let path = segments.collect::<Vec<_>>().join("/");
    assert!(values.next().is_none(), "{template} has fewer parameters than its fixture has values");
    path
}
