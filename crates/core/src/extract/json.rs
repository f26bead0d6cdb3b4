use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;

use super::{body, violations};
use crate::app::App;
use crate::auth::Caller;
use crate::error::{Error, Violation, codes};
use crate::logging::redacted_json;

/// The largest body whose violations are all reported; of a larger one the first. What is parsed for that takes many times
/// its text's memory.
const MAX_EXPLAINED_BYTES: usize = 64 * 1024;

/// A JSON body, in or out: one object. Structs that are read derive `Deserialize` with `deny_unknown_fields`, and
/// `JsonSchema`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema> FromRequest<App> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        require_json(request.method(), request.headers())?;
        require_plain(request.headers())?;
        let caller = request.extensions().get::<Caller>().cloned();
        let replaces = *request.method() == Method::PUT;
        let body = body::read(request.into_body(), caller.as_ref().map(Caller::tenant), app).await?;
        if app.config.profile().request_details && tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(body = redacted_json(&body), "Request body");
        }
        if let Some((caller, fields)) = caller.as_ref().and_then(|caller| Some((caller, caller.fields()?))) {
            fields.check_written(&body, replaces, caller)?;
        }
        parse(&body).map(Json)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

/// For the fields of a merge patch (RFC 7396): absent is `None`, `null` is `Some(None)`.
///
/// Use it as `#[serde(default, deserialize_with = "present")]` on an `Option<Option<T>>`.
///
/// # Errors
/// As the value's own.
pub fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

fn require_json(method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = media_type == "application/json"
        || (*method == Method::PATCH && media_type == "application/merge-patch+json");
    if known { Ok(()) } else { Err(Error::new(&codes::UNSUPPORTED_MEDIA_TYPE)) }
}

/// A body is at most 1 MiB: little is gained by compressing it, and what is not unpacked is no bomb.
fn require_plain(headers: &HeaderMap) -> Result<(), Error> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let plain = codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if plain { Ok(()) } else { Err(Error::new(&codes::UNSUPPORTED_CODING)) }
}

/// serde decides. Only what it refuses is held against the schema, to say everything that is wrong with it.
pub(crate) fn parse<T: DeserializeOwned + JsonSchema>(body: &[u8]) -> Result<T, Error> {
    // serde would read an array as a struct's fields in order, past the names and `deny_unknown_fields`.
    let refusal = if body.trim_ascii_start().starts_with(b"[") {
        BodyRefusal { pointer: String::new(), error: serde::de::Error::custom("an object is expected") }
    } else {
        match read_as(body) {
            Ok(value) => return Ok(value),
            Err(refusal) => refusal,
        }
    };
    Err(explain::<T>(body, refusal))
}

/// Why serde refused a body, and where.
struct BodyRefusal {
    pointer: String,
    error: serde_json::Error,
}

fn read_as<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyRefusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| BodyRefusal { pointer: pointer(error.path()), error: error.into_inner() })?;
    deserializer.end().map_err(|error| BodyRefusal { pointer: String::new(), error })?;
    Ok(value)
}

/// Malformed JSON is 400; well-formed JSON that does not fit is 422, with a pointer to everything that does not.
fn explain<T: JsonSchema>(body: &[u8], refusal: BodyRefusal) -> Error {
    if refusal.error.classify() != Category::Data {
        return malformed(refusal.error);
    }
    if body.len() > MAX_EXPLAINED_BYTES {
        return Error::new(&codes::INVALID).violation(only(refusal));
    }
    let found = match serde_json::from_slice(body) {
        Ok(value) => violations::of_body::<T>(&value),
        Err(error) => return malformed(error), // after what serde stumbled over
    };
    let found = if found.is_empty() { vec![only(refusal)] } else { found };
    found.into_iter().fold(Error::new(&codes::INVALID), Error::violation)
}

fn malformed(error: serde_json::Error) -> Error {
    Error::new(&codes::MALFORMED_BODY)
        .detail(format!("The JSON is malformed at line {}, column {}.", error.line(), error.column()))
        .because(error)
}

/// serde's own words: for what a schema cannot say, such as that a key comes twice.
fn only(BodyRefusal { pointer, error }: BodyRefusal) -> Violation {
    let text = error.to_string();
    // The parser's " at line 1 column 9" says less than the pointer.
    let detail = text.split(" at line ").next().unwrap_or_default();
    let code = match detail {
        _ if detail.starts_with("duplicate field") => "duplicate",
        _ if detail.starts_with("unknown field") => "unknown",
        _ if detail.starts_with("missing field") => "missing",
        _ if detail.starts_with("invalid type") => "type",
        _ => "invalid",
    };
    Violation::new(pointer, code, violations::cut(detail))
}

/// A path such as `lines[0].sku` as a JSON pointer (RFC 6901): `/lines/0/sku`.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } | Segment::Enum { variant: key } => {
            format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
        }
        Segment::Unknown => pointer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Line {
        sku: String,
        quantity: i64,
    }

    fn code_of(body: &[u8]) -> &'static str {
        parse::<Line>(body).unwrap_err().code().code
    }

    #[test]
    fn i_02_depth_is_bounded_where_any_value_is_taken() {
        let deep = "{\"a\":".repeat(10_000);
        assert_eq!(
            parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().code().code,
            "core.malformed_body"
        );
    }

    #[test]
    fn i_02_malformed_json_is_400() {
        let bom = "\u{feff}{\"sku\":\"a\",\"quantity\":1}".as_bytes();
        let cases: [&[u8]; 8] = [
            b"",
            b"{",
            b"nul",
            bom,
            b"{\"sku\":\"\xff\"}",
            b"{\"sku\":\"\\ud800\",\"quantity\":1}",
            b"{\"sku\":\"a\",\"quantity\":1} x",
            b"{\"sku\":\"a\tb\",\"quantity\":1}",
        ];
        for body in cases {
            assert_eq!(
                code_of(body),
                "core.malformed_body",
                "{:?}",
                String::from_utf8_lossy(&body[..body.len().min(40)])
            );
        }
    }

    #[test]
    fn i_02_numbers_that_do_not_fit_are_4xx() {
        for number in ["1e400", "-0.0", "1.5", "9223372036854775808", "1e3", "\"1\"", "null", "true", "[]"] {
            let body = format!("{{\"sku\":\"a\",\"quantity\":{number}}}");
            assert!(code_of(body.as_bytes()).starts_with("core."), "{number}");
        }
    }

    #[test]
    fn i_03_unknown_and_duplicate_fields_are_422() {
        assert_eq!(code_of(b"{\"sku\":\"a\",\"quantity\":1,\"tenant_id\":\"x\"}"), "core.invalid");
        assert_eq!(code_of(b"{\"sku\":\"a\",\"sku\":\"b\",\"quantity\":1}"), "core.invalid");
        assert_eq!(code_of(b"{\"quantity\":1}"), "core.invalid");
    }
}
