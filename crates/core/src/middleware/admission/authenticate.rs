//! Verifies the credential of a route that wants one.
//!
//! Assumes that the way from the client is encrypted (see `https.rs`), since a bearer token is good for whoever has it; that
//! all instances have the same `JWT_SECRET`; and that their clocks are within a minute of each other.

use axum::extract::Request;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::App;
use crate::auth::Identity;
use crate::error::{Error, codes};
use crate::module::{Access, Route};

/// Who the bearer token was issued to; `None` on routes that want no member.
pub(in crate::middleware) fn enter(
    app: &App,
    route: &Route,
    request: &Request,
) -> Result<Option<Identity>, Error> {
    match route.access {
        Access::Public | Access::Management => Ok(None),
        Access::SignedIn | Access::Permission(_) => {
            let token = bearer(request.headers())?.ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
            app.authenticator.verify(token).map(Some)
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750); two such headers are refused, since proxies differ on which counts.
pub(in crate::middleware) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn outcome(lines: &[&[u8]]) -> Result<Option<String>, &'static str> {
        let lines = lines.iter().map(|line| (AUTHORIZATION, HeaderValue::from_bytes(line).unwrap()));
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, value)| _ = headers.append(name, value));
        bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|error| error.code().code)
    }

    #[test]
    fn j_01_a_token_is_taken_from_one_header_of_the_scheme_and_from_no_other() {
        assert_eq!(outcome(&[]), Ok(None));
        for line in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "] {
            assert_eq!(outcome(&[line.as_bytes()]), Ok(Some("a.b.c".to_owned())), "{line}");
        }
        for line in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer    ",
            "Basic YTpi",
            "a.b.c",
            "Bearera.b.c",
            "Bearer\ta.b.c",
            " Bearer a",
        ] {
            assert_eq!(outcome(&[line.as_bytes()]), Err("core.unauthenticated"), "{line:?}");
        }
        assert_eq!(outcome(&[b"Bearer \xff"]), Err("core.unauthenticated"));
        // What is joined is one token, which no key has signed.
        assert_eq!(outcome(&[b"Bearer a, Bearer b"]), Ok(Some("a, Bearer b".to_owned())));
    }

    #[test]
    fn h_05_two_headers_are_refused_even_if_they_are_alike() {
        for second in ["Bearer a.b.c", "Bearer x", "Basic YTpi", ""] {
            let refused = outcome(&[b"Bearer a.b.c", second.as_bytes()]);
            assert_eq!(refused, Err("core.malformed_header"), "{second}");
        }
    }
}
