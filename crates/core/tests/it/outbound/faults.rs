//! What a destination may do, and what becomes of the call.

use std::time::{Duration, Instant};

use erp_core::outbound::OutboundError;
use http::Method;
use tokio::time::timeout;

use super::service::{Asked, Service};
use super::{Caller, PATIENCE, local, now};

const SOON: Duration = Duration::from_millis(300);

/// A call of `service` that has 300 ms: what became of it.
async fn within_soon(caller: &Caller, port: u16) -> &'static str {
    let begun = Instant::now();
    let call = caller.outbound.get(&caller.trace, local(port).at("/x")).within(SOON).once().send();
    let result = timeout(PATIENCE, call).await.expect("every call ends");
    assert!(begun.elapsed() < SOON * 5, "{:?}", begun.elapsed());
    result.map_or_else(|error| error.outcome(), |_| "success")
}

#[tokio::test]
async fn a_server_that_hangs_at_any_stage_costs_the_deadline_and_no_more() {
    let caller = Caller::new(&[]);
    let silent = Service::answering(|mut asked: Asked| async move {
        asked.hang().await;
        asked
    });
    let trickles_its_head = Service::answering(|mut asked: Asked| async move {
        asked.say("HTTP/1.1 200 OK\r\n").await;
        asked.trickle("X-More: 1\r\n", Duration::from_millis(20)).await;
        asked
    });
    let trickles_its_body = Service::answering(|mut asked: Asked| async move {
        asked.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
        asked.trickle("x", Duration::from_millis(20)).await;
        asked
    });
    let trickles_chunks = Service::answering(|mut asked: Asked| async move {
        asked.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        asked.trickle("1\r\nx\r\n", Duration::from_millis(20)).await;
        asked
    });
    let promises_for_ever = Service::answering(|mut asked: Asked| async move {
        asked.trickle("HTTP/1.1 102 Processing\r\n\r\n", Duration::from_millis(20)).await;
        asked
    });
    for (service, stage) in [
        (silent.await, "silent"),
        (trickles_its_head.await, "head"),
        (trickles_its_body.await, "body"),
        (trickles_chunks.await, "chunks"),
        (promises_for_ever.await, "interim answers"),
    ] {
        assert_eq!(within_soon(&caller, service.port).await, "timed_out", "{stage}");
    }
    // A full queue of connections: nobody accepts, and nobody refuses.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = deaf.listen(0).unwrap();
    let port = deaf.local_addr().unwrap().port();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(SOON, tokio::net::TcpStream::connect(("127.0.0.1", port))).await {
        queued.push(stream);
    }
    assert_eq!(within_soon(&caller, port).await, "timed_out", "no handshake");
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound_and_no_further() {
    let caller = Caller::new(&[]);
    let declared = Service::saying("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n").await;
    let endless = Service::answering(|mut asked: Asked| async move {
        asked.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
        asked.trickle(&chunk, Duration::ZERO).await;
        asked
    })
    .await;
    let without_length = Service::answering(|mut asked: Asked| async move {
        asked.say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        asked.trickle(&"x".repeat(0x1_0000), Duration::ZERO).await;
        asked
    })
    .await;
    for service in [&declared, &endless, &without_length] {
        let result = timeout(PATIENCE, caller.get(&local(service.port))).await.unwrap();
        assert!(matches!(result, Err(OutboundError::TooLarge(_))), "{result:?}");
    }
    let exact = Service::saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345").await;
    let most = |bytes| caller.outbound.get(&caller.trace, local(exact.port).at("")).most(bytes).send();
    assert_eq!(most(5).await.unwrap().body, "12345");
    assert!(matches!(most(4).await, Err(OutboundError::TooLarge(_))));
}

#[tokio::test]
async fn what_is_no_http_and_a_lost_connection_are_told_apart_from_nobody_there() {
    let caller = Caller::new(&[]);
    for text in [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123",
        "HTTP/1.1 999999 X\r\n\r\n",
    ] {
        let text = text.to_owned();
        let service = Service::answering(move |mut asked: Asked| {
            let text = text.clone();
            async move {
                asked.say(&text).await;
                asked.stream.set_zero_linger().unwrap(); // a reset
                let gone = std::mem::replace(&mut asked.stream, lost().await);
                drop(gone);
                asked
            }
        })
        .await;
        let result = timeout(PATIENCE, caller.get(&local(service.port))).await.unwrap();
        assert!(matches!(result, Err(OutboundError::Broken(_))), "{result:?}");
    }
    let nobody = Service::status("200 OK").await;
    let port = nobody.port;
    drop(nobody);
    tokio::task::yield_now().await;
    assert!(matches!(caller.get(&local(port)).await, Err(OutboundError::Unreachable(_))));
}

/// A stream that ends at once.
async fn lost() -> tokio::net::TcpStream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, _) =
        tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    near.unwrap()
}

