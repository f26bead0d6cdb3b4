use std::borrow::Cow;
use std::fmt;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use uuid::Uuid;

use crate::app::App;
use crate::auth::{Caller, Credential, Grantee, Grants, Identity, Methods, RequiredActions, Trace};
use crate::db::{System, SystemWork};
use crate::error::{Error, Result, codes};
use crate::shared::TenantId;

/// How a module tells who asks and what they may do. One module of a product has it.
///
/// The request chain calls it in this order, which is a property of security: `credential` before any limit, without
/// waiting; then the limit of the address; then what an [unverified](Credential::Unverified) credential waits for; then
/// the limits of the principal and its tenant; then `tenant` and `grants`.
pub struct Authentication {
    /// The work that `credential` and `tenant` do as the system, before there is a caller.
    pub system: &'static SystemWork,
    /// What the request's headers say of who sends it.
    ///
    /// # Errors
    /// `core.unauthenticated` for a credential that is not valid, the same for every reason.
    pub credential: fn(&App, System, &HeaderMap) -> Result<Credential>,
    /// The tenant that a request selects, if there is an active one. What it means to be named is checked afterwards.
    pub tenant: for<'a> fn(System, &'a NamedTenant<'a>, &'a Trace) -> Lookup<'a, TenantId>,
    /// The roles that the caller's actor holds in the caller's tenant; `None` when it has no business there (any more), or when
    /// its session has ended.
    /// The caller that is given may read the tenant's data, and has no permission yet.
    pub grants: for<'a> fn(&'a App, &'a Caller) -> Lookup<'a, Grants>,
    /// What is wanted of a caller before its session opens the rest, by what its person has proven who it is.
    pub required: fn(&Caller, Methods) -> RequiredActions,
}

/// How a module tells which operator of the platform asks. One module of a product has it.
///
/// It stands apart from [`Authentication`], so that no credential of a tenant is ever looked for among the operators', nor the
/// other way round.
pub struct OperatorAuthentication {
    /// The work that `credential` does as the system.
    pub system: &'static SystemWork,
    /// What the request's headers say of which operator sends it: [`Credential::OfOperator`], or none.
    ///
    /// # Errors
    /// `core.unauthenticated` for what is no operator's credential.
    pub credential: fn(&App, System, &HeaderMap) -> Result<Credential>,
}

impl Authentication {
    /// The caller with what it may do in its tenant, and what the tenant has: as it was read at most five seconds ago, or else as it
    /// is now.
    ///
    /// # Errors
    /// `core.unauthenticated` when it has no business in the tenant (any more), or as the database answers.
    pub(crate) async fn caller(&self, app: &App, identity: Identity, trace: Trace) -> Result<Caller> {
        self.caller_of(app, identity, Methods::default(), trace).await
    }

    /// The same, of somebody who has proven who it is by `proven`, too, elsewhere.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub(crate) async fn caller_of(
        &self,
        app: &App,
        identity: Identity,
        proven: Methods,
        trace: Trace,
    ) -> Result<Caller> {
        let required = |caller: &Caller| (self.required)(caller, caller.proven().union(proven));
        let caller = self.known(app, identity, trace.clone()).await?;
        let wanted = required(&caller);
        if wanted.is_empty() {
            return Ok(caller);
        }
        // Boxed, since little is wanted of most. It may have been done a moment ago, on whichever instance.
        if let Some(of) = grantee(identity) {
            app.known_permissions.forget_one(of);
        }
        let caller = Box::pin(self.known(app, identity, trace)).await?;
        let wanted = required(&caller);
        Ok(caller.wanting(wanted))
    }

    async fn known(&self, app: &App, identity: Identity, trace: Trace) -> Result<Caller> {
        let of = grantee(identity).ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
        // Boxed, since it is read once in five seconds and every request would carry its size.
        let read = || {
            Box::pin(async {
                let unknown = Caller::unknown(identity, trace.clone());
                let grants = (self.grants)(app, &unknown).await?;
                let grants = grants.ok_or_else(|| Error::new(&codes::UNAUTHENTICATED))?;
                Ok(app.permissions.resolve(&grants))
            })
        };
        let permissions = app.known_permissions.get(of, app.clock.instant(), read).await?;
        let entitlements = app.entitlements_of(identity.tenant, &trace).await?;
        Ok(Caller::of(identity, permissions, trace).entitled(entitlements))
    }
}

/// Under what it is remembered what somebody may do, who is a principal.
fn grantee(identity: Identity) -> Option<Grantee> {
    let session = identity.signed_in.map(|session| session.session);
    identity.actor.principal().map(|principal| (identity.tenant, principal, session))
}

/// What is looked up, if it is there.
pub type Lookup<'a, T> = BoxFuture<'a, Result<Option<T>>>;

/// What selects a tenant: an id, or else a slug. A slug that reads like an id is another tenant's attempt to be taken for it.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedTenant<'a> {
    /// The id.
    pub id: Option<Uuid>,
    /// The slug, in lower case.
    pub slug: Option<Cow<'a, str>>,
}

impl<'a> NamedTenant<'a> {
    /// What the text names, if it is an id, or could be a slug in whatever case.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let slug = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let id = text.parse::<TenantId>().ok().map(|id| *id.as_uuid());
        let slug = (slug && id.is_none()).then(|| fold(text));
        (slug.is_some() || id.is_some()).then_some(Self { id, slug })
    }
}

/// A slug is written in lower case, whatever case it comes in.
fn fold(slug: &str) -> Cow<'_, str> {
    let lower = !slug.bytes().any(|byte| byte.is_ascii_uppercase());
    if lower { Cow::Borrowed(slug) } else { Cow::Owned(slug.to_ascii_lowercase()) }
}

impl fmt::Display for NamedTenant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.id, &self.slug) {
            (Some(id), _) => id.fmt(f),
            (None, slug) => f.write_str(slug.as_deref().unwrap_or_default()),
        }
    }
}
