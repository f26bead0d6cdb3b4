//! Row conditions: of some tables one sees one's own rows within the tenant, and those of the groups that one belongs to.

use std::time::Duration;

use erp_core::answer::NoContent;
use erp_core::auth::Role;
use erp_core::cache::ResultCache;
use erp_core::db::{Migration, RowCondition, Sample};
use erp_core::error::Result;
use erp_core::extract::{IfMatch, Json, Path};
use erp_core::jobs::{AnyJobKind, Job, JobKind};
use erp_core::module::{Access, Module, Routes};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged};
use erp_core::shared::{Id, Text, Version};
use erp_core::{from_row, input, list, patch, record, sql};
use erp_testkit::{Actor, PROBE, TestApp};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

erp_core::permissions! {
    /// The permissions of the test's module.
    PERMISSIONS {
        USE = "expenses.claim.use" to [Owner, Member]: "Make claims, and see one's own.";
        READ_ALL = "expenses.claim.read_all" to [Owner]: "See everybody's claims.";
    }
}

const FRESH: SignedDuration = SignedDuration::from_secs(5);
static SEEN: ResultCache<Vec<Counted>> =
    ResultCache::new("expenses.seen", "How many claims there are.", Duration::from_secs(60));

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    claims: i64,
}
from_row!(Counted { claims });

static EXPENSES: Module = Module {
    name: "expenses",
    permissions: PERMISSIONS,
    routes,
    jobs: KINDS,
    caches: &[&SEEN],
    row_conditions: &[RowCondition { table: "claims", lifted_by: &READ_ALL }],
    migrations: &[Migration { name: "0001_claims", sql: CLAIMS, after: &[], was: &[] }],
    samples: &[
        Sample { table: "claims", insert: CLAIM },
        Sample { table: "department_members", insert: DEPARTMENT_MEMBER },
        Sample { table: "counts", insert: "insert into counts (id, claims) values (gen_random_uuid(), 1)" },
    ],
    ..Module::BARE
};

const CLAIMS: &str = "
    create table public.department_members (department_id uuid not null, principal_id uuid not null);
    select app.tenant_table('public.department_members', key => '{department_id,principal_id}', audit_as => 'department_member');
    create table public.claims (id uuid not null, claimant_id uuid, department_id uuid, what text not null,
      created_at timestamptz not null default now(), updated_at timestamptz not null default now(), version bigint not null default 1);
    select app.tenant_table('public.claims', audit_as => 'claim');
    select app.row_condition('public.claims', owner => 'claimant_id', lifted_by => 'expenses.claim.read_all',
      by => 'department_id', members => 'public.department_members');
    create table public.counts (id uuid not null, claims bigint not null);
    select app.tenant_table('public.counts', unaudited => 'for a test');";
const CLAIM: &str =
    "insert into claims (id, what) values ('00000000-0000-7000-8000-00000000ca90', 'A canary''s seed')";
const DEPARTMENT_MEMBER: &str = "insert into department_members (department_id, principal_id)
    values ('00000000-0000-7000-8000-00000000ca91', '00000000-0000-7000-8000-00000000ca92')";

const PATH: &str = "/test/claims";
const ONE: &str = "/test/claims/{id}";

fn routes() -> Routes {
    Routes::new()
        .get(PATH, Access::Permission(&USE), list)
        .post(PATH, Access::Permission(&USE), create)
        .get(ONE, Access::Permission(&USE), read)
        .patch(ONE, Access::Permission(&USE), change)
        .delete(ONE, Access::Permission(&USE), remove)
        .post("/test/claims/count", Access::Permission(&USE), count_later)
}

record! {
    /// A claim.
    Claim in "claims" as "claim" {
        id: Id<Claim>,
        what: String,
        created_at: Timestamp,
        version: Version,
    }
}

input! {
    /// The body of POST.
    NewClaim { what: Text<1, 200> }
}

patch! {
    /// The body of PATCH.
    ClaimPatch { what: Text<1, 200> }
}

input! {
    /// What a list of claims can be narrowed to: nothing.
    Narrowed { what: Option<Text<1, 200>> }
}

