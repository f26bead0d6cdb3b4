//! Calls of other services: the one HTTP client of the product.
//!
//! ```no_run
//! # use erp_core::app::App;
//! # use erp_core::auth::Trace;
//! # use erp_core::error::Result;
//! # use erp_core::outbound::Destination;
//! # use std::collections::BTreeMap;
//! async fn rates(app: &App, trace: &Trace, rates: &Destination) -> Result<BTreeMap<String, String>> {
//!     let answer = app.outbound.get(trace, rates.at("/latest?base=EUR")).send().await?;
//!     Ok(answer.json()?)
//! }
//! ```
//!
//! A setting of a module can be a [`Destination`]. A call ends by its deadline, its answer is bounded, it follows no redirection and no proxy variable, it carries the
//! caller's `traceparent`, and it is counted and logged once, without query. An idempotent one is repeated within a budget. A
//! destination that fails is left alone for a while.
//!
//! Two kinds of destination are two types. What the operator has configured is a [`Destination`], and may be private. What a
//! tenant has given is a [`TenantUrl`], and is kept from everything that is not public (server-side request forgery, W-03):
//! its text is checked when it is given, and each address that its name leads to when a connection is opened. The two have
//! connections of their own, so that none that leads inside is ever used for a tenant's URL
//! ([decision 0022](../../../../../docs/decisions/0022-one-http-client.md)).

mod addresses;
pub(crate) mod breaker;
mod destination;
pub(crate) mod dial;
mod error;
mod known;
mod policy;
mod request;
mod resolver;
mod response;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::OnceCell;

use crate::auth::Trace;
use crate::config::{Config, UrlFault};
use crate::error::{Error, Result, Violation, codes};
use crate::lifecycle::StartError;
use crate::metrics::Metrics;
use crate::shared::{Clock, Rng, TenantId};

use breaker::BreakerChange;
use destination::Aim;
pub use destination::{Destination, OutboundTarget, TenantUrl};
pub use error::OutboundError;
use known::KnownDestinations;
use policy::OutboundPolicy;
pub use request::OutboundRequest;
pub use resolver::{GivenBy, Resolver, SystemResolver};
use resolver::{Guarded, GuardedResolve, Unguarded};
pub use response::OutboundResponse;

/// How long an idle connection is kept, and how many to one host. Shorter than servers keep theirs, or calls would now and
/// then go into a connection that is just closing.
const IDLE: Duration = Duration::from_secs(15);
const IDLE_PER_HOST: usize = 8;
/// How often a connection of HTTP/2 is asked for a sign of life, and how long that may take. All calls to a host share one, and
/// without this each would go into a dead one, and keep it from being idle.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// The one HTTP client of the product; cheap to clone. Handlers reach it as `app.outbound`.
#[derive(Clone)]
pub struct Outbound(Arc<OutboundInner>);

struct OutboundInner {
    /// Made by the first call, since the authorities of the machine take a while to read.
    clients: OnceCell<Clients>,
    authorities: Vec<CertificateDer<'static>>,
    connect_timeout: Duration,
    timeout: Duration,
    resolver: Arc<dyn Resolver>,
    guard: Arc<Guarded>,
    policy: Arc<OutboundPolicy>,
    known: KnownDestinations,
    user_agent: String,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// Two pools of connections, so that none that leads inside is there for a tenant's URL.
struct Clients {
    /// For what the operator has configured.
    operator: reqwest::Client,
    /// For what tenants have given: it connects to public addresses only.
    tenants: reqwest::Client,
}

/// What a client needs from its process.
pub struct OutboundOptions {
    /// Looks up names.
    pub resolver: Arc<dyn Resolver>,
    /// What calls say they come from: `erp-backend/1.0`.
    pub user_agent: String,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for waits.
    pub rng: Arc<dyn Rng>,
}

impl Outbound {
    /// A client as the settings say.
    ///
    /// # Errors
    /// When the authorities of `OUTBOUND_CA_PATH` cannot be read.
    pub fn new(config: &Config, options: OutboundOptions) -> Result<Self, StartError> {
        let policy = Arc::new(OutboundPolicy::new(config));
        let guard = Guarded { resolver: Arc::clone(&options.resolver), policy: Arc::clone(&policy) };
        let authorities = config.outbound.ca_path.as_deref().map(tls::authorities).transpose()?;
        Ok(Self(Arc::new(OutboundInner {
            clients: OnceCell::new(),
            authorities: authorities.unwrap_or_default(),
            connect_timeout: config.outbound.connect_timeout,
            timeout: config.outbound.timeout,
            resolver: options.resolver,
            guard: Arc::new(guard),
            policy,
            known: KnownDestinations::default(),
            user_agent: options.user_agent,
            metrics: options.metrics,
            clock: options.clock,
            rng: options.rng,
        })))
    }

