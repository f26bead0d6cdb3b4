//! Which tenant the name of the host and the path select: `acme.erp.example.com` where `TENANT_DOMAIN` is `erp.example.com`, and
//! `/t/acme/api/…`. Both only select among the caller's memberships (T-17), as `X-Tenant-ID` does.
//!
//! Assumes nothing of the deployment: whatever name a request comes by, it grants nothing. A proxy passes `Host` on as it came, or nothing is
//! selected; `X-Forwarded-Host` is not read, since nobody can tell who has written it.

use axum::extract::Request;
use http::uri::PathAndQuery;
use http::{Uri, header};

use crate::config::TenantDomain;
use crate::extract::SelectedTenant;
use crate::module::NamedTenant;

/// What is selected, or that it is none's name.
type Selection = Result<Option<String>, Unclear>;

#[derive(Debug, PartialEq, Eq)]
pub(in crate::middleware) struct Unclear;

/// Notes what is selected in the request, whose path goes on without the tenant.
pub(in crate::middleware) fn enter(domain: Option<&TenantDomain>, request: &mut Request) {
    let by_path = take_prefix(request);
    let by_host = domain.map_or(Ok(None), |domain| by_host(domain, request));
    let selected = match (by_host, by_path) {
        (Ok(None), Ok(None)) => SelectedTenant::default(),
        (Ok(Some(one)), Ok(None)) | (Ok(None), Ok(Some(one))) => SelectedTenant::one(&one),
        (Ok(Some(one)), Ok(Some(other))) if one == other => SelectedTenant::one(&one),
        _ => SelectedTenant::unclear(),
    };
    request.extensions_mut().insert(selected);
}

/// Takes `/t/acme` off the path of `/t/acme/api/…`. Nothing else is before it, nor resolved in it.
fn take_prefix(request: &mut Request) -> Selection {
    let uri = request.uri();
    let Some((tenant, rest)) = uri.path().strip_prefix("/t/").and_then(|rest| rest.split_once('/')) else {
        return Ok(None);
    };
    if !rest.starts_with("api/") {
        return Ok(None);
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let (path, tenant) = (format!("/{rest}{query}"), named(tenant));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| Unclear)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Unclear)?;
    tenant.map(Some)
}

/// What the name selects by which the client reaches this server: HTTP/2's `:authority`, or `Host`. Where there are both, they say
/// the same.
pub(in crate::middleware) fn by_host(domain: &TenantDomain, request: &Request) -> Selection {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (line, None) => line.map(|line| line.to_str().map_err(|_| Unclear)).transpose()?,
        _ => return Err(Unclear),
    };
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    match (authority, host) {
        (Some(one), Some(other)) => {
            let selected = of_host(domain, one)?;
            if of_host(domain, other)? == selected { Ok(selected) } else { Err(Unclear) }
        }
        (Some(one), None) | (None, Some(one)) => of_host(domain, one),
        (None, None) => Ok(None),
    }
}

/// Names below the domain have one label more, which is a tenant's. Others select nothing, and are not looked at further.
fn of_host(domain: &TenantDomain, text: &str) -> Selection {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
        None => (text.to_ascii_lowercase(), None),
    };
    let dotted = host.strip_suffix('.').unwrap_or(&host);
    let Some(below) = dotted.strip_suffix(domain.as_str()) else {
        // Somebody whom it would be sent on to reads another name: `x@acme.erp.example.com`.
        return if text.contains('@') { Err(Unclear) } else { Ok(None) };
    };
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    match below.strip_suffix('.') {
        None if !below.is_empty() => Ok(None), // `evilerp.example.com`
        _ if dotted != host || port.is_some_and(|port| !is_port(port)) => Err(Unclear),
        None => Ok(None),
        Some(label) => named(label).map(Some),
    }
}

