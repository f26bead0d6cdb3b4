use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use erp_core::audit::note::AuditKeys;
use erp_core::audit::{SealOutcome, Sealer};
use erp_core::auth::{Caller, Permission, Role, TenantSecret};
use erp_core::bootstrap::Running;
use erp_core::db::System;
use erp_core::middleware::{Edge, Peer};
use erp_core::module::Product;
use erp_core::shared::{Id, IdKind, ManualClock, OperatorRow, SystemRng, TenantId, User, UserId};
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use tokio_postgres::Client;

use crate::database::BEGIN_SESSIONS;
use crate::{Actor, Builder, Database, Log, Person, Pooler};

/// How long a connection may take to come back from a request that was left.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a test waits for what has to happen.
const UNTIL: Duration = Duration::from_secs(20);

/// The whole product on a port and a database of its own, with two tenants and a clock that stands.
///
/// A test ends with [`TestApp::finish`], which fails it on faults that it did not announce.
pub struct TestApp {
    pub(crate) product: Product,
    pub(crate) running: Option<Running>,
    pub(crate) database: Database,
    pub(crate) pooler: Option<Pooler>,
    pub(crate) files: std::path::PathBuf,
    pub(crate) root: Client,
    pub(crate) http: Http<HttpConnector, Full<Bytes>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) log: Log,
    pub(crate) errors_expected: Cell<bool>,
}

impl TestApp {
    /// The product as it is.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// To start with other settings, or with a module of the test's own.
    pub fn builder() -> Builder {
        Self::of(erp_modules::PRODUCT)
    }

    /// The same of a product of one's own, in a repository of one's own. Its seed makes the demo tenants, as
    /// `erp_modules::demo` does.
    pub fn of(product: Product) -> Builder {
        Builder::new(product)
    }

