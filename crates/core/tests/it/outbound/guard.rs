//! What tenants' URLs may lead to: public addresses, as they are at the moment of the connection (W-03).

use erp_core::outbound::{Destination, OutboundError};

use super::service::Service;
use super::{Caller, local};

/// Why the text is not taken as a tenant's URL; `None` when it is.
fn refusal(caller: &Caller, text: &str) -> Option<String> {
    let fault = caller.outbound.tenant_url(caller.tenant, text).err()?;
    Some(format!("{}: {}", fault.what, fault.fix))
}

#[tokio::test]
async fn w_03_what_leads_inside_is_refused_when_it_is_given() {
    let caller = Caller::new(&[("APP_ENV", "development"), ("PUBLIC_URL", "https://erp.example.com")]);
    for (text, why) in [
        ("http://127.0.0.1/", "loopback"),
        ("http://127.1.2.3:8080/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://0.0.0.0/", "this network"),
        ("http://[::]/", "unspecified"),
        ("http://10.1.2.3/", "private"),
        ("http://172.16.0.1/", "private"),
        ("http://192.168.1.1/", "private"),
        ("http://169.254.169.254/latest/meta-data/", "metadata"),
        ("http://100.64.0.1/", "carrier"),
        ("http://100.100.100.200/", "carrier"),
        ("http://[fd00:ec2::254]/", "private"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[::ffff:127.0.0.1]/", "unusual form"),
        ("http://[::ffff:7f00:1]/", "IPv4 written as IPv6"),
        ("http://[::7f00:1]/", "IPv4 written as IPv6"),
        ("http://[64:ff9b::a9fe:a9fe]/", "NAT64"),
        ("http://[2002:7f00:1::]/", "6to4"),
        ("http://255.255.255.255/", "broadcast"),
        ("http://224.0.0.1/", "multicast"),
        ("http://192.0.2.1/", "documentation"),
        ("http://198.18.0.1/", "benchmarks"),
        ("http://168.63.129.16/", "cloud"),
        // The same hosts in other forms, which parsers disagree on.
        ("http://2130706433/", "unusual form"),
        ("http://0x7f000001/", "unusual form"),
        ("http://017700000001/", "unusual form"),
        ("http://0177.0.0.1/", "unusual form"),
        ("http://0x7f.0.0.1/", "unusual form"),
        ("http://127.1/", "unusual form"),
        ("http://134744072/", "unusual form"), // 8.8.8.8, which is public
        ("http://010.8.8.8/", "unusual form"),
        ("http://127.0.0.1./", "unusual form"),
        ("http://[0:0:0:0:0:0:0:1]/", "unusual form"),
        ("http://%31%32%37.0.0.1/", "unusual form"),
        ("http://hooks.example.com%2f@127.0.0.1/", "user"),
        ("http://①②⑦.0.0.1/", "character"),
        ("http://127。0。0。1/", "character"),
        ("http://１２７.0.0.1/", "character"),
        // What hides the host.
        ("http://hooks.example.com@127.0.0.1/", "user"),
        ("http://u:p@hooks.example.com/", "user"),
        ("http://@hooks.example.com/", "user"),
        ("http://127.0.0.1\\@hooks.example.com/", "character"),
        ("http://hooks.example.com\\@127.0.0.1/", "character"),
        ("http://127.0.0.1#@hooks.example.com/", "fragment"),
        ("http:///127.0.0.1/", "unusual form"),
        ("http:127.0.0.1/", "https:// or http://"),
        ("http://hooks.example.com\t.evil.example/", "character"),
        ("http://hooks.example.com/\r\nHost: inside", "character"),
        (" http://hooks.example.com/", "character"),
        ("http://[fe80::1%25eth0]/", "https:// or http://"),
        ("http://[::1", "https:// or http://"),
        // Other schemes.
        ("ftp://hooks.example.com/", "https:// or http://"),
        ("file:///etc/passwd", "https:// or http://"),
        ("gopher://hooks.example.com/", "https:// or http://"),
        ("javascript://hooks.example.com/", "https:// or http://"),
        ("unix:///run/docker.sock", "https:// or http://"),
        ("//hooks.example.com/", "https:// or http://"),
        ("hooks.example.com", "https:// or http://"),
        ("", "https:// or http://"),
        // Names that only mean something inside, and ourselves.
        ("http://localhost/", "a name that is not public"),
        ("http://LOCALHOST:8080/", "a name that is not public"),
        ("http://redis:6379/", "a name that is not public"),
        ("http://kubernetes.default.svc.cluster.local/", "a name that is not public"),
        ("http://metadata.google.internal/", "a name that is not public"),
        ("http://metadata.google.internal./", "a name that is not public"),
        ("http://a.localhost/", "a name that is not public"),
        ("https://erp.example.com/api/v1/items", "leads back"),
        ("https://ERP.example.com:443/", "leads back"),
        ("https://hooks.example.com:22/", "port"),
        ("https://hooks.example.com:25/", "port"),
        ("https://hooks.example.com:0/", "port"),
        ("https://hooks.example.com/#x", "fragment"),
    ] {
        let refused = refusal(&caller, text).unwrap_or_else(|| panic!("{text} is taken"));
        assert!(refused.contains(why), "{text}: {refused}");
    }
    let long = format!("https://hooks.example.com/{}", "x".repeat(2048));
    assert!(refusal(&caller, &long).unwrap().contains("2048"));
    for good in [
        "https://hooks.example.com/services/T0/B0/x?token=%20y",
        "HTTPS://Hooks.Example.com/",
        "http://hooks.example.com:8080",
        "https://xn--mnchen-3ya.example/",
        "https://93.184.215.14/",
        "https://[2606:4700:4700::1111]:8443/",
        "https://hooks.example.com./",
    ] {
        assert_eq!(refusal(&caller, good), None, "{good}");
    }
}

#[tokio::test]
async fn w_03_a_name_that_leads_inside_is_refused_when_it_is_given_and_when_it_is_called() {
    let caller = Caller::new(&[]);
    let inside = Service::status("200 OK").await;
    let url = format!("http://hooks.example.com:{}/", inside.port);
    for addresses in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::7f00:1",
        "fd00:ec2::254",
        "100.64.0.1",
        "127.0.0.1,::1",
        "",
    ] {
        caller.names.leads("hooks.example.com", &[addresses]);
        let error = caller.outbound.admit(caller.tenant, "/url", &url).await.unwrap_err();
        let problem = format!("{error:?}");
        assert!(problem.contains("core.invalid") && problem.contains("/url"), "{problem}");
        assert!(problem.contains("has a name without a public address"), "{problem}");
        assert_eq!(caller.tenant_get(&url).await, Err("refused"), "{addresses}");
    }
    assert_eq!(inside.connections(), 0);
    let error =
        caller.outbound.admit(caller.tenant, "/url", "http://nowhere.example.com/").await.unwrap_err();
    assert!(
        format!("{error:?}").contains("has a name without a public address"),
        "the same for a name that is not there"
    );
    assert_eq!(caller.tenant_get("http://nowhere.example.com/").await, Err("unreachable"));
}

