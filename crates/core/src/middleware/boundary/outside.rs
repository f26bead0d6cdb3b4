//! Answers for requests that the chain did not answer: a hard stop has cut it, a layer has panicked, or a custom layer kept
//! it from its end. Assumes nothing of the deployment.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, Uri};

use crate::error::Error;
use crate::middleware::origin::request_id;
use crate::middleware::representation::head;
use crate::shared::Rng;

/// What is known of a request before the chain takes it. To note it copies nothing but reference counts.
pub(in crate::middleware) struct Outside {
    method: Method,
    target: Uri,
    id: Option<HeaderValue>,
}

impl Outside {
    pub(in crate::middleware) fn note(request: &Request) -> Self {
        let id = request_id::sent(request.headers()).cloned();
        Self { method: request.method().clone(), target: request.uri().clone(), id }
    }

    /// The problem, under the client's own id or a new one; logged, since nothing else has been.
    pub(in crate::middleware) fn answer(&self, rng: &dyn Rng, error: &Error) -> Response {
        let mut known = Request::new(Body::empty());
        if let Some(id) = &self.id {
            known.headers_mut().insert("x-request-id", id.clone());
        }
        let trace = request_id::enter(rng, &mut known, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        tracing::warn!(
            correlation_id = &*trace.correlation_id,
            path = self.target.path(),
            code = error.code().code,
            error = error.cause().map(|cause| cause as &dyn std::error::Error),
            "A request was answered outside of the chain"
        );
        let mut response = error.render(self.target.path(), &trace.correlation_id, false);
        request_id::leave(&trace, &mut response);
        head::leave(&self.method, &mut response);
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::shared::SystemRng;

    #[tokio::test]
    async fn h_04_what_the_chain_did_not_answer_is_a_whole_problem_too() {
        for (sent, kept) in [(Some("order-7"), true), (Some("no id"), false), (None, false)] {
            let mut request = Request::post("/api/v1/items?q=1").body(axum::body::Body::empty()).unwrap();
            if let Some(sent) = sent {
                request.headers_mut().insert("x-request-id", sent.parse().unwrap());
            }
            let response = Outside::note(&request).answer(&SystemRng::new(), &Error::unavailable());
            assert!(response.headers().contains_key("retry-after"), "H-06");
            let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
            assert_eq!(id == "order-7", kept, "{id}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&problem["instance"], &problem["correlationId"]),
                (&"/api/v1/items".into(), &id.into())
            );
        }
    }

    #[tokio::test]
    async fn h_05_to_head_it_has_no_body_either() {
        let request = Request::head("/api/v1/items").body(Body::empty()).unwrap();
        let response = Outside::note(&request).answer(&SystemRng::new(), &Error::unavailable());
        assert_ne!(response.headers()["content-length"], "0");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
