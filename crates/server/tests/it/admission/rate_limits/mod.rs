//! Rate limits, as clients meet them: the counters of one process, the sign-in, the slow-down, and Redis.

mod general;
mod lock_out;
mod shared;
mod sign_in;
mod slow_down;

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use erp_core::middleware::Peer;
use erp_testkit::TestApp;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sfv::{BareItem, Item, List, ListEntry, Parser};

const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";

/// What came back, to an address of the test's choice.
#[derive(Debug)]
struct Told {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Sends a request past the listener, as if it came from `address`.
async fn ask(app: &TestApp, address: &str, request: http::request::Builder, body: impl Into<Body>) -> Told {
    let address: IpAddr = address.parse().unwrap();
    let request = request.body(body.into()).unwrap();
    let answer = Arc::clone(app.edge()).handle(Peer { address, tls: false }, request).await;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Told { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// `GET path` from an address, with a token or without.
async fn get(app: &TestApp, address: &str, path: &str, token: Option<&str>) -> Told {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    ask(app, address, request, Body::empty()).await
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The only entry of a header that is a list (RFC 9651): its name, and its parameters, which are integers.
    fn entry(&self, header: &str) -> (String, Vec<(String, i64)>) {
        let list: List =
            Parser::new(self.header(header)).parse().unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let [ListEntry::Item(Item { bare_item: BareItem::String(name), params })] = &list[..] else {
            panic!("one string: {self:?}")
        };
        let integers = params.iter().map(|(key, value)| match value {
            BareItem::Integer(value) => (key.to_string(), i64::from(*value)),
            other => panic!("{other:?} is no integer"),
        });
        (name.to_string(), integers.collect())
    }

    /// The policy's name, `r` and `t` of `RateLimit`.
    fn left(&self) -> (String, i64, i64) {
        let (name, parameters) = self.entry("ratelimit");
        let [(r, left), (t, next)] = &parameters[..] else { panic!("r and t: {parameters:?}") };
        assert_eq!((r.as_str(), t.as_str()), ("r", "t"));
        (name, *left, *next)
    }
}
