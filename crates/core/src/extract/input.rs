//! What a handler's arguments say about the requests it takes: the contract's parameters, bodies and refusals come from
//! the handler's own signature, so that they cannot differ from it.

use axum::extract::{Extension, Request, State};
use http::{HeaderMap, Method, Uri};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::path::PathValues;
use super::{FormBody, IfMatch, Json, MediaType, Path, Query};
use crate::auth::{Caller, Operator, Trace};
use crate::db::System;
use crate::error::{ErrorCode, codes};
use crate::limits::Attempt;

/// Makes the schema of one type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A header of requests or answers, as the contract tells of it.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name, in the spelling of its RFC.
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// The pattern of its value (ECMA-262); `None` where no value is refused.
    pub pattern: Option<&'static str>,
    /// A value.
    pub example: &'static str,
    /// Of an answer's header: whether it is always there. Of requests none is required.
    pub always: bool,
}

/// What one handler takes from a request.
#[derive(Default)]
pub struct Inputs {
    /// The path's parameters, in their order.
    pub path: Vec<SchemaOf>,
    /// The parameters of the query: an object's properties.
    pub query: Option<SchemaOf>,
    /// The JSON body.
    pub body: Option<SchemaOf>,
    /// Headers that it reads; none of them is required.
    pub headers: Vec<&'static HeaderField>,
    /// What taking them can refuse.
    pub refusals: Vec<&'static ErrorCode>,
    /// Whether it works as the system.
    pub system: bool,
    /// Whether it takes an operator.
    pub operator: bool,
    /// Whether it takes a file.
    pub upload: bool,
    /// Whether it takes the form of a page.
    pub form: bool,
}

/// An argument of a handler. What says nothing about the request, such as the app, implements it empty.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an argument that a handler can have",
    note = "take `Call`, `Caller`, `State<App>`, `Path<…>`, `Query<…>`, `Page<…>`, `IfMatch`, and last `Json<…>`; a type of \
            your own implements `FromRequestParts<App>` and `Input`"
)]
pub trait Input: 'static {
    /// Adds what this argument takes.
    fn describe(_inputs: &mut Inputs) {}
}

impl<S: 'static> Input for State<S> {}
impl<T: 'static> Input for Extension<T> {}
impl Input for Caller {}
impl Input for Trace {}
impl Input for MediaType {}
impl Input for Attempt {}
impl Input for HeaderMap {}
impl Input for Method {}
impl Input for Uri {}
impl Input for Request {}

impl Input for System {
    fn describe(inputs: &mut Inputs) {
        inputs.system = true;
    }
}

impl Input for Operator {
    fn describe(inputs: &mut Inputs) {
        inputs.operator = true;
    }
}

impl<T: PathValues + 'static> Input for Path<T> {
    fn describe(inputs: &mut Inputs) {
        inputs.path.extend(T::SCHEMAS);
        inputs.refusals.push(&codes::NOT_FOUND);
    }
}

impl<T: JsonSchema + 'static> Input for Query<T> {
    fn describe(inputs: &mut Inputs) {
        inputs.query = Some(T::json_schema);
        inputs.refusals.push(&codes::INVALID);
    }
}

impl<T: JsonSchema + 'static> Input for Json<T> {
    fn describe(inputs: &mut Inputs) {
        inputs.body = Some(SchemaGenerator::subschema_for::<T>);
        inputs.refusals.extend([
            &codes::MALFORMED_BODY,
            &codes::REQUEST_TIMEOUT,
            &codes::TOO_LARGE,
            &codes::UNSUPPORTED_CODING,
            &codes::UNSUPPORTED_MEDIA_TYPE,
            &codes::INVALID,
        ]);
    }
}

impl<T: 'static> Input for FormBody<T> {
    fn describe(inputs: &mut Inputs) {
        inputs.form = true;
        inputs.refusals.extend([
            &codes::REQUEST_TIMEOUT,
            &codes::TOO_LARGE,
            &codes::UNSUPPORTED_MEDIA_TYPE,
            &codes::INVALID,
        ]);
    }
}

impl Input for IfMatch {
    fn describe(inputs: &mut Inputs) {
        inputs.headers.push(&Self::FIELD);
        inputs.refusals.push(&codes::STALE);
    }
}

/// All arguments of a handler, as [`axum::handler::Handler`] has them: a marker, then their types.
pub trait Arguments: 'static {
    /// Adds what all of them take.
    fn describe(inputs: &mut Inputs);
}

impl Arguments for ((),) {
    fn describe(_: &mut Inputs) {}
}

macro_rules! arguments {
    ($($argument:ident),+) => {
        impl<M: 'static, $($argument: Input),+> Arguments for (M, $($argument,)+) {
            fn describe(inputs: &mut Inputs) {
                $($argument::describe(inputs);)+
            }
        }
    };
}
arguments!(A);
arguments!(A, B);
arguments!(A, B, C);
arguments!(A, B, C, D);
arguments!(A, B, C, D, E);
arguments!(A, B, C, D, E, F);
arguments!(A, B, C, D, E, F, G);
arguments!(A, B, C, D, E, F, G, H);
