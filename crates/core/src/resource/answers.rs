use std::marker::PhantomData;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::{Listing, Versioned, list};
use crate::answer::{Answer, LOCATION, Link, Outputs};
use crate::extract::{ETag, Json};
use crate::stream;

/// 200 with a record as JSON, and the ETag of its version.
pub struct Tagged<R>(pub R);

/// 201 with the record that was created as JSON, its Location and its ETag.
pub struct Created<R> {
    pub(super) record: R,
    pub(super) location: HeaderValue,
}

/// 200 with a page of records as JSON, or all of them as NDJSON or CSV.
pub struct Listed<L> {
    pub(super) response: Response,
    pub(super) list: PhantomData<fn() -> L>,
}

impl<R: Versioned> IntoResponse for Tagged<R> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::from(ETag(self.0.version().get()));
        ([(header::ETAG, tag)], Json(self.0)).into_response()
    }
}

impl<R: Versioned> Answer for Tagged<R> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<R>(200).header(&ETag::FIELD);
        outputs.tables = R::TABLES;
    }
}

impl<R: Versioned> IntoResponse for Created<R> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, [(header::LOCATION, self.location)], Tagged(self.record)).into_response()
    }
}

impl<R: Versioned> Answer for Created<R> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<R>(201).header(&LOCATION).header(&ETag::FIELD);
        outputs.tables = R::TABLES;
        outputs.links.push(Link::ToCreated);
    }
}

impl<L> IntoResponse for Listed<L> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<L: Listing> Answer for Listed<L> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<list::PageOf<L::Record>>(200).text(200, stream::NDJSON).text(200, stream::CSV);
        outputs.produces(list::TYPES).about(
            "As NDJSON and CSV all of them at once, without `limit` and `cursor`; an answer that cannot be completed is \
             broken off.",
        );
        outputs.links.push(Link::ToNextPage);
    }
}
