//! A database of its own for one test: made from the migrations, with its own roles, dropped whatever happens.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use erp_core::db::proof::{Report, prove_both};
use erp_core::db::{Entry, Sample};
use futures_util::FutureExt;
use tokio_postgres::{Client, Config, NoTls};

use crate::specimen;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A migrated database, and the names of the roles made for it: roles belong to the whole cluster.
pub(crate) struct Database {
    config: Config,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) runtime: String,
    pub(crate) system: String,
    pub(crate) samples: Vec<Sample>,
}

/// Runs `test` on a fresh database and drops it afterwards, even if the test panics.
pub(crate) async fn with_database(test: impl AsyncFnOnce(&Database)) {
    with_locale("", test).await;
}

/// The same on a database of another locale, by the options of CREATE DATABASE.
pub(crate) async fn with_locale(options: &str, test: impl AsyncFnOnce(&Database)) {
    let db = Database::create(options).await;
    let outcome = AssertUnwindSafe(test(&db)).catch_unwind().await;
    db.drop().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl Database {
    async fn create(options: &str) -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run script/test");
        let config: Config = url.parse().expect("TEST_DATABASE_URL is a PostgreSQL URL");
        let schema = specimen::schema();
        let id = format!("{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let db = Self {
            config,
            name: format!("proof_{id}"),
            owner: format!("proof_owner_{id}"),
            runtime: format!("proof_app_{id}"),
            system: format!("proof_system_{id}"),
            samples: schema.samples().to_vec(),
        };
        let Self { name, owner, runtime, system, .. } = &db;
        db.cluster(&[
            &format!("create role {owner}"),
            &format!("create role {runtime} login password 'proof'"),
            &format!("create role {system} login password 'proof'"),
            &format!("create database {name} owner {owner} template template0 encoding 'UTF8' {options}"),
            &format!("revoke all on database {name} from public"),
            &format!("grant connect on database {name} to {runtime}, {system}"),
        ])
        .await;
        let root = db.superuser().await;
        root.batch_execute(&format!(
            "alter schema public owner to {owner}; revoke create on schema public from public"
        ))
        .await
        .unwrap();
        for Entry { name, migration } in schema.migrations() {
            let roles =
                format!("set local app.runtime_role = '{runtime}'; set local app.system_role = '{system}'");
            let begin = format!("begin; set local role {owner}; {roles};");
            root.batch_execute(&format!("{begin}\n{}\ncommit", migration.sql))
                .await
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        db
    }

    /// A copy of this database, which keeps its roles; nobody may be connected to this one.
    pub(crate) async fn copy(&self) -> Self {
        let name = format!("{}_{}", self.name, NEXT.fetch_add(1, Ordering::Relaxed));
        self.cluster(&[
            &format!("create database {name} owner {} template {}", self.owner, self.name),
            &format!("revoke all on database {name} from public"),
            &format!("grant connect on database {name} to {}, {}", self.runtime, self.system),
        ])
        .await;
        let Self { config, owner, runtime, system, samples, .. } = self;
        Self {
            config: config.clone(),
            name,
            owner: owner.clone(),
            runtime: runtime.clone(),
            system: system.clone(),
            samples: samples.clone(),
        }
    }

    /// Drops a copy and keeps the roles.
    pub(crate) async fn drop_copy(&self) {
        self.cluster(&[&format!("drop database if exists {} with (force)", self.name)]).await;
    }

    async fn drop(&self) {
        let Self { name, owner, runtime, system, .. } = self;
        let client = connect(&self.config).await;
        let copies = format!("select datname from pg_database where datname like '{name}\\_%'");
        for copy in client.query(&copies, &[]).await.unwrap() {
            self.cluster(&[&format!("drop database {} with (force)", copy.get::<_, &str>(0))]).await;
        }
        self.cluster(&[
            &format!("drop database if exists {name} with (force)"),
            &format!("drop role if exists {runtime}, {system}"),
            &format!("drop role if exists {owner}"),
        ])
        .await;
    }

    /// Runs statements outside any transaction, connected to the cluster's maintenance database.
    pub(crate) async fn cluster(&self, statements: &[&str]) {
        let client = connect(&self.config).await;
        for sql in statements {
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    /// A connection as the superuser.
    pub(crate) async fn superuser(&self) -> Client {
        connect(self.config.clone().dbname(&self.name)).await
    }

    /// A connection as the runtime role.
    pub(crate) async fn runtime(&self) -> Client {
        connect(self.config.clone().dbname(&self.name).user(&self.runtime).password("proof")).await
    }

    /// A connection as the system's login.
    pub(crate) async fn system(&self) -> Client {
        connect(self.config.clone().dbname(&self.name).user(&self.system).password("proof")).await
    }

    /// Runs `sql` as the owner (`reset role` in it makes it the superuser); `{rt}`, `{sys}`, `{own}` and `{db}` are filled in.
    pub(crate) async fn sabotage(&self, sql: &str) {
        let sql = self.fill(sql);
        let root = self.superuser().await;
        root.batch_execute(&format!(
            "set role {}; set app.runtime_role = '{}'; set app.system_role = '{}'; {sql}",
            self.owner, self.runtime, self.system
        ))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{rt}", &self.runtime)
            .replace("{sys}", &self.system)
            .replace("{own}", &self.owner)
            .replace("{db}", &self.name)
    }

    /// The proof, as each login on a fresh connection.
    pub(crate) async fn prove(&self) -> Report {
        prove_both(&self.runtime().await, &self.system().await, &self.samples).await.unwrap()
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