fn named(text: &str) -> Result<String, Unclear> {
    NamedTenant::parse(text).map(|named| named.to_string()).ok_or(Unclear)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::HeaderValue;

    use super::*;
    use crate::config::{Config, Layers, MapSource};

    fn domain() -> TenantDomain {
        let settings = MapSource::environment([("TENANT_DOMAIN", "erp.example.com")]);
        Config::load(&Layers::from(settings)).unwrap().http.tenant_domain.unwrap()
    }

    /// What is selected, `?` where that is not clear; and the path that is left.
    fn selected(uri: &str, hosts: &[&str]) -> (String, String) {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        enter(Some(&domain()), &mut request);
        let selected = request.extensions().get::<SelectedTenant>().unwrap();
        let name = selected.name().map(|name| name.unwrap_or("-").to_owned());
        (name.unwrap_or_else(|_| "?".to_owned()), request.uri().to_string())
    }

    fn by(host: &str) -> String {
        selected("/x", &[host]).0
    }

    #[test]
    fn t_17_exactly_one_label_below_the_domain_selects() {
        for (host, name) in [
            ("acme.erp.example.com", "acme"),
            ("ACME.Erp.Example.COM", "acme"),
            ("acme.erp.example.com:8443", "acme"),
            ("a-2.erp.example.com:1", "a-2"),
            ("0190163d-8694-739b-aea5-966c26f8ad91.erp.example.com", "0190163d-8694-739b-aea5-966c26f8ad91"),
        ] {
            assert_eq!(by(host), name, "{host}");
        }
        for host in [
            "",
            "erp.example.com",
            "erp.example.com:3001",
            "localhost:3001",
            "127.0.0.1",
            "[::1]:3001",
            "::1",
            "acme.example.com",
            "evilerp.example.com",
            "acme.erp.example.com.evil.com",
            "acme.erp.example.com.evil.com:80",
            "erp.example.com.evil.com",
            "acme.erp.example.co",
            "xn--rp-pka.example.com",
            "erp_backend:3001",
        ] {
            assert_eq!(by(host), "-", "{host}");
        }
    }

    #[test]
    fn t_17_what_only_seems_to_be_below_the_domain_is_refused() {
        let long = format!("{}.erp.example.com", "a".repeat(64));
        for host in [
            ".erp.example.com",
            "a.b.erp.example.com",
            "acme..erp.example.com",
            "acme.erp.example.com.",
            "acme.erp.example.com.:80",
            "erp.example.com.",
            "acme.erp.example.com:",
            "acme.erp.example.com:x",
            "acme.erp.example.com:123456",
            "acme.erp.example.com:80:80",
            "acme.erp.example.com:80@evil.com",
            "evil.com@acme.erp.example.com",
            "acme.erp.example.com@evil.com",
            "evil.com:80@acme.erp.example.com",
            "ac_me.erp.example.com",
            "acme%2e.erp.example.com",
            "ac me.erp.example.com",
            "acme,globex.erp.example.com",
            "*.erp.example.com",
            "äcme.erp.example.com",
            &long,
        ] {
            assert_eq!(by(host), "?", "{host}");
        }
    }

    #[test]
    fn t_17_two_names_of_the_host_must_say_the_same() {
        let (acme, globex) = ("acme.erp.example.com", "globex.erp.example.com");
        assert_eq!(selected("/x", &[acme, globex]).0, "?");
        assert_eq!(selected("/x", &[acme, acme]).0, "?");
        assert_eq!(selected("https://acme.erp.example.com/x", &[]).0, "acme", "HTTP/2");
        assert_eq!(selected("https://acme.erp.example.com/x", &["ACME.erp.example.com:443"]).0, "acme");
        for host in [globex, "evil.com", "erp.example.com", "a.b.erp.example.com"] {
            assert_eq!(selected("https://acme.erp.example.com/x", &[host]).0, "?", "{host}");
            assert_eq!(selected(&format!("https://{host}/x"), &[acme]).0, "?", "{host}");
        }
        assert_eq!(selected("https://evil.com/x", &["erp.example.com"]).0, "-");
    }

    #[test]
    fn t_17_a_path_selects_before_the_api_and_nowhere_else() {
        for (uri, name, left) in [
            ("/t/acme/api/v1/items?q=/t/globex/api/", "acme", "/api/v1/items?q=/t/globex/api/"),
            ("/t/ACME/api/v1/items", "acme", "/api/v1/items"),
            ("https://erp.example.com/t/acme/api/v1/me", "acme", "https://erp.example.com/api/v1/me"),
            ("/t/acme/api/v1/../x", "acme", "/api/v1/../x"),
            ("/t/ac%6de/api/v1/items", "?", "/api/v1/items"),
            ("/t//api/v1/items", "?", "/api/v1/items"),
            ("/t/acme;x/api/v1/items", "?", "/api/v1/items"),
            ("/t/../api/v1/items", "?", "/api/v1/items"),
            ("/t/acme/t/globex/api/v1/items", "-", "/t/acme/t/globex/api/v1/items"),
            ("/t/acme/api", "-", "/t/acme/api"),
            ("/t/acme/sign-in", "-", "/t/acme/sign-in"),
            ("/t/acme/livez", "-", "/t/acme/livez"),
            ("/t/acme//api/v1/items", "-", "/t/acme//api/v1/items"),
            ("//t/acme/api/v1/items", "-", "//t/acme/api/v1/items"),
            ("/T/acme/api/v1/items", "-", "/T/acme/api/v1/items"),
            ("/%74/acme/api/v1/items", "-", "/%74/acme/api/v1/items"),
        ] {
            assert_eq!(selected(uri, &[]), (name.to_owned(), left.to_owned()), "{uri}");
        }
        let host = |host: &str| selected("/t/acme/api/v1/items", &[host]).0;
        assert_eq!((host("acme.erp.example.com"), host("erp.example.com")), ("acme".into(), "acme".into()));
        assert_eq!((host("globex.erp.example.com"), host("a.b.erp.example.com")), ("?".into(), "?".into()));
    }

    #[test]
    fn t_17_without_a_domain_no_host_selects() {
        let mut request = Request::builder().uri("/x").header("host", "acme.erp.example.com");
        request = request.header("x-forwarded-host", "acme.erp.example.com");
        let mut request = request.body(Body::empty()).unwrap();
        enter(None, &mut request);
        assert_eq!(request.extensions().get(), Some(&SelectedTenant::default()));
    }
}
