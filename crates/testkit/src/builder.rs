use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap, start_server};
use erp_core::config::{Layers, MapSource};
use erp_core::factory::AppOptions;
use erp_core::module::{Authentication, Module, Product};
use erp_core::outbound::{GivenBy, Resolver};
use erp_core::shared::ManualClock;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;

use crate::{Database, Log, Pooler, TestApp};

/// The key of every test's tokens, for tests that forge some.
pub const JWT_SECRET: &str = "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa";
const ENCRYPTION_KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";
const SETTINGS: [(&str, &str); 12] = [
    ("APP_ENV", "development"),
    ("HOST", "127.0.0.1"),
    ("LOG_LEVEL", "debug"),
    ("JWT_SECRET", JWT_SECRET),
    ("ENCRYPTION_KEY", ENCRYPTION_KEY),
    ("WEBHOOK_SECRET", "q8Zr5Xw2Nk7Lm3Vt9Bc4Hd6Jf1Gs0PyAeU"),
    ("AUDIT_SIGNING_KEY", "0JmRzU1r8sQ2v0gk3mPwq5nX7yBd9eLf4hTa6cVuW1o="),
    // A test of the audit log says when it is sealed.
    ("AUDIT_SEAL_INTERVAL", "24h"),
    ("SHUTDOWN_TIMEOUT", "5s"),
    // A test of jobs says how many work.
    ("JOB_WORKERS", "0"),
    // All clients of a test are one address.
    ("RATE_LIMIT_MAX", "1000000"),
    ("RATE_LIMIT_AUTH_MAX", "100"),
];

/// How a [`TestApp`] differs from the plain one.
pub struct Builder {
    settings: Vec<(String, String)>,
    product: Product,
    modules: Vec<&'static Module>,
    authentication: Option<&'static Authentication>,
    options: AppOptions,
    pooled: bool,
    statements_logged: bool,
    names: HashMap<String, IpAddr>,
    database: Option<Database>,
}

impl Builder {
    /// With `TEST_POOLER=1` every app is behind a pooler: script/check-deep runs the tests of isolation so.
    pub(crate) fn new(product: Product) -> Self {
        let pooled = std::env::var("TEST_POOLER").as_deref() == Ok("1");
        Self {
            settings: Vec::new(),
            product,
            modules: Vec::new(),
            authentication: None,
            options: AppOptions::new(),
            pooled,
            statements_logged: false,
            names: HashMap::from([("localhost".to_owned(), Ipv4Addr::LOCALHOST.into())]),
            database: None,
        }
    }

    /// Sets a setting, as a process's environment would.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a module to the product's.
    #[must_use]
    pub fn module(mut self, module: &'static Module) -> Self {
        self.modules.push(module);
        self
    }

    /// Tells who asks, in place of the product's own module for that.
    #[must_use]
    pub fn authentication(mut self, authentication: &'static Authentication) -> Self {
        self.authentication = Some(authentication);
        self
    }

    /// Custom middleware and routes.
    #[must_use]
    pub fn options(mut self, options: AppOptions) -> Self {
        self.options = options;
        self
    }

    /// Puts PgBouncer in transaction mode before the database; ask [`Pooler::is_installed`] first.
    #[must_use]
    pub fn pooled(mut self) -> Self {
        self.pooled = true;
        self
    }

    /// Lets the name of another service lead to `address`. All names but `localhost` lead nowhere otherwise: no test reaches
    /// beyond this machine by a name.
    #[must_use]
    pub fn name(mut self, host: &str, address: IpAddr) -> Self {
        self.names.insert(host.to_owned(), address);
        self
    }

    /// Lets PostgreSQL log each statement of the app's database, with its parameters: see [`Database::server_log`].
    #[must_use]
    pub fn log_statements(mut self) -> Self {
        self.statements_logged = true;
        self
    }

