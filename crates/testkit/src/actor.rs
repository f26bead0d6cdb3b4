use bytes::Bytes;
use erp_core::auth::{Method as Proof, Methods, SignedIn};
use erp_core::shared::{SessionId, TenantId, UserId};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

use crate::TestApp;

/// Somebody who calls the API, signed in or not.
#[derive(Clone)]
pub struct Actor<'app> {
    app: &'app TestApp,
    token: Option<String>,
    person: Option<UserId>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    request: String,
}

impl<'app> Actor<'app> {
    pub(crate) fn anonymous(app: &'app TestApp) -> Self {
        Self { app, token: None, person: None }
    }

    pub(crate) fn signed_in(app: &'app TestApp, tenant: TenantId, person: UserId) -> Self {
        let at = app.edge().app.clock.now().as_second();
        let session: SessionId = person.to_string().parse().expect("an id is an id"); // see `BEGIN_SESSIONS`
        let signed_in = SignedIn { session, at, methods: Methods::default().and(Proof::Password) };
        let issued = app.edge().app.authenticator.issue(tenant, person, Some(signed_in));
        let issued = issued.expect("tokens can be signed");
        Self { app, token: Some(issued.access_token.expose().clone()), person: Some(person) }
    }

    /// The same with another bearer token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { app: self.app, token: Some(token.into()), person: None }
    }

    pub(crate) fn as_somebody(&self, person: UserId, token: String) -> Self {
        Self { app: self.app, token: Some(token), person: Some(person) }
    }

    /// Who it is, of somebody who is signed in.
    pub fn id(&self) -> Option<UserId> {
        self.person
    }

    /// The bearer token, of somebody who is signed in.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("the actor is signed in")
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: impl Into<Value>) -> Answer {
        self.send(Method::POST, path, Some(body.into())).await
    }

    /// `PUT path` with a JSON body.
    pub async fn put(&self, path: &str, body: impl Into<Value>) -> Answer {
        self.send(Method::PUT, path, Some(body.into())).await
    }

    /// `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: impl Into<Value>) -> Answer {
        self.send(Method::PATCH, path, Some(body.into())).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Any method, with a JSON body or none.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        self.request(request.body(Bytes::from(bytes)).expect("the path is a URI")).await
    }

    /// Whatever the test has made; the address is added, and the token unless there is an `Authorization`.
    pub async fn request(&self, request: Request<impl Into<Bytes>>) -> Answer {
        let (mut parts, body) = request.into_parts();
        let description = format!("{} {}", parts.method, parts.uri);
        parts.uri = format!("http://{}{}", self.app.address(), parts.uri).parse().expect("the path is a URI");
        if let Some(token) = &self.token
            && !parts.headers.contains_key(header::AUTHORIZATION)
        {
            let value = format!("Bearer {token}").parse().expect("a token is plain text");
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        let sent = self.app.http().request(Request::from_parts(parts, Full::new(body.into()))).await;
        let response = sent.unwrap_or_else(|error| panic!("{description}: {error:?}"));
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap_or_else(|error| panic!("{description}: {error}")).to_bytes();
        Answer { status: parts.status, headers: parts.headers, body, request: description }
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self}: not JSON: {error}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// One header's text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Fails unless the status is `status`.
    #[track_caller]
    pub fn assert(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self}");
        self
    }

    /// Fails unless this is a complete problem document with `code`; returns it.
    #[track_caller]
    pub fn problem(&self, code: &str) -> Value {
        let problem = self.any_problem();
        assert_eq!(problem["code"], code, "{self}");
        problem
    }

    /// Fails unless this is a complete problem document (RFC 9457, H-04); returns it.
    #[track_caller]
    pub fn any_problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self}");
        let problem = self.json();
        let code = problem["code"].as_str().unwrap_or_default();
        let kind = match code {
            "core.rate_limited" | "core.quota_used_up" => {
                "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
            }
            code => format!("urn:erp:problem:{code}"),
        };
        assert_eq!(problem["type"], kind, "{self}");
        assert_eq!(problem["status"], self.status.as_u16(), "{self}");
        for member in ["title", "detail", "instance", "correlationId"] {
            assert!(
                problem[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member} is missing: {self}"
            );
        }
        assert_eq!(problem["correlationId"], self.header("x-request-id"), "{self}");
        problem
    }

    /// The same without what differs from request to request.
    pub fn comparable(&self) -> (StatusCode, Value) {
        let mut body = if self.body.is_empty() { Value::Null } else { self.json() };
        if let Some(fields) = body.as_object_mut() {
            fields.remove("correlationId");
            fields.remove("instance");
        }
        (self.status, body)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answered {}: ", self.request, self.status)?;
        let problem = serde_json::from_slice::<Value>(&self.body).ok();
        let causes = problem.as_ref().and_then(|problem| problem.pointer("/debug/causes")?.as_array());
        match causes {
            // Of a fault of ours the cause, in one line: TEST_BACKTRACE=1 shows all there is.
            Some(causes) if std::env::var_os("TEST_BACKTRACE").is_none() => {
                let causes: Vec<&str> = causes.iter().filter_map(Value::as_str).collect();
                let code = problem.as_ref().and_then(|problem| problem["code"].as_str());
                write!(f, "{}: {}", code.unwrap_or_default(), causes.join(": ").replace('\n', "; "))
            }
            _ => f.write_str(&self.text()),
        }
    }
}
