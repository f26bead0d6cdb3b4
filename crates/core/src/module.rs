//! What a feature module is: static tables, and routes that do not compile without an access rule.

mod authentication;
mod csp;
mod deprecation;
mod gauge;
mod guards;
mod operation;
mod reference;
mod security_headers;
mod system;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
/// What a module's asynchronous functions return where they stand in a table.
pub use futures_util::future::BoxFuture;
pub use http::Method;
use tokio::sync::OnceCell;

use crate::answer::{Endpoint, Outputs};
use crate::app::App;
pub use crate::app::{Probe, Tenancy};
pub use crate::assets::Asset;
use crate::auth::{AnyTenantSetting, Caller, Flag, GuardedFields, Meter, Permission, RequiredAction, Role};
use crate::cache::DeclaredCache;
use crate::config::Section;
use crate::db::{
    Migration, Namespace, PersonalData, RetentionDuty, RowCondition, Sample, Schema, SystemWork,
};
use crate::error::{Carried, Error, ErrorCode};
use crate::events::{AnyEventKind, AnySubscriber};
use crate::extract::{Inputs, UploadedKind};
use crate::files::FileKind;
use crate::jobs::{AnyJobKind, Schedule};
use crate::lifecycle::{Background, StartError};
use crate::limits::Policy;
use crate::mail::AnyMailTemplate;
use crate::metrics::MetricTable;
use crate::resource::{States, Transition};
pub use authentication::{Authentication, Lookup, NamedTenant, OperatorAuthentication};
pub use csp::{Csp, InvalidCsp};
pub(crate) use deprecation::{Deprecation, InvalidDeprecation};
pub use gauge::SystemGauge;
pub use guards::undeclared_field_permissions;
pub(crate) use guards::{MARK as PERMISSION_MARK, guarded_fields, permissions_of};
pub use operation::Operation;
pub use reference::{
    entitlements_markdown, events_markdown, jobs_markdown, mails_markdown, permissions_markdown,
    routes_markdown, schedules_markdown, states_markdown,
};
pub use security_headers::SecurityHeaders;
pub(crate) use system::refuse_undeclared;
pub use system::system_work_markdown;

/// Everything that is built into one binary.
#[derive(Clone, Copy)]
pub struct Product {
    /// The product's name, as in the banner.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its modules.
    pub modules: &'static [&'static Module],
    /// Makes the demo tenants of development.
    pub seed: fn(Seed<'_>) -> BoxFuture<'_, Result<(), StartError>>,
}

impl Product {
    /// All migrations and samples of core and the modules, in order.
    ///
    /// # Errors
    /// `Exit::Internal` for migrations that cannot be applied in order, with what to correct in their lists.
    pub fn schema(&self) -> Result<Schema, StartError> {
        Schema::new(self.namespaces())
    }

    /// What each module adds to the schema, in the order of the modules.
    pub fn namespaces<'a>(&self) -> impl Iterator<Item = Namespace<'a>> + use<'a> {
        self.modules.iter().map(|module| Namespace {
            name: module.name,
            migrations: module.migrations,
            samples: module.samples,
            personal: module.personal,
            duties: module.duties,
        })
    }
}

/// What making the demo tenants needs.
pub struct Seed<'a> {
    /// The product whose modules bring rows: see [`Module::demo`].
    pub product: &'a Product,
    /// The database, as its owner.
    pub owner: &'a crate::db::Owner,
    /// Hashes the demo passwords.
    pub passwords: &'a crate::auth::Passwords,
    /// Where `demo-credentials.json` goes.
    pub data_dir: &'a std::path::Path,
    /// Whether people who are there get new passwords; else they keep those they have.
    pub new_passwords: bool,
    /// The time, for ids.
    pub clock: &'a dyn crate::shared::Clock,
    /// Randomness, for ids and passwords.
    pub rng: &'a dyn crate::shared::Rng,
}

