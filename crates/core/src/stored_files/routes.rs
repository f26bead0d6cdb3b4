//! Files by their id, for members with the permission that their kind names; and by a link, for everybody who has it.
//!
//! They are stored and deleted by the routes of the modules whose files they are, which make links to them too
//! ([`Call::file_link`]).

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::upkeep::OPEN_LINK;
use crate::answer::Refusing;
use crate::app::App;
use crate::auth::Trace;
use crate::db::System;
use crate::error::{Error, Result, codes};
use crate::extract::{Json, Path, Query};
use crate::files::FileId;
use crate::module::{Access, Operation, Routes};
use crate::resource::{ByteRange, Call, Download, StoredFile};
use crate::sql;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/api/v1/files/{id}", Access::SignedIn, read)
        .doc(Operation::new("readFile", "Read what is known of a file").about(KINDS))
        .get("/api/v1/files/{id}/content", Access::SignedIn, content)
        .compress(false)
        .doc(Operation::new("downloadFile", "Download a file").about(KINDS))
        .get("/api/v1/files/linked", Access::Public, linked)
        .compress(false)
        .system(&OPEN_LINK)
        .doc(Operation::new("downloadLinkedFile", "Download the file of a link").about(
            "404 for a link that is over, that was changed, or whose file is deleted: one answer for all.",
        ))
}

const KINDS: &str = "Which permission it takes depends on what kind of file it is. Files of some kinds are given out by the \
    routes of their modules only, and are 404 here.";

/// What a link has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinkQuery {
    /// As the link has it.
    link: String,
}

/// Of whatever kind.
const FIND: &str = sql![
    "select ",
    StoredFile::COLUMNS,
    " from files where id = $1 and removed_at is null and (expires_at is null or expires_at > now())"
];
const FIND_LINKED: &str = sql![
    "select ",
    StoredFile::COLUMNS,
    " from files where id = $1 and removed_at is null and (expires_at is null or expires_at > now()) \
     and exists (select from tenants t where t.id = tenant_id and t.status = 'active')"
];

/// A file of a kind that may be read here, and by the caller.
async fn find(call: &Call, id: FileId) -> Result<StoredFile> {
    let found: Option<StoredFile> = call.tenant_read().last().optional(FIND, &[&id]).await?;
    let missing = || Error::new(&codes::NOT_FOUND);
    let file = found.ok_or_else(missing)?;
    let kind = call.app.files.kinds().get(&file.kind).ok_or_else(missing)?;
    call.caller.require(kind.read.ok_or_else(missing)?)?;
    Ok(file)
}

type NotReadable = Refusing<codes::FORBIDDEN>;

async fn read(call: Call, Path(id): Path<FileId>) -> Result<Json<StoredFile>, NotReadable> {
    Ok(Json(find(&call, id).await?))
}

async fn content(call: Call, Path(id): Path<FileId>, range: ByteRange) -> Result<Download, NotReadable> {
    let file = find(&call, id).await?;
    Ok(call.download(&file, &range).await?)
}

async fn linked(
    State(app): State<App>,
    system: System,
    trace: Trace,
    Query(query): Query<LinkQuery>,
    range: ByteRange,
) -> Result<Download, Refusing<codes::NOT_FOUND>> {
    let missing = || Error::new(&codes::NOT_FOUND);
    let key = app.files.linked(&query.link, app.clock.now()).ok_or_else(missing)?;
    let tx = system.begin(&trace).within(key.tenant).await?;
    let found: Option<StoredFile> = tx.last().optional(FIND_LINKED, &[&key.file]).await?;
    let file = found.ok_or_else(missing)?;
    Ok(Download::open(&app, key.tenant, &file, &range).await?)
}
