use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Permission, Role};
use crate::error::{Error, codes};
use crate::shared::{TenantId, TraceContext, UserId};

/// Who is calling, in which tenant, with which role: the value that opens a tenant's data.
///
/// There is no public constructor. The core makes one from a verified credential (`Authenticator`), for a
/// listed system reason, or from the job runner; never from a header alone (T-17). A handler gets it as an
/// argument, and only behind a route that demands one.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tenant: TenantId,
    actor: Actor,
    role: Role,
    trace: Trace,
    /// The number of the deferral that the caller's change waits for.
    deferral: Option<u64>,
    /// A change of the caller's was dropped without COMMIT, and without a failure.
    uncommitted: AtomicBool,
}

/// Who acts: written into every audit row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person.
    User(UserId),
    /// The system itself, for a listed reason.
    System(&'static str),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
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
    /// A person whose membership of `tenant` has been verified.
    pub(crate) fn member(tenant: TenantId, user: UserId, role: Role, trace: Trace) -> Self {
        Self(Arc::new(Inner {
            tenant,
            actor: Actor::User(user),
            role,
            trace,
            deferral: None,
            uncommitted: AtomicBool::new(false),
        }))
    }

    /// The same caller, whose change is committed by a deferral: see `Db::defer`.
    pub(crate) fn deferred(&self, deferral: u64) -> Self {
        let Inner { tenant, actor, role, ref trace, .. } = *self.0;
        let (trace, deferral, uncommitted) = (trace.clone(), Some(deferral), AtomicBool::new(false));
        Self(Arc::new(Inner { tenant, actor, role, trace, deferral, uncommitted }))
    }

    /// Notes that a change was dropped without COMMIT.
    pub(crate) fn note_uncommitted(&self) {
        self.0.uncommitted.store(true, Ordering::Relaxed);
    }

    /// Whether a change was dropped without COMMIT: a fault, unless the request is refused.
    pub(crate) fn left_uncommitted(&self) -> bool {
        self.0.uncommitted.load(Ordering::Relaxed)
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
    /// `core.forbidden` when the system itself is calling.
    pub fn user(&self) -> Result<UserId, Error> {
        match self.0.actor {
            Actor::User(id) => Ok(id),
            Actor::System(_) => Err(Error::new(&codes::FORBIDDEN).detail("Only a person can do this.")),
        }
    }

    /// The caller's role in the tenant.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// Which request or job this belongs to.
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Whether the caller has `permission`.
    pub fn may(&self, permission: &Permission) -> bool {
        matches!(self.0.actor, Actor::User(_)) && permission.roles.contains(&self.0.role)
    }

    /// Refuses a caller without `permission`. A handler that passes the error on is seen like a refusal of the access
    /// rule: a line of the security log, and an audit row.
    ///
    /// # Errors
    /// `core.forbidden`, naming the permission.
    pub fn require(&self, permission: &Permission) -> Result<(), Error> {
        if self.may(permission) {
            return Ok(());
        }
        let detail = format!("Permission '{}' is needed.", permission.name);
        Err(Error::new(&codes::FORBIDDEN).detail(detail).needs(permission.name))
    }
}
