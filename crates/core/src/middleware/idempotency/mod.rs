//! `Idempotency-Key`: a request that is sent again has one effect, and gets its first answer again (H-09, S-05).
//!
//! After draft-ietf-httpapi-idempotency-key-header. A key belongs to a tenant, a principal and a route. It is claimed
//! before the work, in a transaction of its own; the answer is stored in the transaction that does the work. A connection
//! lost at COMMIT leaves both or neither, and the repetition finds out. An error is not stored: it had no effect, and the
//! same key may be tried again. It assumes that clients make a new key for each new request.

mod claim;
mod sealed;

use std::time::Duration;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use crate::app::App;
use crate::auth::Caller;
use crate::db::Deferral;
use crate::error::{Error, codes};
use crate::extract::{HeaderField, Inputs, MAX_BODY_BYTES, read_body};
use crate::module::Route;
use claim::{Claim, ClaimVerdict, Stored};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MOST_CHARACTERS: usize = 255;

/// `Idempotency-Key`, as the contract tells of it: bare or a quoted string of 1 to 255 characters, its escapes apart.
static KEY_FIELD: HeaderField = HeaderField {
    name: "Idempotency-Key",
    what: "Made anew for each new request. One that is sent again with its key has no second effect, and gets the \
        first answer again.",
    pattern: Some(r#"^([!#-~]{1,255}|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#),
    example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
    always: false,
};
/// `Idempotency-Replayed`, as the contract tells of it.
pub(crate) static REPLAYED_FIELD: HeaderField = HeaderField {
    name: "Idempotency-Replayed",
    what: "This is the first answer again: the request was worked on before.",
    pattern: Some("^true$"),
    example: "true",
    always: false,
};

/// Adds what a route takes and refuses that [takes keys](Route::takes_keys): the body is read for the fingerprint, also
/// where the handler takes none.
pub(crate) fn describe(inputs: &mut Inputs) {
    inputs.headers.push(&KEY_FIELD);
    inputs.refusals.extend([
        &codes::MALFORMED_HEADER,
        &codes::MALFORMED_BODY,
        &codes::REQUEST_TIMEOUT,
        &codes::IDEMPOTENCY_IN_FLIGHT,
        &codes::IDEMPOTENCY_KEY_REUSED,
    ]);
}

/// The key of a request, if it has one.
///
/// # Errors
/// `core.malformed_header` for one that is repeated, empty, too long or not of visible ASCII characters.
fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).map(str::trim);
    let key = text.and_then(unquoted).filter(|key| (1..=MOST_CHARACTERS).contains(&key.len()));
    key.map(Some).ok_or_else(|| {
        let detail = "Idempotency-Key takes one string of 1 to 255 visible ASCII characters, such as a UUID.";
        Error::new(&codes::MALFORMED_HEADER).detail(detail)
    })
}

/// The content of a structured-field string (RFC 9651, 3.3.3), or a bare one as most clients send it.
fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"').then(|| text.to_owned());
    };
    let (mut content, mut characters) =
        (String::with_capacity(inner.len()), inner.strip_suffix('"')?.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => content.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' | '\t' => return None,
            plain => content.push(plain),
        }
    }
    Some(content)
}

/// The handler's answer, or the one that is kept for the request's key.
pub(super) async fn around(
    app: &App,
    route: &Route,
    caller: Option<&Caller>,
    mut request: Request,
) -> Result<Response, Error> {
    if let Some(caller) = caller {
        if route.takes_keys()
            && let Some(key) = key(request.headers())?
        {
            // Boxed, since few requests come this way and all would carry its size.
            return Box::pin(once(app, route, key, caller, request)).await;
        }
        request.extensions_mut().insert(caller.clone());
    }
    route.answer(request, app).await
}

/// Answers a request that carries a key: with what was stored, or by the handler.
async fn once(
    app: &App,
    route: &Route,
    key: String,
    caller: &Caller,
    request: Request,
) -> Result<Response, Error> {
    let (request, fingerprint) = match route.upload {
        None => fingerprint(app, caller, request).await?,
        Some(_) => of_upload(request),
    };
    let claim = Claim::new(app, route, key, caller);
    match claim.take(&fingerprint).await? {
        ClaimVerdict::Answered(stored) => return replay(stored),
        ClaimVerdict::InFlight => {
            let wait = Duration::from_secs(1);
            return Err(Error::new(&codes::IDEMPOTENCY_IN_FLIGHT).retry_after(wait));
        }
        ClaimVerdict::AnotherRequest => return Err(Error::new(&codes::IDEMPOTENCY_KEY_REUSED)),
        ClaimVerdict::Ours => {}
    }
    let deferral = app.db.defer();
    let outcome = answer(app, route, &claim, deferral, request).await;
    if outcome.is_err() {
        // Also after a COMMIT whose outcome is not known: an answer that was stored after all stays.
        claim.release().await;
    }
    outcome
}

