use std::fmt;

use axum::extract::FromRequestParts;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::HeaderField;
use crate::app::App;
use crate::error::{Error, codes};

/// A strong entity tag made of a row's version: `"7"` (RFC 9110, 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag(pub i64);

impl ETag {
    /// `ETag`, as the contract tells of it.
    pub const FIELD: HeaderField = HeaderField {
        name: "ETag",
        what: "The version of what is answered, and the coding if it is compressed; If-Match takes it. Of a file its SHA-256.",
        pattern: Some(r#"^(W/)?"([0-9]+|[0-9a-f]{64})(-gzip|-br|-zstd)?"$"#),
        example: "\"1\"",
        always: true,
    };
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl From<ETag> for HeaderValue {
    fn from(tag: ETag) -> Self {
        Self::try_from(tag.to_string()).unwrap_or_else(|_| Self::from_static("\"\""))
    }
}

/// `If-Match`: the versions that a change may be made on (RFC 9110, 13.1.1).
///
/// Absent and `*` both mean any version: a change of something that is not there is 404 anyway. `If-None-Match: *` means
/// none: who only wants to make something must not overwrite what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<i64>>);

impl IfMatch {
    /// `If-Match`, as the contract tells of it: `*`, or entity tags, which hold no comma here.
    pub const FIELD: HeaderField = HeaderField {
        name: "If-Match",
        what: "Entity tags as ETag gave them: the change is made only if the resource still has one of them.",
        pattern: Some(r#"^(\*|(W/)?"[!#-+\--~]*"( *, *(W/)?"[!#-+\--~]*")*)$"#),
        example: "\"1\"",
        always: false,
    };

    /// The versions that are acceptable; `None` for any. Bind it as `$n::bigint[]` and test
    /// `($n is null or version = any($n))` in the statement that makes the change.
    pub fn versions(&self) -> Option<&[i64]> {
        self.0.as_deref()
    }
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        if refuses_what_is_there(&parts.headers)? {
            return Ok(Self(Some(Vec::new())));
        }
        let mut versions = Vec::new();
        let mut any = !parts.headers.contains_key(IF_MATCH);
        for value in parts.headers.get_all(IF_MATCH) {
            match value.to_str().map_err(|_| malformed())?.trim() {
                "*" => any = true,
                list => versions.extend(tags(list)?),
            }
        }
        Ok(Self((!any).then_some(versions)))
    }
}

/// Whether `If-None-Match: *` asks for a change only where nothing is (RFC 9110, 13.1.2). Tags are refused and not
/// ignored: who sends some wants the change left undone if one of them fits.
fn refuses_what_is_there(headers: &HeaderMap) -> Result<bool, Error> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter().peekable();
    let asked = values.peek().is_some();
    if values.all(|value| value.as_bytes().trim_ascii() == b"*") {
        return Ok(asked);
    }
    let detail = "A change takes entity tags in If-Match, and '*' only in If-None-Match.";
    Err(Error::new(&codes::MALFORMED_HEADER).detail(detail))
}

/// The versions in a list of tags. Empty elements are passed over (RFC 9110, 5.6.1.2): a proxy that joins lines makes some.
fn tags(list: &str) -> Result<Vec<i64>, Error> {
    let mut tags = list.split(',').map(str::trim).filter(|tag| !tag.is_empty()).peekable();
    tags.peek().ok_or_else(malformed)?;
    tags.filter_map(|tag| parse(tag).transpose()).collect()
}

/// The version in a tag of ours; a well-formed tag that is not ours (weak, or of another shape) matches nothing.
fn parse(tag: &str) -> Result<Option<i64>, Error> {
    let version = opaque(tag).ok_or_else(malformed)?;
    Ok(if tag.starts_with("W/") { None } else { version.parse().ok() })
}

/// What a tag adds for each content coding: a strong tag must tell the representations of one version apart (RFC 9110,
/// 8.8.3.3), and all of them name that version in `If-Match`.
const CODINGS: [&str; 3] = ["-gzip", "-br", "-zstd"];

/// What stands between a tag's quotes, without the mark of a coding.
pub(crate) fn opaque(tag: &str) -> Option<&str> {
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    let is_tag = |inner: &&str| inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    let inner = quoted.strip_prefix('"')?.strip_suffix('"').filter(is_tag)?;
    Some(CODINGS.iter().find_map(|coding| inner.strip_suffix(coding)).unwrap_or(inner))
}

/// The tag of the same version in a content coding; a weak tag is the same in all.
pub(crate) fn in_coding(tag: &HeaderValue, coding: &str) -> Option<HeaderValue> {
    let inner = tag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    HeaderValue::try_from(format!("\"{inner}-{coding}\"")).ok()
}

fn malformed() -> Error {
    Error::new(&codes::MALFORMED_HEADER).detail("If-Match takes '*' or a list of quoted entity tags.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_10_empty_elements_of_a_list_of_tags_are_passed_over() {
        for (list, expected) in [
            ("\"1\"", &[1][..]),
            ("\"1\",", &[1]),
            (", \"1\" ,\t, \"2\"", &[1, 2]),
            ("\"1-gzip\" , W/\"2\"", &[1]),
            ("\"theirs\"", &[]),
        ] {
            assert_eq!(tags(list).unwrap(), expected, "{list}");
        }
        for none in ["", ",", " , ", "\"1\", 2", "\"1\", *"] {
            assert!(tags(none).is_err(), "{none:?}");
        }
    }
}
