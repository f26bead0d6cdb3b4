//! `GET /assets/{file}`: the files of [`crate::assets`], for anybody and for ever.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use crate::app::App;
use crate::error::{Error, Result, codes};
use crate::extract::Path;
use crate::module::{Access, Cache, Module, Operation, Routes};

/// Serves the files that all modules bring.
pub static STATIC_FILES: Module =
    Module { name: "static_files", about: "Files that pages refer to.", routes, ..Module::BARE };

/// A page on another origin may show what a CDN fetched here.
const SHARED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));

fn routes() -> Routes {
    Routes::new()
        .get("/assets/{file}", Access::Public, file)
        .cache(Cache::Immutable)
        .produces(&[])
        .doc(Operation::new("asset", "Fetch a file under its name of this release").answers_text(200, "*/*"))
}

/// The file of this name; 404 for a name of another release.
async fn file(State(app): State<App>, Path(name): Path<String>) -> Result<Response> {
    let file = app.assets.find(&name).ok_or_else(|| Error::new(&codes::NOT_FOUND))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.asset.media_type)),
        (header::ETAG, file.etag.clone()),
        SHARED,
    ];
    Ok((headers, Bytes::from_static(file.asset.bytes)).into_response())
}
