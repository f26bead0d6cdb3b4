//! Verifies the credential of a route that wants one.

use axum::extract::Request;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::App;
use crate::auth::Identity;
use crate::error::{Error, codes};
use crate::module::{Access, Route};

/// Who the bearer token was issued to; `None` on routes that want no member.
pub(super) fn enter(app: &App, route: &Route, request: &Request) -> Result<Option<Identity>, Error> {
    match route.access {
        Access::Public | Access::Management => Ok(None),
        Access::SignedIn | Access::Permission(_) => {
            let token = bearer(request.headers())?.ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
            app.authenticator.verify(token).map(Some)
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750); two such headers are refused, since proxies differ on which counts.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::new(&codes::MALFORMED_HEADER).detail("Authorization was sent more than once."));
    }
    let text = value.to_str().map_err(|_| Error::new(&codes::UNAUTHENTICATED))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(Error::new(&codes::UNAUTHENTICATED));
    }
    Ok(Some(token.trim()))
}
