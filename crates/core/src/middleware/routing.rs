//! Finds the route of a request: before authentication, so that an unknown path is 404 to everybody.
//!
//! Assumes that a proxy in front passes the path on as it came. No prefix is taken off here but a tenant's (`origin/selection.rs`), and none of `//`, `..` and
//! `%2F` is resolved: what a rule of the proxy guards is guarded only if the proxy resolves nothing either.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};

use crate::error::{Error, codes};
use crate::extract::PathParams;
use crate::lifecycle::{Exit, StartError};
use crate::module::{Route, SecurityHeaders};

/// Every route, by path and method.
#[derive(Default)]
pub struct RouteTable {
    paths: matchit::Router<usize>,
    /// The routes of each path.
    routes: Vec<Vec<Route>>,
    /// Whether one of them takes files.
    takes_files: bool,
}

/// What a request's path and method lead to.
pub(super) enum RouteMatch<'table> {
    /// A route.
    Route(&'table Route),
    /// OPTIONS: answered here.
    Options(Response),
}

impl<'table> RouteMatch<'table> {
    /// The route, if the request is for one.
    pub(super) fn route(&self) -> Option<&'table Route> {
        match self {
            Self::Route(route) => Some(route),
            Self::Options(_) => None,
        }
    }
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    /// `Exit::Internal` when two routes claim the same path and method: a fault of the program.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, StartError> {
        let mut table = Self::default();
        for route in routes {
            table.add(route)?;
        }
        Ok(table)
    }

    fn add(&mut self, route: Route) -> Result<(), StartError> {
        let clash = |why: String| StartError::new(Exit::Internal, why);
        if route.path.starts_with("/t/") {
            return Err(clash(format!("{}: by /t/… a path selects a tenant", route.path)));
        }
        let inputs = route.inputs();
        let has = route.path.matches('{').count();
        let taken = inputs.path.len();
        if taken > 0 && taken != has {
            let name = format!("{} {}", route.method, route.path);
            return Err(clash(format!("{name} has {has} parameters, and its handler's Path takes {taken}")));
        }
        if inputs.operator && !route.is_operators() {
            let name = format!("{} {}", route.method, route.path);
            return Err(clash(format!(
                "{name}: its handler takes an `Operator`, whom only routes of operators have: say `Access::Operator`"
            )));
        }
        if inputs.system != route.system.is_some() {
            let name = format!("{} {}", route.method, route.path);
            return Err(clash(match route.system {
                None => format!(
                    "{name}: its handler takes `System`, the right to do work that no caller may: declare that work with \
                     `system_work!` in `system` of the module, and name it below the route, `.system(&…)`; or take \
                     `Call`, and work in the caller's tenant"
                ),
                Some(work) => {
                    format!("{name} names the system work '{}', and its handler takes no `System`", work.name)
                }
            }));
        }
        if inputs.upload != route.upload.is_some() {
            let name = format!("{} {}", route.method, route.path);
            return Err(clash(match route.upload {
                None => format!(
                    "{name}: its handler takes an `Upload`; say of what kind, below the route: `.uploads(&KIND)`"
                ),
                Some(kind) => {
                    format!("{name} takes a file '{}', and its handler takes no `Upload`", kind.name)
                }
            }));
        }
        if !route.surface.admits(route.access) {
            return Err(clash(format!(
                "{} {} is for {:?} and its access rule is {:?}: one of them is wrong",
                route.method, route.path, route.surface, route.access
            )));
        }
        if let Some(invalid) = route.security_headers.as_ref().and_then(SecurityHeaders::invalid) {
            return Err(clash(format!("{}: {invalid}", route.path)));
        }
        if let Some(Err(invalid)) = &route.deprecation {
            return Err(clash(format!("{} {}: {invalid}", route.method, route.path)));
        }
        self.takes_files |= route.upload.is_some();
        if let Some(known) =
            self.routes.iter_mut().find(|known| known.first().is_some_and(|r| r.path == route.path))
        {
            if known.iter().any(|other| other.method == route.method) {
                return Err(clash(format!("Two routes claim {} {}", route.method, route.path)));
            }
            known.push(route);
            return Ok(());
        }
        self.paths
            .insert(route.path, self.routes.len())
            .map_err(|error| clash(format!("The path {} cannot be routed: {error}", route.path)))?;
        self.routes.push(vec![route]);
        Ok(())
    }

    /// All routes, path by path.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().flatten()
    }

    /// Whether `request` sends a file, which may take a while.
    pub(super) fn sends_a_file(&self, request: &Request) -> bool {
        self.takes_files
            && !request.method().is_safe()
            && self.paths.at(request.uri().path()).is_ok_and(|matched| {
                let routes = self.routes.get(*matched.value).map(Vec::as_slice).unwrap_or_default();
                routes.iter().any(|route| route.method == *request.method() && route.upload.is_some())
            })
    }

    /// The route of `request`, whose path parameters are put into it.
    pub(super) fn find(&self, request: &mut Request) -> Result<RouteMatch<'_>, Error> {
        if *request.method() == Method::CONNECT || request.uri().path() == "*" {
            return of_the_server(request.method());
        }
        let matched = self.paths.at(request.uri().path()).map_err(|_| Error::new(&codes::NOT_FOUND))?;
        let routes = self.routes.get(*matched.value).map(Vec::as_slice).unwrap_or_default();
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some(route) = routes.iter().find(|route| route.method == *method) else {
            return options_or_refusal(request.method(), routes);
        };
        let params: Vec<String> = matched.params.iter().map(|(_, value)| value.to_owned()).collect();
        if !params.is_empty() {
            request.extensions_mut().insert(PathParams(params));
        }
        Ok(RouteMatch::Route(route))
    }
}