list! {
    /// Claims.
    Claims of Claim by Narrowed
    from "claims" where "($1::text is null or what = $1)"
    sorted [created_at]
}

const READ: &str = sql!["select ", Claim::COLUMNS, " from claims where id = $1"];
const CREATE: &str = sql![
    "insert into claims (id, ",
    NewClaim::COLUMNS,
    ") values ($1, ",
    NewClaim::VALUES,
    ") returning ",
    Claim::COLUMNS
];
const CHANGE: &str =
    sql!["update claims set ", ClaimPatch::SET, " where ", THIS, " returning ", Claim::COLUMNS];
const REMOVE: &str = sql!["delete from claims where ", THIS, " returning id"];

async fn list(call: Call, page: Page<Claims>) -> Result<Listed<Claims>> {
    call.list(page).await
}

async fn create(call: Call, Json(new): Json<NewClaim>) -> Result<Created<Claim>> {
    call.create(CREATE, &new.values()).await
}

async fn read(call: Call, Path(id): Path<Id<Claim>>) -> Result<Tagged<Claim>> {
    call.read(READ, id).await
}

async fn change(
    call: Call,
    Path(id): Path<Id<Claim>>,
    when: IfMatch,
    Json(patch): Json<ClaimPatch>,
) -> Result<Tagged<Claim>> {
    call.change(CHANGE, id, when, &patch.values()).await
}

async fn remove(call: Call, Path(id): Path<Id<Claim>>, when: IfMatch) -> Result<NoContent> {
    call.remove(REMOVE, id, when).await
}

const KINDS: &[&dyn AnyJobKind] = &[&COUNT];
static COUNT: JobKind<()> =
    JobKind::new("expenses.count", "Notes how many claims it sees.", |job, ()| Box::pin(count(job)));

async fn count(job: &Job) -> Result<()> {
    let sql = "insert into counts (id, claims) select gen_random_uuid(), count(*) from claims";
    job.call.tenant().last().rows::<()>(sql, &[]).await.map(drop)
}

async fn count_later(call: Call) -> Result<NoContent> {
    let mut tx = call.tenant();
    call.enqueue(&mut tx, &COUNT, &())?;
    tx.commit().await?;
    Ok(NoContent)
}

async fn app() -> TestApp {
    Box::pin(TestApp::builder().module(&PROBE).module(&EXPENSES).setting("JOB_WORKERS", "1").start()).await
}

/// Makes a claim, and says where it is.
async fn claim(by: &Actor<'_>, what: &str) -> String {
    by.post(PATH, json!({ "what": what })).await.assert(201).header("location").to_owned()
}

/// What is on somebody's list, in alphabetical order.
async fn seen(by: &Actor<'_>) -> Vec<String> {
    let claims = by.get(PATH).await.assert(200).json();
    let whats =
        claims["items"].as_array().unwrap().iter().map(|claim| claim["what"].as_str().unwrap().to_owned());
    let mut whats: Vec<_> = whats.collect();
    whats.sort();
    whats
}

/// Each of the ways to somebody's claim: none is there.
async fn is_not_there(path: &str, by: &Actor<'_>) {
    by.get(path).await.assert(404);
    by.patch(path, json!({ "what": "mine now" })).await.assert(404);
    by.delete(path).await.assert(404);
}

#[tokio::test]
async fn t_06_one_sees_and_changes_ones_own_rows_and_all_with_the_permission() {
    let app = app().await;
    let (mona, max) = (app.another("acme", Role::Member).await, app.max());
    let path = claim(&mona, "A train").await;
    claim(&max, "A hotel").await;
    assert_eq!(
        (seen(&mona).await, seen(&max).await),
        (vec!["A train".to_owned()], vec!["A hotel".to_owned()])
    );
    let export = http::Request::get(PATH).header("accept", "text/csv").body("").unwrap();
    let export = max.request(export).await.assert(200).text();
    assert!(export.contains("A hotel") && !export.contains("A train"), "{export}");
    is_not_there(&path, &max).await;
    is_not_there(&path, &app.bob()).await;
    assert_eq!(seen(&app.bob()).await, [""; 0], "another tenant's owner");

    mona.patch(&path, json!({ "what": "A train, first class" })).await.assert(200);
    assert_eq!(seen(&app.alice()).await, ["A hotel", "A train, first class"]);
    app.alice().patch(&path, json!({ "what": "A train" })).await.assert(200);
    assert_eq!(seen(&mona).await, ["A train"], "it stays hers");
    mona.delete(&path).await.assert(204);
    app.finish().await;
}

