//! The sweeps on a module that has what they must cope with (F53): a body that names another resource's id, a state that
//! one person makes and another one changes, paths with several ids, and a permission that no owner has.

use erp_core::answer::{NoContent, Refusing};
use erp_core::auth::Role;
use erp_core::db::{Migration, Sample};
use erp_core::error::{Error, Result, codes as general};
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::module::{Access, Module, Operation, Product, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Id, Text, User, Version};
use erp_core::{input, list, params, record, sql};
use erp_modules::PRODUCT;
use erp_testkit::{Fixture, Prepared, Setup, Sweep, Sweeps, TestApp};
use jiff::Timestamp;
use serde_json::json;

static FILING: Module = Module {
    name: "filing",
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    migrations: &[Migration { name: "0001_papers", sql: TABLES, after: &[], was: &[] }],
    samples: &[Sample { table: "folders", insert: FOLDER }, Sample { table: "papers", insert: PAPER }],
    ..Module::BARE
};

const TABLES: &str = "
    create table public.folders (id uuid not null, name text not null, created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(), version bigint not null default 1);
    select app.tenant_table('public.folders', audit_as => 'folder');
    create table public.papers (id uuid not null, folder_id uuid not null, title text not null,
      state text not null default 'draft', made_by uuid not null, created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(), version bigint not null default 1);
    select app.tenant_table('public.papers', audit_as => 'paper');
    select app.tenant_reference('public.papers', 'folder_id', 'public.folders');";
const FOLDER: &str =
    "insert into public.folders (id, name) values ('00000000-0000-7000-8000-00000000ca81', 'Canary');";
const PAPER: &str = "insert into public.papers (id, folder_id, title, made_by)
    select '00000000-0000-7000-8000-00000000ca82', id, 'Canary', id from public.folders;";

erp_core::permissions! {
    /// The permissions of the test's module.
    pub(super) PERMISSIONS {
        READ = "filing.paper.read" to [Owner, Member, ReadOnly]: "Read.";
        WRITE = "filing.paper.write" to [Owner, Member]: "Write.";
        APPROVE = "filing.paper.approve" to [Owner]: "Approve.";
        SHRED = "filing.paper.shred" to [Member]: "Shred.";
    }
}

erp_core::error_codes! {
    /// The codes of the test's module.
    pub(super) ERRORS in codes {
        NO_FOLDER = "filing.no_folder", 422, "No such folder", on papers [papers_folder_id_fkey at "/folderId"];
            "There is no such folder.";
            "Name one that there is.";
    }
}

fn routes() -> Routes {
    let may = Access::Permission;
    Routes::new()
        .get("/test/folders", may(&READ), list)
        .doc(Operation::new("listFolders", "List folders"))
        .post("/test/folders", may(&WRITE), create_folder)
        .doc(Operation::new("createFolder", "Create a folder"))
        .post("/test/papers", may(&WRITE), create)
        .doc(Operation::new("createPaper", "Create a paper"))
        .get("/test/papers/{id}", may(&READ), read)
        .doc(Operation::new("readPaper", "Read a paper"))
        .put("/test/papers/{id}", may(&WRITE), replace)
        .doc(Operation::new("replacePaper", "Replace a paper"))
        .post("/test/papers/{id}/approve", may(&APPROVE), approve)
        .doc(Operation::new("approvePaper", "Approve a paper"))
        .post("/test/papers/{id}/archive", may(&WRITE), archive)
        .doc(Operation::new("archivePaper", "Archive a paper that is approved"))
        .post("/test/papers/{id}/shred", may(&SHRED), shred)
        .doc(Operation::new("shredPaper", "Shred a paper"))
        .post("/test/folders/{folder}/papers", may(&WRITE), create_within)
        .doc(Operation::new("createPaperWithin", "Create a paper in a folder"))
        .get("/test/folders/{folder}/papers/{paper}", may(&READ), read_within)
        .doc(Operation::new("readPaperWithin", "Read a paper of a folder"))
}

record! {
    /// Where papers are.
    Folder in "folders" as "folder" {
        id: Id<Folder>, name: String, created_at: Timestamp, updated_at: Timestamp, version: Version
    }
}

record! {
    /// What is approved by another person than the one who has made it.
    Paper in "papers" as "paper" {
        id: Id<Paper>, folder_id: Id<Folder>, title: String, state: String, made_by: Id<User>, version: Version
    }
}

input! { NewFolder { name: Text<1, 200> } }
input! { NewPaper { folder_id: Id<Folder>, title: Text<1, 200> } }
input! { Title { title: Text<1, 200> } }

list! { Folders of Folder from "folders" sorted [name] }

const CREATE_FOLDER: &str =
    sql!["insert into folders (id, name) values ($1, $2) returning ", Folder::COLUMNS];
