use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::app::App;
use crate::error::{Error, codes};

/// The one parameter of a route's path, such as the id in `/items/{id}`.
///
/// Text that is no such id is answered like an unknown one: 404 (T-16).
pub struct Path<T>(pub T);

/// The values of a path's parameters, put into the request by the chain.
#[derive(Clone)]
pub(crate) struct PathParams(pub(crate) Vec<String>);

impl<T: FromStr + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let params = parts.extensions.get::<PathParams>();
        let value = params.and_then(|params| params.0.first()).and_then(|text| text.parse().ok());
        value.map(Path).ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }
}
