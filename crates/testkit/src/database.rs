//! A database for each test: a copy of a template that the first test of a run makes.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use erp_core::auth::Passwords;
use erp_core::bootstrap::migrate_as_owner;
use erp_core::db::Logins;
use erp_core::db::cluster::{Roles, provision};
use erp_core::module::{Product, Seed};
use erp_core::shared::{Rng as _, SystemClock, SystemRng};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::TaskTracker;

use crate::people::Person;

/// Any number that no other program takes: "test" in ASCII.
const LOCK: i64 = 0x74_65_73_74;
/// A session for each member that has none of the kind, under the member's id: of those who call in tests. They have proven who
/// they are when their token is made.
pub(crate) const BEGIN_SESSIONS: &str = "insert into sessions (tenant_id, id, principal_id, secret_hash, key_id, auth_time, amr, idle_at, expires_at) \
     select m.tenant_id, m.user_id, m.user_id, sha256('of a test'), 'of a test', now(), '{pwd}', now() + interval '1 year', now() + interval '1 year' \
     from memberships m join tenants t on t.id = m.tenant_id where t.status <> 'reserved' on conflict do nothing";
/// A statement is on its way to the server long before. Whether it has ended then is not waited for.
const LONG_ENOUGH_TO_ASK: std::time::Duration = std::time::Duration::from_millis(10);

/// A test's own database, with the demo tenants in it. Drop it with [`Database::remove`].
pub struct Database {
    /// Its name.
    pub name: String,
    /// The roles' URLs for it.
    pub roles: Roles,
    /// Those who can sign in.
    pub people: Vec<Person>,
    admin: Config,
    /// It is another app's, which removes it.
    borrowed: bool,
}

impl Database {
    /// Copies the template, which is made first where there is none.
    pub async fn create(product: &Product) -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run script/test");
        let admin: Config = url.parse().expect("TEST_DATABASE_URL is a PostgreSQL URL");
        let root = connect(&admin).await;
        let template = template_name(product);
        let people = match people_in(&root, &template).await {
            Some(people) => people,
            None => make_template(&url, &root, &template, product).await,
        };
        let name = format!("test_{}", random());
        copy(&root, &template, &name).await;
        // Rights on a database are not copied with it.
        let roles = provision(&url, &name).await.expect("the copy takes the roles");
        Self { name, roles, people, admin, borrowed: false }
    }

    /// A database without anything in it but the rights of the roles: for tests of migrations.
    pub async fn empty() -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run script/test");
        let name = format!("test_{}", random());
        let roles = provision(&url, &name).await.expect("the database takes the roles");
        Self {
            name,
            roles,
            people: Vec::new(),
            admin: url.parse().expect("a PostgreSQL URL"),
            borrowed: false,
        }
    }

    /// The same one, for another instance of the app.
    pub(crate) fn borrowed(&self) -> Self {
        let (name, people) = (self.name.clone(), self.people.clone());
        Self { name, roles: self.roles.clone(), people, admin: self.admin.clone(), borrowed: true }
    }

    /// A connection as the superuser, whom row level security does not bind.
    pub async fn superuser(&self) -> Client {
        connect(self.admin.clone().dbname(&self.name)).await
    }

    /// A connection as the superuser to the database `postgres`, for tests that let nobody into this one.
    pub async fn beside(&self) -> Client {
        connect(self.admin.clone().dbname("postgres")).await
    }

    /// How often statements whose text is `like` were run in this database, as PostgreSQL counts by `pg_stat_statements`.
    pub async fn calls(&self, like: &str) -> i64 {
        let client = self.beside().await;
        // Tests that come at the same time all want it.
        let make = format!(
            "begin; select pg_advisory_xact_lock({LOCK}); create extension if not exists pg_stat_statements; commit"
        );
        client
            .batch_execute(&make)
            .await
            .expect("pg_stat_statements is installed with PostgreSQL, and preloaded");
        let sql = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid \
            where d.datname = $1 and query like $2 and query not like '%pg_stat%'";
        client.query_one(sql, &[&self.name, &like]).await.expect("what PostgreSQL counted").get(0)
    }

    /// A connection as the owner role.
    pub async fn owner(&self) -> Client {
        connect(&self.roles.owner_url.parse().expect("our own URL")).await
    }

    /// A connection as the runtime role, as a module's bug might use it.
    pub async fn runtime(&self) -> Client {
        connect(&self.roles.runtime_url.parse().expect("our own URL")).await
    }

    /// A connection as the system's login.
    pub async fn system(&self) -> Client {
        connect(&self.roles.system_url.parse().expect("our own URL")).await
    }

    /// What PostgreSQL has logged, of this database and the other tests'.
    pub async fn server_log(&self) -> String {
        let row = self.superuser().await.query_one("show data_directory", &[]).await.expect("a row");
        let data = std::path::PathBuf::from(row.get::<_, String>(0));
        let log = std::fs::read(data.with_file_name("postgres.log")).expect("with-postgres keeps a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Has the database dropped, even while sessions are connected to it, and even while a runtime is unwinding.
    ///
    /// The server finishes this by itself: it waits for a checkpoint, and a tenth of a second for each session that it has
    /// to end. No test needs that time, and one whose database stays loses nothing, since the cluster ends with the run.
    pub fn remove(&self) {
        if self.borrowed {
            return;
        }
        let (admin, sql) =
            (self.admin.clone(), format!("drop database if exists {} with (force)", self.name));
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                let client = connect(&admin).await;
                let _ = tokio::time::timeout(LONG_ENOUGH_TO_ASK, client.batch_execute(&sql)).await;
            });
        });
        let _ = asked.join();
    }
}

