//! Keeps plain HTTP out: what is asked so is sent over to HTTPS, or refused.
//!
//! Assumes that TLS ends here, or at a trusted proxy that says how the client came. Where neither is configured nobody can
//! tell, and nothing is refused: the start warns. The redirection leads to `PUBLIC_URL` alone: the request's `Host` is
//! whatever its sender likes, and a cache would lead others there.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, Uri, header};

use super::client::Client;
use super::is_managed;
use crate::config::{Config, PublicUrl};
use crate::error::{Error, codes};
use crate::module::Route;

/// Where requests over plain HTTP are sent; `None`: they are refused.
pub(in crate::middleware) struct Https {
    url: Option<PublicUrl>,
}

impl Https {
    /// `None` when plain HTTP is served.
    pub(in crate::middleware) fn new(config: &Config) -> Option<Self> {
        config.enforces_https().then(|| Self { url: config.http.public_url.clone() })
    }

    /// The redirection of a request that reads and came over plain HTTP. The route is not known yet when the path is not.
    pub(in crate::middleware) fn check(
        &self,
        client: Client,
        request: &Request,
        route: Option<&Route>,
    ) -> Result<Option<Response>, Error> {
        if client.https || is_managed(request) || route.is_some_and(Route::is_probe) {
            return Ok(None);
        }
        // OPTIONS is safe too, but browsers follow no redirection of a preflight.
        let reads = request.method() == http::Method::GET || request.method() == http::Method::HEAD;
        match self.url.as_ref().filter(|_| reads).and_then(|url| location(url, request.uri())) {
            Some(location) => {
                Ok(Some((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()))
            }
            None => Err(Error::new(&codes::HTTPS_REQUIRED)),
        }
    }
}

/// The same path and query under our own name.
pub(crate) fn location(url: &PublicUrl, target: &Uri) -> Option<HeaderValue> {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    path.starts_with('/').then(|| format!("{url}{path}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;

    use super::*;
    use crate::config::{Layers, MapSource};
    use crate::module::{Access, Routes, Surface};

    fn https(public_url: &[(&str, &str)]) -> Https {
        let settings = MapSource::environment(public_url.iter().copied());
        Https { url: Config::load(&Layers::from(settings)).unwrap().http.public_url }
    }

    fn client(https: bool) -> Client {
        Client { address: Ipv4Addr::LOCALHOST.into(), https }
    }

    fn request(method: &str, target: &str) -> Request {
        let request = Request::builder().method(method).uri(target).header("host", "evil.example");
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn h_03_reads_over_plain_http_are_led_to_our_own_name_and_writes_refused() {
        let (known, unknown) = (https(&[("PUBLIC_URL", "https://api.example.com")]), https(&[]));
        for (method, target) in [
            ("GET", "/a?b=c"),
            ("HEAD", "/"),
            ("GET", "http://evil.example/a?b=c"),
            ("GET", "//evil.example"),
        ] {
            let response = known.check(client(false), &request(method, target), None).unwrap().unwrap();
            let path = target.strip_prefix("http://evil.example").unwrap_or(target);
            let expected = format!("https://api.example.com{path}");
            assert_eq!(
                (response.status().as_u16(), &response.headers()[header::LOCATION]),
                (308, &expected.parse().unwrap())
            );
            let refused = unknown.check(client(false), &request(method, target), None).unwrap_err();
            assert_eq!(refused.code(), &codes::HTTPS_REQUIRED, "{target}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"] {
            let refused = known.check(client(false), &request(method, "/a"), None).unwrap_err();
            assert_eq!(refused.code(), &codes::HTTPS_REQUIRED, "{method}");
        }
        let refused = known.check(client(false), &request("GET", "*"), None).unwrap_err();
        assert_eq!(refused.code(), &codes::HTTPS_REQUIRED, "of no path");
    }

    #[test]
    fn h_03_what_is_encrypted_or_a_probe_or_managed_goes_on() {
        let https = https(&[]);
        let goes_on =
            |client, request: &Request, route: Option<&Route>| https.check(client, request, route).is_ok();
        assert!(goes_on(client(true), &request("POST", "/"), None));
        let mut managed = request("POST", "/log-level");
        managed.extensions_mut().insert(crate::middleware::origin::Managed);
        assert!(goes_on(client(false), &managed, None));
        for (access, surface, expected) in [
            (Access::Public, Surface::Probe, true),
            (Access::Management, Surface::Probe, true),
            (Access::Management, Surface::Management, false),
            (Access::Public, Surface::Management, false),
            (Access::Public, Surface::Public, false),
        ] {
            let routes = Routes::new().get("/livez", access, async || "").surface(surface);
            let route = routes.of("test").next().unwrap();
            let outcome = goes_on(client(false), &request("GET", "/livez"), Some(&route));
            assert_eq!(outcome, expected, "{access:?} for {surface:?}");
        }
    }
}
