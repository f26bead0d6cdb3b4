use axum::extract::FromRequestParts;
use http::request::Parts;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::violations;
use crate::app::App;
use crate::error::{Error, Violation, codes};

/// The query string. The struct derives `Deserialize` with `deny_unknown_fields`, and `JsonSchema`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + JsonSchema> FromRequestParts<App> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parse(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

fn parse<T: DeserializeOwned + JsonSchema>(query: &str) -> Result<T, Error> {
    let pairs = || form_urlencoded::parse(query.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs())).map_err(|error| {
        let found = violations::of_query::<T>(pairs());
        if found.is_empty() {
            let pointer = format!("?{}", error.path().to_string().trim_start_matches('.'));
            let detail = error.into_inner().to_string();
            return Error::new(&codes::INVALID).violation(Violation { pointer, code: "invalid", detail });
        }
        found.into_iter().fold(Error::new(&codes::INVALID), Error::violation)
    })
}
