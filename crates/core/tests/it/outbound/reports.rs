//! What others have reported of their guards against server-side request forgery, tried on ours. Each test names the report;
//! docs/reference/bug-reports-tried.md lists them.

use erp_core::outbound::Destination;

use super::Caller;
use super::service::{Asked, Service};

/// OneUptime#2578: a literal of IPv6 that wraps an address of IPv4 was not looked at, since it needs no look-up.
#[tokio::test]
async fn w_03_an_address_in_the_url_itself_is_judged_though_no_name_is_looked_up() {
    let inside = Service::status("200 OK").await;
    let caller = Caller::new(&[]);
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::7f00:1]", "0.0.0.0", "[::]"] {
        let url = format!("http://{host}:{}/", inside.port);
        assert_eq!(caller.tenant_get(&url).await, Err("not taken"), "{host}");
    }
    assert_eq!((caller.names.asked(), inside.connections()), (0, 0));
}

/// devtrack#2151: a name with addresses of IPv6 only passed, since only those of IPv4 were asked for.
/// ToolJet#16662: a name without any address passed.
#[tokio::test]
async fn w_03_a_name_with_odd_answers_is_refused() {
    let inside = Service::status("200 OK").await;
    let caller = Caller::new(&[]);
    for (name, addresses) in [
        ("six.example.com", "::ffff:10.0.0.1"),
        ("local.example.com", "::1"),
        ("empty.example.com", ""),
        ("zero.example.com", "0.0.0.0"),
        ("many.example.com", "10.0.0.1,::ffff:127.0.0.1,64:ff9b::7f00:1,2002:7f00:1::1,fe80::1"),
    ] {
        caller.names.leads(name, &[addresses]);
        assert_eq!(
            caller.tenant_get(&format!("http://{name}:{}/", inside.port)).await,
            Err("refused"),
            "{name}"
        );
    }
    assert_eq!(inside.connections(), 0);
}

/// open-swe#1186, Unla#305: the name was looked up for the check, and again for the connection. Here it changes at every look.
#[tokio::test]
async fn w_03_a_name_that_changes_at_every_look_never_leads_inside() {
    let inside = Service::status("200 OK").await;
    let caller = Caller::new(&[]);
    let url = format!("http://flips.example.com:{}/", inside.port);
    let flips: Vec<_> = (0..40).map(|turn| if turn % 2 == 0 { "2000::1" } else { "127.0.0.1" }).collect();
    caller.names.leads("flips.example.com", &flips);
    for _ in 0..40 {
        let outcome = caller.tenant_get(&url).await.unwrap_err();
        assert!(["refused", "unreachable", "left_alone"].contains(&outcome), "{outcome}");
    }
    assert_eq!(inside.connections(), 0);
}

/// hekate#56: reqwest was told the address of the first host, and followed a redirection to the next one.
#[tokio::test]
async fn w_03_no_answer_of_a_server_leads_on() {
    let inside = Service::status("200 OK").await;
    let caller = Caller::allowing("hooks.example.com");
    caller.names.leads("hooks.example.com", &["127.0.0.1"]);
    let place = format!("http://127.0.0.1:{}/", inside.port);
    for head in [
        format!("HTTP/1.1 302 Found\r\nLocation: {place}"),
        format!("HTTP/1.1 307 Moved\r\nLocation: {place}"),
        format!("HTTP/1.1 300 Choices\r\nLocation: {place}\r\nLink: <{place}>; rel=canonical"),
        format!("HTTP/1.1 305 Use Proxy\r\nLocation: {place}"),
        format!("HTTP/1.1 200 OK\r\nRefresh: 0; url={place}\r\nContent-Location: {place}"),
        format!("HTTP/1.1 200 OK\r\nAlt-Svc: http/1.1=\"127.0.0.1:{}\"; ma=60", inside.port),
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x".to_owned(),
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x".to_owned(),
    ] {
        let service = Service::saying(&format!("{head}\r\nContent-Length: 0\r\n\r\n")).await;
        let url = format!("http://hooks.example.com:{}/", service.port);
        for _ in 0..2 {
            assert_eq!(caller.tenant_get(&url).await.unwrap(), format!("{} ", &head[9..12]));
        }
        assert_eq!(service.requests().len(), 2, "{head}");
    }
    assert_eq!(inside.connections(), 0);
}

/// Cogtrix#2138: a dot at the end of a name or an address led past the lists. nullclaw#12: so did zones and missing brackets.
#[tokio::test]
async fn w_03_dots_zones_and_missing_brackets_lead_nowhere() {
    let caller = Caller::new(&[]);
    for host in [
        "localhost.",
        "LOCALHOST.",
        "a.localhost.",
        "169.254.169.254.",
        "127.0.0.1.",
        "metadata.google.internal.",
        "[fe80::1%lo]",
        "[fe80::1%25lo0]",
        "[::1%25lo0]",
        "::1",
        "::1:8080",
        "[::1]x",
        "[127.0.0.1]",
        "[v1.x]",
        "127.0.0.1%00",
        "127.0.0.1%2e",
        "x..y.com",
    ] {
        assert_eq!(caller.tenant_get(&format!("http://{host}/")).await, Err("not taken"), "{host}");
    }
}

/// superlog#154: what went wrong told which ports inside are open. Nothing inside is asked at all.
#[tokio::test]
async fn w_03_open_and_closed_ports_inside_look_the_same() {
    let open = Service::status("200 OK").await;
    let caller = Caller::new(&[]);
    caller.names.leads("hooks.example.com", &["127.0.0.1"]);
    let mut told = Vec::new();
    for port in [open.port, 1025] {
        let url = format!("http://hooks.example.com:{port}/");
        let admitted = caller.outbound.admit(caller.tenant, "/url", &url).await.unwrap_err();
        let called = caller.tenant_get(&url).await;
        told.push((format!("{admitted:?}"), called));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(open.connections(), 0);
}

/// A tenant could close a host that many use, by making calls of its own fail there.
#[tokio::test]
async fn t_18_one_tenants_failures_at_a_host_close_it_for_nobody_else() {
    let service = Service::answering(|mut asked: Asked| async move {
        let bad = asked.number <= 5;
        asked
            .say(if bad {
                "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            })
            .await;
        asked
    })
    .await;
    let mut caller = Caller::allowing("shared.example.com");
    caller.names.leads("shared.example.com", &["127.0.0.1"]);
    let url = format!("http://shared.example.com:{}/", service.port);
    for _ in 0..5 {
        assert_eq!(caller.tenant_get(&url).await.as_deref(), Ok("500 "));
    }
    assert_eq!(caller.tenant_get(&url).await, Err("left_alone"));
    caller.tenant =
        erp_core::shared::TenantId::new(&erp_core::shared::SystemClock, &erp_core::shared::SystemRng::new());
    assert_eq!(caller.tenant_get(&url).await.as_deref(), Ok("200 "));
    let operators = Destination::new("shared", &format!("http://127.0.0.1:{}", service.port)).unwrap();
    assert_eq!(caller.get(&operators).await.unwrap(), "200 ");
}