const CREATE: &str = sql![
    "insert into papers (id, folder_id, title, made_by) values ($1, $2, $3, $4) returning ",
    Paper::COLUMNS
];
const READ_ONE: &str = sql!["select ", Paper::COLUMNS, " from papers where id = $1"];
const READ_WITHIN: &str = sql![READ_ONE, " and folder_id = $2"];
const REPLACE: &str =
    sql!["update papers set ", NewPaper::SET, " where ", THIS, " returning ", Paper::COLUMNS];
const LOCK: &str = sql![READ_ONE, " for update"];
const SET_STATE: &str = sql!["update papers set state = $2 where id = $1 returning ", Paper::COLUMNS];
const SHRED_ONE: &str = "delete from papers where id = $1 returning id";

async fn list(call: Call, page: Page<Folders>) -> Result<Listed<Folders>> {
    call.list(page).await
}

async fn create_folder(call: Call, Json(new): Json<NewFolder>) -> Result<Created<Folder>> {
    call.create(CREATE_FOLDER, &new.values()).await
}

async fn create(call: Call, Json(new): Json<NewPaper>) -> Result<Created<Paper>> {
    call.create(CREATE, params![&new.folder_id, &new.title, &call.caller.user()?]).await
}

async fn create_within(
    call: Call,
    Path(folder): Path<Id<Folder>>,
    Json(new): Json<Title>,
) -> Result<Created<Paper>> {
    call.create(CREATE, params![&folder, &new.title, &call.caller.user()?]).await
}

async fn read(call: Call, Path(id): Path<Id<Paper>>) -> Result<Tagged<Paper>> {
    call.read(READ_ONE, id).await
}

async fn read_within(
    call: Call,
    Path((folder, paper)): Path<(Id<Folder>, Id<Paper>)>,
) -> Result<Tagged<Paper>> {
    let found = call.tenant_read().last().optional(READ_WITHIN, &[&paper, &folder]).await?;
    found.map(Tagged).ok_or_else(|| Error::new(&general::NOT_FOUND))
}

async fn replace(
    call: Call,
    Path(id): Path<Id<Paper>>,
    when: IfMatch,
    Json(new): Json<NewPaper>,
) -> Result<Tagged<Paper>> {
    call.change(REPLACE, id, when, &new.values()).await
}

async fn approve(
    call: Call,
    Path(id): Path<Id<Paper>>,
) -> Result<Tagged<Paper>, Refusing<general::CONFLICT>> {
    let approver = call.caller.user()?;
    advance(call, id, "approved", |paper| paper.state == "draft" && paper.made_by != approver)
        .await
        .map_err(Into::into)
}

async fn archive(
    call: Call,
    Path(id): Path<Id<Paper>>,
) -> Result<Tagged<Paper>, Refusing<general::CONFLICT>> {
    advance(call, id, "archived", |paper| paper.state == "approved").await.map_err(Into::into)
}

async fn advance(
    call: Call,
    id: Id<Paper>,
    state: &'static str,
    may: impl FnOnce(&Paper) -> bool,
) -> Result<Tagged<Paper>> {
    let mut tx = call.tenant();
    let paper: Option<Paper> = tx.optional(LOCK, &[&id]).await?;
    if !may(&paper.ok_or_else(|| Error::new(&general::NOT_FOUND))?) {
        return Err(Error::new(&general::CONFLICT));
    }
    let paper = tx.row(SET_STATE, &[&id, &state]).await?;
    tx.commit().await.map(|()| Tagged(paper))
}

async fn shred(call: Call, Path(id): Path<Id<Paper>>) -> Result<NoContent> {
    let gone: Option<()> = call.tenant().last().optional(SHRED_ONE, &[&id]).await?;
    gone.map(|()| NoContent).ok_or_else(|| Error::new(&general::NOT_FOUND))
}

/// All that has to be written: what a paper names, and the state that archiving wants.
const FIXTURES: &[Fixture] = &[
    Fixture::new("POST /test/papers", |setup| Box::pin(paper(setup))),
    Fixture::new("POST /test/papers/{id}/archive", |setup| Box::pin(approved(setup))),
];

async fn paper(setup: &Setup<'_>) -> Prepared {
    let folder = setup.make("/test/folders").await;
    Prepared::body(json!({ "folderId": folder, "title": format!("Paper {}", setup.number()) }))
}

/// A colleague has made it, and the caller has approved it.
async fn approved(setup: &Setup<'_>) -> Prepared {
    let paper = setup.make("/test/papers").await;
    setup.caller().post(&format!("/test/papers/{paper}/approve"), json!({})).await.assert(200);
    Prepared::at([paper])
}

/// The module alone, so that no other's routes make up for what is not reached of it.
async fn start() -> TestApp {
    start_with(&FILING).await
}

