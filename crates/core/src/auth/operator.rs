use super::{Actor, Trace};
use crate::shared::{OperatorId, SessionId};

/// An operator of the platform, who has signed in with both factors: the value that opens what is above all tenants.
///
/// There is no public constructor. The core takes one from the module that offers
/// [`OperatorAuthentication`](crate::module::OperatorAuthentication), on routes of operators alone; no credential of a tenant
/// leads to it, and it is no [`Caller`](super::Caller): it opens no tenant's data by itself.
#[derive(Clone, Debug)]
pub struct Operator {
    id: OperatorId,
    session: SessionId,
    trace: Trace,
}

impl Operator {
    pub(crate) fn new((id, session): (OperatorId, SessionId), trace: Trace) -> Self {
        Self { id, session, trace }
    }

    /// Who it is.
    pub fn id(&self) -> OperatorId {
        self.id
    }

    /// The session that its credential is of.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Who acts, as audit rows name it.
    pub fn actor(&self) -> Actor {
        Actor::Operator(self.id)
    }

    /// Which request this belongs to.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }
}
