//! Which other origins' pages may read answers in a browser (R-08; the Fetch standard, section 3.2).
//!
//! Assumes that the browser keeps the rules: a page of an origin that is not on the list gets no permission, and the
//! request is answered all the same, since any other client can send it. Nothing is ever allowed to `*`, which would be
//! everybody, nor to `null`, which is every sandboxed page and file.

use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN,
};
use http::{HeaderValue, Method, StatusCode};

use super::is_managed;
use crate::config::{Config, Origins};
use crate::middleware::headers::vary;

/// What a page may send beyond the few headers that need no permission.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Content-Disposition, Content-Digest, Range, If-Range, If-Match, If-None-Match, \
     Idempotency-Key, X-Request-ID, X-Correlation-ID, X-Tenant-ID, X-API-Key, traceparent, tracestate",
);
/// What a page may read beyond the few headers that need no permission.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, Idempotency-Replayed, Deprecation, Sunset, X-Request-ID, \
     X-Correlation-ID, traceparent, Content-Disposition, Content-Range, Accept-Ranges, Repr-Digest",
);
/// How long a browser remembers a preflight's answer, in seconds: what Chromium caps it at.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Whose pages may call.
pub(in crate::middleware) enum Cors {
    /// Pages of these origins.
    Listed(Origins),
    /// Pages of any port of this machine: in development, while no list is set.
    Local,
}

/// What a request asks for. The default asks for nothing.
#[derive(Default)]
pub(in crate::middleware) struct Asking {
    /// The page's origin, when it may call.
    origin: Option<HeaderValue>,
    /// The browser asks before it sends the request itself.
    preflight: bool,
}

impl Cors {
    pub(in crate::middleware) fn new(config: &Config) -> Self {
        let local = config.profile().local_origins && config.http.cors_origins.is_empty();
        if local { Self::Local } else { Self::Listed(config.http.cors_origins.clone()) }
    }

    /// Looks at who asks. The management listener is for no browser's page.
    pub(in crate::middleware) fn enter(&self, request: &Request) -> Asking {
        let headers = request.headers();
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return Asking::default() };
        let allowed = origin.to_str().is_ok_and(|origin| self.allows(origin)) && !is_managed(request);
        Asking {
            origin: allowed.then(|| origin.clone()),
            preflight: request.method() == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Listed(origins) => origins.contains(origin),
            Self::Local => is_local(origin),
        }
    }
}

/// Grants what the page asks for. The methods are those of the path, which `Allow` names.
pub(in crate::middleware) fn leave(asking: Asking, response: &mut Response) {
    let known = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    // A cache must not give one origin's answer to another, also when this request had no origin.
    vary(headers, "Origin");
    let Some(origin) = asking.origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if !asking.preflight {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    } else if known && let Some(methods) = headers.get(ALLOW).cloned() {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
}

/// Whether the page comes from this machine: `http://localhost:5173`, and not `http://localhost.example`.
fn is_local(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let host = ["localhost", "127.0.0.1", "[::1]"].iter().find_map(|host| authority.strip_prefix(host));
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    matches!(scheme, "http" | "https")
        && host.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_08_local_is_this_machine_only() {
        for local in
            ["http://localhost", "http://localhost:5173", "https://127.0.0.1:8443", "http://[::1]:3000"]
        {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "null",
            "localhost",
            "http://localhost.example",
            "http://localhost:80@evil.example",
            "http://localhost:",
            "http://localhost:123456",
            "http://localhost:5173/",
            "http://127.0.0.1.nip.io",
            "http://127.0.0.10",
            "http://127.0.0.2",
            "file://localhost",
            "http://evil-localhost",
            "HTTP://LOCALHOST",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
