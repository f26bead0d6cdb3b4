//! Finds the route of a request: before authentication, so that an unknown path is 404 to everybody.

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
}

/// What a request's path and method lead to.
pub(super) enum Found<'table> {
    /// A route.
    Route(&'table Route),
    /// OPTIONS: answered here.
    Options(Response),
}

impl<'table> Found<'table> {
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
        if route.path.matches('{').count() > 1 {
            return Err(clash(format!("{} has two parameters; Path takes one", route.path)));
        }
        if let Some(invalid) = route.security_headers.as_ref().and_then(SecurityHeaders::invalid) {
            return Err(clash(format!("{}: {invalid}", route.path)));
        }
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

    /// The route of `request`, whose path parameters are put into it.
    pub(super) fn find(&self, request: &mut Request) -> Result<Found<'_>, Error> {
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
        Ok(Found::Route(route))
    }
}

fn options_or_refusal<'table>(method: &Method, routes: &[Route]) -> Result<Found<'table>, Error> {
    let mut known: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
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
    Ok(Found::Options(response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Access, Csp, Routes};

    #[test]
    fn h_02_a_policy_that_is_none_refuses_the_start() {
        let csp = Csp::new().script_src(["'self'; img-src *"]);
        let routes =
            Routes::new().get("/page", Access::Public, async || "").headers(SecurityHeaders::json().csp(csp));
        let refused = RouteTable::new(routes.of("test")).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("/page") && refused.contains("script-src"), "{refused}");
    }
}