    /// A call that reads: see [`Outbound::request`].
    pub fn get(&self, trace: &Trace, target: impl Into<OutboundTarget>) -> OutboundRequest<'_> {
        self.request(trace, Method::GET, target)
    }

    /// A call that is not repeated unless the caller says so: see [`Outbound::request`].
    pub fn post(&self, trace: &Trace, target: impl Into<OutboundTarget>) -> OutboundRequest<'_> {
        self.request(trace, Method::POST, target)
    }

    /// A call to `target` ([`Destination::at`], or a [`TenantUrl`]) as a part of the work that `trace` names.
    pub fn request(
        &self,
        trace: &Trace,
        method: Method,
        target: impl Into<OutboundTarget>,
    ) -> OutboundRequest<'_> {
        OutboundRequest::new(self, trace, method, target.into())
    }

    /// A tenant's URL as it was stored: its text is checked, and no name is looked up.
    ///
    /// # Errors
    /// Says what is wrong with it, and what to do. Shows no part of it.
    pub fn tenant_url(&self, tenant: TenantId, text: &str) -> Result<TenantUrl, UrlFault> {
        self.0.policy.check(tenant, text)
    }

    /// A tenant's URL that is just being given, in the value at `pointer` of a request. Its name is looked up too.
    ///
    /// # Errors
    /// `core.invalid` for one that does not lead to a public address.
    pub async fn admit(&self, tenant: TenantId, pointer: &str, text: &str) -> Result<TenantUrl> {
        let refused = |fault: UrlFault| {
            let detail = format!("{}: {}", fault.what, fault.fix);
            Error::new(&codes::INVALID).violation(Violation::new(pointer, "url", detail))
        };
        let given = self.tenant_url(tenant, text).map_err(refused)?;
        if let Some(name) = given.url.domain() {
            let looked_up = Arc::clone(&self.0.guard).public(name.to_owned());
            let found = tokio::time::timeout(self.0.timeout, looked_up).await;
            if !matches!(found, Ok(Ok(_))) {
                // One answer for all: what the name leads to inside is not for tenants to know.
                let fix = "Name a server that can be reached from the Internet";
                return Err(refused(UrlFault::new("has a name without a public address", fix)));
            }
        }
        Ok(given)
    }

    /// The client for what the operator has configured, for a library that makes its own requests: it lacks all that
    /// [`Outbound::request`] adds, but for the connection.
    pub(crate) async fn client_of_operator(&self) -> Result<reqwest::Client, OutboundError> {
        let clients = self.0.clients.get_or_try_init(|| self.0.clients()).await?;
        Ok(clients.operator.clone())
    }

    /// The pool for a call of this kind.
    async fn client(&self, aim: &Aim) -> Result<&reqwest::Client, OutboundError> {
        let clients = self.0.clients.get_or_try_init(|| self.0.clients()).await?;
        Ok(match aim {
            Aim::Operator { .. } => &clients.operator,
            Aim::Tenant(_) => &clients.tenants,
        })
    }

    /// TLS towards a service of the operator's that speaks another protocol than HTTP, such as the mail server.
    ///
    /// # Errors
    /// None as long as the TLS library has its defaults.
    pub(crate) fn tls(&self) -> Result<ClientConfig, rustls::Error> {
        let mut config = tls::client_config(self.0.authorities.clone())?;
        config.alpn_protocols.clear();
        Ok(config)
    }

    /// Looks up the name of such a service.
    pub(crate) async fn look_up(&self, host: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.0.resolver.resolve(host, GivenBy::Operator).await,
        }
    }

    /// A random number from 0 to 1.
    fn dice(&self) -> f64 {
        let mut bytes = [0; 4];
        self.0.rng.fill(&mut bytes);
        f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
    }
}

impl OutboundInner {
    async fn clients(&self) -> Result<Clients, OutboundError> {
        let more = self.authorities.clone();
        let tls = tokio::task::spawn_blocking(|| tls::client_config(more)).await;
        let tls = tls.map_err(|error| OutboundError::Unreachable(error.into()))?;
        let tls = tls.map_err(|error| OutboundError::Unreachable(error.into()))?;
        let operator = self.builder(&tls).dns_resolver(Unguarded(Arc::clone(&self.resolver)));
        let tenants = self.builder(&tls).dns_resolver(GuardedResolve(Arc::clone(&self.guard)));
        let built = |builder: ClientBuilder| builder.build().map_err(OutboundError::of);
        Ok(Clients { operator: built(operator)?, tenants: built(tenants)? })
    }

    /// What both pools have in common.
    #[allow(clippy::disallowed_methods, reason = "the one place that makes clients")]
    fn builder(&self, tls: &ClientConfig) -> ClientBuilder {
        ClientBuilder::new()
            .tls_backend_preconfigured(tls.clone())
            .no_proxy() // a proxy would resolve names itself, and connect to what nobody has checked
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .http2_keep_alive_timeout(ALIVE_WITHIN)
            .http2_keep_alive_while_idle(true)
    }
}
