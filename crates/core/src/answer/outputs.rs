use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::error::ErrorCode;
use crate::extract::{ETag, HeaderField, SchemaOf};
use crate::shared::ShownSecret;

/// `Location`: where the thing is that was created (RFC 9110, 10.2.2).
pub static LOCATION: HeaderField = HeaderField {
    name: "Location",
    what: "The path of what was created.",
    pattern: Some("^/"),
    example: "/api/v1/items/0190163d-8694-739b-aea5-966c26f8ad91",
    always: true,
};

/// What one handler answers.
#[derive(Default)]
pub struct Outputs {
    pub(crate) answers: Vec<Success>,
    pub(crate) refusals: Vec<&'static ErrorCode>,
    /// The tables whose record is answered: a change of it is refused with the codes of their constraints.
    pub(crate) tables: &'static [&'static str],
    pub(crate) links: Vec<Link>,
    /// What `Accept` is held against; `None` for JSON.
    pub(crate) produces: Option<&'static [&'static str]>,
    pub(crate) about: &'static str,
}

/// An answer other than a problem.
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) content: Content,
    pub(crate) headers: Vec<&'static HeaderField>,
}

/// What an answer holds.
pub(crate) enum Content {
    Nothing,
    Json(SchemaOf),
    Text(&'static str),
}

/// To which operations an answer leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Those on what was created: their paths go on with its id.
    ToCreated,
    /// The same one, for the next page.
    ToNextPage,
}

impl Outputs {
    /// Answers this status with `T` as JSON.
    pub fn json<T: JsonSchema>(&mut self, status: u16) -> &mut Self {
        self.answer(status, Content::Json(SchemaGenerator::subschema_for::<T>))
    }

    /// Answers this status with text of this media type.
    pub fn text(&mut self, status: u16, media_type: &'static str) -> &mut Self {
        self.answer(status, Content::Text(media_type))
    }

    /// Answers this status without a body.
    pub fn nothing(&mut self, status: u16) -> &mut Self {
        self.answer(status, Content::Nothing)
    }

    /// The last answer has this header.
    pub fn header(&mut self, field: &'static HeaderField) -> &mut Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push(field);
        }
        self
    }

    /// The handler can refuse with this code.
    pub fn refuses(&mut self, code: &'static ErrorCode) -> &mut Self {
        self.refusals.push(code);
        self
    }

    /// The media types that `Accept` chooses from, the preferred one first; none: whatever `Accept` says. Default: JSON.
    pub fn produces(&mut self, media_types: &'static [&'static str]) -> &mut Self {
        self.produces = Some(media_types);
        self
    }

    /// Whole sentences (CommonMark) that are true of every operation with this answer.
    pub fn about(&mut self, about: &'static str) -> &mut Self {
        self.about = about;
        self
    }

    /// Whether what is read has a tag, by which a client can ask whether it has it already.
    pub(crate) fn is_tagged(&self) -> bool {
        self.answers.iter().any(|answer| answer.status == 200 && answer.headers.contains(&&ETag::FIELD))
    }

    /// Whether one of the answers has a [`ShownSecret`], wherever in it.
    pub(crate) fn has_secret(&self) -> bool {
        let schemas = self.answers.iter().filter_map(|answer| match answer.content {
            Content::Json(schema) => Some(schema),
            Content::Nothing | Content::Text(_) => None,
        });
        schemas.into_iter().any(|schema| {
            let mut generator = SchemaGenerator::default();
            let answer = schema(&mut generator).to_value();
            let parts = generator.take_definitions(true);
            has_mark(&answer) || parts.values().any(has_mark)
        })
    }

    fn answer(&mut self, status: u16, content: Content) -> &mut Self {
        self.answers.push(Success { status, content, headers: Vec::new() });
        self
    }
}

fn has_mark(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key(ShownSecret::MARK) || fields.values().any(has_mark),
        Value::Array(parts) => parts.iter().any(has_mark),
        _ => false,
    }
}