#[tokio::test]
async fn w_03_a_name_that_leads_elsewhere_a_moment_later_reaches_nothing_inside() {
    let caller = Caller::new(&[]);
    let inside = Service::status("200 OK").await;
    let url = format!("http://rebinds.example.com:{}/", inside.port);
    caller.names.leads("rebinds.example.com", &["93.184.215.14", "127.0.0.1"]);
    let url = caller.outbound.admit(caller.tenant, "/url", &url).await.unwrap();
    let error = caller.outbound.get(&caller.trace, &url).send().await.unwrap_err();
    assert!(matches!(error, OutboundError::Refused(_)), "{error:?}");
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn w_03_what_was_checked_is_what_is_connected_to() {
    let checked = Service::status("200 OK").await;
    let caller = Caller::allowing("pinned.example.com");
    // The second answer would lead to an address on which nobody listens at this port.
    caller.names.leads("pinned.example.com", &["127.0.0.1", "127.0.0.77"]);
    let url = format!("http://pinned.example.com:{}/", checked.port);
    assert_eq!(caller.tenant_get(&url).await.as_deref(), Ok("200 ok"));
    assert_eq!(caller.names.asked(), 1, "one question for a connection");
    assert_eq!(checked.connections(), 1);
    assert!(checked.requests()[0].contains(&format!("host: pinned.example.com:{}", checked.port)));
}

#[tokio::test]
async fn w_03_of_several_addresses_only_the_public_ones_are_tried() {
    let inside = Service::status("200 OK").await;
    let caller = Caller::new(&[("OUTBOUND_CONNECT_TIMEOUT", "300ms")]);
    // The public one is of a network that was never given out; at the private one somebody listens.
    caller.names.leads("mixed.example.com", &["127.0.0.1,2000::1,::1"]);
    let url = format!("http://mixed.example.com:{}/", inside.port);
    assert_eq!(caller.tenant_get(&url).await, Err("unreachable"));
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn w_03_no_connection_of_the_operators_is_used_for_a_tenants_url() {
    let caller = Caller::new(&[]);
    let collector = Service::status("200 OK").await;
    caller.names.leads("collector.example.com", &["127.0.0.1"]);
    let url = format!("http://collector.example.com:{}", collector.port);
    let destination = Destination::new("collector", &url).unwrap();
    assert_eq!(caller.get(&destination).await.unwrap(), "200 ok");
    assert_eq!(caller.get(&destination).await.unwrap(), "200 ok");
    assert_eq!((collector.connections(), collector.requests().len()), (1, 2), "its connection is kept");
    assert_eq!(caller.tenant_get(&url).await, Err("refused"));
    assert_eq!(collector.requests().len(), 2);
}

#[tokio::test]
async fn w_03_a_redirection_inside_is_an_answer_and_not_followed() {
    let inside = Service::status("200 OK").await;
    let moved = format!(
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n",
        inside.port
    );
    let outside = Service::saying(&moved).await;
    let caller = Caller::allowing("hooks.example.com");
    caller.names.leads("hooks.example.com", &["127.0.0.1"]);
    let url = format!("http://hooks.example.com:{}/", outside.port);
    assert_eq!(caller.tenant_get(&url).await.as_deref(), Ok("301 "));
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn w_03_this_machine_is_reached_in_development_only_and_only_where_the_list_says_so() {
    let here = Service::status("200 OK").await;
    let literal = format!("http://127.0.0.1:{}/", here.port);
    let named = format!("http://localhost:{}/", here.port);
    let list = format!("localhost:{0},127.0.0.1:{0}", here.port);
    let caller = Caller::allowing(&list);
    caller.names.leads("localhost", &["127.0.0.1"]);
    for url in [&literal, &named] {
        assert_eq!(caller.tenant_get(url).await.as_deref(), Ok("200 ok"));
    }
    assert_eq!(
        caller.tenant_get(&literal.replace(&here.port.to_string(), "1")).await,
        Err("not taken"),
        "another port"
    );
    caller.names.leads("localhost", &["10.0.0.1"]);
    let other = format!("http://localhost:{}/again", here.port);
    let fresh = Caller::allowing(&list);
    fresh.names.leads("localhost", &["10.0.0.1"]);
    assert_eq!(fresh.tenant_get(&other).await, Err("refused"), "another machine");
    for environment in ["staging", "production"] {
        let caller = Caller::new(&elsewhere(environment, &list));
        caller.names.leads("localhost", &["127.0.0.1"]);
        for url in [&literal, &named] {
            assert_eq!(caller.tenant_get(url).await, Err("not taken"), "{environment}");
        }
    }
    assert_eq!(here.requests().len(), 2);
}

/// What a start outside development needs.
fn elsewhere<'a>(environment: &'a str, allow: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![
        ("APP_ENV", environment),
        ("DATABASE_URL", "postgresql://erp_app:n3Qk8vZp1sXw7Rt5@db.example/erp?sslmode=verify-full"),
        (
            "DATABASE_SYSTEM_URL",
            "postgresql://erp_system:n3Qk8vZp1sXw7Rt6@db.example/erp?sslmode=verify-full",
        ),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
    ];
    if !allow.is_empty() {
        settings.push(("OUTBOUND_ALLOW", allow));
    }
    settings
}

/// The table of the guide: what is called, by environment.
#[tokio::test]
async fn w_03_what_is_not_on_the_list_is_recorded_and_not_sent_in_staging() {
    let service = Service::status("200 OK").await;
    let listed = format!("127.0.0.1:{}", service.port);
    for (environment, allow, operators, tenants) in [
        ("development", "", "success", "unreachable"),
        ("development", "hooks.example.com", "success", "unreachable"),
        ("staging", "", "held", "held"),
        ("staging", listed.as_str(), "success", "held"),
        ("staging", "hooks.example.com", "held", "unreachable"),
        ("production", "", "success", "unreachable"),
        ("production", listed.as_str(), "success", "held"),
        ("production", "hooks.example.com", "held", "unreachable"),
    ] {
        let mut settings = elsewhere(environment, allow);
        settings.push(("OUTBOUND_CONNECT_TIMEOUT", "100ms"));
        let caller = Caller::new(&settings);
        let result = caller.get(&local(service.port)).await;
        let outcome = result.map_or_else(|error| error.outcome(), |_| "success");
        assert_eq!(outcome, operators, "{environment} {allow}");
        assert_eq!(
            caller.tenant_get("http://hooks.example.com/secret").await,
            Err(tenants),
            "{environment} {allow}"
        );
        let lines = caller.calls();
        assert_eq!(
            lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect::<Vec<_>>(),
            [operators, tenants]
        );
        assert_eq!(lines[1]["url"], "http://hooks.example.com", "a tenant's path is a secret");
    }
    assert_eq!(service.requests().len(), 5);
}

/// The test runs itself again, in a process that has the variables.
#[tokio::test]
async fn w_03_proxy_variables_are_ignored() {
    const PROXIED: &str = "OUTBOUND_TEST_PROXY";
    if std::env::var(PROXIED).is_err() {
        let proxy = Service::status("200 OK").await;
        let url = format!("http://127.0.0.1:{}", proxy.port);
        let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
        again
            .args(["--exact", "outbound::guard::w_03_proxy_variables_are_ignored", "--nocapture"])
            .env(PROXIED, "1");
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            again.env(name, &url);
        }
        let output = again.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        assert_eq!(proxy.connections(), 0);
        return;
    }
    let caller = Caller::new(&[]);
    assert_eq!(caller.tenant_get("http://nowhere.example.com/").await, Err("unreachable"));
    let nowhere = Destination::new("nowhere", "http://nowhere.example.com").unwrap();
    assert!(matches!(caller.get(&nowhere).await, Err(OutboundError::Unreachable(_))));
    assert_eq!(caller.names.asked(), 2, "both names were looked up here");
}
