//! What callers may do is what the database grants them now (T-16), by roles of the house and of a tenant's own; and a
//! credential of which only the database can tell is counted for its address first (L-01).

use std::sync::atomic::{AtomicU32, Ordering};

use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::auth::{Actor, Credential, Identity, Role};
use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::db::{System, SystemWork};
use erp_core::error::{Error, Result, codes};
use erp_core::from_row;
use erp_core::module::{Access, Authentication, Module, Product, Routes};
use erp_core::shared::{TenantId, UserId};
use erp_modules::{PRODUCT, catalog, identity};
use erp_testkit::TestApp;
use http::{HeaderMap, Request};
use jiff::SignedDuration;
use serde_json::json;

/// How long what a principal may do is remembered.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

#[tokio::test]
async fn t_16_a_role_of_a_tenants_own_allows_what_it_names_and_nothing_else() {
    let app = TestApp::start().await;
    let permission = |name| {
        let all = app.edge().app.permissions.iter();
        all.into_iter().find(|permission| permission.name == name).unwrap()
    };
    let reader = app.someone("acme", &[permission("catalog.item.read")]).await;
    let nobody = app.someone("acme", &[]).await;
    let me = reader.get("/api/v1/me").await.assert(200).json();
    assert_eq!(me["permissions"], json!(["catalog.item.read"]), "{me}");
    reader.get("/api/v1/items").await.assert(200);
    reader
        .post("/api/v1/items", json!({"sku": "X", "name": "X"}))
        .await
        .assert(403)
        .problem("core.forbidden");
    assert_eq!(nobody.get("/api/v1/me").await.assert(200).json()["permissions"], json!([]));
    nobody.get("/api/v1/items").await.assert(403);
    app.finish().await;
}

#[tokio::test]
async fn t_16_a_grant_that_is_taken_back_or_expires_counts_for_five_seconds_at_most() {
    let app = TestApp::start().await;
    let (max, owner) = (app.max(), app.person("acme", Role::Owner).user_id);
    let item = |sku: &str| json!({"sku": sku, "name": "X"});
    max.post("/api/v1/items", item("A")).await.assert(201);
    app.execute_in("acme", "delete from grants where built_in = 'member'").await;
    app.clock().advance(FRESH - SignedDuration::from_millis(1));
    max.post("/api/v1/items", item("B")).await.assert(201);
    app.clock().advance(SignedDuration::from_millis(1));
    max.post("/api/v1/items", item("C")).await.assert(403);
    let expire = format!("update grants set expires_at = now() where principal_id = '{owner}'");
    app.execute_in("acme", &expire).await;
    app.clock().advance(FRESH);
    app.alice().get("/api/v1/items").await.assert(403);
    app.finish().await;
}

#[tokio::test]
async fn t_16_a_feature_module_cannot_write_roles_or_grants() {
    let app = TestApp::start().await;
    let runtime = app.database().runtime().await;
    let acme = app.tenant_id("acme");
    runtime.batch_execute(&format!("begin; set local app.tenant_id = '{acme}'")).await.unwrap();
    for table in ["roles", "role_permissions", "grants"] {
        for statement in [format!("delete from {table}"), format!("insert into {table} default values")] {
            runtime.batch_execute("savepoint before").await.unwrap();
            let refused = runtime.batch_execute(&statement).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{statement}");
            runtime.batch_execute("rollback to before").await.unwrap();
        }
    }
    runtime.batch_execute("rollback").await.unwrap();
    app.finish().await;
}

/// A key that only the database knows: here, a person's address.
static BY_KEY: Authentication = Authentication {
    system: &BY_ADDRESS,
    credential: by_key,
    tenant: |system, named, trace| (the_house().tenant)(system, named, trace),
    grants: |app, caller| (the_house().grants)(app, caller),
    required: |caller, proven| (the_house().required)(caller, proven),
};
static BY_ADDRESS: SystemWork = SystemWork { name: "by-address", why: "Finds a key's owner." };
static ASKED: AtomicU32 = AtomicU32::new(0);

fn the_house() -> &'static Authentication {
    identity::MODULE.authentication.unwrap()
}

struct Found {
    id: TenantId,
}
from_row!(Found { id });

struct Person {
    id: UserId,
}
from_row!(Person { id });

