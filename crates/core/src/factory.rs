//! Puts the app, the modules' routes and the product's own middleware together: what answers requests.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use tower::{Layer, Service};

use crate::app::App;
use crate::audit::AUDIT;
use crate::auth::{EntitlementTable, GuardedColumns, PermissionTable};
use crate::config::{Config, SettingsSchema};
use crate::encryption::ENCRYPTION;
use crate::events::SubscriberTable;
use crate::files::{FileKind, FileKinds};
use crate::health::{HEALTH, OWN_CHECKS};
use crate::imports::IMPORTS;
use crate::jobs::{AnyJobKind, JobTable, ScheduleTable};
use crate::lifecycle::{Exit, StartError};
use crate::mailer::MAIL;
use crate::middleware::{Application, Edge, RouteTable, Switches, Wrap, wrap};
use crate::module::{
    Authentication, Module, OperatorAuthentication, Product, Route, Routes, SecurityHeaders, Tenancy,
    guarded_fields, refuse_undeclared,
};
use crate::openapi::{Contract, OPENAPI};
use crate::platform_log::PLATFORM_LOG;
use crate::static_files::STATIC_FILES;
use crate::stored_files::FILES;
use crate::subjects::ERASURES;
use crate::usage::USAGE;
use crate::worker::{EVENTS, MAINTENANCE, WORKER};

/// The module that custom routes are logged under.
const CUSTOM: &str = "custom";

/// How an application differs from the plain one.
///
/// Only what does not carry the isolation of tenants can be switched: the request's id, its limits of size, the panic
/// guard, authentication, the tenant and the access rule are always on, for custom routes too.
///
/// ```no_run
/// use axum::response::Response;
/// use erp_core::bootstrap::{BootstrapOptions, LogSetup, bootstrap};
/// use erp_core::config::Layers;
/// use erp_core::factory::AppOptions;
/// use erp_core::module::{Access, Product};
///
/// async fn hello() -> &'static str {
///     "hello"
/// }
///
/// # async fn start(product: &Product, layers: &Layers) -> Result<(), erp_core::lifecycle::StartError> {
/// let mut options = BootstrapOptions::new(LogSetup::Install { terminal: false }, "/usr/bin".into());
/// options.app = AppOptions::new()
///     .enable_cors(true)
///     .enable_request_log(true)
///     .enable_security_headers(false) // the proxy in front sets them
///     .custom_middleware(axum::middleware::map_response(|mut response: Response| async {
///         response.headers_mut().insert("x-served-by", http::HeaderValue::from_static("erp"));
///         response
///     }))
///     .custom_routes(|routes| routes.get("/custom", Access::Public, hello));
/// let context = bootstrap(product, layers, options).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct AppOptions {
    switches: Switches,
    layers: Vec<Wrap>,
    routes: Routes,
}

impl AppOptions {
    /// Everything on, nothing added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether each request leaves an `http` line. Metrics are `METRICS_ENABLED`'s. Default: yes.
    #[must_use]
    pub fn enable_request_log(mut self, enable: bool) -> Self {
        self.switches.request_log = enable;
        self
    }

    /// Whether answers carry the security headers: not needed behind a proxy that sets its own. Default: yes.
    #[must_use]
    pub fn enable_security_headers(mut self, enable: bool) -> Self {
        self.switches.security_headers = enable.then(SecurityHeaders::json);
        self
    }

    /// Other security headers than [`SecurityHeaders::json`], on the answers of all routes that have none of their own.
    #[must_use]
    pub fn security_headers(mut self, headers: SecurityHeaders) -> Self {
        self.switches.security_headers = Some(headers);
        self
    }

    /// Whether pages of `CORS_ORIGINS` may read answers in a browser; without it none may, also in development.
    /// Default: yes.
    #[must_use]
    pub fn enable_cors(mut self, enable: bool) -> Self {
        self.switches.cors = enable;
        self
    }

