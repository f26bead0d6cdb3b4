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
    check_characters(query)?;
    read(query).map_err(|fault| refusal::<T>(query, Some(fault)))
}

/// # Errors
/// `core.invalid` for a parameter whose value is not UTF-8.
pub(crate) fn check_characters(query: &str) -> Result<(), Error> {
    let Some(bad) = query.split('&').find(|pair| percent_decode_str(pair).decode_utf8().is_err()) else {
        return Ok(());
    };
    let name = form_urlencoded::parse(bad.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
    let pointer = format!("?{}", name.chars().take(LONGEST_NAME).collect::<String>());
    let detail = "is not UTF-8".to_owned();
    Err(Error::new(&codes::INVALID).violation(Violation::new(pointer, "character", detail)))
}

/// The first fault of a query.
pub(crate) type QueryFault = serde_path_to_error::Error<serde_urlencoded::de::Error>;

/// # Errors
/// The first fault.
pub(crate) fn read<T: DeserializeOwned>(query: &str) -> Result<T, QueryFault> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
}

/// Everything that is wrong with a query by the schema of `T`; where the schema finds nothing, the `fault` of the parser.
pub(crate) fn refusal<T: JsonSchema>(query: &str, fault: Option<QueryFault>) -> Error {
    let found = violations::of_query::<T>(form_urlencoded::parse(query.as_bytes()));
    if found.is_empty() {
        let name = fault.as_ref().map(|fault| fault.path().to_string()).unwrap_or_default();
        let detail =
            fault.map_or_else(|| "cannot be read".to_owned(), |fault| fault.into_inner().to_string());
        let pointer = format!("?{}", name.trim_start_matches('.'));
        return Error::new(&codes::INVALID).violation(Violation::new(pointer, "invalid", detail));
    }
    found.into_iter().fold(Error::new(&codes::INVALID), Error::violation)
}
