//! What a handler takes as arguments: the caller, the path, the query and the body, already checked.
//!
//! Each rejection is an [`Error`] of the core's table, so that every fault of input is answered in one style.

mod body;
mod form;
mod input;
mod json;
mod mapped;
mod patch;
mod path;
mod precondition;
pub(crate) mod query;
mod selected_tenant;
mod upload;
mod violations;

use axum::extract::FromRequestParts;
use http::request::Parts;

pub(crate) use body::{MAX_BODY_BYTES, read as read_body};
pub use form::FormBody;
pub use input::{Arguments, HeaderField, Input, Inputs, SchemaOf};
pub(crate) use json::parse;
pub use json::{Json, present};
pub use patch::Patch;
pub(crate) use patch::schema_of;
pub(crate) use path::PathParams;
pub use path::{Path, PathValues, Segment};
pub use precondition::{ETag, IfMatch};
pub(crate) use precondition::{in_coding, opaque};
pub use query::Query;
pub use selected_tenant::SelectedTenant;
pub use upload::Upload;
pub(crate) use upload::UploadedKind;
pub use violations::of_value as violations;

use crate::app::App;
use crate::auth::{Caller, Operator};
use crate::db::System;
use crate::error::{Error, codes};

/// The caller, behind a route that demands one; on a public route there is none, and the request is refused.
impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))
    }
}

/// The operator, behind a route that demands one. A start with another is refused.
impl FromRequestParts<App> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))
    }
}

/// The media type that the answer is to have, of those that the route [`produces`](crate::module::Routes::produces).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType(pub &'static str);

impl FromRequestParts<App> for MediaType {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parts
            .extensions
            .get::<Self>()
            .copied()
            .ok_or_else(|| Error::internal("the route produces one media type"))
    }
}

/// The right to try, behind a route whose limit counts failures.
impl FromRequestParts<App> for crate::limits::Attempt {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let attempt = parts.extensions.get::<Self>().cloned();
        attempt.ok_or_else(|| Error::internal("the route has no limit that counts failures"))
    }
}

/// The right to work as the system, behind a route that names the work. A start without that is refused.
impl FromRequestParts<App> for System {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let system = parts.extensions.get::<Self>().cloned();
        system.ok_or_else(|| Error::internal("the route names no work of the system"))
    }
}

/// The request's correlation id and client address, for what happens before there is a caller.
impl FromRequestParts<App> for crate::auth::Trace {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal("the chain sets the trace"))
    }
}
