use std::fmt;
use std::marker::PhantomData;

use axum::response::{IntoResponse, Response};

use super::Outputs;
use crate::error::{Error, ErrorCode, Refused};

/// What a handler may return as an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that a handler may return",
    note = "return `erp_core::error::Result<…>`, or `Result<…, Refusing<codes::YOURS>>` where the handler itself decides on \
            a refusal",
    note = "docs/guides/add-a-module.md, \"Errors of the compiler\""
)]
pub trait Refusals: IntoResponse {
    /// Adds the codes that the handler itself refuses with, beside those of its arguments and of its tables.
    fn describe(outputs: &mut Outputs);
}

impl Refusals for Error {
    fn describe(_: &mut Outputs) {}
}

macro_rules! refused {
    ($($code:ident),+) => {
        impl<$($code: Refused),+> Refused for ($($code,)+) {
            const CODES: &'static [&'static ErrorCode] = {
                const fn first(codes: &'static [&'static ErrorCode]) -> &'static ErrorCode {
                    codes[0]
                }
                &[$(first($code::CODES)),+]
            };
        }
    };
}
refused!(A);
refused!(A, B);
refused!(A, B, C);
refused!(A, B, C, D);
refused!(A, B, C, D, E);

/// The error of a handler that itself decides on refusals, beside those that its arguments and its tables make:
/// `Result<Json<AccessToken>, Refusing<codes::SIGN_IN_FAILED>>`, or a tuple of codes. `?` turns any [`Error`] into it.
pub struct Refusing<C>(Error, PhantomData<fn() -> C>);

/// For a handler that goes on where another route's handler has refused.
impl<C> From<Refusing<C>> for Error {
    fn from(refusing: Refusing<C>) -> Self {
        refusing.0
    }
}

impl<C> From<Error> for Refusing<C> {
    fn from(error: Error) -> Self {
        Self(error, PhantomData)
    }
}

impl<C> IntoResponse for Refusing<C> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<C> fmt::Debug for Refusing<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<C: Refused> Refusals for Refusing<C> {
    fn describe(outputs: &mut Outputs) {
        outputs.refusals.extend(C::CODES);
    }
}