    /// Whether `REQUEST_TIMEOUT` ends requests. Without it only `DATABASE_TIMEOUT` bounds them. Default: yes.
    #[must_use]
    pub fn enable_deadline(mut self, enable: bool) -> Self {
        self.switches.deadline = enable;
        self
    }

    /// Whether answers are compressed for clients that accept it, as `COMPRESSION` does: not needed behind a proxy that
    /// compresses. Default: yes.
    #[must_use]
    pub fn enable_compression(mut self, enable: bool) -> Self {
        self.switches.compression = enable;
        self
    }

    /// Whether clients are limited and slowed down. Failed sign-ins are, whatever this says. Default: yes.
    #[must_use]
    pub fn enable_rate_limit(mut self, enable: bool) -> Self {
        self.switches.rate_limit = enable;
        self
    }

    /// An ordinary tower layer around everything that answers; the first is the outermost. It sees requests before they
    /// are authenticated, and [`crate::middleware::Peer`] in their extensions.
    #[must_use]
    pub fn custom_middleware<L>(mut self, layer: L) -> Self
    where
        L: Layer<Application> + Send + 'static,
        L::Service: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.layers.push(wrap(layer));
        self
    }

    /// Routes that belong to no module. As everywhere, each states who may call it.
    #[must_use]
    pub fn custom_routes(mut self, add: impl FnOnce(Routes) -> Routes) -> Self {
        self.routes = add(self.routes);
        self
    }
}

/// The product's modules, and the core's own.
pub fn modules(product: &Product) -> impl Iterator<Item = &'static Module> {
    [
        &HEALTH,
        &STATIC_FILES,
        &OPENAPI,
        &WORKER,
        &EVENTS,
        &IMPORTS,
        &MAINTENANCE,
        &ENCRYPTION,
        &ERASURES,
        &FILES,
        &MAIL,
        &USAGE,
        &AUDIT,
        &PLATFORM_LOG,
    ]
    .into_iter()
    .chain(product.modules.iter().copied())
}

/// Every setting of the product: the core's, and those of its modules.
pub fn settings(product: &Product) -> SettingsSchema {
    modules(product).fold(SettingsSchema::core(), |schema, module| schema.with(module.name, module.settings))
}

/// What the routes of all modules and the custom ones promise.
pub fn contract(product: &Product, custom: Routes) -> Arc<Contract> {
    with_custom(product, custom.of(CUSTOM).collect())
}

fn with_custom(product: &Product, custom: Vec<Route>) -> Arc<Contract> {
    let modules: Vec<_> = modules(product).collect();
    let routes = modules.iter().flat_map(|module| (module.routes)().of(module.name));
    let routes = routes.chain(custom).collect();
    Contract::new(product, &modules, routes)
}

/// Creates what answers requests.
///
/// # Errors
/// `Exit::Internal` when two routes claim the same method and path, or a content security policy is none.
pub fn create_app(app: App, product: &Product, options: AppOptions) -> Result<Arc<Edge>, StartError> {
    if let Some(invalid) = options.switches.security_headers.as_ref().and_then(SecurityHeaders::invalid) {
        return Err(StartError::new(Exit::Internal, invalid.to_string()));
    }
    used_modules_come_first(product)?;
    caches_have_names_of_their_own(product)?;
    events_have_names_of_their_own(product)?;
    files_have_names_of_their_own(product)?;
    probes_have_names_of_their_own(product)?;
    let custom: Vec<_> = options.routes.of(CUSTOM).collect();
    refuse_undeclared(&modules(product).collect::<Vec<_>>(), &custom)?;
    let contract = with_custom(product, custom);
    let routes = RouteTable::new(contract.all_routes())?;
    let authentication = authentication(product, &routes)?;
    let operators = operators(product, &routes)?;
    Ok(Edge::new(app, routes, (authentication, operators), options.switches, options.layers))
}