    /// Makes it another instance of `app`, on its database, with a clock of its own. It finishes before `app`.
    #[must_use]
    pub fn beside(mut self, app: &TestApp) -> Self {
        self.database = Some(app.database.borrowed());
        self
    }

    /// Starts the app on a fresh database, unless it is beside another one.
    pub async fn start(self) -> TestApp {
        self.start_through(|url| url).await
    }

    /// The same, where `way` changes the runtime role's URL: to go through a proxy, say.
    pub async fn start_through(self, way: impl FnOnce(String) -> String) -> TestApp {
        Box::pin(self.launch(way)).await // it is large
    }

    async fn launch(self, way: impl FnOnce(String) -> String) -> TestApp {
        let replaced = |module: &&'static Module| match (module.authentication, self.authentication) {
            (Some(_), Some(authentication)) => {
                let system = with(module.system, &[authentication.system]);
                &*Box::leak(Box::new(Module { authentication: Some(authentication), system, ..**module }))
            }
            _ => *module,
        };
        let modules: Vec<_> = self.product.modules.iter().map(replaced).collect();
        let product = Product { modules: with(&modules, &self.modules), ..self.product };
        let database = match self.database {
            Some(database) => database,
            None => Database::create(&product).await,
        };
        if self.statements_logged {
            let sql = format!("alter database {} set log_statement = 'all'", database.name);
            database.superuser().await.batch_execute(&sql).await.expect("a superuser may");
        }
        let direct = database.roles.runtime_url.clone();
        let (pooler, url) = if self.pooled {
            let (pooler, url) = Pooler::start(&direct);
            (Some(pooler), url)
        } else {
            (None, direct)
        };
        let url = way(url);
        let clock = Arc::new(ManualClock::new("2026-02-03T04:05:06Z".parse().expect("a timestamp")));
        let log = Log::capture(Arc::<ManualClock>::clone(&clock));
        let prepared = if self.pooled { "off" } else { "on" };
        let system_url = url.replacen("//erp_app", "//erp_system", 1);
        let files = std::env::temp_dir().join(format!("erp-files-{}", database.name));
        let files_url = format!("file://{}", files.display());
        let ours = [
            ("FILES_URL", files_url.as_str()),
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_SYSTEM_URL", &system_url),
            ("DATABASE_PREPARED_STATEMENTS", prepared),
        ];
        let defaults = SETTINGS.into_iter().chain(ours);
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = MapSource::environment(defaults.chain(self.settings));
        let mut options = BootstrapOptions::new(LogSetup::Given(log.logging.clone()), OsString::new());
        options.clock = Arc::<ManualClock>::clone(&clock);
        options.app = self.options;
        options.resolver = Arc::new(GivenNames(self.names));
        let context = bootstrap(&product, &Layers::from(settings), options).await.expect("the app starts");
        let running = start_server(context, 0, "127.0.0.1").await.expect("the server starts");
        TestApp {
            product,
            running: Some(running),
            root: database.superuser().await,
            database,
            pooler,
            files,
            http: Http::builder(TokioExecutor::new()).build_http(),
            clock,
            log,
            errors_expected: Cell::new(false),
        }
    }
}

/// The names of other services, as the test gives them.
struct GivenNames(HashMap<String, IpAddr>);

impl Resolver for GivenNames {
    fn resolve(&self, host: &str, _: GivenBy) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let found = self.0.get(host.trim_end_matches('.')).map(|address| vec![*address]);
        let found = found.ok_or_else(|| io::Error::other("the test gives no such name: see Builder::name"));
        Box::pin(std::future::ready(found))
    }
}

/// The product with modules more, as long-lived as its own.
pub fn with_modules(product: Product, modules: &[&'static Module]) -> Product {
    Product { modules: with(product.modules, modules), ..product }
}

/// A product's list with rows of the test's own: as long-lived as the product's.
fn with<T: Copy>(table: &[T], more: &[T]) -> &'static [T] {
    Box::leak([table, more].concat().into_boxed_slice())
}
