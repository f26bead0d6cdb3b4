//! The section "Files".

use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::db::{Migration, Sample};
use erp_core::error::Result;
use erp_core::extract::{Json, Path, Upload};
use erp_core::files::{FileId, FileKind, Media};
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::resource::{ByteRange, Call, Download, NewFile, StoredFile};
use erp_testkit::TestApp;
use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, sleep};

static PHOTO: FileKind = FileKind::new("depot.photo", "A photo of what came damaged.")
    .types(&[&Media::PNG, &Media::JPEG])
    .at_most(20 * 1024 * 1024);

static DEPOT: Module = Module { name: "depot", files: &[&PHOTO, &LIST, &DOUBTFUL], routes, ..PARTS };

fn routes() -> Routes {
    Routes::new()
        .post("/test/damages", Access::SignedIn, report)
        .uploads(&PHOTO)
        .doc(Operation::new("reportDamage", "Report a damage with its photo"))
        .get("/test/damages/{photo}", Access::SignedIn, show)
        .doc(Operation::new("showDamage", "Show the photo of a damage"))
        .post("/test/lists", Access::SignedIn, read_list)
        .uploads(&LIST)
        .doc(Operation::new("readList", "Read a list of what came"))
        .delete("/test/damages", Access::SignedIn, forget)
        .doc(Operation::new("forgetDamages", "Forget all damages"))
}

async fn report(call: Call, upload: Upload) -> Result<Json<StoredFile>> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let photo = call.keep_file(&mut tx, draft).await?;
    let sql = "insert into damages (id, photo_id) values ($1, $1)";
    tx.last().rows::<()>(sql, &[&photo.id]).await?;
    Ok(Json(photo))
}

async fn show(call: Call, Path(id): Path<FileId>, range: ByteRange) -> Result<Download> {
    let photo = call.file(&PHOTO, id).await?;
    call.download(&photo, &range).await
}

async fn check(job: &Job, Checking { list }: Checking) -> Result<()> {
    let list = job.call.file(&LIST, list).await?;
    let mut lines = BufReader::new(job.call.file_content(&list).await?.reader()).lines();
    let mut doubtful = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(erp_core::error::Error::internal)? {
        if !line.contains(',') {
            doubtful.push(Ok((line + "\n").into()));
        }
    }
    let name = NewFile::new("doubtful.csv", &Media::CSV);
    let draft = job.call.store_file(&DOUBTFUL, name, futures_util::stream::iter(doubtful)).await?;
    let mut tx = job.call.tenant();
    let file = job.call.keep_file(&mut tx, draft).await?;
    tx.commit().await?;
    job.result(&job.call.file_link(&file, Duration::from_secs(3600)))
}

const PARTS: Module = Module {
    jobs: &[&CHECK],
    migrations: &[Migration { name: "0001_damages", sql: TABLE, after: &[], was: &[] }],
    samples: &[Sample { table: "damages", insert: SAMPLE }],
    ..Module::BARE
};
const TABLE: &str = "
create table public.damages (id uuid not null, photo_id uuid not null);
select app.tenant_table('public.damages', audit_as => 'damage');
select app.owns_file('public.damages', 'photo_id');
";
// A sample cannot own a file: there is none.
const SAMPLE: &str = "with song as (insert into public.files (id, kind, name, media_type, bytes, sha256)
    values ('00000000-0000-7000-8000-00000000ca50', 'depot.photo', 'song.png', 'image/png', 4, repeat('0', 64)) returning id)
    insert into public.damages (id, photo_id) select id, id from song";

static LIST: FileKind = FileKind::new("depot.list", "A list of what came.").types(&[&Media::CSV]);
static DOUBTFUL: FileKind = FileKind::new("depot.doubtful", "The lines of a list that cannot be read.")
    .types(&[&Media::CSV])
    .kept_for(Duration::from_secs(7 * 24 * 3600));

#[derive(Serialize, Deserialize)]
struct Checking {
    list: FileId,
}

static CHECK: JobKind<Checking> =
    JobKind::new("depot.check", "Checks a list of what came.", |job, args| Box::pin(check(job, args)));

async fn read_list(call: Call, upload: Upload) -> Result<NoContent> {
    let draft = call.store_upload(upload).await?;
    let mut tx = call.tenant();
    let list = call.keep_file(&mut tx, draft).await?;
    call.enqueue(&mut tx, &CHECK, &Checking { list: list.id })?;
    tx.commit().await?;
    Ok(NoContent)
}

struct Forgotten {
    id: FileId,
}
from_row!(Forgotten { id });

async fn forget(call: Call) -> Result<Json<Vec<FileId>>> {
    let forgotten: Vec<Forgotten> =
        call.tenant().last().rows("delete from damages returning id", &[]).await?;
    Ok(Json(forgotten.into_iter().map(|row| row.id).collect()))
}

#[tokio::test]
async fn the_module_of_the_section_on_files_runs() {
    let app = TestApp::builder().module(&DEPOT).setting("JOB_WORKERS", "1").start().await;
    let alice = app.alice();
    let send = |path: &str, media: &str, body: &'static [u8]| {
        alice.request(Request::post(path).header("content-type", media).body(body).unwrap())
    };
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let photo = send("/test/damages", "image/png", png).await.assert(200).json();
    let path = format!("/test/damages/{}", photo["id"].as_str().unwrap());
    assert_eq!(alice.get(&path).await.assert(200).body, png.as_slice());
    app.bob().get(&path).await.assert(404);
    alice.delete("/test/damages").await.assert(200);
    alice.get(&path).await.assert(404);
    send("/test/lists", "text/csv", b"BOLT,1\nNUT\nNAIL,2\n").await.assert(204);
    let deadline = Instant::now() + Duration::from_secs(20);
    let link = loop {
        let jobs = alice.get("/api/v1/jobs?kind=depot.check&state=done").await.assert(200).json();
        if let Some(id) = jobs["items"][0]["id"].as_str() {
            break alice.get(&format!("/api/v1/jobs/{id}/result")).await.assert(200).json();
        }
        assert!(Instant::now() < deadline, "{}", alice.get("/api/v1/jobs").await);
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(app.anonymous().get(link["result"].as_str().unwrap()).await.assert(200).text(), "NUT\n");
    assert_eq!(
        app.anonymous().get("/api/v1/files/linked?link=x").await.assert(404).json()["code"],
        json!("core.not_found")
    );
    app.finish().await;
}