/// A feature: what it adds to each of the house's tables.
#[derive(Clone, Copy)]
pub struct Module {
    /// One lower-case word; the first part of its permissions' and errors' names, and `module` in its log lines.
    pub name: &'static str,
    /// A sentence on it, for those who read the API's documentation.
    pub about: &'static str,
    /// The modules whose facade it uses, by name. They stand before it in the product's list, so that none uses another in a
    /// circle.
    pub uses: &'static [&'static str],
    /// Its permissions, from `permissions!`.
    pub permissions: &'static [&'static Permission],
    /// Its error codes, from `error_codes!`.
    pub errors: &'static [&'static ErrorCode],
    /// Its settings, from `settings!`: `&[Section::of::<…>()]`. Their names begin with the module's.
    pub settings: &'static [Section],
    /// Its metrics, from `metrics!`: `&[MetricTable::of::<…>()]`. Their names begin with the module's.
    pub metrics: &'static [MetricTable],
    /// Gauges of what the rows of all tenants say: `&[&DISABLED_ENDPOINTS]`.
    pub gauges: &'static [&'static SystemGauge],
    /// Its routes.
    pub routes: fn() -> Routes,
    /// The kinds of jobs that it has: `&[&REMIND]`. Their names begin with the module's.
    pub jobs: &'static [&'static dyn AnyJobKind],
    /// What it tells others of: `&[&APPROVED]`. Their names begin with the module's.
    pub events: &'static [&'static dyn AnyEventKind],
    /// Who is told of events, its own or other modules': `&[&ON_APPROVED]`. Their names begin with the module's.
    pub subscribers: &'static [&'static dyn AnySubscriber],
    /// The kinds of files that it has: `&[&ATTACHMENT]`. Their names begin with the module's.
    pub files: &'static [&'static FileKind],
    /// The templates of the mails that it sends: `&[&APPROVED]`. Their names begin with the module's.
    pub mails: &'static [&'static dyn AnyMailTemplate],
    /// The statement that tells what the current tenant calls itself, if it is the one module that knows: the sender's name in
    /// mails. It returns one row with the column `name`, or none.
    pub tenant_name: Option<&'static str>,
    /// What it keeps of what it has read. The names begin with the module's.
    pub caches: &'static [&'static dyn DeclaredCache],
    /// The jobs that the clock enqueues: `&[&NIGHTLY]`. Their names begin with the module's.
    pub schedules: &'static [&'static Schedule],
    /// Work of its own that runs beside requests, once everything is started. The names begin with the module's.
    pub background: &'static [&'static Background<App>],
    /// What it does as the system, beyond what a caller may, from `system_work!`.
    pub system: &'static [&'static SystemWork],
    /// The background tasks that do some of it, by name, for the reference. Today they are the core's own.
    pub system_background: &'static [(&'static str, &'static SystemWork)],
    /// The verbs of operators that do some of it, by name: `&[("webhooks", &OPERATE)]`. Its
    /// [`OperatorSession`](crate::bootstrap::OperatorSession) opens by this row.
    pub system_verbs: &'static [(&'static str, &'static SystemWork)],
    /// How it tells who asks, if it is the one module that does.
    pub authentication: Option<&'static Authentication>,
    /// How it tells which operator asks, if it is the one module that does.
    pub operators: Option<&'static OperatorAuthentication>,
    /// What each tenant sets for itself: `&[&CURRENCY]`. Their names begin with the module's.
    pub tenant_settings: &'static [&'static dyn AnyTenantSetting],
    /// What is on for some tenants and off for others: `&[&NEW_LIST]`. Their names begin with the module's.
    pub flags: &'static [&'static Flag],
    /// What is counted of tenants: `&[&ITEMS]`. Their names begin with the module's.
    pub meters: &'static [&'static Meter],
    /// How it tells what tenants have, if it is the one module that does.
    pub tenancy: Option<&'static Tenancy>,
    /// What it depends on beside the database.
    pub probes: &'static [Probe],
    /// Files that its pages refer to.
    pub assets: &'static [Asset],
    /// Its migrations, from `migrations!`: their names in the database begin with the module's.
    pub migrations: &'static [Migration],
    /// The states of its documents, from `states!`: `&[Status::STATES]`.
    pub states: &'static [&'static States],
    /// Its tables of which one sees one's own rows only: see `app.row_condition`.
    pub row_conditions: &'static [RowCondition],
    /// A sample row for each of its tenant tables, from `samples!`, for the isolation proof.
    pub samples: &'static [Sample],
    /// What its tables hold of people: `&[CONTACTS]`. See [`PersonalData`].
    pub personal: &'static [PersonalData],
    /// Laws that want some of it to be kept: `&[VOUCHERS]`. Their names begin with the module's.
    pub duties: &'static [RetentionDuty],
    /// Statements that make its rows in a demo tenant of development, executed once in each, in this order.
    pub demo: &'static [&'static str],
}

