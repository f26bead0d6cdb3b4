//! What a handler answers: the contract's statuses, bodies, headers, links and refusals come from the type that the handler
//! returns, so that they cannot differ from it.

mod endpoint;
mod outputs;
mod refusing;

use axum::body::Body;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

pub use endpoint::Endpoint;
pub(crate) use outputs::{Content, Link, Success};
pub use outputs::{LOCATION, Outputs};
pub use refusing::{Refusals, Refusing};

use crate::error::Error;
use crate::extract::Json;

/// What a handler may return.
///
/// Implement it beside [`IntoResponse`] for a type of your own, and describe every answer that the type can become.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer that the contract can describe",
    label = "the handler returns this",
    note = "return `Result<…>` of `Tagged<R>`, `Created<R>`, `Listed<L>`, `NoContent`, `Json<T>`, `String` or `Html<T>`; \
            `R` comes from `record!`, and `T` derives `Serialize` and `JsonSchema`",
    note = "docs/guides/add-a-module.md, \"Errors of the compiler\""
)]
pub trait Answer: IntoResponse {
    /// Adds the answers that this type can become, those other than problems.
    fn describe(outputs: &mut Outputs);
}

impl<T: Serialize + JsonSchema> Answer for Json<T> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<T>(200);
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Answer for &'static str {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, PLAIN);
    }
}

impl Answer for String {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, PLAIN);
    }
}

impl<T> Answer for Html<T>
where
    Self: IntoResponse,
{
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, "text/html; charset=utf-8").produces(&["text/html"]);
    }
}

macro_rules! undescribed {
    ($($type:ty),+) => {
        $(
            /// Says nothing to the contract: for routes that are not part of it. An operation whose answers are not
            /// described fails the test of the contract.
            impl Answer for $type {
                fn describe(_: &mut Outputs) {}
            }
        )+
    };
}
undescribed!(Response, Body, StatusCode, Error, ());

/// 202 with what is under way.
pub struct Acknowledged<T>(pub T);

impl<T: Serialize> IntoResponse for Acknowledged<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl<T: Serialize + JsonSchema> Answer for Acknowledged<T> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<T>(202);
    }
}

/// 204: done, and nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Answer for NoContent {
    fn describe(outputs: &mut Outputs) {
        outputs.nothing(204).produces(&[]);
    }
}

/// A file of whatever media type: the handler sets it.
pub struct File(pub Response);

impl IntoResponse for File {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for File {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, "*/*").produces(&[]);
    }
}

impl<T: Answer, E: Refusals> Answer for Result<T, E> {
    fn describe(outputs: &mut Outputs) {
        T::describe(outputs);
        E::describe(outputs);
    }
}
