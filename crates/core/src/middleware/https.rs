//! Keeps plain HTTP out: what is asked so is sent over to HTTPS, or refused.
//!
//! Assumes that TLS ends here, or at a trusted proxy that says how the client came. Where neither is configured nobody can
//! tell, and nothing is refused: the start warns. The redirection leads to `PUBLIC_URL` alone: the request's `Host` is
//! whatever its sender likes, and a cache would lead others there.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, Uri, header};

use super::access;
use super::client::Client;
use crate::config::{Config, PublicUrl};
use crate::error::{Error, codes};
use crate::module::Route;

/// Where requests over plain HTTP are sent; `None`: they are refused.
pub(super) struct Https {
    url: Option<PublicUrl>,
}

impl Https {
    /// `None` when plain HTTP is served.
    pub(super) fn new(config: &Config) -> Option<Self> {
        config.enforces_https().then(|| Self { url: config.public_url.clone() })
    }

    /// The redirection of a request that reads and came over plain HTTP. The route is not known yet when the path is not.
    pub(super) fn check(
        &self,
        client: Client,
        request: &Request,
        route: Option<&Route>,
    ) -> Result<Option<Response>, Error> {
        if client.https || access::is_managed(request) || route.is_some_and(Route::is_probe) {
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
