//! 201 for what has no version: what was made, and where it is.

use axum::response::{IntoResponse, Response};
use erp_core::answer::{Answer, LOCATION, Outputs};
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

/// 201 with what was made, and its Location.
pub(super) struct Made<T> {
    location: HeaderValue,
    made: T,
}

impl<T> Made<T> {
    /// What was made, at its path.
    pub(super) fn at(path: String, made: T) -> Result<Self> {
        let location = HeaderValue::try_from(path).map_err(Error::internal)?;
        Ok(Self { location, made })
    }
}

impl<T: Serialize> IntoResponse for Made<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, [(header::LOCATION, self.location)], Json(self.made)).into_response()
    }
}

impl<T: Serialize + JsonSchema> Answer for Made<T> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<T>(201).header(&LOCATION);
    }
}