impl Module {
    /// A module with nothing in it: write what yours has, and `..Module::BARE` for the rest.
    pub const BARE: Self = Self {
        name: "",
        about: "",
        uses: &[],
        permissions: &[],
        errors: &[],
        settings: &[],
        metrics: &[],
        gauges: &[],
        routes: Routes::new,
        jobs: &[],
        events: &[],
        subscribers: &[],
        files: &[],
        mails: &[],
        tenant_name: None,
        caches: &[],
        schedules: &[],
        background: &[],
        system: &[],
        system_background: &[],
        system_verbs: &[],
        authentication: None,
        operators: None,
        tenant_settings: &[],
        flags: &[],
        meters: &[],
        tenancy: None,
        probes: &[],
        assets: &[],
        migrations: &[],
        states: &[],
        row_conditions: &[],
        samples: &[],
        personal: &[],
        duties: &[],
        demo: &[],
    };
}

/// Who may call a route.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Anybody: probes and sign-in.
    Public,
    /// Monitoring only: everybody in development, else those who hold `METRICS_TOKEN`; for others it does not exist.
    Management,
    /// Operators of the platform, who have signed in as such: no credential of a tenant opens it.
    Operator,
    /// Any member of a tenant.
    SignedIn,
    /// Members with this permission.
    Permission(&'static Permission),
}

/// Whom a route is for. It decides which listener has it, and what of the chain applies: the limits and the bound on
/// requests, HTTPS, and how its callers say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Surface {
    /// Anybody, on the public listener: within the limits of an address.
    Public,
    /// Members of a tenant, on the public listener: with a credential, within the limits of its principal.
    Tenant,
    /// Operators of the platform, on the public listener: with a credential of their own, within the limits of an address.
    Operators,
    /// Monitoring, also on the management listener, and never limited: overload is when it is looked at.
    Management,
    /// Orchestrators and monitors: as for management, and over plain HTTP too.
    Probe,
}

impl Surface {
    /// That of a route which does not say.
    const fn of(access: Access) -> Self {
        match access {
            Access::Public => Self::Public,
            Access::Management => Self::Management,
            Access::Operator => Self::Operators,
            Access::SignedIn | Access::Permission(_) => Self::Tenant,
        }
    }

    /// Whether a route with this rule of access can be for them.
    pub(crate) const fn admits(self, access: Access) -> bool {
        match self {
            Self::Public => matches!(access, Access::Public),
            Self::Operators => matches!(access, Access::Operator),
            Self::Tenant => matches!(access, Access::SignedIn | Access::Permission(_)),
            Self::Management | Self::Probe => matches!(access, Access::Public | Access::Management),
        }
    }
}

/// Who may keep a route's answers, and for how long (RFC 9111).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nobody: `no-store`, the default, which what a tenant reads must have (H-02).
    NoStore,
    /// The client, which asks each time whether it is still so: `private, no-cache`. For what is not confidential on a
    /// shared machine, and has an `ETag`.
    Revalidate,
    /// Anybody, for ever: `public, max-age=31536000, immutable`. For what changes its path when it changes.
    Immutable,
}

/// A module's routes, in the order in which they are listed and documented.
#[derive(Default)]
pub struct Routes(Vec<Route>);

/// One operation of the API.
#[derive(Clone)]
pub struct Route {
    /// Its method; HEAD is answered by the GET route.
    pub method: Method,
    /// Its path template, such as `/api/v1/items/{id}`; the label in metrics.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whom it is for.
    pub surface: Surface,
    /// Why a member who may only read may change something here all the same.
    pub open_to_readers: Option<&'static str>,
    /// What may be wanted of a member who uses it all the same: to do that, or to leave.
    pub opens_for: &'static [RequiredAction],
    /// The work that its handler does as the system.
    pub system: Option<&'static SystemWork>,
    /// The kind of file that its body is, if it is one.
    pub upload: Option<&'static FileKind>,
    /// Whether its answer shows a secret that is shown once.
    pub shows_secret: bool,
    /// Whether its body is a form of a page: its handler takes a [`FormBody`](crate::extract::FormBody).
    pub takes_form: bool,
    /// How a refusal looks on a page; otherwise it is a problem document.
    pub(crate) refusal: Option<RefusalPage>,
    /// A limit of its own, beside the general one.
    pub limit: Option<&'static Policy>,
    /// The module that it belongs to.
    pub module: &'static str,
    /// The step of a document that it takes, if it does.
    pub transition: Option<&'static Transition>,
    /// What the contract says of it.
    pub operation: Option<Arc<Operation>>,
    pub(crate) inputs: fn(&mut Inputs),
    pub(crate) outputs: fn(&mut Outputs),
    /// Every code that the contract says it refuses with; `None` for a route that is not part of the contract.
    pub(crate) refuses: Option<Arc<[&'static ErrorCode]>>,
    /// Its fields that want a permission of their own, where it has some; looked for at its first request.
    fields: Arc<OnceCell<Option<Arc<GuardedFields>>>>,
    /// Its own security headers, in place of the application's.
    pub(crate) security_headers: Option<SecurityHeaders>,
    /// Since when it is deprecated, if it is, or why what it says of that is wrong, which refuses the start.
    pub(crate) deprecation: Option<Result<Deprecation, InvalidDeprecation>>,
    /// Who may keep its answers.
    pub cache: Cache,
    /// Whether its answers may be compressed.
    pub compress: bool,
    /// The media types that it can answer with, the preferred one first; none: whatever `Accept` says.
    pub produces: &'static [&'static str],
    handler: BoxedHandler,
}

