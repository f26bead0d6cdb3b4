use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Entitlements, Flag, GuardedFields, Identity, Methods, Permission, Permissions, RequiredActions,
    SettingValue, SignedIn, TenantSetting,
};
use crate::error::{Error, codes};
use crate::shared::{OperatorId, PrincipalId, TenantId, TraceContext, UserId};

/// Who is calling, in which tenant, with which permissions: the value that opens a tenant's data.
///
/// There is no public constructor. The core makes one from a verified credential and the grants that the database has
/// for it; never from a header alone (T-17), and never from what a token says of roles. A handler gets it as an
/// argument, and only behind a route that demands one.
#[derive(Clone, Debug)]
pub struct Caller(Arc<CallerInner>);

#[derive(Debug)]
struct CallerInner {
    tenant: TenantId,
    actor: Actor,
    signed_in: Option<SignedIn>,
    by_cookie: bool,
    permissions: Permissions,
    /// What is wanted of it before it does anything else.
    required: RequiredActions,
    /// What its tenant has.
    entitlements: Entitlements,
    /// Fields of the route that want a permission of their own, where it has some.
    fields: Option<Arc<GuardedFields>>,
    trace: Trace,
    /// The number of the deferral that the caller's change waits for.
    deferral: Option<u64>,
    /// A change of the caller's was dropped without COMMIT, and without a failure.
    uncommitted: AtomicBool,
}

/// Who acts: written into every audit row. There may be more kinds in a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// A person.
    Person(UserId),
    /// A machine, as the service account that a tenant's administrator has made for it.
    ServiceAccount(PrincipalId),
    /// A machine, by an API key.
    Key(PrincipalId),
    /// A job, on behalf of the principal that enqueued it.
    Job {
        /// Whose permissions it has.
        of: PrincipalId,
    },
    /// An operator of the platform, on its own account.
    Operator(OperatorId),
    /// An operator of the platform, who acts in a person's place.
    Impersonator {
        /// The operator.
        operator: OperatorId,
        /// In whose place, with whose permissions.
        person: UserId,
    },
    /// The system itself, for a declared reason.
    System(&'static str),
}

impl Actor {
    /// Whose roles count for what the actor may do; nobody's for the system and for operators, who have none.
    pub fn principal(self) -> Option<PrincipalId> {
        match self {
            Self::Person(person) | Self::Impersonator { person, .. } => Some(person.into()),
            Self::ServiceAccount(id) | Self::Key(id) | Self::Job { of: id } => Some(id),
            Self::System(_) | Self::Operator(_) => None,
        }
    }

    /// The person, if it is one.
    pub fn person(self) -> Option<UserId> {
        match self {
            Self::Person(person) | Self::Impersonator { person, .. } => Some(person),
            _ => None,
        }
    }
}

/// As audit rows have it: `0190163d-…`, `key:0190163d-…`, `operator:0190163d-…`, `operator:0190163d-… as 0190163e-…`,
/// `system:sign-in`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => id.fmt(f),
            Self::ServiceAccount(id) => write!(f, "service-account:{id}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Job { of } => write!(f, "job:{of}"),
            Self::Operator(id) => write!(f, "operator:{id}"),
            Self::Impersonator { operator, person } => write!(f, "operator:{operator} as {person}"),
            Self::System(reason) => write!(f, "system:{reason}"),
        }
    }
}

/// Which request or job this belongs to: on every log line and audit row of it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The correlation id: `[A-Za-z0-9._-]{1,128}`.
    pub correlation_id: Arc<str>,
    /// The client's address, unless the work did not come from one.
    pub client_ip: Option<IpAddr>,
    /// The request's place in a distributed trace: prints as the `traceparent` of outgoing calls.
    pub context: Option<TraceContext>,
    /// The `tracestate` that the client sent, to be sent along with outgoing calls.
    pub state: Option<Arc<str>>,
}

impl Trace {
    /// Of work that did not come from a client.
    pub fn new(correlation_id: impl Into<Arc<str>>) -> Self {
        Self { correlation_id: correlation_id.into(), client_ip: None, context: None, state: None }
    }
}

impl Caller {
    /// An actor whose right to be in `tenant` has been verified, with what it may do there.
    pub(crate) fn new(tenant: TenantId, actor: Actor, permissions: Permissions, trace: Trace) -> Self {
        Self::of(Identity::new(tenant, actor), permissions, trace)
    }

    /// Whom a verified credential belongs to, with what it may do in its tenant.
    pub(crate) fn of(identity: Identity, permissions: Permissions, trace: Trace) -> Self {
        let Identity { tenant, actor, signed_in, by_cookie } = identity;
        let uncommitted = AtomicBool::new(false);
        let (deferral, fields) = (None, None);
        let (entitlements, required) = (Entitlements::default(), RequiredActions::default());
        Self(Arc::new(CallerInner {
            tenant,
            actor,
            signed_in,
            by_cookie,
            permissions,
            required,
            entitlements,
            fields,
            trace,
            deferral,
            uncommitted,
        }))
    }

    /// Somebody of whom nothing is known yet but a verified credential. It may do nothing: with it, its grants are read.
    pub(crate) fn unknown(identity: Identity, trace: Trace) -> Self {
        Self::of(identity, Permissions::none(), trace)
    }

