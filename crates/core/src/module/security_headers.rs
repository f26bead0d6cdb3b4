use std::mem;

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_DNS_PREFETCH_CONTROL, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::csp::{Csp, InvalidCsp};

/// What no page needs less of, whatever it shows.
const COMMON: [(HeaderName, HeaderValue); 9] = [
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("origin-agent-cluster"), HeaderValue::from_static("?1")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_DNS_PREFETCH_CONTROL, HeaderValue::from_static("off")),
    (HeaderName::from_static("x-download-options"), HeaderValue::from_static("noopen")),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), HeaderValue::from_static("none")),
    (X_XSS_PROTECTION, HeaderValue::from_static("0")),
];
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");
const JSON_CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
);
const HELMET_CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';\
     img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';\
     style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests",
);

/// Room for what an answer has besides: its type and length, the standing, CORS, two ids, the trace, and what the connection
/// adds.
const ROOM: usize = 24;

/// The security headers of an answer: those of the whole application, or of one route.
///
/// ```
/// use erp_core::module::{Csp, SecurityHeaders};
///
/// let page = SecurityHeaders::json().csp(Csp::new().default_src(["'none'"]).script_src(["'self'"]));
/// ```
#[derive(Debug, Clone)]
pub struct SecurityHeaders {
    always: HeaderMap,
    /// Over TLS only: over plain HTTP it means nothing (RFC 6797, 7.2).
    hsts: Option<HeaderValue>,
    invalid: Option<InvalidCsp>,
}

impl SecurityHeaders {
    /// For an API that answers with data: nothing of an answer may be run, framed or sniffed (H-02). The default.
    pub fn json() -> Self {
        Self::new(JSON_CSP, HeaderValue::from_static("DENY"))
    }

    /// The twelve headers that Helmet 8.3.0 sets for an Express application, byte for byte (H-01).
    pub fn helmet() -> Self {
        Self::new(HELMET_CSP, HeaderValue::from_static("SAMEORIGIN"))
    }

    fn new(csp: HeaderValue, frames: HeaderValue) -> Self {
        let mut always = HeaderMap::with_capacity(ROOM);
        always.insert(CONTENT_SECURITY_POLICY, csp);
        always.extend(COMMON);
        always.insert(X_FRAME_OPTIONS, frames);
        Self { always, hsts: Some(HSTS), invalid: None }
    }

    /// Another content security policy; one that only reports stands beside the one that holds.
    ///
    /// A policy that is no policy refuses the start.
    #[must_use]
    pub fn csp(mut self, csp: Csp) -> Self {
        let name =
            if csp.is_report_only() { CONTENT_SECURITY_POLICY_REPORT_ONLY } else { CONTENT_SECURITY_POLICY };
        match csp.value() {
            Ok(value) => self.set(name, value),
            Err(invalid) => {
                self.invalid.get_or_insert(invalid);
                self
            }
        }
    }

    /// Another value for a header, or one header more. `Strict-Transport-Security` goes out over TLS only.
    #[must_use]
    pub fn set(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if name == STRICT_TRANSPORT_SECURITY {
            self.hsts = Some(value);
            return self;
        }
        self.always.insert(name, value);
        self
    }

    /// Without a header: the handler may then set one of its own.
    #[must_use]
    pub fn without(mut self, name: &HeaderName) -> Self {
        self.always.remove(name);
        if *name == STRICT_TRANSPORT_SECURITY {
            self.hsts = None;
        }
        self
    }

    pub(crate) fn invalid(&self) -> Option<&InvalidCsp> {
        self.invalid.as_ref()
    }

    /// Sets them all, in place of those that a handler has set.
    pub(crate) fn apply(&self, https: bool, headers: &mut HeaderMap) {
        // A copy of ours hashes no names, and theirs are few.
        let theirs = mem::replace(headers, self.always.clone());
        let mut last = None;
        for (name, value) in theirs {
            last = name.or(last); // further values of a name come without it
            if let Some(name) = last.as_ref().filter(|name| !self.always.contains_key(*name)) {
                headers.append(name, value);
            }
        }
        if let Some(hsts) = self.hsts.as_ref().filter(|_| https) {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }

    /// Sets those that are not there.
    pub(crate) fn complete(&self, https: bool, headers: &mut HeaderMap) {
        let hsts = self.hsts.as_ref().filter(|_| https).map(|value| (&STRICT_TRANSPORT_SECURITY, value));
        for (name, value) in self.always.iter().chain(hsts) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Helmet 8.3.0's own answer.
    const HELMET: &str = "\
Content-Security-Policy: default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Resource-Policy: same-origin
Origin-Agent-Cluster: ?1
Referrer-Policy: no-referrer
Strict-Transport-Security: max-age=31536000; includeSubDomains
X-Content-Type-Options: nosniff
X-DNS-Prefetch-Control: off
X-Download-Options: noopen
X-Frame-Options: SAMEORIGIN
X-Permitted-Cross-Domain-Policies: none
X-XSS-Protection: 0";

    fn sent(headers: &SecurityHeaders, https: bool) -> HeaderMap {
        let mut map = HeaderMap::new();
        headers.apply(https, &mut map);
        map
    }

    #[test]
    fn h_01_the_helmet_preset_is_helmets_byte_for_byte() {
        let sent = sent(&SecurityHeaders::helmet(), true);
        for line in HELMET.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(sent.get(name).unwrap(), value, "{name}");
        }
        assert_eq!(sent.len(), 12);
    }

    #[test]
    fn h_01_the_json_preset_has_the_same_twelve_or_stricter_ones() {
        let sent = sent(&SecurityHeaders::json(), true);
        let csp = JSON_CSP;
        assert_eq!(sent.len(), 12);
        for line in HELMET.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            let stricter = match name {
                "Content-Security-Policy" => csp.to_str().unwrap(),
                "X-Frame-Options" => "DENY",
                _ => value,
            };
            assert_eq!(sent.get(name).unwrap(), stricter, "{name}");
        }
    }

    #[test]
    fn h_03_hsts_goes_out_over_tls_only() {
        assert!(sent(&SecurityHeaders::json(), true).contains_key(STRICT_TRANSPORT_SECURITY));
        assert!(!sent(&SecurityHeaders::json(), false).contains_key(STRICT_TRANSPORT_SECURITY));
        let longer = SecurityHeaders::json()
            .set(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000; preload"));
        assert!(!sent(&longer, false).contains_key(STRICT_TRANSPORT_SECURITY));
        let none = SecurityHeaders::json().without(&STRICT_TRANSPORT_SECURITY);
        assert!(!sent(&none, true).contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn h_02_a_policy_that_reports_stands_beside_the_one_that_holds() {
        let trial = Csp::new().default_src(["'self'"]).report_only();
        let sent = sent(&SecurityHeaders::json().csp(trial), false);
        assert_eq!(sent.get(CONTENT_SECURITY_POLICY).unwrap(), JSON_CSP);
        assert_eq!(sent.get(CONTENT_SECURITY_POLICY_REPORT_ONLY).unwrap(), "default-src 'self'");
    }
}