/// Opens a connection, whose task ends with the client.
pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the test's PostgreSQL answers");
    tokio::spawn(async move {
        let _ = connection.await; // ended by the server when the database is dropped
    });
    client
}

/// Another schema or another seed is another template.
fn template_name(product: &Product) -> String {
    let mut hasher = DefaultHasher::new();
    let schema = product.schema().expect("the migrations are in order");
    schema.migrations().iter().for_each(|entry| (&entry.name, entry.migration.sql).hash(&mut hasher));
    product.modules.iter().for_each(|module| module.demo.hash(&mut hasher));
    include_str!("../../modules/src/demo.rs").hash(&mut hasher);
    format!("template_{:016x}", hasher.finish())
}

/// The people that the template was seeded with: they are written on it as its comment.
async fn people_in(root: &Client, template: &str) -> Option<Vec<Person>> {
    let sql = "select shobj_description(oid, 'pg_database') from pg_database where datname = $1";
    let row = root.query_opt(sql, &[&template]).await.expect("the catalogue can be read")?;
    let comment: Option<String> = row.get(0);
    serde_json::from_str(&comment?).ok()
}

async fn make_template(url: &str, root: &Client, template: &str, product: &Product) -> Vec<Person> {
    root.execute("select pg_advisory_lock($1)", &[&LOCK]).await.expect("the lock comes free");
    let people = match people_in(root, template).await {
        Some(people) => people, // by another test, while this one waited
        None => {
            let _ = root.batch_execute(&format!("drop database if exists {template} with (force)")).await;
            let people = fill_template(url, template, product).await;
            let comment = serde_json::to_string(&people).expect("people are JSON").replace('\'', "''");
            let done = format!(
                "alter database {template} with allow_connections false; comment on database {template} is '{comment}'"
            );
            root.batch_execute(&done).await.expect("the template can be labelled");
            people
        }
    };
    root.execute("select pg_advisory_unlock($1)", &[&LOCK]).await.expect("the lock was ours");
    people
}

/// Migrates and seeds as a first start does.
async fn fill_template(url: &str, template: &str, product: &Product) -> Vec<Person> {
    let roles = provision(url, template).await.expect("the template takes the roles");
    let owner = roles.owner_url.parse().expect("our URL");
    let logins = Logins::alike(roles.runtime_url.parse().expect("our URL"));
    let tasks = TaskTracker::new();
    let rng = Arc::new(SystemRng::new());
    let schema = product.schema().expect("the migrations are in order");
    let (owner, _) = migrate_as_owner(&owner, &logins, &schema, &tasks).await.expect("the migrations apply");
    // Another run, on another cluster, may be making the same template.
    let data_dir = std::env::temp_dir().join(format!("{template}_{}", std::process::id()));
    std::fs::create_dir_all(&data_dir).expect("the temporary folder is writable");
    let passwords = Passwords::new(2, Arc::<SystemRng>::clone(&rng));
    let (clock, rng) = (&SystemClock, rng.as_ref());
    let new_passwords = false;
    let seed = Seed {
        product,
        owner: &owner,
        passwords: &passwords,
        data_dir: &data_dir,
        new_passwords,
        clock,
        rng,
    };
    (product.seed)(seed).await.expect("the demo tenants can be made");
    drop(owner);
    tasks.close();
    tasks.wait().await; // a template with a connection cannot be copied
    let file =
        std::fs::read(data_dir.join("demo-credentials.json")).expect("the seed writes the credentials");
    let _ = std::fs::remove_dir_all(&data_dir);
    let admin: Config = url.parse().expect("a PostgreSQL URL");
    let root = connect(admin.clone().dbname(template)).await;
    root.batch_execute(BEGIN_SESSIONS).await.expect("the demo people can be signed in");
    Person::identify(&root, &file).await
}

/// A session that has just ended may still be seen in the template for a moment.
async fn copy(root: &Client, template: &str, name: &str) {
    // Files are copied for less work than blocks are logged, and the first sessions find PostgreSQL's own cache of its
    // catalogue among them. Before version 15 it knows no other way.
    let version = "select current_setting('server_version_num')::int >= 150000";
    let may_choose: bool = root.query_one(version, &[]).await.expect("PostgreSQL tells its version").get(0);
    let strategy = if may_choose { "strategy file_copy" } else { "" };
    let sql = format!("create database {name} template {template} {strategy}");
    for attempt in 1.. {
        match root.batch_execute(&sql).await {
            Ok(()) => return,
            Err(error) if attempt < 20 && error.code() == Some(&SqlState::OBJECT_IN_USE) => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }
}

fn random() -> String {
    let mut bytes = [0; 8];
    SystemRng::new().fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}
