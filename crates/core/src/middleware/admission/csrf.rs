//! Refuses what a page of another origin asks for in its visitor's name.
//!
//! 1. A request with a token or a key is never looked at: no browser sends one by itself.
//! 2. A change by the session's cookie comes from a page of this origin: the browser says so in `Sec-Fetch-Site`, or in `Origin` where
//!    it is too old for that or the connection is not encrypted. A page of a sibling's name (`same-site`) is another one.
//! 3. What a script of another page asks for by the cookie it does not read either, whatever `CORS_ORIGIN` lets it read by a token.
//!    A link that is followed from there leads here all the same.
//! 4. And a change proves that it has read a page of ours: by `X-CSRF-Token`, or by the field `csrf` of a form, which its handler's
//!    [`FormBody`](crate::extract::FormBody) looks at.
//! 5. A form that anybody may send, without a cookie, comes from this origin where the browser says where it comes from: or else a
//!    foreign page would sign its visitor in as somebody else.
//!
//! Assumes that proxies pass `Host` and `Origin` on as they came, or that `PUBLIC_URL` says how clients name this server.
//! `crates/server/tests/it/identity/browser.rs` shows it in a browser.

use axum::extract::Request;
use http::{HeaderMap, header};

use crate::app::App;
use crate::auth::Identity;
use crate::config::{HttpSettings, PublicUrl};
use crate::error::{Error, codes};
use crate::middleware::origin::selection;
use crate::module::Route;

const TOKEN: &str = "x-csrf-token";

/// # Errors
/// `core.foreign_page`, and `core.csrf_token` where the token is missing or another session's.
pub(in crate::middleware) fn check(
    app: &App,
    route: &Route,
    request: &Request,
    identity: Option<Identity>,
) -> Result<(), Error> {
    let by_cookie = identity.filter(|identity| identity.by_cookie);
    if by_cookie.is_none() && (request.method().is_safe() || !route.takes_form) {
        return Ok(());
    }
    let from_here = is_from_here(request, &app.config.http);
    if request.method().is_safe() {
        let reads = from_here == Some(false) && !is_navigation(request.headers());
        return if reads { Err(Error::new(&codes::FOREIGN_PAGE)) } else { Ok(()) };
    }
    if !from_here.unwrap_or(by_cookie.is_none()) {
        return Err(Error::new(&codes::FOREIGN_PAGE));
    }
    match by_cookie {
        Some(identity) if !route.takes_form => {
            let token = request.headers().get(TOKEN).and_then(|token| token.to_str().ok());
            app.authenticator.csrf_keys().check(token, identity.signed_in.map(|known| known.session))
        }
        _ => Ok(()),
    }
}

/// Whether the browser says that the request comes from a page of this origin; `None` where it says nothing.
fn is_from_here(request: &Request, http: &HttpSettings) -> Option<bool> {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return Some(site == "same-origin");
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    let public_url = http.public_url.as_ref().map(PublicUrl::as_str);
    let of_tenant = http.tenant_domain.as_ref().map(|domain| selection::by_host(domain, request));
    Some(match (public_url, of_tenant) {
        // A tenant's own name has pages of its own, to which those of `PUBLIC_URL` and of other tenants are foreign.
        (Some(_), Some(Ok(Some(_)))) => {
            origin.strip_prefix("https://").is_some_and(|host| Some(host) == named(request, headers))
        }
        (_, Some(Err(_))) => false,
        (Some(url), _) => origin == url,
        // Which scheme it came by is not known behind a proxy; of another one of this name no page can be.
        (None, _) => origin.split_once("://").is_some_and(|(_, host)| Some(host) == named(request, headers)),
    })
}

/// Whether what comes is shown to the visitor, and no page reads it.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// What the client calls this server.
fn named<'a>(request: &'a Request, headers: &'a HeaderMap) -> Option<&'a str> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| headers.get(header::HOST)?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::config::{Config, Layers, MapSource};

    fn told(headers: &[(&str, &str)], public_url: Option<&str>) -> Option<bool> {
        let settings: Vec<_> = public_url.map(|url| ("PUBLIC_URL", url)).into_iter().collect();
        told_at("erp.example:8443", headers, &settings)
    }

    fn told_at(host: &str, headers: &[(&str, &str)], settings: &[(&str, &str)]) -> Option<bool> {
        let settings = MapSource::environment(settings.iter().copied());
        let config = Config::load(&Layers::from(settings)).unwrap();
        let mut request = Request::builder().uri("/x").header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_from_here(&request.body(Body::empty()).unwrap(), &config.http)
    }

    #[test]
    fn r_07_a_page_of_this_origin_is_told_from_all_others() {
        for (headers, expected) in [
            (&[][..], None),
            (&[("sec-fetch-site", "same-origin")], Some(true)),
            (&[("sec-fetch-site", "same-site")], Some(false)),
            (&[("sec-fetch-site", "cross-site")], Some(false)),
            (&[("sec-fetch-site", "none")], Some(false)),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://erp.example:8443")], Some(false)),
            (&[("origin", "https://erp.example:8443")], Some(true)),
            (&[("origin", "https://erp.example")], Some(false)),
            (&[("origin", "https://evil.erp.example:8443")], Some(false)),
            (&[("origin", "https://erp.example:8443.evil")], Some(false)),
            (&[("origin", "null")], Some(false)),
            (&[("origin", "")], Some(false)),
        ] {
            assert_eq!(told(headers, None), expected, "{headers:?}");
        }
        let url = Some("https://erp.example");
        assert_eq!(told(&[("origin", "https://erp.example")], url), Some(true));
        for foreign in ["https://erp.example:8443", "http://erp.example", "null", "https://www.erp.example"] {
            assert_eq!(told(&[("origin", foreign)], url), Some(false), "{foreign}");
        }
    }

    #[test]
    fn r_07_pages_of_tenants_are_foreign_to_each_other_and_to_those_of_the_server() {
        let settings = [("PUBLIC_URL", "https://erp.example"), ("TENANT_DOMAIN", "erp.example")];
        let told = |host, origin| told_at(host, &[("origin", origin)], &settings);
        for (host, own) in [
            ("acme.erp.example", "https://acme.erp.example"),
            ("acme.erp.example:8443", "https://acme.erp.example:8443"),
            ("erp.example", "https://erp.example"),
            ("behind.a.proxy", "https://erp.example"),
        ] {
            assert_eq!(told(host, own), Some(true), "{host} {own}");
        }
        for (host, foreign) in [
            ("acme.erp.example", "https://globex.erp.example"),
            ("acme.erp.example", "https://erp.example"),
            ("acme.erp.example", "http://acme.erp.example"),
            ("acme.erp.example", "https://acme.erp.example.evil.example"),
            ("acme.erp.example", "https://acme.erp.example:8443"),
            ("erp.example", "https://acme.erp.example"),
            ("a.b.erp.example", "https://a.b.erp.example"),
            ("evil.example", "https://evil.example"),
            ("acme.erp.example@evil.example", "https://evil.example"),
        ] {
            assert_eq!(told(host, foreign), Some(false), "{host} {foreign}");
        }
    }
}
