//! Files, on a module with a kind for each thing that can be wrong with one.

mod bucket;
mod encrypted;
mod faults;
mod kills;
mod links;
mod memory;
mod operator;
mod storing;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use ::http::Request as HttpRequest;
use axum::extract::Request;
use erp_core::answer::NoContent;
use erp_core::db::{Migration, Sample};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::{Json, Path, Upload};
use erp_core::files::{FileId, FileKind, Media};
use erp_core::input;
use erp_core::jobs::{Job, JobKind};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{Call, NewFile, StoredFile};
use erp_testkit::{Actor, Answer, TestApp};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) static PAPERS: Module = Module {
    name: "papers",
    permissions: PERMISSIONS,
    routes,
    files: &[&NOTE, &SCAN, &SLIP],
    jobs: &[&COPY],
    migrations: &[Migration { name: "0001_papers", sql: TABLE, after: &[], was: &[] }],
    samples: &[
        Sample {
            table: "papers",
            insert: "insert into public.papers (id) values ('00000000-0000-7000-8000-00000000ca40');",
        },
        Sample {
            table: "folders",
            insert: "insert into public.folders (id) values ('00000000-0000-7000-8000-00000000ca41');",
        },
    ],
    ..Module::BARE
};

const TABLE: &str = "
    create table public.folders (id uuid not null);
    select app.tenant_table('public.folders', audit_as => 'folder');
    create table public.papers (id uuid not null, folder uuid, scan_id uuid);
    select app.tenant_table('public.papers', audit_as => 'paper');
    select app.tenant_reference('public.papers', 'folder', 'public.folders', on_delete => 'cascade');
    select app.owns_file('public.papers', 'scan_id');";

erp_core::permissions! {
    /// The permissions of the test's module.
    PERMISSIONS {
        READ_SCANS = "papers.scan.read" to [Owner, Member]: "Read scans of papers.";
    }
}

static NOTE: FileKind =
    FileKind::new("papers.note", "A note.").types(&[&Media::TEXT, &Media::CSV]).at_most(64 * 1024);
static SCAN: FileKind =
    FileKind::new("papers.scan", "A scan of a paper.").at_most(300 * 1024 * 1024).read(&READ_SCANS);
static SLIP: FileKind = FileKind::new("papers.slip", "A slip that is soon thrown away.")
    .types(&[&Media::TEXT])
    .kept_for(Duration::from_secs(3600));

#[derive(Serialize, Deserialize)]
struct Copying {
    note: FileId,
}

static COPY: JobKind<Copying> =
    JobKind::new("papers.copy", "Copies a note.", |job, copying| Box::pin(copy(job, copying)));

/// Reads a note in two ways, and stores a copy of it.
async fn copy(job: &Job, Copying { note }: Copying) -> Result<()> {
    let file = job.call.file(&NOTE, note).await?;
    let mut text = String::new();
    job.call.file_content(&file).await?.reader().read_to_string(&mut text).await.map_err(Error::internal)?;
    let bytes = job.call.file_content(&file).await?;
    let draft = job.call.store_file(&NOTE, NewFile::new("copy.txt", &Media::TEXT), bytes).await?;
    let mut tx = job.call.tenant();
    let copy = job.call.keep_file(&mut tx, draft).await?;
    tx.commit().await?;
    job.result(&(copy.id, text))
}

fn routes() -> Routes {
    Routes::new()
        .post("/test/notes", Access::SignedIn, take_note)
        .doc(Operation::new("takeNote", "Store a note"))
        .open_to_readers("it is a test's")
        .post("/test/notes/forgotten", Access::SignedIn, forget_note)
        .doc(Operation::new("forgetNote", "Store a note, and roll back"))
        .open_to_readers("it is a test's")
        .post("/test/notes/late", Access::SignedIn, keep_too_late)
        .doc(Operation::new("keepTooLate", "Keep a note that the sweep has taken"))
        .open_to_readers("it is a test's")
        .post("/test/notes/twice", Access::SignedIn, change_first)
        .doc(Operation::new("changeFirst", "Store a note after a change"))
        .open_to_readers("it is a test's")
        .get("/test/notes/{id}", Access::SignedIn, read_note)
        .doc(Operation::new("readNote", "Read a note"))
        .delete("/test/notes/{id}", Access::SignedIn, delete_note)
        .doc(Operation::new("deleteNote", "Delete a note"))
        .open_to_readers("it is a test's")
        .post("/test/papers", Access::SignedIn, file_paper)
        .uploads(&SCAN)
        .doc(Operation::new("filePaper", "File a paper with its scan"))
        .open_to_readers("it is a test's")
        .put("/test/papers/{id}/scan", Access::SignedIn, replace_scan)
        .uploads(&SCAN)
        .doc(Operation::new("replaceScan", "Replace the scan of a paper"))
        .open_to_readers("it is a test's")
        .post("/test/papers/{id}/links", Access::Permission(&READ_SCANS), link_scan)
        .doc(Operation::new("linkScan", "Make a link to a scan"))
        .open_to_readers("it is a test's")
        .post("/test/slips", Access::SignedIn, take_slip)
        .uploads(&SLIP)
        .doc(Operation::new("takeSlip", "Store a slip"))
        .open_to_readers("it is a test's")
        .post("/test/notes/{id}/copies", Access::SignedIn, copy_note)
        .doc(Operation::new("copyNote", "Copy a note"))
        .open_to_readers("it is a test's")
}