async fn start_with(module: &'static Module) -> TestApp {
    static BEFORE: [&Module; 1] = [&erp_modules::identity::MODULE];
    Box::pin(TestApp::of(Product { modules: &BEFORE, ..PRODUCT }).module(module).start()).await
}

/// The module with another migration.
fn with_tables(sql: String) -> &'static Module {
    let sql: &'static str = Box::leak(sql.into_boxed_str());
    let migrations = vec![Migration { name: "0001_papers", sql, after: &[], was: &[] }].leak();
    Box::leak(Box::new(Module { migrations, errors: &[], ..FILING }))
}

#[tokio::test]
async fn f53_sweeps_make_parents_states_and_people() {
    let app = start().await;
    Sweeps::over(&app, &[FIXTURES]).await.below("/test/").all().await;
    app.finish().await;
}

#[tokio::test]
async fn f53_what_one_person_made_is_approved_by_another() {
    let app = start().await;
    let sweeps = Sweeps::over(&app, &[FIXTURES]).await;
    let approve = sweeps.routes().find(|route| route.path.ends_with("/approve")).unwrap();
    let ready = sweeps.ready(approve, "acme").await;
    let paper = ready.path.strip_suffix("/approve").unwrap();
    let maker = app.alice().get(paper).await.assert(200).json()["madeBy"].clone();
    assert_ne!(maker, json!(ready.actor.id()));
    ready.send_as(&ready.actor, approve).await.assert(200);
    // One's own is refused, so that the sweep shows something.
    let folder = app.alice().post("/test/folders", json!({ "name": "Own" })).await.assert(201).json();
    let own = json!({ "folderId": folder["id"], "title": "Own" });
    let own = app.alice().post("/test/papers", own).await.assert(201).header("location").to_owned();
    app.alice().post(&format!("{own}/approve"), json!({})).await.assert(409);
    let second = app.another("acme", Role::Owner).await;
    second.post(&format!("{own}/approve"), json!({})).await.assert(200);
    app.finish().await;
}

#[tokio::test]
async fn f53_what_does_not_follow_from_the_contract_is_named_with_what_to_write() {
    let app = start().await;
    let lacking: Vec<String> = Sweeps::over(&app, &[]).await.lacking().into_iter().collect();
    let of = |route: &str| lacking.iter().find(|line| line.starts_with(route)).map_or("", String::as_str);
    let why = of("POST /test/papers ");
    assert!(
        why.contains("its body refers to something at /folderId") && why.contains("Fixture::new("),
        "{why}"
    );
    assert_eq!(lacking.len(), 1, "that of the POST serves the resource: {lacking:#?}");
    let lacking = Sweeps::over(&app, &[FIXTURES]).await.lacking();
    assert!(lacking.is_empty(), "{lacking:#?}");
    app.finish().await;
}

#[tokio::test]
#[should_panic(expected = "the sweep 'condition' reached no route")]
async fn f53_a_sweep_that_reaches_nothing_fails() {
    static BARE: [&Module; 1] = [&erp_modules::identity::MODULE];
    let app = TestApp::of(Product { modules: &BARE, ..PRODUCT }).start().await;
    Sweeps::over(&app, &[]).await.condition().await;
}

#[tokio::test]
#[should_panic(expected = "the sweep 'audit' does not concern GET /test/papers/{id}")]
async fn f53_an_exception_that_excepts_nothing_fails() {
    const IDLE: &[Fixture] =
        &[Fixture::derived("GET /test/papers/{id}").except(&[(Sweep::Audit, "it only reads")])];
    let app = start().await;
    Sweeps::over(&app, &[FIXTURES, IDLE]).await.audit().await;
}

#[tokio::test]
#[should_panic(expected = "POST /test/papers takes an id of another tenant")]
async fn t_16_an_id_that_no_foreign_key_checks_is_found() {
    let (without, _) = TABLES.rsplit_once("select app.tenant_reference").unwrap();
    let app = start_with(with_tables(without.to_owned())).await;
    Sweeps::over(&app, &[FIXTURES]).await.isolation().await;
}

#[tokio::test]
#[should_panic(expected = "PUT /test/papers/{id} changes something and no audit row tells of it")]
async fn f56_a_change_of_a_table_that_is_not_audited_is_found() {
    let unaudited = TABLES.replace("audit_as => 'paper'", "unaudited => 'a slip'");
    let app = start_with(with_tables(unaudited)).await;
    const CREATED: &[Fixture] = &[Fixture::new("POST /test/papers", |setup| Box::pin(paper(setup)))
        .except(&[(Sweep::Audit, "for PUT")])];
    Sweeps::over(&app, &[CREATED]).await.audit().await;
}
