//! `GET /assets/{file}`: the files of [`crate::assets`], for anybody and for ever.

use axum::Extension;
use axum::extract::State;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use crate::answer::File;
use crate::app::App;
use crate::assets::Resident;
use crate::error::{Error, Result, codes};
use crate::extract::Path;
use crate::module::{Access, Cache, Module, Operation, Routes, SecurityHeaders, Surface};

/// Serves the files that all modules bring.
pub static STATIC_FILES: Module =
    Module { name: "static_files", about: "Files that pages refer to.", routes, ..Module::BARE };

fn routes() -> Routes {
    // A page on another origin may show what a CDN fetched here.
    let shared = HeaderValue::from_static("cross-origin");
    let headers =
        SecurityHeaders::json().set(HeaderName::from_static("cross-origin-resource-policy"), shared);
    Routes::new()
        .get("/assets/{file}", Access::Public, file)
        .surface(Surface::Management)
        .cache(Cache::Immutable)
        .headers(headers)
        .doc(Operation::new("asset", "Fetch a file under its name of this release"))
}

/// The file of this name; 404 for a name of another release.
async fn file(State(app): State<App>, Path(name): Path<String>) -> Result<File> {
    let file = app.assets.find(&name).ok_or_else(|| Error::new(&codes::NOT_FOUND))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.asset.media_type)),
        (header::ETAG, file.etag.clone()),
    ];
    Ok(File((Extension(Resident), headers, Bytes::from_static(file.asset.bytes)).into_response()))
}