    /// The same caller, in a tenant that has these.
    pub(crate) fn entitled(mut self, entitlements: Entitlements) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.entitlements = entitlements;
        }
        self
    }

    /// The same caller, of whom this is wanted.
    pub(crate) fn wanting(mut self, required: RequiredActions) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.required = required;
        }
        self
    }

    /// The same caller, whose change is committed by a deferral: see `Db::defer`.
    pub(crate) fn deferred(&self, deferral: u64) -> Self {
        self.again().with(Some(deferral), self.0.fields.clone())
    }

    /// The same caller, at a route with fields that want a permission of their own.
    pub(crate) fn among(&self, fields: Arc<GuardedFields>) -> Self {
        self.again().with(self.0.deferral, Some(fields))
    }

    fn again(&self) -> Self {
        let caller = Self::of(self.identity(), self.0.permissions.clone(), self.0.trace.clone());
        caller.entitled(self.0.entitlements.clone()).wanting(self.0.required)
    }

    /// Fields of the route that want a permission of their own, where it has some.
    pub(crate) fn fields(&self) -> Option<&GuardedFields> {
        self.0.fields.as_deref()
    }

    /// Somebody in the same tenant who may do nothing and is nobody: what such a caller reads is the same for everybody
    /// there.
    pub(crate) fn nobody(&self) -> Self {
        let nobody = Identity::new(self.0.tenant, Actor::System("cache"));
        let caller = Self::of(nobody, Permissions::none(), self.0.trace.clone());
        caller.entitled(self.0.entitlements.clone()).with(self.0.deferral, None)
    }

    fn with(mut self, deferral: Option<u64>, fields: Option<Arc<GuardedFields>>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.deferral = deferral;
            inner.fields = fields;
        }
        self
    }

    /// Whom the caller's credential belongs to.
    pub(crate) fn identity(&self) -> Identity {
        let CallerInner { tenant, actor, signed_in, by_cookie, .. } = *self.0;
        Identity { tenant, actor, signed_in, by_cookie }
    }

    /// Notes that a change was dropped without COMMIT.
    pub(crate) fn note_uncommitted(&self) {
        self.0.uncommitted.store(true, Ordering::Relaxed);
    }

    /// Whether a change was dropped without COMMIT: a fault, unless the request is refused.
    pub(crate) fn left_uncommitted(&self) -> bool {
        self.0.uncommitted.load(Ordering::Relaxed)
    }

    /// The same, and forgets it: for work in parts, each of which is judged by itself.
    pub(crate) fn take_uncommitted(&self) -> bool {
        self.0.uncommitted.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn deferral(&self) -> Option<u64> {
        self.0.deferral
    }

    /// The tenant that the caller acts in.
    pub fn tenant(&self) -> TenantId {
        self.0.tenant
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.0.actor
    }

    /// The person behind the call.
    ///
    /// # Errors
    /// `core.forbidden` when it is not a person.
    pub fn user(&self) -> Result<UserId, Error> {
        let person = self.0.actor.person();
        person.ok_or_else(|| Error::new(&codes::FORBIDDEN).detail("Only a person can do this."))
    }

    /// The session that the caller's credential is of: none for machines and jobs.
    pub fn signed_in(&self) -> Option<SignedIn> {
        self.0.signed_in
    }

    /// Whether the caller's credential came as a cookie.
    pub fn by_cookie(&self) -> bool {
        self.0.by_cookie
    }

    /// What the caller may do in the tenant, and by which roles.
    pub fn permissions(&self) -> &Permissions {
        &self.0.permissions
    }

    /// What is wanted of it before its session opens the rest: nothing at most routes, which it could not have called otherwise.
    pub fn required(&self) -> RequiredActions {
        self.0.required
    }

    /// By what its person has proven who it is, in its session: nothing for machines and jobs.
    pub fn proven(&self) -> Methods {
        let by_token = self.0.signed_in.map(|signed_in| signed_in.methods).unwrap_or_default();
        by_token.union(self.0.permissions.standing().proven)
    }

    /// The person or the service account for whom it acts, also by a key or a job: whose own rows it sees where a table shows
    /// nothing else. The system acts for nobody.
    pub fn acts_for(&self) -> Option<PrincipalId> {
        self.0.permissions.principal()
    }

    /// What the caller's tenant has: as it was read at most five seconds before the request began.
    pub fn entitlements(&self) -> &Entitlements {
        &self.0.entitlements
    }

    /// Whether a feature is on for the caller's tenant. It costs no statement.
    pub fn is_on(&self, flag: &'static Flag) -> bool {
        self.0.entitlements.is_on(flag)
    }

    /// Refuses a caller whose tenant has not the feature.
    ///
    /// # Errors
    /// `core.feature_off`.
    pub fn require_on(&self, flag: &'static Flag) -> Result<(), Error> {
        if self.is_on(flag) { Ok(()) } else { Err(Error::new(&codes::FEATURE_OFF).detail(flag.about)) }
    }

    /// What the caller's tenant has set. It costs no statement.
    pub fn setting<T: SettingValue>(&self, setting: &'static TenantSetting<T>) -> T {
        self.0.entitlements.setting(setting)
    }

    /// Which request or job this belongs to.
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Whether the caller has `permission`.
    pub fn may(&self, permission: &'static Permission) -> bool {
        self.0.permissions.contains(permission)
    }

    /// Refuses a caller without `permission`. A handler that passes the error on is seen like a refusal of the access
    /// rule: a line of the security log, and an audit row. They name the permission; the client sees it in development only.
    ///
    /// # Errors
    /// `core.forbidden`.
    pub fn require(&self, permission: &'static Permission) -> Result<(), Error> {
        if self.may(permission) {
            return Ok(());
        }
        Err(Error::new(&codes::FORBIDDEN).needs(permission.name))
    }
}
