//! What a request brings to say who sends it.

use std::fmt;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use super::{Actor, SignedIn};
use crate::error::{Error, codes};
use crate::shared::{OperatorId, SessionId, TenantId};

/// Whom a verified credential belongs to. It says nothing of what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The tenant that the credential is for.
    pub tenant: TenantId,
    /// Who acts with it.
    pub actor: Actor,
    /// The session that it is of, if it is of one.
    pub signed_in: Option<SignedIn>,
    /// Whether it came as a cookie, which a browser sends wherever the request was made.
    pub by_cookie: bool,
}

impl Identity {
    /// Of somebody whose credential is of no session.
    pub const fn new(tenant: TenantId, actor: Actor) -> Self {
        Self { tenant, actor, signed_in: None, by_cookie: false }
    }
}

/// What was found of a credential without waiting for anything.
pub enum Credential {
    /// There is none.
    Missing,
    /// It was verified by itself: a signed token, for example.
    Verified(Identity),
    /// Only the database can tell. It is asked when the client's address is within its limit.
    Unverified(BoxFuture<'static, Result<Identity, Error>>),
    /// An operator's, and of which session: only the database can tell, too, and it counts for the address.
    OfOperator(BoxFuture<'static, Result<(OperatorId, SessionId), Error>>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("Missing"),
            Self::Verified(identity) => f.debug_tuple("Verified").field(identity).finish(),
            Self::Unverified(_) => f.write_str("Unverified"),
            Self::OfOperator(_) => f.write_str("OfOperator"),
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750); two such headers are refused, since proxies differ on which counts.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
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

/// The key of `X-API-Key`, which is not sent along with `Authorization`: which of them counts would be a guess.
///
/// # Errors
/// `core.malformed_header` for more than one credential; `core.unauthenticated` for what is no text.
pub fn key_header(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all("x-api-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::new(&codes::MALFORMED_HEADER).detail("X-API-Key was sent more than once."));
    }
    if headers.contains_key(AUTHORIZATION) {
        let detail = "Send either Authorization or X-API-Key, and not both.";
        return Err(Error::new(&codes::MALFORMED_HEADER).detail(detail));
    }
    value.to_str().map(Some).map_err(|_| Error::new(&codes::UNAUTHENTICATED))
}

/// The cookie of a browser's session. By its prefix no browser takes it from another name, another path or plain HTTP
/// (RFC 6265bis, 4.1.3.2).
pub const SESSION_COOKIE: &str = "__Host-erp-session";

/// What the cookie of this name says.
///
/// # Errors
/// `core.malformed_header` for more than one: which of them counts would be a guess.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
    let value = values.next();
    if values.next().is_some() {
        let detail = format!("The cookie {name} was sent more than once.");
        return Err(Error::new(&codes::MALFORMED_HEADER).detail(detail));
    }
    Ok(value.filter(|value| !value.is_empty()))
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
    #[test]
    fn r_06_the_cookie_is_found_among_others_and_two_are_refused() {
        let found = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| _ = headers.append(COOKIE, HeaderValue::from_str(line).unwrap()));
            cookie(&headers, SESSION_COOKIE)
                .map(|value| value.map(str::to_owned))
                .map_err(|error| error.code().code)
        };
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&["a=b; __Host-erp-session=x;c=d"]), Ok(Some("x".to_owned())));
        assert_eq!(found(&["a=b", "__Host-erp-session=x"]), Ok(Some("x".to_owned())));
        for none in [
            "erp-session=x",
            "__host-erp-session=x",
            "__Host-erp-session2=x",
            "__Host-erp-session",
            "__Host-erp-session=",
        ] {
            assert_eq!(found(&[none]), Ok(None), "{none}");
        }
        assert_eq!(found(&["__Host-erp-session=x; __Host-erp-session=x"]), Err("core.malformed_header"));
        assert_eq!(found(&["__Host-erp-session=x", "__Host-erp-session=y"]), Err("core.malformed_header"));
    }
}