fn by_key(app: &App, system: System, headers: &HeaderMap) -> Result<Credential> {
    let Some(key) = headers.get("x-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned) else {
        return (the_house().credential)(app, system, headers);
    };
    Ok(Credential::Unverified(Box::pin(async move {
        ASKED.fetch_add(1, Ordering::Relaxed);
        let unknown = || Error::new(&codes::UNAUTHENTICATED);
        let mut tx = system.begin(&Trace::new("test"));
        let tenant: Option<Found> = tx.optional("select id from tenants where slug = 'acme'", &[]).await?;
        let tenant = tenant.ok_or_else(unknown)?.id;
        let person = tx.within(tenant).await?.last();
        let person: Option<Person> =
            person.optional("select user_id as id from memberships where email = $1", &[&key]).await?;
        Ok(Identity::new(tenant, Actor::Person(person.ok_or_else(unknown)?.id)))
    })))
}

#[tokio::test]
async fn l_01_the_database_is_asked_about_credentials_only_within_the_limit_of_their_address() {
    let app = TestApp::builder().authentication(&BY_KEY).setting("RATE_LIMIT_MAX", "20");
    let app = app.setting("SPEED_LIMIT_STEP", "0s").start().await;
    let ask = async |key: &str| {
        let request = Request::get("/api/v1/items").header("x-api-key", key).body("").unwrap();
        app.anonymous().request(request).await
    };
    // A good key counts for its owner and the office, and leaves the address what it had.
    for _ in 0..15 {
        ask("member@acme.example").await.assert(200);
    }
    for _ in 0..20 {
        ask("guess@acme.example").await.assert(401).problem("core.unauthenticated");
    }
    let before = ASKED.load(Ordering::Relaxed);
    ask("guess@acme.example").await.assert(429);
    ask("member@acme.example").await.assert(429);
    assert_eq!(ASKED.load(Ordering::Relaxed), before, "nobody was asked");
    app.max().get("/api/v1/items").await.assert(200);
    app.finish().await;
}

static SIGN_IN: SystemWork = SystemWork { name: "sign-in", why: "Looks like another module's." };

fn by_the_way() -> Routes {
    Routes::new().get("/by-the-way", Access::Public, async |_: System| ()).system(&BY_ADDRESS)
}

#[tokio::test]
async fn a_product_whose_modules_do_not_fit_together_is_refused() {
    static SECOND: Module =
        Module { name: "second", system: &[&BY_ADDRESS], authentication: Some(&BY_KEY), ..Module::BARE };
    let refused = async |modules: &[&'static Module]| {
        let app = TestApp::start().await;
        let settings = [("APP_ENV", "development"), ("DATABASE_URL", &app.database().roles.runtime_url)];
        let options = BootstrapOptions::new(LogSetup::Given(app.edge().app.logging.clone()), "".into());
        let layers = Layers::from(MapSource::environment(settings));
        let modules = Box::leak(modules.to_vec().into_boxed_slice());
        let product = Product { modules, ..PRODUCT };
        let message = bootstrap(&product, &layers, options).await.err().unwrap().message;
        app.finish().await;
        message
    };
    let two = Box::pin(refused(&[&identity::MODULE, &catalog::MODULE, &SECOND])).await;
    assert!(two.contains("'identity' and 'second'"), "{two}");
    let none = Box::pin(refused(&[&catalog::MODULE])).await;
    assert!(none.contains("no module tells who they are"), "{none}");
    static SILENT: Module = Module { name: "silent", routes: by_the_way, ..Module::BARE };
    let silent = Box::pin(refused(&[&identity::MODULE, &SILENT])).await;
    assert!(silent.contains("GET /by-the-way of 'silent' does the system work 'by-address'"), "{silent}");
    static SAME: Module = Module { name: "same", system: &[&SIGN_IN], ..Module::BARE };
    let same = Box::pin(refused(&[&identity::MODULE, &SAME])).await;
    assert!(same.contains("'sign-in' of 'same' has the name of another"), "{same}");
    static USER: Module = Module { name: "user", uses: &["catalog"], ..Module::BARE };
    let early = Box::pin(refused(&[&identity::MODULE, &USER, &catalog::MODULE])).await;
    assert!(early.contains("'user' uses 'catalog'"), "{early}");
}
