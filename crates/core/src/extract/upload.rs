//! A file as the body of a request, for routes that [take one](crate::module::Routes::uploads).

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE};
use http_body::Body as _;

use super::body::BodyReading;
use super::{HeaderField, Input, Inputs};
use crate::app::App;
use crate::error::{Error, Result, codes};
use crate::files::{FileKind, NewFile, file_codes, name_of, type_not_allowed};

/// A file that a client sends, whole as the request's body: what its headers say of it, and bytes that have not come yet.
/// [`Call::store_upload`](crate::resource::Call::store_upload) takes it.
pub struct Upload {
    /// What it is, by the route.
    pub kind: &'static FileKind,
    pub(crate) new: NewFile,
    body: Body,
    app: App,
}

/// The kind of the route's file, for the extractor.
#[derive(Clone, Copy)]
pub(crate) struct UploadedKind(pub(crate) &'static FileKind);

/// `Content-Disposition` of a request.
static NAME_FIELD: HeaderField = HeaderField {
    name: "Content-Disposition",
    what: "What the file is called, by `filename` or `filename*` (RFC 6266); paths and what cannot be shown are left out.",
    pattern: None,
    example: "attachment; filename=\"receipt.pdf\"",
    always: false,
};
/// `Content-Digest` of a request.
static DIGEST_FIELD: HeaderField = HeaderField {
    name: "Content-Digest",
    what: "The SHA-256 of the body (RFC 9530): a file that was changed on its way is refused.",
    pattern: None,
    example: "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
    always: false,
};

impl FromRequest<App> for Upload {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let undeclared = || Error::internal("the route does not say that it takes a file: `.uploads(&KIND)`");
        let UploadedKind(kind) = *request.extensions().get().ok_or_else(undeclared)?;
        let headers = request.headers();
        let plain = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
            return Err(Error::new(&codes::UNSUPPORTED_CODING));
        }
        let content_type = one(headers, CONTENT_TYPE.as_str())?.unwrap_or_default();
        let media = kind.media(content_type).ok_or_else(|| type_not_allowed(kind))?;
        let name = one(headers, CONTENT_DISPOSITION.as_str())?.map(name).transpose()?.flatten();
        let sha256 = one(headers, "content-digest")?.map(digest).transpose()?.flatten();
        let new = NewFile::new(&name.unwrap_or_default(), media)
            .length(request.body().size_hint().exact())
            .sha256(sha256);
        Ok(Self { kind, new, body: request.into_body(), app: app.clone() })
    }
}

impl Input for Upload {
    fn describe(inputs: &mut Inputs) {
        inputs.upload = true;
        inputs.headers.extend([&NAME_FIELD, &DIGEST_FIELD]);
        inputs.refusals.extend([
            &codes::MALFORMED_BODY,
            &codes::REQUEST_TIMEOUT,
            &codes::UNSUPPORTED_CODING,
            &file_codes::TOO_LARGE,
            &file_codes::TYPE_NOT_ALLOWED,
            &file_codes::NOT_WHAT_IT_SAYS,
            &file_codes::DIGEST_MISMATCH,
            &file_codes::QUOTA_EXCEEDED,
            &file_codes::STORE_UNAVAILABLE,
        ]);
    }
}

impl Upload {
    /// Its bytes, as they come: not more slowly than 1 KiB/s, and within `FILES_TRANSFER_TIMEOUT`.
    pub(crate) fn bytes(body: Body, app: &App) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let reading = BodyReading::new(app.config.files.transfer_timeout);
        stream::unfold(Some((body, reading)), |state| async move {
            let (mut body, mut reading) = state?;
            match reading.next(&mut body).await {
                Ok(part) => part.map(|part| (Ok(part), Some((body, reading)))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    pub(crate) fn into_parts(self) -> (&'static FileKind, NewFile, impl Stream<Item = Result<Bytes>> + Send) {
        let Self { kind, new, body, app } = self;
        (kind, new, Self::bytes(body, &app))
    }
}

/// The value of a header that may stand there once.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| values.next().is_none());
    text.map(Some).ok_or_else(|| malformed(name))
}

fn name(value: &str) -> Result<Option<String>> {
    name_of(value).ok_or_else(|| malformed("content-disposition"))
}

/// The SHA-256 in a dictionary of digests (RFC 9530, 2); `None` where it has only others, which are not looked at.
fn digest(value: &str) -> Result<Option<[u8; 32]>> {
    let ours = value.split(',').find_map(|member| member.trim().strip_prefix("sha-256="));
    let Some(ours) = ours else { return Ok(None) };
    let encoded = ours.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let bytes = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    let digest = bytes.and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or_else(|| malformed("content-digest"))
}

fn malformed(name: &'static str) -> Error {
    let detail = match name {
        "content-digest" => "Content-Digest takes 'sha-256=:' and the digest in base64, and ':'.",
        "content-type" => "Content-Type takes one media type.",
        _ => "Content-Disposition takes 'attachment; filename=\"…\"', or filename* with UTF-8''….",
    };
    Error::new(&codes::MALFORMED_HEADER).detail(detail)
}