/// Every permission of every module.
pub fn permissions(product: &Product) -> PermissionTable {
    PermissionTable::new(modules(product).flat_map(|module| module.permissions).copied())
}

/// The columns of all modules that want a permission of their own.
pub(crate) fn guarded_columns(product: &Product) -> GuardedColumns {
    let (modules, permissions): (Vec<_>, _) = (modules(product).collect(), permissions(product));
    GuardedColumns::new(move || guarded_fields(&modules, &permissions))
}

/// What every module declares that tenants have.
///
/// # Errors
/// `Exit::Internal` for a setting or a flag whose name is not its own.
pub fn entitlements(product: &Product, config: &Config) -> Result<EntitlementTable, StartError> {
    let mut names = BTreeSet::new();
    for module in modules(product) {
        let settings = module.tenant_settings.iter().map(|setting| ("setting", setting.facts().name));
        let flags = module.flags.iter().map(|flag| ("flag", flag.name));
        let meters = module.meters.iter().map(|meter| ("meter", meter.name));
        let is_core = product.modules.iter().all(|other| other.name != module.name);
        let prefix = if is_core { "core" } else { module.name };
        for (what, name) in settings.chain(flags).chain(meters) {
            let is_its_own = name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
            if !is_its_own || !names.insert((what, name)) {
                let what = format!("The {what} '{name}' of '{}' has a name that is not its own", module.name);
                let fix = format!("call it '{prefix}.' and a word that no other has");
                return Err(StartError::with_fix(Exit::Internal, what, fix));
            }
        }
    }
    let settings = modules(product).flat_map(|module| module.tenant_settings).copied();
    let flags = modules(product).flat_map(|module| module.flags).copied();
    let meters = modules(product).flat_map(|module| module.meters).copied();
    Ok(EntitlementTable::new(settings, flags, meters, config.features.clone()))
}

/// How the product tells what tenants have, if it does.
pub(crate) fn tenancy(product: &Product) -> Result<Option<&'static Tenancy>, StartError> {
    let mut telling = modules(product).filter_map(|module| module.tenancy);
    match (telling.next(), telling.next()) {
        (first, None) => Ok(first),
        _ => Err(StartError::new(Exit::Internal, "Two modules have `tenancy`: only one of them can tell it")),
    }
}

/// Every kind of job of every module.
pub(crate) fn jobs(product: &Product) -> JobTable {
    let jobs = modules(product).flat_map(|module| module.jobs).copied();
    let subscribers = modules(product).flat_map(|module| module.subscribers);
    JobTable::new(jobs.chain(subscribers.copied().map(|subscriber| subscriber as &dyn AnyJobKind)))
}

/// Every subscriber of every module.
pub fn subscribers(product: &Product) -> SubscriberTable {
    SubscriberTable::new(modules(product).flat_map(|module| module.subscribers).copied())
}

/// Every kind of file of every module.
pub(crate) fn file_kinds(product: &Product) -> FileKinds {
    FileKinds::new(modules(product).flat_map(|module| module.files).copied())
}

/// The names of the templates of mails of every module, and the statement that tells what a tenant calls itself.
///
/// # Errors
/// `Exit::Internal` for a template whose name is not its own, or where two modules tell what tenants call themselves.
pub(crate) fn mails(product: &Product) -> Result<(BTreeSet<&'static str>, Option<&'static str>), StartError> {
    let mut names = BTreeSet::new();
    for module in modules(product) {
        for name in module.mails.iter().map(|template| template.facts().name) {
            let is_its_own = name.strip_prefix(module.name).is_some_and(|rest| rest.starts_with('.'));
            if !is_its_own || !names.insert(name) {
                let what = format!("The mail '{name}' of '{}' has a name that is not its own", module.name);
                let fix = format!("call it '{}.' and a word that no other mail has", module.name);
                return Err(StartError::with_fix(Exit::Internal, what, fix));
            }
        }
    }
    let mut telling = modules(product).filter_map(|module| module.tenant_name);
    match (telling.next(), telling.next()) {
        (first, None) => Ok((names, first)),
        _ => Err(StartError::new(
            Exit::Internal,
            "Two modules have `tenant_name`: only one of them can tell it",
        )),
    }
}