#[tokio::test]
async fn no_redirection_is_followed() {
    let caller = Caller::new(&[]);
    let inside = Service::status("200 OK").await;
    let location = format!(
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:{}/latest/meta-data\r\nContent-Length: 0\r\n\r\n",
        inside.port
    );
    for status in ["301", "302", "303", "307", "308"] {
        let moved = Service::saying(&location.replace("301", status)).await;
        assert_eq!(caller.get(&local(moved.port)).await.unwrap().trim(), status);
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_and_no_other_unless_its_caller_says_so() {
    let caller = Caller::new(&[]);
    let flaky = || {
        Service::answering(|mut asked: Asked| async move {
            let status = if asked.number.is_multiple_of(3) { "200 OK" } else { "503 Busy" };
            asked.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
            asked
        })
    };
    let send = async |method: Method, repeatable: bool| {
        let service = flaky().await;
        let target = local(service.port).at("/x");
        let call = caller.outbound.request(&caller.trace, method, target).body("text/plain", "the body");
        let call = if repeatable { call.repeatable() } else { call };
        let status = call.send().await.unwrap().status.as_u16();
        assert!(service.requests().iter().all(|request| request.ends_with("the body")), "each with its body");
        (status, service.requests().len())
    };
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(send(method, false).await, (200, 3));
    }
    for method in [Method::POST, Method::PATCH] {
        assert_eq!(send(method.clone(), false).await, (503, 1));
        assert_eq!(send(method, true).await, (200, 3));
    }
    assert_eq!(caller.metric("outbound_retries_total{destination=\"local\",outcome=\"sent\"}"), Some(10.0));
}

#[tokio::test]
async fn retry_after_is_waited_for_where_the_deadline_allows() {
    let caller = Caller::new(&[]);
    let busy = |wait: u32| async move {
        Service::answering(move |mut asked: Asked| async move {
            let busy = format!("HTTP/1.1 429 Busy\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n");
            asked
                .say(if asked.number == 1 { &busy } else { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" })
                .await;
            asked
        })
        .await
    };
    let begun = Instant::now();
    let service = busy(1).await;
    let answer = caller.outbound.get(&caller.trace, local(service.port).at("")).send().await.unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let (begun, service) = (Instant::now(), busy(60).await);
    let answer = caller.outbound.get(&caller.trace, local(service.port).at("")).send().await.unwrap();
    assert_eq!(answer.retry_after(now()), Some(Duration::from_secs(60)));
    assert!(answer.status.as_u16() == 429 && begun.elapsed() < Duration::from_secs(1), "it is told at once");
}

#[tokio::test]
async fn an_outage_is_answered_with_a_tenth_more_calls_and_then_with_none() {
    let caller = Caller::new(&[("OUTBOUND_TIMEOUT", "20s")]);
    let down = Service::status("503 Down").await;
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        let result = caller.outbound.get(&caller.trace, local(down.port).at("")).send().await;
        outcomes.push(result.map_or_else(|error| error.outcome(), |_| "503"));
    }
    let asked = down.requests().len();
    assert_eq!(asked, 5, "the breaker opens at the fifth failure: {outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "left_alone").count(), 18, "{outcomes:?}");
    assert_eq!(caller.metric("outbound_breakers_open{destination=\"local\"}"), Some(1.0));
    let error = caller.get(&local(down.port)).await.unwrap_err();
    let answer = erp_core::error::Error::from(error);
    assert_eq!(answer.code().code, "core.external_failed");
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_counted_and_its_connection_is_closed() {
    let caller = Caller::new(&[]);
    let silent = Service::answering(|mut asked: Asked| async move {
        asked.hang().await;
        asked
    })
    .await;
    let call = caller.outbound.get(&caller.trace, local(silent.port).at("")).send();
    assert!(timeout(Duration::from_millis(200), call).await.is_err());
    let series = "outbound_requests_total{destination=\"local\",outcome=\"given_up\"}";
    assert_eq!(caller.metric(series), Some(1.0));
}

#[tokio::test]
async fn one_line_a_call_tells_neither_query_nor_secret_and_the_trace_goes_along() {
    let mut caller = Caller::new(&[]);
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    caller.trace.context = erp_core::shared::TraceContext::parse(text.as_bytes());
    caller.trace.state = Some("a=1".into());
    let service = Service::status("200 OK").await;
    let target = local(service.port).at("/rates?key=hunter2");
    let call = caller.outbound.post(&caller.trace, target).header("authorization", "Bearer hunter2");
    call.json(&serde_json::json!({ "a": 1 })).send().await.unwrap();
    let request = service.requests().remove(0);
    for sent in [
        "POST /rates?key=hunter2 HTTP/1.1",
        "tracestate: a=1",
        "content-type: application/json",
        "user-agent: erp-test/1",
        "{\"a\":1}",
    ] {
        assert!(request.contains(sent), "{sent}: {request}");
    }
    assert!(request.contains(&format!("traceparent: {text}")), "{request}");
    let lines = caller.calls();
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(line["url"], format!("http://127.0.0.1:{}/rates", service.port));
    assert_eq!(
        (&line["destination"], &line["method"], &line["outcome"]),
        (&"local".into(), &"POST".into(), &"success".into())
    );
    assert_eq!((&line["status"], &line["bytes"], &line["attempts"]), (&200.into(), &2.into(), &1.into()));
    assert!(line["duration"].is_number() && !caller.sink.text().contains("hunter2"));
    let count = "outbound_requests_total{destination=\"local\",outcome=\"success\"}";
    assert_eq!(caller.metric(count), Some(1.0));
    assert_eq!(caller.metric("outbound_request_duration_seconds_count{destination=\"local\"}"), Some(1.0));
}