async fn answer(
    app: &App,
    route: &Route,
    claim: &Claim<'_>,
    deferral: Deferral,
    mut request: Request,
) -> Result<Response, Error> {
    request.extensions_mut().insert(deferral.of(claim.caller));
    let response = route.answer(request, app).await?;
    let (head, body) = response.into_parts();
    let too_long = |_| Error::internal("an answer of more than 1 MiB cannot be kept for its idempotency key");
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(too_long)?.to_bytes();
    let stored = Stored::new(head.status, &head.headers, &body);
    claim.store(deferral, &stored).await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

fn replay(stored: Stored) -> Result<Response, Error> {
    let mut response = Response::new(Body::from(stored.body));
    *response.status_mut() = u16::try_from(stored.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or_default();
    for (name, value) in &stored.headers {
        let name = HeaderName::try_from(name).map_err(Error::internal)?;
        response.headers_mut().append(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    Ok(response)
}

/// What makes a request the same: method, target and body. The body is read for it, and put back.
async fn fingerprint(app: &App, caller: &Caller, request: Request) -> Result<(Request, Vec<u8>), Error> {
    let (head, body) = request.into_parts();
    let mut context = digest::Context::new(&digest::SHA256);
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    for part in [Method::as_str(&head.method), target] {
        context.update(part.as_bytes());
        context.update(b"\n");
    }
    let body = read_body(body, Some(caller.tenant()), app).await?;
    context.update(&body);
    Ok((Request::from_parts(head, Body::from(body)), context.finish().as_ref().to_vec()))
}

/// What makes an upload the same: method, target, and what its headers say of it. Its bytes are not held until they have all
/// come; a client that sends `Content-Digest` has other bytes under its key noticed.
fn of_upload(request: Request) -> (Request, Vec<u8>) {
    let mut context = digest::Context::new(&digest::SHA256);
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let said = ["content-type", "content-disposition", "content-length", "content-digest"];
    let said = said.map(|name| request.headers().get(name).map_or(&b""[..], |value| value.as_bytes()));
    for part in [request.method().as_str().as_bytes(), target.as_bytes()].into_iter().chain(said) {
        context.update(part);
        context.update(b"\n");
    }
    (request, context.finish().as_ref().to_vec())
}

/// How long a request may take; one that sends a file may take longer.
pub(super) fn longest(app: &App, sends_a_file: bool) -> Duration {
    let usual = app.config.traffic.request_timeout;
    if sends_a_file { usual.max(app.config.files.transfer_timeout) } else { usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(values: &[&str]) -> Result<Option<String>, Error> {
        let value = |value: &&str| (IDEMPOTENCY_KEY.clone(), HeaderValue::try_from(*value).unwrap());
        key(&values.iter().map(value).collect())
    }

    #[test]
    fn h_09_a_key_is_a_string_quoted_or_not() {
        assert_eq!(key_of(&[]).unwrap(), None);
        assert_eq!(key_of(&["8e03978e-40d5-43dd"]).unwrap().as_deref(), Some("8e03978e-40d5-43dd"));
        assert_eq!(key_of(&[r#""8e03978e""#]).unwrap().as_deref(), Some("8e03978e"));
        assert_eq!(key_of(&[r#""a\"b\\c d""#]).unwrap().as_deref(), Some(r#"a"b\c d"#));
        let long = "x".repeat(256);
        for bad in ["", "\"\"", "a b", "\"a", "a\"b", r#""a\b""#, r#""a"b""#, "\"a\tb\"", "é", &long] {
            let error = key_of(&[bad]).unwrap_err();
            assert_eq!(error.code(), &codes::MALFORMED_HEADER, "{bad:?}");
        }
        assert_eq!(key_of(&["a", "a"]).unwrap_err().code(), &codes::MALFORMED_HEADER);
    }
}
