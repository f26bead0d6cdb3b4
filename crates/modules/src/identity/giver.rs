//! The rule that nobody gives more than he has, nor for longer, and nobody changes somebody who has more.
//!
//! Who may do what in a tenant is changed by one after the other: each holds the row of the tenant's profile, and reads only then what
//! the giver itself has. A right that was taken from the giver a moment ago is given by nobody, whatever an instance remembers.

use erp_core::app::App;
use erp_core::auth::{Caller, Grants, Networks, OwnRole, Permissions, Role};
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::from_row;
use erp_core::shared::{PrincipalId, TenantId};
use jiff::Timestamp;

use super::authentication::HeldGrants;
use super::roles::{self, ResolvedRole};
use super::{OWN, codes};

/// Held until the end; the audit log's head comes after it.
const GUARD: &str = "select now() as now from tenant_profiles where tenant_id = $1 for no key update";

/// What is read of grants `g` and the tenant's own roles `r`.
pub(super) const HELD: &str = "g.built_in, r.name, \
     array(select p.permission from role_permissions p where p.tenant_id = g.tenant_id and p.role_id = g.role_id) as permissions";

/// A role that a principal holds: the columns of [`HELD`].
pub(super) struct HeldRole {
    built_in: Option<String>,
    name: Option<String>,
    permissions: Vec<String>,
}
from_row!(HeldRole { built_in, name, permissions });

struct Moment {
    now: Timestamp,
}
from_row!(Moment { now });

/// Waits for those who change rights in the tenant; the time, by the database's clock.
pub(super) async fn wait(tx: &mut TenantTx<'_>, tenant: TenantId) -> Result<Timestamp> {
    let Moment { now } = tx.row(GUARD, &[&tenant]).await?;
    Ok(now)
}

/// Somebody who gives or takes rights, with what it has itself at that moment.
pub(super) struct Giver<'a> {
    app: &'a App,
    held: HeldGrants,
    now: Timestamp,
    /// Who gave, for the grant.
    pub(super) principal: Option<PrincipalId>,
}

impl<'a> Giver<'a> {
    /// Waits for those who change rights in the tenant, and reads what the caller has then.
    ///
    /// # Errors
    /// `core.unauthenticated` for a caller that has no business in the tenant any more.
    pub(super) async fn hold(app: &'a App, tx: &mut TenantTx<'_>, caller: &Caller) -> Result<Self> {
        let now = wait(tx, caller.tenant()).await?;
        let held = HeldGrants::read(tx, caller).await?;
        let held = held.ok_or_else(|| Error::new(&core::UNAUTHENTICATED))?;
        Ok(Self { app, held, now, principal: caller.actor().principal() })
    }

    /// Refuses roles that allow more than the giver may, or for longer. Owners give what there is, and are made by owners.
    ///
    /// # Errors
    /// `identity.more_than_own`; `core.invalid` for an end that has passed.
    pub(super) fn may_give(&self, roles: &[ResolvedRole]) -> Result<()> {
        for role in roles {
            if role.until.is_some_and(|until| until <= self.now) {
                let pointer = role.end_pointer();
                let past = Violation::new(pointer, "past", "This time is over.");
                return Err(Error::new(&core::INVALID).violation(past));
            }
            let own = self.until(role.until)?;
            within(&own, role.built_in == Some(Role::Owner), &role.permissions)?;
        }
        Ok(())
    }

    /// Refuses a giver who has less than a principal that is to be changed: each row is a role that it holds, or none. Owners are
    /// unmade by owners.
    ///
    /// # Errors
    /// `identity.more_than_own`.
    pub(super) fn may_change(&self, held: Vec<HeldRole>) -> Result<()> {
        let mut grants = Grants::default();
        for HeldRole { built_in, name, permissions } in held {
            grants.built_in.extend(built_in.and_then(|role| role.parse::<Role>().ok()));
            grants.own.extend(name.map(|name| OwnRole { name, permissions }));
        }
        let is_owner = grants.built_in.contains(&Role::Owner);
        within(&self.now()?, is_owner, &self.app.permissions.resolve(&grants))
    }

    /// Refuses a giver who has less, for good, than what a role of the tenant's own allows or is to allow.
    ///
    /// # Errors
    /// `identity.more_than_own`.
    pub(super) fn may_shape(&self, permissions: Vec<String>) -> Result<()> {
        within(&self.until(None)?, false, &roles::named(self.app, permissions))
    }

    /// Refuses a giver who does not have all that a key is to be good for. A key ends with the rights of its owner, so that nothing
    /// is asked of their time; and none is good for more than its maker has, an owner's either.
    ///
    /// # Errors
    /// `identity.more_than_own`.
    pub(super) fn may_scope(&self, scopes: &[String]) -> Result<()> {
        if self.now()?.include(&roles::named(self.app, scopes.to_vec())) {
            return Ok(());
        }
        Err(Error::new(&codes::MORE_THAN_OWN))
    }

    /// Refuses a key that is used from certain networks, where another is to be used from more: it would get round its own.
    ///
    /// # Errors
    /// `identity.more_than_own`.
    pub(super) fn may_admit(&self, networks: &Networks) -> Result<()> {
        if self.now()?.networks().include(networks) {
            return Ok(());
        }
        Err(Error::new(&codes::MORE_THAN_OWN).detail("The key that asks is used from fewer networks."))
    }

    fn now(&self) -> Result<Permissions> {
        Ok(self.app.permissions.resolve(&self.held.lasting(self.app, |_| true)?))
    }

    /// What the giver has at least until then; for good where that is no time.
    fn until(&self, until: Option<Timestamp>) -> Result<Permissions> {
        let lasts = |end: Option<Timestamp>| match (end, until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(until)) => end >= until,
        };
        Ok(self.app.permissions.resolve(&self.held.lasting(self.app, lasts)?))
    }
}

fn within(own: &Permissions, of_an_owner: bool, permissions: &Permissions) -> Result<()> {
    let is_below = !of_an_owner && own.include(permissions);
    if is_below || own.contains(&OWN) {
        return Ok(());
    }
    Err(Error::new(&codes::MORE_THAN_OWN))
}
