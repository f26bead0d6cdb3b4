//! `GET /docs`: Swagger UI on the contract. Everything that it needs comes from here: it works without the internet.
//!
//! It is part of the management surface, as the document is: open in development, else on `METRICS_PORT`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::sync::OnceCell;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

use super::archive;
use crate::answer::{Answer, File, Outputs};
use crate::app::App;
use crate::assets::{Resident, Unpacked};
use crate::error::{Error, Result, codes};
use crate::extract::Path;
use crate::module::{Access, Cache, Csp, Operation, Routes, SecurityHeaders};

/// What starts the interface: the page's policy forbids scripts within it.
const START: &str = include_str!("start.js");
/// The interface's files: where they are in the archive, and their media types.
const FILES: [(&str, &str); 2] =
    [("swagger-ui.css", "text/css; charset=utf-8"), ("swagger-ui-bundle.js", JAVASCRIPT)];

pub(super) fn add(routes: Routes) -> Routes {
    let kept = Arc::<[Kept; 2]>::default();
    let fetch = move |Path(wanted): Path<String>| {
        let kept = Arc::clone(&kept);
        async move { file(&kept, &wanted).await }
    };
    routes
        .get("/docs", Access::Management, page)
        .headers(SecurityHeaders::json().csp(policy()))
        .doc(Operation::new("docs", "Show the documentation page"))
        .get("/docs/start.js", Access::Management, start)
        .doc(Operation::new("docsStart", "Start the page"))
        .get("/docs/{file}", Access::Management, fetch)
        .cache(Cache::Immutable)
        .doc(Operation::new("docsFile", "Fetch a file of the page"))
}

/// Nothing from elsewhere, and no script within the page; Swagger UI sets styles of elements.
fn policy() -> Csp {
    Csp::new()
        .default_src(["'none'"])
        .script_src(["'self'"])
        .style_src(["'self'", "'unsafe-inline'"])
        .img_src(["data:"])
        .connect_src(["'self'"])
        .base_uri(["'none'"])
        .form_action(["'none'"])
        .frame_ancestors(["'none'"])
}

async fn page(State(app): State<App>) -> Result<Html<String>> {
    let [style, script] = FILES.map(|(name, _)| hashed(name));
    let (style, script) = (style.ok_or_else(missing)?, script.ok_or_else(missing)?);
    Ok(Html(format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>erp-backend {version}: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{style}">
<main id="page"><noscript>This page needs JavaScript. <a href="openapi.json">The document itself</a> does not.</noscript></main>
<script src="docs/{script}"></script>
<script src="docs/start.js"></script>
</html>
"#,
        version = app.version,
    )))
}

fn missing() -> Error {
    Error::internal("the archive of Swagger UI has other files than expected")
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

struct PageScript;

impl IntoResponse for PageScript {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, JAVASCRIPT)], START).into_response()
    }
}

impl Answer for PageScript {
    fn describe(outputs: &mut Outputs) {
        outputs.text(200, JAVASCRIPT).produces(&[]);
    }
}

async fn start() -> PageScript {
    PageScript
}

/// A file as it is once somebody has asked for it: megabytes that are not made anew for each who asks (D-02).
#[derive(Default)]
struct Kept {
    gzip: OnceCell<Bytes>,
    plain: Unpacked,
}

/// A file under the name that holds its checksum; 404 for a name of another release. It is gzip here, and plain to those
/// who do not take it so.
async fn file(kept: &[Kept; 2], wanted: &str) -> Result<File> {
    let found = FILES.into_iter().zip(kept).find(|((name, _), _)| hashed(name).as_deref() == Some(wanted));
    let ((name, media_type), kept) = found.ok_or_else(|| Error::new(&codes::NOT_FOUND))?;
    let pack = async || {
        let packed = archive::find(SWAGGER_UI_VENDORED, &path(name)).ok_or_else(missing)?;
        Ok::<_, Error>(Bytes::from(packed.gzip()))
    };
    let gzip = kept.gzip.get_or_try_init(pack).await?.clone();
    let marks = (Extension(Resident), Extension(kept.plain.clone()));
    Ok(File((marks, [(CONTENT_TYPE, media_type), (CONTENT_ENCODING, "gzip")], gzip).into_response()))
}

fn path(name: &str) -> String {
    format!("/dist/{name}")
}

/// `swagger-ui.css` as `swagger-ui.0123abcd.css`.
fn hashed(name: &str) -> Option<String> {
    let packed = archive::find(SWAGGER_UI_VENDORED, &path(name))?;
    let (stem, extension) = name.rsplit_once('.')?;
    Some(format!("{stem}.{:08x}.{extension}", packed.crc))
}
