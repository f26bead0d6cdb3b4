//! What the contract says of a route beyond its declaration and its handler's arguments.

use schemars::{JsonSchema, SchemaGenerator};

use crate::error::ErrorCode;
use crate::extract::{ETag, HeaderField, SchemaOf};

/// `Location`: where the thing is that was created (RFC 9110, 10.2.2).
pub static LOCATION: HeaderField = HeaderField {
    name: "Location",
    what: "The path of what was created.",
    pattern: Some("^/"),
    example: "/api/v1/items/0190163d-8694-739b-aea5-966c26f8ad91",
    always: true,
};

/// One operation of the API, as its clients read it.
///
/// Parameters, body and refusals come from the handler's arguments and the route's access rule; this adds the rest.
pub struct Operation {
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) about: &'static str,
    pub(crate) answers: Vec<Answer>,
    pub(crate) refusals: Vec<&'static ErrorCode>,
    pub(crate) links: Vec<Link>,
}

/// An answer other than a problem.
pub(crate) struct Answer {
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

/// An operation whose parameter is in an answer's body.
pub(crate) struct Link {
    pub(crate) operation: &'static str,
    pub(crate) parameter: &'static str,
    pub(crate) pointer: &'static str,
}

impl Operation {
    /// `id` is the name of the function in generated clients: camelCase, unique, never changed. `summary` is a line
    /// without a full stop.
    pub const fn new(id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, about: "", answers: Vec::new(), refusals: Vec::new(), links: Vec::new() }
    }

    /// Whole sentences (CommonMark) on what the summary does not say.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Answers this status with `T` as JSON.
    #[must_use]
    pub fn answers<T: JsonSchema>(self, status: u16) -> Self {
        self.answer(status, Content::Json(SchemaGenerator::subschema_for::<T>))
    }

    /// Answers this status with text of this media type.
    #[must_use]
    pub fn answers_text(self, status: u16, media_type: &'static str) -> Self {
        self.answer(status, Content::Text(media_type))
    }

    /// Answers this status without a body.
    #[must_use]
    pub fn answers_nothing(self, status: u16) -> Self {
        self.answer(status, Content::Nothing)
    }

    /// Answers 201 with `T` as JSON, its `Location` and its `ETag`.
    #[must_use]
    pub fn creates<T: JsonSchema>(self) -> Self {
        self.answers::<T>(201).header(&LOCATION).tagged()
    }

    /// The last answer has this header.
    #[must_use]
    pub fn header(mut self, field: &'static HeaderField) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push(field);
        }
        self
    }

    /// The last answer has an `ETag`, which `If-Match` takes.
    #[must_use]
    pub fn tagged(self) -> Self {
        self.header(&ETag::FIELD)
    }

    /// The handler itself can refuse with this code.
    #[must_use]
    pub fn refuses(mut self, code: &'static ErrorCode) -> Self {
        self.refusals.push(code);
        self
    }

    /// The operation `id` takes as its `parameter` what the answer has at this JSON pointer.
    #[must_use]
    pub fn leads_to(mut self, id: &'static str, parameter: &'static str, pointer: &'static str) -> Self {
        self.links.push(Link { operation: id, parameter, pointer });
        self
    }

    /// Whether what is read has a tag, by which a client can ask whether it has it already.
    pub(crate) fn is_tagged(&self) -> bool {
        self.answers.iter().any(|answer| answer.status == 200 && answer.headers.contains(&&ETag::FIELD))
    }

    fn answer(mut self, status: u16, content: Content) -> Self {
        self.answers.push(Answer { status, content, headers: Vec::new() });
        self
    }
}
