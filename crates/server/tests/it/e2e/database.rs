//! Databases for the tests: one of a test's own on the shared server, and whole servers that may be broken.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::ManuallyDrop;

use erp_core::db::Logins;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::process::Home;

/// The roles' password. It must never be seen in any output.
pub(super) const PASSWORD: &str = "never-to-be-shown";

/// The advisory locks of lent roles, by their number.
const LENDING: i32 = 0x65_32_65;

/// A database with roles that no other test has at the same time, since roles belong to the whole server.
pub(super) struct Database {
    name: String,
    /// What the names of its roles begin with.
    roles: String,
    /// Whose the roles are. Without it they are the database's own, and are dropped with it.
    lent: Option<LentRoles>,
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
        let name = of_this_process(name);
        Self::create(name.clone(), name, options)
    }

    /// Makes the database, and the roles, which get back what a test before may have taken from them or given to them.
    fn create(name: String, roles: String, options: &str) -> Self {
        let admin = shared_server();
        Session::open(&admin).run(&format!("create database {name} {options}"));
        let this = Self {
            admin_url: url(&admin, None, &name),
            owner_url: url(&admin, Some(&format!("{roles}_owner")), &name),
            runtime_url: url(&admin, Some(&format!("{roles}_app")), &name),
            name,
            roles,
            lent: None,
            admin,
        };
        let session = Session::open(&this.admin_url);
        session.run(&this.roles());
        for role in [this.owner(), this.app(), this.system()] {
            session.run(&format!(
                "alter role {role} password '{PASSWORD}' connection limit -1; alter role {role} reset all"
            ));
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

    /// One whose migrations have been applied with `db migrate`: a copy, which takes a tenth of that time, of a template
    /// of the run.
    pub(super) fn migrated(name: &str) -> Self {
        let lent = LentRoles::take();
        if !lent.has_template() {
            lent.make_template();
        }
        let options = format!("template {} {}", lent.template, lent.strategy());
        let mut this = Self::create(of_this_process(name), lent.roles.clone(), &options);
        this.lent = Some(lent);
        this
    }

    /// The owner role's name.
    pub(super) fn owner(&self) -> String {
        format!("{}_owner", self.roles)
    }

    /// The runtime role's name.
    pub(super) fn app(&self) -> String {
        format!("{}_app", self.roles)
    }

    /// The name of the system's login.
    pub(super) fn system(&self) -> String {
        format!("{}_system", self.roles)
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
        if self.lent.is_none() {
            session.run(&format!("drop role if exists {}, {}, {}", self.owner(), self.app(), self.system()));
        }
    }
}

/// Three roles that one test has at a time, and a template in which they have their rights. As many are made as tests run
/// at the same time.
struct LentRoles {
    roles: String,
    template: String,
    /// Holds the lock on the number of the roles.
    session: Session,
}

impl LentRoles {
    fn take() -> Self {
        let session = Session::open(&shared_server());
        let is_free = |number: &u32| {
            session.value(&format!("select pg_try_advisory_lock({LENDING}, {number})")) == "true"
        };
        let number = (0..).find(is_free).unwrap();
        let (roles, template) =
            (format!("e2e_lent_{number}"), format!("e2e_migrated_{:016x}_{number}", state_of_schema()));
        Self { roles, template, session }
    }

    /// Whether a test has made the template before, and to its end.
    fn has_template(&self) -> bool {
        let label = "select shobj_description(oid, 'pg_database') from pg_database where datname";
        self.session.value(&format!("{label} = '{}'", self.template)) == "complete"
    }

    fn make_template(&self) {
        let Self { roles, template, session } = self;
        session.run(&format!("drop database if exists {template} with (force)"));
        let made = ManuallyDrop::new(Database::create(template.clone(), roles.clone(), "")); // kept for the tests to come
        let ended = super::process::run(&Home::new(), &["db", "migrate"], &made.both());
        assert_eq!(ended.code, 0, "{ended:?}");
        session.run(&format!(
            "alter database {template} with allow_connections false; comment on database {template} is 'complete'"
        ));
    }

    /// How PostgreSQL copies for less work; before version 15 it knows no other way.
    fn strategy(&self) -> &'static str {
        let knows = self.session.value("select current_setting('server_version_num')::int >= 150000");
        if knows == "true" { "strategy file_copy" } else { "" }
    }
}

/// Another schema is another template.
fn state_of_schema() -> u64 {
    let mut hasher = DefaultHasher::new();
    let schema = erp_modules::PRODUCT.schema().unwrap();
    schema.migrations().iter().for_each(|entry| (&entry.name, entry.migration.sql).hash(&mut hasher));
    include_str!("../../../../../migrations/roles.sql").hash(&mut hasher);
    hasher.finish()
}

/// A name that no test of another process has.
fn of_this_process(name: &str) -> String {
    format!("e2e_{name}_{}", std::process::id())
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
