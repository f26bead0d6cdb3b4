//! Where a request of plain HTTP belongs: the same host and target, over HTTPS.

use axum::extract::Request;
use http::uri::Authority;
use http::{HeaderValue, header};

use super::Tls;

/// The same target over HTTPS on `port`; `None` when the certificate does not name the host, which the sender
/// of the request can choose: nobody is led to a server that is not ours.
pub(crate) fn https(tls: &Tls, port: u16, request: &Request) -> Option<HeaderValue> {
    let host = host(request)?;
    if !tls.names(host.trim_start_matches('[').trim_end_matches(']')) {
        return None;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()
}

/// The host without its port, as the target (RFC 9112, 3.2.2) or else the one `Host` has it.
fn host(request: &Request) -> Option<String> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => authority.clone(),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok()?,
        _ => return None,
    };
    (!authority.as_str().contains('@')).then(|| authority.host().to_owned())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::super::tls::tests::Scene;
    use super::*;

    #[tokio::test]
    async fn h_03_a_redirect_keeps_the_target_and_leads_to_names_of_the_certificate_only() {
        let scene = Scene::new();
        scene.renew("*.example.com", 4000);
        let tls = scene.load(&[]).await.unwrap();
        let location = |port, uri: &str, hosts: &[&str]| {
            let mut request = axum::extract::Request::builder().uri(uri);
            for host in hosts {
                request = request.header("host", *host);
            }
            let location = https(&tls, port, &request.body(Body::empty()).unwrap());
            location.map(|location| location.to_str().unwrap().to_owned())
        };
        for (port, uri, host, expected) in [
            (443, "/", "a.example.com", "https://a.example.com/"),
            (443, "/", "a.example.com:8080", "https://a.example.com/"),
            (8443, "/x?y=%0d%0a&z=//e", "A.example.com", "https://A.example.com:8443/x?y=%0d%0a&z=//e"),
            (443, "//evil.example/x", "a.example.com", "https://a.example.com//evil.example/x"),
            (443, "http://a.example.com:80/x", "evil.example", "https://a.example.com/x"),
        ] {
            assert_eq!(location(port, uri, &[host]).as_deref(), Some(expected), "{uri} {host}");
        }
        for hosts in [
            &["evil.example"][..],
            &["a.example.com.evil.example"],
            &["a.example.com@evil.example"],
            &["evil.example#a.example.com"],
            &["a.example.com", "a.example.com"],
            &["a.example.com, evil.example"],
            &[""],
            &[],
        ] {
            assert_eq!(location(443, "/", hosts), None, "{hosts:?}");
        }
        assert_eq!(location(443, "http://u@a.example.com/", &["a.example.com"]), None);
        scene.renew("127.0.0.1", 4000);
        let tls = scene.load(&[]).await.unwrap();
        let request =
            axum::extract::Request::builder().header("host", "127.0.0.1:80").body(Body::empty()).unwrap();
        assert_eq!(https(&tls, 3001, &request).unwrap(), "https://127.0.0.1:3001/");
    }
}