#[tokio::test]
async fn t_06_nobody_makes_a_row_for_others_or_hands_his_away() {
    let app = app().await;
    let max = app.caller(&app.max()).await;
    let db = &app.edge().app.db;
    let other = "00000000-0000-7000-8000-00000000ca95";
    let foreign =
        "insert into claims (id, what, claimant_id) values (gen_random_uuid(), 'Mine', $1::text::uuid)";
    db.tenant(&max).last().rows::<()>(foreign, &[&other]).await.unwrap_err();
    claim(&app.max(), "Mine").await;
    let away = "update claims set claimant_id = $1::text::uuid";
    db.tenant(&max).last().rows::<()>(away, &[&other]).await.unwrap_err();
    let alice = app.caller(&app.alice()).await;
    db.tenant(&alice).last().rows::<()>(away, &[&other]).await.unwrap();
    assert_eq!(seen(&app.max()).await, [""; 0]);
    app.expect_errors();
    app.finish().await;
}

#[tokio::test]
async fn t_06_a_department_sees_what_is_its_own() {
    let app = app().await;
    let (mona, max) = (app.another("acme", Role::Member).await, app.max());
    claim(&mona, "A train").await;
    let department = "00000000-0000-7000-8000-00000000ca96";
    let file = format!("update claims set department_id = '{department}'");
    app.execute_in("acme", &file).await;
    assert_eq!(seen(&max).await, [""; 0]);
    for tenant in ["globex", "acme"] {
        let person = app.max().id().unwrap();
        assert_eq!(seen(&max).await, [""; 0], "what another tenant says counts for nothing");
        let join = format!(
            "insert into department_members (department_id, principal_id) values ('{department}', '{person}')"
        );
        app.execute_in(tenant, &join).await;
    }
    assert_eq!(seen(&max).await, ["A train"]);
    app.finish().await;
}

#[tokio::test]
async fn t_06_a_key_and_a_job_see_what_their_principal_sees() {
    let app = app().await;
    let mona = app.another("acme", Role::Owner).await;
    claim(&app.max(), "A hotel").await;
    let key = json!({ "name": "Script", "scopes": ["expenses.claim.use"] });
    let key = mona.post("/api/v1/api-keys", key).await.assert(201).json();
    let key = app.anonymous().with_token(key["key"].as_str().unwrap());
    claim(&key, "By a key").await;
    assert_eq!(seen(&key).await, ["By a key"], "its scopes leave out the permission to see all");
    assert_eq!(seen(&mona).await, ["A hotel", "By a key"]);
    app.execute_in("acme", "update grants set built_in = 'member' where built_in = 'owner'").await;
    app.clock().advance(FRESH);
    assert_eq!(seen(&mona).await, ["By a key"], "what was made with the key is the person's own");
    for by in [&key, &app.max(), &app.bob()] {
        by.post("/test/claims/count", Value::Null).await.assert(204);
    }
    let counts = "select jsonb_agg(claims order by claims) from counts";
    app.until(&format!("select ({counts}) = '[0, 1, 1]'"), counts).await;
    app.finish().await;
}

#[tokio::test]
async fn t_06_the_system_and_caches_see_nobodys_rows() {
    let app = app().await;
    claim(&app.max(), "A hotel").await;
    let alice = app.caller(&app.alice()).await;
    let seen = app
        .edge()
        .app
        .caches
        .query(&alice, &SEEN, "select count(*) as claims from claims", ())
        .await
        .unwrap();
    assert_eq!(seen[0].claims, 0, "what is kept for everybody holds nobody's own");
    app.finish().await;
}