fn parts(request: Request) -> impl futures_util::Stream<Item = Result<bytes::Bytes>> + Send {
    request.into_body().into_data_stream().map_err(Error::internal)
}

async fn take_note(call: Call, request: Request) -> Result<Json<StoredFile>> {
    let draft = call.store_file(&NOTE, NewFile::new("note.txt", &Media::TEXT), parts(request)).await?;
    let mut tx = call.tenant();
    let file = call.keep_file(&mut tx, draft).await?;
    tx.commit().await?;
    Ok(Json(file))
}

async fn forget_note(call: Call, request: Request) -> Result<NoContent> {
    let draft = call.store_file(&NOTE, NewFile::new("note.txt", &Media::TEXT), parts(request)).await?;
    let mut tx = call.tenant();
    call.keep_file(&mut tx, draft).await?;
    tx.rollback();
    Ok(NoContent)
}

const TAKE_AWAY: &str = "update unreferenced_objects set removing = true";

/// The sweep comes between the bytes and the row.
async fn keep_too_late(call: Call, request: Request) -> Result<NoContent> {
    let draft = call.store_file(&NOTE, NewFile::new("note.txt", &Media::TEXT), parts(request)).await?;
    let _: Vec<()> = call.tenant().last().rows(TAKE_AWAY, &[]).await?;
    let mut tx = call.tenant();
    call.keep_file(&mut tx, draft).await?;
    tx.commit().await?;
    Ok(NoContent)
}

/// Under a key the first note waits for its COMMIT, and the second one would hold two connections.
async fn change_first(call: Call) -> Result<NoContent> {
    for text in ["one", "two"] {
        let bytes = futures_util::stream::iter([Ok(text.into())]);
        let draft = call.store_file(&NOTE, NewFile::new("note.txt", &Media::TEXT), bytes).await?;
        let mut tx = call.tenant();
        call.keep_file(&mut tx, draft).await?;
        tx.commit().await?;
    }
    Ok(NoContent)
}

async fn read_note(call: Call, Path(id): Path<FileId>) -> Result<String> {
    let file = call.file(&NOTE, id).await?;
    let parts: Vec<_> = call.file_content(&file).await?.try_collect().await?;
    Ok(String::from_utf8_lossy(&parts.concat()).into_owned())
}

async fn delete_note(call: Call, Path(id): Path<FileId>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.remove_file(&mut tx, &NOTE, id).await?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn copy_note(call: Call, Path(note): Path<FileId>) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &COPY, &Copying { note })?;
    tx.commit().await?;
    Ok(NoContent)
}

const FILE_PAPER: &str =
    "insert into papers (id, folder, scan_id) values ($1, (select id from folders limit 1), $1)";
const REPLACE_SCAN: &str = "update papers set scan_id = $2 where id = $1 returning id";

/// The paper has the id of its first scan.
async fn file_paper(call: Call, upload: Upload) -> Result<Json<StoredFile>> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let scan = call.keep_file(&mut tx, draft).await?;
    let _: Vec<()> = tx.last().rows(FILE_PAPER, &[&scan.id]).await?;
    Ok(Json(scan))
}

async fn replace_scan(call: Call, Path(id): Path<FileId>, upload: Upload) -> Result<Json<StoredFile>> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let scan = call.keep_file(&mut tx, draft).await?;
    let paper: Option<()> = tx.last().optional(REPLACE_SCAN, &[&id, &scan.id]).await?;
    paper.map(|()| Json(scan)).ok_or_else(|| Error::new(&codes::NOT_FOUND))
}

input! { NewLink { seconds: i64 } }

async fn link_scan(call: Call, Path(id): Path<FileId>, Json(new): Json<NewLink>) -> Result<String> {
    let file = call.file(&SCAN, id).await?;
    Ok(call.file_link(&file, Duration::from_secs(new.seconds.unsigned_abs())))
}

async fn take_slip(call: Call, upload: Upload) -> Result<Json<StoredFile>> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let slip = call.keep_file(&mut tx, draft).await?;
    tx.commit().await?;
    Ok(Json(slip))
}

/// Sends a file as the whole body, with these headers beside.
async fn send(
    actor: &Actor<'_>,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let request = HttpRequest::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    actor.request(request.body(body.into()).expect("a request")).await
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";

/// Files a paper of acme with a small picture.
async fn file_png(actor: &Actor<'_>) -> Value {
    let headers =
        [("content-type", "image/png"), ("content-disposition", "attachment; filename=\"scan.png\"")];
    send(actor, ("POST", "/test/papers"), &headers, PNG).await.assert(200).json()
}

/// The product with the test's module, and a worker.
async fn filing() -> TestApp {
    TestApp::builder().module(&PAPERS).setting("JOB_WORKERS", "4").start().await
}

/// Waits until `sql` answers true.
async fn until(app: &TestApp, sql: &str) {
    const PICTURE: &str = "select coalesce(jsonb_agg(to_jsonb(o)), '[]') from unreferenced_objects o";
    app.until(sql, PICTURE).await;
}

/// What is in the store, below its folder.
fn stored(app: &TestApp) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![app.files().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What the tenant's objects take, by the database.
async fn used(app: &TestApp, tenant: &str) -> i64 {
    let sql = "select coalesce((select bytes from file_usage where tenant_id = $1), 0)";
    app.sql().query_one(sql, &[&app.tenant_id(tenant)]).await.expect("the test's SQL").get(0)
}
