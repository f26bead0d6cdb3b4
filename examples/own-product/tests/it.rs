//! The whole product over HTTP, its binary, and its way from one version of the crates to the next.

use std::process::Command;

use erp_core::db::{CORE, Connection, Logins, Migrated, Migration, Namespace, Owner, Schema, prove_once};
use erp_testkit::{Database, Fixture, Prepared, Setup, Sweeps, TestApp};
use serde_json::json;
use tokio_util::task::TaskTracker;
use wheels::PRODUCT;

#[tokio::test]
async fn two_tenants_rent_out_their_own_vehicles() {
    let app = TestApp::of(PRODUCT).start().await;
    let (alice, bob) = (app.alice(), app.bob());
    let made = alice.post("/api/v1/vehicles", json!({ "plate": "HH-WH 1" })).await.assert(201).json();
    let rental = json!({ "vehicleId": made["id"], "customer": "Ann" });
    alice.post("/api/v1/rentals", rental.clone()).await.assert(201);
    bob.post("/api/v1/rentals", rental).await.problem("rentals.no_such_vehicle");
    let path = format!("/api/v1/vehicles/{}", made["id"].as_str().unwrap());
    bob.get(&path).await.problem("core.not_found");
    let listed = bob.get("/api/v1/vehicles").await.assert(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "the demo rows of the module: {listed}");
    app.finish().await;
}

/// What does not follow from the contract: which vehicle is rented out.
const FIXTURES: &[Fixture] = &[Fixture::new("POST /api/v1/rentals", |setup| Box::pin(rental(setup)))];

async fn rental(setup: &Setup<'_>) -> Prepared {
    Prepared::body(json!({ "vehicleId": setup.make("/api/v1/vehicles").await, "customer": "Ann" }))
}

/// What holds of every route: 401, 403, ids of another tenant, idempotency, conditions, audit rows.
#[tokio::test]
async fn every_route_keeps_the_rules_of_the_house() {
    let app = TestApp::of(PRODUCT).start().await;
    Sweeps::over(&app, &[FIXTURES]).await.all().await;
    app.finish().await;
}

#[test]
fn the_binary_speaks_under_its_own_name() {
    let wheels = |arguments: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_wheels"))
            .args(arguments)
            .env("DATA_DIR", "/nonexistent")
            .output();
        let ended = ended.unwrap();
        String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap()
    };
    assert_eq!(wheels(&["--version"]), "wheels 2.3.0\n");
    let said = wheels(&["db", "status"]);
    assert!(said.starts_with("wheels: "), "{said}");
    let contract = wheels(&["openapi"]);
    assert!(contract.contains("createRental") && !contract.contains("createItem"), "{contract}");
}

/// What a team meets that takes newer crates: upstream has moved on, and its own modules have, too.
struct Versions {
    core: Vec<Migration>,
    identity: Vec<Migration>,
    fleet: Vec<Migration>,
}

impl Versions {
    /// All but the newest of core and identity, and the team's own.
    fn before() -> Self {
        let (core, identity) = (CORE.migrations, erp_modules::identity::MODULE.migrations);
        Self {
            core: core[..core.len() - 1].to_vec(),
            identity: identity[..identity.len() - 1].to_vec(),
            fleet: wheels::fleet::MODULE.migrations.to_vec(),
        }
    }

    /// What there is today, and one more of each.
    fn after() -> Self {
        const CORE_NEXT: &str =
            "create table app.next (id uuid); select app.private_table('app.next', 'a test');";
        const IDENTITY_NEXT: &str = "alter table public.tenant_profiles add column motto text;";
        const FLEET_NEXT: &str = "alter table public.vehicles add column seats int;";
        let next = |name, sql| Migration { name, sql, after: &[], was: &[] };
        let (core, identity) = (CORE.migrations, erp_modules::identity::MODULE.migrations);
        Self {
            core: [core, &[next(number(core, "next"), CORE_NEXT)]].concat(),
            identity: [identity, &[next(number(identity, "next"), IDENTITY_NEXT)]].concat(),
            fleet: [wheels::fleet::MODULE.migrations, &[next("0002_seats", FLEET_NEXT)]].concat(),
        }
    }

    fn schema(&self) -> Schema {
        let modules = PRODUCT.namespaces().map(|module| match module.name {
            "identity" => Namespace { migrations: &self.identity, ..module },
            "fleet" => Namespace { migrations: &self.fleet, ..module },
            _ => module,
        });
        Schema::on(Namespace { migrations: &self.core, ..CORE }, modules).unwrap()
    }
}

/// The name of the migration that follows: `0007_next`.
#[allow(clippy::disallowed_methods)] // it lives as long as the test
fn number(migrations: &[Migration], word: &str) -> &'static str {
    format!("{:04}_{word}", migrations.len() + 1).leak()
}

async fn migrate(database: &Database, schema: &Schema) -> Migrated {
    let owner: Connection = database.roles.owner_url.parse().unwrap();
    let owner = Owner::connect(&owner, &TaskTracker::new()).await.unwrap();
    owner.migrate(schema, &logins(database)).await.unwrap()
}

fn logins(database: &Database) -> Logins {
    let roles = &database.roles;
    Logins { runtime: roles.runtime_url.parse().unwrap(), system: roles.system_url.parse().unwrap() }
}

async fn proof_passes(database: &Database, schema: &Schema) {
    let report = prove_once(&logins(database), schema, &TaskTracker::new()).await.unwrap();
    assert!(report.passed(), "{}", report.matrix());
}

#[tokio::test]
async fn a_database_of_the_state_before_takes_the_next_of_upstream_and_its_own() {
    let database = Database::empty().await;
    let before = Versions::before().schema();
    migrate(&database, &before).await;
    // In the state before all migrations stood in one list, under the names that they say that they had.
    let one_list = "delete from app.migrations a where name like '%/%' and exists
        (select from app.migrations b where b.name not like '%/%' and b.checksum = a.checksum)";
    let forgotten = database.superuser().await.execute(one_list, &[]).await.unwrap();
    assert!(forgotten >= 7, "only {forgotten} had a former name");
    let vehicle = "begin; set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
        insert into vehicles (id, plate) values (gen_random_uuid(), 'OLD 1'); commit";
    database.superuser().await.batch_execute(vehicle).await.unwrap();

    let after = Versions::after().schema();
    let migrated = migrate(&database, &after).await;
    let is_new =
        |name: &str| after.migrations().iter().any(|entry| entry.name == name && !before.knows(name));
    let mut expected: Vec<&str> = after.migrations().iter().map(|entry| entry.name.as_str()).collect();
    expected.retain(|name| is_new(name));
    assert_eq!(migrated.applied, expected, "what is new, in order, and nothing again");
    assert!(expected.len() >= 5 && expected.last() == Some(&"fleet/0002_seats"), "{expected:?}");
    assert_eq!(migrated.carried_over.len() as u64, forgotten);
    proof_passes(&database, &after).await;
    let kept = "select count(*) from vehicles where plate = 'OLD 1' and seats is null";
    assert_eq!(database.superuser().await.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert!(migrate(&database, &after).await.applied.is_empty());

    // A fresh one has them in the order of the lists, and is the same.
    let fresh = Database::empty().await;
    assert_eq!(migrate(&fresh, &after).await.applied.len(), after.migrations().len());
    proof_passes(&fresh, &after).await;
    database.remove();
    fresh.remove();
}