    /// The owner of acme.
    pub fn alice(&self) -> Actor<'_> {
        self.actor("acme", Role::Owner)
    }

    /// The owner of globex.
    pub fn bob(&self) -> Actor<'_> {
        self.actor("globex", Role::Owner)
    }

    /// The member of acme.
    pub fn max(&self) -> Actor<'_> {
        self.member_of("acme")
    }

    /// The member of a tenant.
    pub fn member_of(&self, tenant: &str) -> Actor<'_> {
        self.actor(tenant, Role::Member)
    }

    /// The one who may only read in a tenant.
    pub fn reader_of(&self, tenant: &str) -> Actor<'_> {
        self.actor(tenant, Role::ReadOnly)
    }

    /// Somebody without a credential.
    pub fn anonymous(&self) -> Actor<'_> {
        Actor::anonymous(self)
    }

    /// The person with `role` in `tenant`, signed in.
    pub fn actor(&self, tenant: &str, role: Role) -> Actor<'_> {
        let person = self.person(tenant, role);
        Actor::signed_in(self, person.tenant_id, person.user_id)
    }

    /// The person with `role` in `tenant`: ids and password.
    pub fn person(&self, tenant: &str, role: Role) -> &Person {
        let mut people = self.database.people.iter();
        let found =
            people.find(|person| person.credential.tenant == tenant && person.credential.role == role);
        found.expect("the demo tenants have a person for each role")
    }

    /// The product, with the modules that the test has added.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// What answers requests, and through it the app.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.running.as_ref().expect("the app runs until `finish`").context.edge
    }

    /// Where the server listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.running.as_ref().expect("the app runs until `finish`").address
    }

    /// Where the management surface is, with `METRICS_PORT`.
    pub fn management(&self) -> Option<std::net::SocketAddr> {
        self.running.as_ref().and_then(|running| running.management)
    }

    /// Seals the audit logs of all tenants, as a task does it once a second elsewhere.
    pub async fn seal_audit(&self) -> SealOutcome {
        let sealer = Sealer::new(&self.edge().app).expect("a key");
        sealer.expect("the test's key").seal_all().await.expect("the database answers")
    }

    /// Notes the checkpoints of all tenants in the platform's log, and tells the witness, as it is done once a minute elsewhere.
    pub async fn anchor_audit(&self) {
        let sealer = Sealer::new(&self.edge().app).expect("a key");
        sealer.expect("the test's key").anchor().await.expect("the database answers");
    }

    /// The keys that audit logs are signed with.
    pub fn audit_keys(&self) -> AuditKeys {
        AuditKeys::of(&self.edge().app.config).expect("a key").expect("the test's key")
    }

    /// The clock, which stands until the test moves it.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// What was logged.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The database, for connections of the test's own.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What stands before the database, with [`Builder::pooled`].
    pub fn pooler(&self) -> Option<&Pooler> {
        self.pooler.as_ref()
    }

    /// The folder with the bytes of tenants' files, unless the test has set `FILES_URL`.
    pub fn files(&self) -> &std::path::Path {
        &self.files
    }

    /// A superuser's session: sees and changes every tenant's rows.
    pub fn sql(&self) -> &Client {
        &self.root
    }

    /// Waits until `sql` answers true. After 20 s the test fails, with the JSON that the statement `picture` answers.
    pub async fn until(&self, sql: &str, picture: &str) {
        let deadline = Instant::now() + UNTIL;
        while !self.holds(sql).await {
            if Instant::now() > deadline {
                let picture: Value = self.root.query_one(picture, &[]).await.expect("the test's SQL").get(0);
                panic!("it has not come to {sql}: {picture:#}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn holds(&self, sql: &str) -> bool {
        let row = self.root.query_one(sql, &[]).await.expect("the test's SQL");
        row.get::<_, Option<bool>>(0) == Some(true)
    }

    /// Runs SQL as the superuser in a transaction that has the tenant's context, as its audit triggers need.
    pub async fn execute_in(&self, tenant: &str, sql: &str) {
        let id = self.tenant_id(tenant);
        let whole = format!("begin; set local app.tenant_id = '{id}'; {sql}; commit");
        self.root.batch_execute(&whole).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A connection as the runtime role whose every statement is in a tenant, as a module's bug might use it.
    pub async fn runtime_in(&self, tenant: &str) -> Client {
        let client = self.database().runtime().await;
        let sql = format!("set app.tenant_id = '{}'", self.tenant_id(tenant));
        client.batch_execute(&sql).await.expect("the tenant is named");
        client
    }

    /// Somebody new in acme or globex who holds exactly these permissions, by a role of the tenant's own.
    pub async fn someone(&self, tenant: &str, permissions: &[&Permission]) -> Actor<'_> {
        let id = self.new_person(tenant).await;
        let role = self.new_id::<User>();
        let named: String = permissions.iter().fold(String::new(), |mut rows, permission| {
            let _ = write!(
                rows,
                "insert into role_permissions (role_id, permission) values ('{role}', '{}'); ",
                permission.name
            );
            rows
        });
        let join = format!(
            "insert into memberships (user_id, email) select id, email from auth.people where id = '{id}'; insert into roles (id, name) values ('{role}', '{role}'); \
             {named} insert into grants (id, principal_id, role_id) values (gen_random_uuid(), '{id}', '{role}')"
        );
        self.execute_in(tenant, &join).await;
        self.newly_signed_in(tenant, id).await
    }

    /// Somebody new in acme or globex, with one of the roles that every tenant has: a second owner, say.
    pub async fn another(&self, tenant: &str, role: Role) -> Actor<'_> {
        let id = self.new_person(tenant).await;
        self.join(tenant, id, role).await;
        self.newly_signed_in(tenant, id).await
    }

    async fn newly_signed_in(&self, tenant: &str, id: UserId) -> Actor<'_> {
        self.root.batch_execute(BEGIN_SESSIONS).await.expect("a new session");
        Actor::signed_in(self, self.tenant_id(tenant), id)
    }

    /// A person who is a member of nothing yet.
    async fn new_person(&self, tenant: &str) -> UserId {
        let id = self.new_id::<User>();
        let person = format!(
            "insert into auth.people (id, email, name) values ('{id}', '{id}@{tenant}.example', 'Someone')"
        );
        self.root.batch_execute(&person).await.expect("a new person");
        id
    }

    /// A new operator of the platform, who has signed in.
    ///
    /// # Panics
    /// Where the product has no module `operators`.
    pub async fn operator(&self) -> Actor<'_> {
        let secret = TenantSecret::new("operator", TenantId::NOBODY, &SystemRng::new());
        let id = self.new_id::<OperatorRow>();
        let email = format!("{id}@operators.example");
        let add = "insert into auth.operators (id, email, phc, enrolled_at) values ($1, $2, 'none', now())";
        self.root.execute(add, &[&id, &email]).await.expect("a new operator");
        let begin = "insert into auth.operator_sessions (id, operator_id, secret_hash, expires_at) \
            values (gen_random_uuid(), $1, $2, now() + interval '1 hour')";
        self.root.execute(begin, &[&id, &secret.hash()]).await.expect("a new session");
        self.anonymous().with_token(secret.expose())
    }

    /// Makes a person a member of acme or globex, with one of the roles that every tenant has.
    pub async fn join(&self, tenant: &str, person: UserId, role: Role) {
        let join = format!(
            "insert into memberships (user_id, email, name) select id, email, name from auth.people where id = '{person}'; \
             insert into grants (id, principal_id, built_in) values (gen_random_uuid(), '{person}', '{role}')"
        );
        self.execute_in(tenant, &join).await;
    }

    fn new_id<K: IdKind>(&self) -> Id<K> {
        let app = &self.edge().app;
        Id::new(app.clock.as_ref(), app.rng.as_ref())
    }

    /// The id of acme or globex.
    pub fn tenant_id(&self, tenant: &str) -> TenantId {
        self.person(tenant, Role::Owner).tenant_id
    }

    /// The audit log of acme or globex, oldest first.
    pub async fn audit_of(&self, tenant: &str) -> Vec<Value> {
        let sql = "select to_jsonb(l) from audit_log l where tenant_id = $1 order by seq";
        let rows = self.root.query(sql, &[&self.tenant_id(tenant)]).await.expect("the audit log can be read");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The backend that the monitor of the database asks over. It is known by the empty statement: nobody else sends one.
    pub async fn monitor(&self) -> i32 {
        let sql = "select pid from pg_stat_activity where datname = current_database() and usename = 'erp_app' \
            and query = '' and query_start is not null";
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(row) = self.root.query_opt(sql, &[]).await.expect("the test's SQL") {
                return row.get(0);
            }
            assert!(tokio::time::Instant::now() < deadline, "the monitor has a connection of its own");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The caller that a handler gets when `actor` calls: for tests of transactions. Wants the module [`crate::PROBE`].
    pub async fn caller(&self, actor: &Actor<'_>) -> Caller {
        let request =
            Request::get("/test/caller").header("authorization", format!("Bearer {}", actor.token()));
        self.handed_over(request).await
    }

    /// The right to work as the system, under the name `test`: for tests of transactions. Wants the module [`crate::PROBE`].
    pub async fn system(&self) -> System {
        self.handed_over(Request::get("/test/system")).await
    }

    async fn handed_over<T: Clone + Send + Sync + 'static>(&self, request: http::request::Builder) -> T {
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let peer = Peer { address: self.address().ip(), tls: false };
        let response = Arc::clone(self.edge()).handle(peer, request).await;
        response.extensions().get::<T>().cloned().expect("PROBE is built in, and the actor signed in")
    }

    /// From here on, errors in the log and answers of 500 and above are what the test is about.
    pub fn expect_errors(&self) {
        self.errors_expected.set(true);
    }

    pub(crate) fn http(&self) -> &Http<HttpConnector, Full<Bytes>> {
        &self.http
    }

    /// Ends the test: no fault was logged, no connection was left in a transaction or with a tenant, and the app stops.
    pub async fn finish(mut self) {
        self.assert_connections_are_clean().await;
        let running = self.running.take().expect("`finish` takes the app");
        assert!(running.stop().await, "the app did not stop within SHUTDOWN_TIMEOUT");
        let faults = self.log.faults();
        assert!(
            self.errors_expected.get() || faults.is_empty(),
            "the log has faults that the test has not announced by `expect_errors`: {}",
            faults.join("; ")
        );
    }

    /// T-04: no connection of the pool is inside a transaction, and none carries a tenant.
    pub async fn assert_connections_are_clean(&self) {
        let in_transaction = "select coalesce(string_agg(query, '; '), '') from pg_stat_activity \
            where datname = current_database() and usename in ('erp_app', 'erp_system') and state <> 'idle'";
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let busy: String = self.root.query_one(in_transaction, &[]).await.expect("the test's SQL").get(0);
            if busy.is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "a connection is still in a transaction: {busy}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let left = self.edge().app.tenants_left_behind().await.expect("the sessions answer");
        assert!(left.is_empty(), "connections carry the tenants {left:?}");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.tail(40).iter().for_each(|line| eprintln!("{line}"));
        }
        self.database.remove();
        let _ = std::fs::remove_dir_all(&self.files); // most tests have none
        assert!(self.running.is_none() || std::thread::panicking(), "end the test with `app.finish().await`");
    }
}