/// What is asked of the server, not of a path: it is no proxy (RFC 9110, 9.3.6), and `OPTIONS *` lists all methods.
fn of_the_server<'table>(method: &Method) -> Result<RouteMatch<'table>, Error> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    answer_options(method, known.to_vec())
}

fn options_or_refusal<'table>(method: &Method, routes: &[Route]) -> Result<RouteMatch<'table>, Error> {
    answer_options(method, routes.iter().map(|route| route.method.as_str()).collect())
}

fn answer_options<'table>(method: &Method, mut known: Vec<&str>) -> Result<RouteMatch<'table>, Error> {
    if known.contains(&"GET") {
        known.push("HEAD");
    }
    known.push("OPTIONS");
    let allow = known.join(", ");
    if *method != Method::OPTIONS {
        return Err(Error::new(&codes::METHOD_NOT_ALLOWED).allow(allow));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    Ok(RouteMatch::Options(response))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::db::{System, SystemWork};
    use crate::extract::Path;
    use crate::module::{Access, Csp, Routes, Surface};

    fn table() -> RouteTable {
        let routes = Routes::new()
            .get("/items", Access::Public, async || "")
            .post("/items", Access::Public, async || "")
            .delete("/items/{id}", Access::Public, async || "");
        RouteTable::new(routes.of("test")).unwrap()
    }

    /// What is found: the route and its parameters, or the status of the refusal, or what OPTIONS allows.
    fn found(method: &str, target: &str) -> String {
        let mut request = Request::builder().method(method).uri(target).body(Body::empty()).unwrap();
        match table().find(&mut request) {
            Ok(RouteMatch::Route(route)) => {
                let params = request.extensions().get::<PathParams>().map(|params| params.0.join(","));
                format!("{} {} {}", route.method, route.path, params.unwrap_or_default())
            }
            Ok(RouteMatch::Options(response)) => {
                response.headers()[header::ALLOW].to_str().unwrap().to_owned()
            }
            Err(error) => {
                let response = error.render("/", "test", false);
                let allow = response.headers().get(header::ALLOW).map(|allow| allow.to_str().unwrap());
                format!("{} {}", response.status().as_u16(), allow.unwrap_or_default())
            }
        }
    }

    #[test]
    fn h_05_a_method_that_the_path_does_not_know_is_told_which_it_does() {
        for (method, target, expected) in [
            ("GET", "/items", "GET /items "),
            ("HEAD", "/items?q=1", "GET /items "),
            ("DELETE", "/items/7", "DELETE /items/{id} 7"),
            ("PUT", "/items", "405 GET, POST, HEAD, OPTIONS"),
            ("get", "/items", "405 GET, POST, HEAD, OPTIONS"),
            ("HEAD", "/items/7", "405 DELETE, OPTIONS"),
            ("OPTIONS", "/items", "GET, POST, HEAD, OPTIONS"),
            ("OPTIONS", "*", "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("GET", "*", "405 GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("CONNECT", "elsewhere.example:443", "405 GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("OPTIONS", "/nothing", "404 "),
        ] {
            assert_eq!(found(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn h_05_no_path_is_resolved_into_another() {
        for target in [
            "//items",
            "/items/",
            "/./items",
            "/x/../items",
            "/ITEMS",
            "/%69tems",
            "/items%2F7",
            "/items/7/8",
            "/items;a=b",
        ] {
            assert_eq!(found("GET", target), "404 ", "{target}");
        }
        for id in ["a%2Fb", "..%2f", "..", "%00"] {
            assert_eq!(found("DELETE", &format!("/items/{id}")), format!("DELETE /items/{{id}} {id}"));
        }
    }

    #[test]
    fn routes_that_clash_refuse_the_start() {
        let once = || Routes::new().get("/items/{id}", Access::Public, async || "");
        for routes in [
            once().get("/items/{id}", Access::Public, async || ""),
            once().get("/items/{other}", Access::Public, async || ""),
            once().get("/items/{id}/parts/{part}", Access::Public, async |_: Path<i64>| ""),
            once().get("/parts", Access::Public, async |_: Path<i64>| ""),
            once().get("/parts/{part}", Access::Public, async |_: Path<(i64, i64)>| ""),
        ] {
            assert!(RouteTable::new(routes.of("test")).is_err());
        }
        let pair = once().get("/items/{id}/parts/{part}", Access::Public, async |_: Path<(i64, String)>| "");
        assert!(RouteTable::new(pair.of("test")).is_ok());
    }

    #[test]
    fn a_route_for_operators_cannot_be_one_for_members_and_a_members_none_for_strangers() {
        let route = |access| Routes::new().get("/x", access, async || "");
        for routes in [
            route(Access::SignedIn).surface(Surface::Management),
            route(Access::SignedIn).surface(Surface::Public),
            route(Access::Public).surface(Surface::Tenant),
            route(Access::Management).surface(Surface::Public),
        ] {
            assert!(RouteTable::new(routes.of("test")).is_err());
        }
        assert!(RouteTable::new(route(Access::Public).surface(Surface::Probe).of("test")).is_ok());
    }

    #[test]
    fn t_17_a_handler_works_as_the_system_where_the_route_says_so_and_nowhere_else() {
        static WORK: SystemWork = SystemWork { name: "work", why: "" };
        let silent = Routes::new().post("/x", Access::Public, async |_: System| "");
        let refused = RouteTable::new(silent.of("test")).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("declare that work with `system_work!`"), "{refused}");
        let needless = Routes::new().post("/x", Access::Public, async || "").system(&WORK);
        let refused = RouteTable::new(needless.of("test")).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("names the system work 'work', and its handler takes no"), "{refused}");
        let both = Routes::new().post("/x", Access::Public, async |_: System| "").system(&WORK);
        assert!(RouteTable::new(both.of("test")).is_ok());
    }

    #[test]
    fn a_deprecation_without_a_date_or_after_its_sunset_refuses_the_start() {
        let route = || Routes::new().get("/old", Access::Public, async || "");
        for (since, sunset) in
            [("soon", None), ("2027-01-01", Some("later")), ("2027-01-01", Some("2026-12-31"))]
        {
            let refused = RouteTable::new(route().deprecated(since, sunset).of("test")).map(|_| ());
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("GET /old: `deprecated`"), "{refused}");
        }
        assert!(RouteTable::new(route().deprecated("2027-01-01", "2028-01-01").of("test")).is_ok());
    }

    #[test]
    fn h_02_a_policy_that_is_none_refuses_the_start() {
        let csp = Csp::new().script_src(["'self'; img-src *"]);
        let routes =
            Routes::new().get("/page", Access::Public, async || "").headers(SecurityHeaders::json().csp(csp));
        let refused = RouteTable::new(routes.of("test")).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("/page") && refused.contains("script-src"), "{refused}");
    }
}