/// A promotional mail has a link by which its recipient unsubscribes, and that leads to `PUBLIC_URL`.
pub(crate) fn links_lead_somewhere(product: &Product, config: &Config) -> Result<(), StartError> {
    let mut promotional = modules(product).flat_map(|module| module.mails).map(|template| template.facts());
    match promotional.find(|facts| facts.promotional) {
        Some(facts) if crate::mailer::link_base(config).is_none() => Err(StartError::with_fix(
            Exit::Configuration,
            format!("PUBLIC_URL is not set, and the mail '{}' has a link to unsubscribe by", facts.name),
            "set it to where clients reach this API",
        )),
        _ => Ok(()),
    }
}

/// Every schedule of every module.
///
/// # Errors
/// `Exit::Internal` for one that could not fire, with what to write.
pub(crate) fn schedules(product: &Product) -> Result<ScheduleTable, StartError> {
    let rows = modules(product).flat_map(|module| module.schedules.iter().map(|row| (module.name, *row)));
    ScheduleTable::new(rows, &jobs(product))
}

/// A module that another one uses is built in, and stands before it.
fn used_modules_come_first(product: &Product) -> Result<(), StartError> {
    let mut before: Vec<&str> = Vec::new();
    for module in product.modules {
        if let Some(missing) = module.uses.iter().find(|used| !before.contains(used)) {
            let why = format!(
                "The module '{}' uses '{missing}', which does not stand before it in the product's list of modules",
                module.name
            );
            return Err(StartError::new(Exit::Internal, why));
        }
        before.push(module.name);
    }
    Ok(())
}

/// Caches are told apart by their names, in metrics and in Redis; and each begins with that of its module.
fn caches_have_names_of_their_own(product: &Product) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    for module in modules(product) {
        for name in module.caches.iter().map(|cache| cache.facts().name) {
            let is_its_own = name.strip_prefix(module.name).is_some_and(|rest| rest.starts_with('.'));
            if !is_its_own || !names.insert(name) {
                let what = format!("The cache '{name}' of '{}' has a name that is not its own", module.name);
                let fix = format!("call it '{}.' and a word that no other cache has", module.name);
                return Err(StartError::with_fix(Exit::Internal, what, fix));
            }
        }
    }
    Ok(())
}

/// Events and subscribers are told apart by their names, in the database; and each begins with that of its module.
fn events_have_names_of_their_own(product: &Product) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    for module in modules(product) {
        let events = module.events.iter().map(|kind| ("event", kind.facts().name));
        let subscribers = module.subscribers.iter().map(|subscriber| ("subscriber", subscriber.facts().name));
        let jobs = module.jobs.iter().map(|kind| ("job", kind.facts().name));
        for (what, name) in events.chain(subscribers).chain(jobs) {
            let is_its_own = name.strip_prefix(module.name).is_some_and(|rest| rest.starts_with('.'));
            let is_read_as = if what == "event" { "event" } else { "job" }; // a subscriber is a kind of job
            if (what != "job" && !is_its_own) || !names.insert((is_read_as, name)) {
                let what = format!("The {what} '{name}' of '{}' has a name that is not its own", module.name);
                let fix = format!("call it '{}.' and a word that no other has", module.name);
                return Err(StartError::with_fix(Exit::Internal, what, fix));
            }
        }
    }
    Ok(())
}

