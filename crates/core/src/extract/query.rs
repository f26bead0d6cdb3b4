use axum::extract::FromRequestParts;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::violations;
use crate::app::App;
use crate::error::{Error, Violation, codes};

/// How much of a name is told back, in characters.
const LONGEST_NAME: usize = 64;

/// The query string. The struct derives `Deserialize` with `deny_unknown_fields`, and `JsonSchema`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + JsonSchema> FromRequestParts<App> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        parse(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

fn parse<T: DeserializeOwned + JsonSchema>(query: &str) -> Result<T, Error> {
    if let Some(bad) = query.split('&').find(|pair| percent_decode_str(pair).decode_utf8().is_err()) {
        let name = form_urlencoded::parse(bad.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
        let pointer = format!("?{}", name.chars().take(LONGEST_NAME).collect::<String>());
        let detail = "is not UTF-8".to_owned();
        return Err(Error::new(&codes::INVALID).violation(Violation { pointer, code: "character", detail }));
    }
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