/// Shows a refusal to somebody who looks at a page: of this path.
pub type RefusalPage = fn(&App, &Method, &str, &Error) -> Response;

pub(crate) type BoxedHandler = Arc<dyn Fn(Request, App) -> BoxFuture<'static, Response> + Send + Sync>;

/// The routes of `modules` that change something and that a member who may only read may use without a reason being
/// given: their access rule is too weak, or says less than was meant. For a product's own tests.
pub fn too_weak(modules: &[&'static Module]) -> Vec<String> {
    let routes = modules.iter().flat_map(|module| (module.routes)().of(module.name));
    let weak = routes.filter(|route| {
        let readers = match route.access {
            Access::SignedIn => true,
            Access::Permission(permission) => Role::ReadOnly.has(permission),
            Access::Public | Access::Management | Access::Operator => false,
        };
        readers && !route.method.is_safe() && route.open_to_readers.is_none()
    });
    let tell = |route: Route| {
        format!(
            "{} {} of '{}' changes something, and a member who may only read may use it: demand a permission that \
             ReadOnly does not hold, or say why with `open_to_readers`",
            route.method, route.path, route.module
        )
    };
    weak.map(tell).collect()
}

/// The routes of `modules` whose answers have a field of the type [`ShownSecret`](crate::shared::ShownSecret) and that do not
/// say so: the secret would be kept in the clear for the `Idempotency-Key` of a request. For a product's own tests.
pub fn undeclared_secrets(modules: &[&'static Module]) -> Vec<String> {
    let routes = modules.iter().flat_map(|module| (module.routes)().of(module.name));
    let undeclared = routes.filter(Route::hides_its_secret);
    let tell = |route: Route| {
        format!(
            "{} {} of '{}' shows a secret and does not say so: add `.shows_secret()`",
            route.method, route.path, route.module
        )
    };
    undeclared.map(tell).collect()
}

impl Route {
    /// Whether its answer shows a secret, and its declaration does not say so.
    pub fn hides_its_secret(&self) -> bool {
        let mut outputs = Outputs::default();
        (self.outputs)(&mut outputs);
        !self.shows_secret && outputs.has_secret()
    }

    /// The handler's answer. A handler's error travels inside its response; here it becomes an error again, so that there
    /// is one way out.
    pub(crate) async fn answer(&self, mut request: Request, app: &App) -> Result<Response, Error> {
        if let Some(work) = self.system {
            request.extensions_mut().insert(app.system(work));
        }
        if let Some(kind) = self.upload {
            request.extensions_mut().insert(UploadedKind(kind));
        }
        let changes = !self.method.is_safe();
        let caller = if changes { request.extensions().get::<Caller>().cloned() } else { None };
        let mut response = (self.handler)(request, app.clone()).await;
        if let Some(error) = response.extensions_mut().remove::<Carried>().and_then(|carried| carried.take())
        {
            return Err(error);
        }
        if response.status().is_success() && caller.is_some_and(|caller| caller.left_uncommitted()) {
            tracing::error!(
                method = %self.method,
                route = self.path,
                "A change was rolled back under an answer of success: the handler ended without `commit()`; \
                 where that is meant, it says `rollback()`"
            );
        }
        Ok(response)
    }

    /// Its fields that want a permission of their own, where it has some.
    pub(crate) async fn fields(&self, app: &App) -> Result<Option<Arc<GuardedFields>>, Error> {
        let find = || async {
            let fields = self.find_fields(&app.permissions)?;
            Ok((!fields.is_empty()).then(|| Arc::new(fields)))
        };
        self.fields.get_or_try_init(find).await.cloned()
    }

    /// Since when it is deprecated, if it is.
    pub(crate) fn deprecation(&self) -> Option<&Deprecation> {
        self.deprecation.as_ref()?.as_ref().ok()
    }

    /// What the handler's arguments say about it.
    pub(crate) fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        (self.inputs)(&mut inputs);
        inputs
    }

    /// Whether it answers with pages, its refusals among them.
    pub fn has_page(&self) -> bool {
        self.refusal.is_some()
    }

    /// Whether it is for management or probes: on the management listener too, and never limited.
    pub(crate) fn is_management(&self) -> bool {
        matches!(self.surface, Surface::Management | Surface::Probe)
    }

    /// Whether its requests may carry an `Idempotency-Key`: it changes something, and for somebody whose key it is.
    pub(crate) fn takes_keys(&self) -> bool {
        !self.method.is_safe() && self.is_members()
    }

    /// Whether only an operator who has signed in may ask it.
    pub(crate) fn is_operators(&self) -> bool {
        self.surface == Surface::Operators
    }

    /// Whether it is for the person alone, and not for an operator in its place: it works as the system, which alone writes
    /// credentials, roles and members, or it shows a secret. One that is added is so without a word about it.
    pub fn is_for_oneself(&self) -> bool {
        self.is_members() && (self.system.is_some() || self.shows_secret)
    }

    /// Whether only a member of a tenant may ask it.
    pub(crate) fn is_members(&self) -> bool {
        self.surface == Surface::Tenant
    }

    /// Whether orchestrators and monitors ask it, all the time and over plain HTTP: it is exempt from HTTPS.
    pub(crate) fn is_probe(&self) -> bool {
        self.surface == Surface::Probe
    }
}

impl Routes {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A route that reads. Its request is cancelled, with its SQL, when the client hangs up.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, access: Access, handler: impl Endpoint<T>) -> Self {
        self.add(Method::GET, path, access, handler)
    }

    /// A route that creates or acts. It runs to its end or its deadline, even when its client hangs up.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, access: Access, handler: impl Endpoint<T>) -> Self {
        self.add(Method::POST, path, access, handler)
    }

    /// A route that replaces.
    #[must_use]
    pub fn put<T: 'static>(self, path: &'static str, access: Access, handler: impl Endpoint<T>) -> Self {
        self.add(Method::PUT, path, access, handler)
    }

    /// A route that changes a part (RFC 7396).
    #[must_use]
    pub fn patch<T: 'static>(self, path: &'static str, access: Access, handler: impl Endpoint<T>) -> Self {
        self.add(Method::PATCH, path, access, handler)
    }

    /// A route that removes.
    #[must_use]
    pub fn delete<T: 'static>(self, path: &'static str, access: Access, handler: impl Endpoint<T>) -> Self {
        self.add(Method::DELETE, path, access, handler)
    }

    /// A route that takes a step of a document, for members with the step's permission: a POST to a path of its own, or a
    /// PUT that replaces what is not final yet.
    #[must_use]
    pub fn transition<T: 'static>(
        self,
        method: Method,
        path: &'static str,
        step: &'static Transition,
        handler: impl Endpoint<T>,
    ) -> Self {
        let added = self.add(method, path, Access::Permission(step.permission), handler);
        added.with(|route| route.transition = Some(step))
    }

    /// The steps that these routes take.
    pub fn transitions(&self) -> impl Iterator<Item = &'static Transition> {
        self.0.iter().filter_map(|route| route.transition)
    }

    fn add<T: 'static, H: Endpoint<T>>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let handler: BoxedHandler =
            Arc::new(move |request, app| Box::pin(handler.clone().call(request, app)));
        let (mut outputs, mut inputs) = (Outputs::default(), Inputs::default());
        H::outputs(&mut outputs);
        H::inputs(&mut inputs);
        let compress = method == Method::GET;
        self.0.push(Route {
            method,
            path,
            access,
            surface: Surface::of(access),
            open_to_readers: None,
            opens_for: &[],
            system: None,
            upload: None,
            shows_secret: false,
            takes_form: inputs.form,
            refusal: None,
            limit: None,
            module: "",
            transition: None,
            operation: None,
            inputs: H::inputs,
            outputs: H::outputs,
            refuses: None,
            fields: Arc::default(),
            security_headers: None,
            deprecation: None,
            cache: Cache::NoStore,
            compress,
            produces: outputs.produces.unwrap_or(&["application/json"]),
            handler,
        });
        self
    }

    /// Whom the route just added is for, where its access rule does not say it all: a public page of operators, a probe.
    #[must_use]
    pub fn surface(self, surface: Surface) -> Self {
        self.with(|route| route.surface = surface)
    }

    /// Says why a member who may only read may use the route just added, which changes something: what it changes is the
    /// caller's own, say. Without a reason [`too_weak`] finds it.
    #[must_use]
    pub fn open_to_readers(self, why: &'static str) -> Self {
        self.with(|route| route.open_to_readers = Some(why))
    }

    /// That the route just added is open while one of these is wanted of a member, who can use no other until it is done: it does
    /// that, or leads away.
    #[must_use]
    pub fn opens_for(self, actions: &'static [RequiredAction]) -> Self {
        self.with(|route| route.opens_for = actions)
    }

    /// The work that the handler of the route just added does as the system: it takes a [`System`](crate::db::System) as an
    /// argument. The module names it in [`Module::system`].
    #[must_use]
    pub fn system(self, work: &'static SystemWork) -> Self {
        self.with(|route| route.system = Some(work))
    }

    /// The kind of file that the body of the route just added is: its handler takes an [`Upload`](crate::extract::Upload). The
    /// module names it in [`Module::files`]. Its requests may be as large as the kind allows, and take as long as
    /// `FILES_TRANSFER_TIMEOUT`.
    #[must_use]
    pub fn uploads(self, kind: &'static FileKind) -> Self {
        self.with(|route| route.upload = Some(kind))
    }

    /// That the answer of the route just added shows a secret, which is not shown again: a field of it is a
    /// [`ShownSecret`](crate::shared::ShownSecret). What is kept of it for its `Idempotency-Key` is sealed, and it is not
    /// compressed. One that is not declared is found by [`undeclared_secrets`].
    #[must_use]
    pub fn shows_secret(self) -> Self {
        self.with(|route| {
            route.shows_secret = true;
            route.compress = false;
        })
    }

    /// How refusals of the route just added look, which answers with a page.
    #[must_use]
    pub fn refusal(self, page: RefusalPage) -> Self {
        self.with(|route| route.refusal = Some(page))
    }

    /// A limit of the route just added, beside the general one.
    #[must_use]
    pub fn limit(self, policy: &'static Policy) -> Self {
        self.with(|route| route.limit = Some(policy))
    }

    /// What the contract says of the route that was just added.
    #[must_use]
    pub fn doc(self, operation: Operation) -> Self {
        self.with(|route| route.operation = Some(Arc::new(operation)))
    }

    /// Security headers of the route just added, in place of the application's: for a page, say.
    #[must_use]
    pub fn headers(self, headers: SecurityHeaders) -> Self {
        self.with(|route| route.security_headers = Some(headers))
    }

    /// That the route just added is deprecated, since a day and, if that is known, until another: both are `YYYY-MM-DD`,
    /// from midnight UTC on. Its answers say so (`Deprecation`, RFC 9745; `Sunset`, RFC 8594), and so does the contract.
    /// A text that is not a date, or a sunset before the deprecation, refuses the start.
    #[must_use]
    pub fn deprecated(self, since: &'static str, sunset: impl Into<Option<&'static str>>) -> Self {
        let deprecation = Deprecation::new(since, sunset.into());
        self.with(|route| route.deprecation = Some(deprecation))
    }

    /// Who may keep the answers of the route just added. Default: nobody.
    #[must_use]
    pub fn cache(self, cache: Cache) -> Self {
        self.with(|route| route.cache = cache)
    }

    /// Whether the answers of the route just added may be compressed. Default: those of GET. The length of a compressed
    /// answer tells how alike its parts are: say `false` where a secret stands beside what the client sent (BREACH).
    #[must_use]
    pub fn compress(self, compress: bool) -> Self {
        self.with(|route| route.compress = compress)
    }

    /// The media types that the route just added can answer with, the preferred one first; a request that accepts none
    /// of them is 406. Default: what its handler returns; none means whatever `Accept` says.
    #[must_use]
    pub fn produces(self, media_types: &'static [&'static str]) -> Self {
        self.with(|route| route.produces = media_types)
    }

    /// Says more about the route that was just added.
    fn with(mut self, change: impl FnOnce(&mut Route)) -> Self {
        if let Some(route) = self.0.last_mut() {
            change(route);
        }
        self
    }

    pub(crate) fn of(self, module: &'static str) -> impl Iterator<Item = Route> {
        self.0.into_iter().map(move |route| Route { module, ..route })
    }
}
