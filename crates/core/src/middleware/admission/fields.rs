//! The fields of the route that want a permission of their own: what is asked for, and what is left out of the answer.
//!
//! Assumes nothing of the deployment. `crates/server/tests/it/admission/fields.rs` shows it with a database.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::app::App;
use crate::auth::{Caller, GuardedFields};
use crate::error::{Error, Result};
use crate::module::Route;

/// What is left out of the answer to a request, and for whom.
pub(in crate::middleware) struct Concealed {
    fields: Arc<GuardedFields>,
    caller: Option<Caller>,
}

/// Refuses a query by fields that the caller must not see. From here on the caller takes the route's fields along, for its body and
/// for lists that are streamed; most routes have none.
///
/// # Errors
/// `core.forbidden`.
pub(in crate::middleware) async fn enter(
    app: &App,
    route: &Route,
    caller: Option<&Caller>,
    query: Option<&str>,
) -> Result<Option<Concealed>> {
    let Some(fields) = route.fields(app).await? else { return Ok(None) };
    fields.check_asked(query.unwrap_or_default(), caller)?;
    let caller = caller.map(|caller| caller.among(Arc::clone(&fields)));
    Ok(Some(Concealed { fields, caller }))
}

impl Concealed {
    /// The caller, who knows of the fields.
    pub(in crate::middleware) fn caller(&self) -> Option<Caller> {
        self.caller.clone()
    }
}

/// Leaves out of an answer what its reader must not see, also of one that is answered again for its `Idempotency-Key`.
///
/// # Errors
/// `core.internal` for an answer that is no JSON.
pub(in crate::middleware) async fn leave(
    concealed: Option<Concealed>,
    response: Response,
) -> Result<Response> {
    let Some(Concealed { fields, caller }) = concealed else { return Ok(response) };
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = media_type.is_some_and(|name| name.starts_with("application/json"));
    if !is_json || !response.status().is_success() || !fields.conceals(caller.as_ref()) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let whole = body.collect().await.map_err(Error::internal)?.to_bytes();
    let mut answer: Value = serde_json::from_slice(&whole).map_err(Error::internal)?;
    fields.conceal(&mut answer, caller.as_ref());
    parts.headers.remove(CONTENT_LENGTH);
    let body = serde_json::to_vec(&answer).map_err(Error::internal)?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