/// Files are found by the name of their kind; and each begins with that of its module, whose routes alone take them.
fn files_have_names_of_their_own(product: &Product) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    for module in modules(product) {
        for kind in module.files {
            let name = kind.name;
            let is_its_own = name.strip_prefix(module.name).is_some_and(|rest| rest.starts_with('.'));
            if !is_its_own || !names.insert(name) {
                let what =
                    format!("The kind of file '{name}' of '{}' has a name that is not its own", module.name);
                let fix = format!("call it '{}.' and a word that no other kind has", module.name);
                return Err(StartError::with_fix(Exit::Internal, what, fix));
            }
        }
        let declared = |kind: &FileKind| module.files.iter().any(|known| std::ptr::eq(*known, kind));
        let mut taken =
            (module.routes)().of(module.name).filter_map(|route| Some((route.path, route.upload?)));
        if let Some((path, kind)) = taken.find(|(_, kind)| !declared(kind)) {
            let what =
                format!("{path} takes a file '{}', which is not in the row of '{}'", kind.name, module.name);
            return Err(StartError::with_fix(Exit::Internal, what, "add it there, as `files: &[&KIND]`"));
        }
    }
    Ok(())
}

/// Checks of `/health/detailed` are told apart by their names.
fn probes_have_names_of_their_own(product: &Product) -> Result<(), StartError> {
    let mut names: BTreeSet<_> = OWN_CHECKS.iter().copied().collect();
    for module in modules(product) {
        if let Some(probe) = module.probes.iter().find(|probe| !names.insert(probe.name)) {
            let what =
                format!("The probe '{}' of '{}' has the name of another check", probe.name, module.name);
            return Err(StartError::with_fix(Exit::Internal, what, "rename it"));
        }
    }
    Ok(())
}

/// How the product tells who asks.
fn authentication(
    product: &Product,
    routes: &RouteTable,
) -> Result<Option<&'static Authentication>, StartError> {
    let refused = |why: String| Err(StartError::new(Exit::Internal, why));
    let mut offered =
        modules(product).filter_map(|module| module.authentication.map(|offered| (module.name, offered)));
    let Some((first, authentication)) = offered.next() else {
        return match routes.iter().find(|route| route.is_members()) {
            Some(route) => refused(format!(
                "{} is for members of a tenant, and no module tells who they are: add one with `authentication`",
                route.path
            )),
            None => Ok(None),
        };
    };
    match offered.next() {
        Some((second, _)) => refused(format!(
            "The modules '{first}' and '{second}' both tell who asks: only one of them can have `authentication`"
        )),
        None => Ok(Some(authentication)),
    }
}

/// How the product tells which operator asks.
fn operators(
    product: &Product,
    routes: &RouteTable,
) -> Result<Option<&'static OperatorAuthentication>, StartError> {
    let mut offered = modules(product).filter_map(|module| module.operators);
    let refused = |why: String| Err(StartError::new(Exit::Internal, why));
    let first = offered.next();
    if offered.next().is_some() {
        return refused(
            "Two modules tell which operator asks: only one of them can have `operators`".to_owned(),
        );
    }
    match routes.iter().find(|route| first.is_none() && route.is_operators()) {
        Some(route) => refused(format!(
            "{} is for operators, and no module tells who they are: add one with `operators`",
            route.path
        )),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::module::Probe;

    static NAMED_AS_A_CHECK: Module = Module {
        name: "twice",
        probes: &[Probe {
            name: "files",
            required: false,
            timeout: Duration::from_secs(1),
            check: |_| Box::pin(std::future::ready(Ok(()))),
        }],
        ..Module::BARE
    };

    #[test]
    fn a_probe_with_the_name_of_another_check_refuses_the_start() {
        static MODULES: &[&Module] = &[&NAMED_AS_A_CHECK];
        let product = |modules| Product {
            name: "test",
            version: "0",
            modules,
            seed: |_| Box::pin(std::future::ready(Ok(()))),
        };
        assert!(probes_have_names_of_their_own(&product(&[])).is_ok());
        let refused = probes_have_names_of_their_own(&product(MODULES)).unwrap_err();
        assert!(refused.message.contains("The probe 'files' of 'twice' has the name of another check"));
    }
}
