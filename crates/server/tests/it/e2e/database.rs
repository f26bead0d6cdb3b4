//! Databases for the tests: one of a test's own on the shared server, and whole servers that may be broken.

use erp_core::db::Logins;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::process::Home;

/// The roles' password. It must never be seen in any output.
pub(super) const PASSWORD: &str = "never-to-be-shown";

/// A database with roles of its own, since roles belong to the whole server. Dropping it removes them all.
pub(super) struct Database {
    name: String,
    admin: String,
    /// As the superuser, in this database.
    pub(super) admin_url: String,
    /// As the owner role.
    pub(super) owner_url: String,
    /// As the runtime role.
    pub(super) runtime_url: String,
}

impl Database {
    /// An empty database on `TEST_DATABASE_URL`'s server. `name` is unique among the tests.
    pub(super) fn empty(name: &str) -> Self {
        Self::made_with(name, "")
    }

    /// An empty one made with these options of CREATE DATABASE.
    pub(super) fn made_with(name: &str, options: &str) -> Self {
        let admin = shared_server();
        let name = format!("e2e_{name}_{}", std::process::id());
        let session = Session::open(&admin);
        session.run(&format!("create database {name} {options}"));
        let this = Self {
            admin_url: url(&admin, None, &name),
            owner_url: url(&admin, Some(&format!("{name}_owner")), &name),
            runtime_url: url(&admin, Some(&format!("{name}_app")), &name),
            name,
            admin,
        };
        this.run(&this.roles());
        for role in [this.owner(), this.app(), this.system()] {
            this.run(&format!("alter role {role} password '{PASSWORD}'"));
        }
        this
    }

    /// Another empty database with the same roles, who have their rights in it.
    pub(super) fn sibling(&self, name: &str) -> Sibling {
        let name = format!("{}_{name}", self.name);
        Session::open(&self.admin).run(&format!("create database {name}"));
        let at = |url: &str| format!("{}/{name}", url.rsplit_once('/').unwrap().0);
        let sibling = Sibling {
            admin: self.admin.clone(),
            admin_url: at(&self.admin_url),
            owner_url: at(&self.owner_url),
            runtime_url: at(&self.runtime_url),
            name,
        };
        Session::open(&sibling.admin_url).run(&self.roles());
        sibling
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One whose migrations have been applied with `db migrate`.
    pub(super) fn migrated(name: &str) -> Self {
        let this = Self::empty(name);
        let home = Home::new();
        let ended = super::process::run(&home, &["db", "migrate"], &this.both());
        assert_eq!(ended.code, 0, "{ended:?}");
        this
    }

    /// The owner role's name.
    pub(super) fn owner(&self) -> String {
        format!("{}_owner", self.name)
    }

    /// The runtime role's name.
    pub(super) fn app(&self) -> String {
        format!("{}_app", self.name)
    }

    /// The name of the system's login.
    pub(super) fn system(&self) -> String {
        format!("{}_system", self.name)
    }

    /// As the system's login.
    pub(super) fn system_url(&self) -> String {
        as_system(&self.runtime_url)
    }

    /// Both logins.
    pub(super) fn logins(&self) -> Logins {
        Logins { runtime: self.runtime_url.parse().unwrap(), system: self.system_url().parse().unwrap() }
    }

    /// `migrations/roles.sql` for its own roles.
    pub(super) fn roles(&self) -> String {
        let roles = include_str!("../../../../../migrations/roles.sql");
        let names = [("erp_owner", self.owner()), ("erp_app", self.app()), ("erp_system", self.system())];
        names.iter().fold(roles.to_owned(), |text, (role, ours)| text.replace(role, ours))
    }

    /// The settings of a process that may migrate.
    pub(super) fn both(&self) -> [(&'static str, &str); 2] {
        [("DATABASE_URL", &self.runtime_url), ("DATABASE_OWNER_URL", &self.owner_url)]
    }

    /// Runs statements as the superuser.
    pub(super) fn run(&self, sql: &str) {
        Session::open(&self.admin_url).run(sql);
    }

    /// The single value of a query, as the superuser.
    pub(super) fn value(&self, sql: &str) -> String {
        Session::open(&self.admin_url).value(sql)
    }
}

/// A database that has its roles from another one.
pub(super) struct Sibling {
    name: String,
    admin: String,
    pub(super) admin_url: String,
    owner_url: String,
    runtime_url: String,
}

impl Sibling {
    /// The settings of a process that may migrate.
    pub(super) fn both(&self) -> [(&'static str, &str); 2] {
        [("DATABASE_URL", &self.runtime_url), ("DATABASE_OWNER_URL", &self.owner_url)]
    }

    /// The single value of a query, as the superuser.
    pub(super) fn value(&self, sql: &str) -> String {
        Session::open(&self.admin_url).value(sql)
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        Session::open(&self.admin).run(&format!("drop database if exists {} with (force)", self.name));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let session = Session::open(&self.admin);
        session.run(&format!("drop database if exists {} with (force)", self.name));
        session.run(&format!("drop role if exists {}, {}, {}", self.owner(), self.app(), self.system()));
    }
}

/// The runtime role's URL with the system's login in its place, and the same password; other users' as it is.
pub(super) fn as_system(url: &str) -> String {
    url.replacen("_app:", "_system:", 1).replacen("_app@", "_system@", 1)
}

/// The superuser's URL of the server that all tests share.
#[allow(clippy::disallowed_methods)] // a test has no settings
fn shared_server() -> String {
    std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is set by script/test")
}

/// `server` with another user, who has the tests' password, and another database.
fn url(server: &str, user: Option<&str>, database: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap();
    let (admin, place) = rest.split_once('@').unwrap();
    let (host, _) = place.rsplit_once('/').unwrap();
    let user = user.map_or(admin.to_owned(), |user| format!("{user}:{PASSWORD}"));
    format!("{scheme}://{user}@{host}/{database}")
}

/// A session that blocks its caller; closed when it is dropped.
pub(super) struct Session {
    runtime: Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    pub(super) fn open(url: &str) -> Self {
        Self::try_open(url).unwrap()
    }

    #[allow(clippy::disallowed_methods)] // a test looks at the database past the product
    pub(super) fn try_open(url: &str) -> Result<Self, tokio_postgres::Error> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    pub(super) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    }

    pub(super) fn try_run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    /// The single value of a query, as text.
    pub(super) fn value(&self, sql: &str) -> String {
        self.try_value(sql).unwrap_or_else(|error| panic!("{error:?}: {sql}"))
    }

    pub(super) fn try_value(&self, sql: &str) -> Result<String, tokio_postgres::Error> {
        let sql = format!("select ({sql})::text");
        let row = self.runtime.block_on(self.client.query_one(&sql, &[]))?;
        Ok(row.get::<_, Option<String>>(0).unwrap_or_default())
    }
}
