//! What is wanted of a person before its session opens anything else, and who may demand it.
//!
//! What is demanded is looked at with each request, by what the tenant has set and the roles that the person holds now: a session from
//! before the demand opens nothing else within five seconds. Machines are not asked: what a key may do was given to it by somebody who was.

use erp_core::app::App;
use erp_core::auth::{
    Actor, Caller, Entitlements, Methods, Permissions, RequiredAction, RequiredActions, Role, TenantSetting,
};
use erp_core::db::System;
use erp_core::error::{Error, Result};

use super::authentication::HeldGrants;
use super::session::NewSession;
use super::{DEMAND_FACTOR, codes, terms};

const OFF: &str = "off";
const RUN_IT: &str = "owners-and-administrators";
const EVERYONE: &str = "everyone";

/// Of whom the tenant demands a second factor.
pub(super) static SECOND_FACTOR: TenantSetting<String> = TenantSetting::new(
    "identity.second_factor",
    OFF,
    "Who uses a second factor in each session; a role can demand it beside.",
    &DEMAND_FACTOR,
)
.one_of(&[OFF, RUN_IT, EVERYONE])
.keeps_in(|caller, who| match who == OFF || caller.proven().has_second_factor() {
    true => Ok(()),
    false => Err("No second factor was used in the session that asks.".to_owned()),
});

/// What is wanted of a caller: nothing of one that is no person, nor of an operator in a person's place.
pub(super) fn required(caller: &Caller, proven: Methods) -> RequiredActions {
    match caller.actor() {
        Actor::Person(_) => of_person(caller.permissions(), caller.entitlements(), proven),
        _ => RequiredActions::default(),
    }
}

fn of_person(permissions: &Permissions, tenant: &Entitlements, proven: Methods) -> RequiredActions {
    let runs_it = || {
        let roles = permissions.roles().iter();
        roles
            .filter_map(|role| role.parse().ok())
            .any(|role| matches!(role, Role::Owner | Role::Administrator))
    };
    let by_tenant = match tenant.setting(&SECOND_FACTOR).as_str() {
        EVERYONE => true,
        RUN_IT => runs_it(),
        _ => false,
    };
    let standing = permissions.standing();
    let by_operator = |action| standing.demanded.has(action);
    let factor = by_tenant || standing.factor_by_role || by_operator(RequiredAction::SecondFactor);
    let version = tenant.setting(&terms::VERSION);
    RequiredActions::default()
        .and(RequiredAction::ChangePassword, by_operator(RequiredAction::ChangePassword))
        .and(RequiredAction::SecondFactor, factor && !proven.has_second_factor())
        .and(RequiredAction::AcceptTerms, !version.is_empty() && !standing.terms.contains(&version))
}

/// What is wanted of somebody whose session has just begun.
///
/// # Errors
/// As the database answers.
pub(super) async fn at_first(app: &App, system: &System, new: &NewSession<'_>) -> Result<RequiredActions> {
    let tx = system.begin(new.trace).within(new.tenant).await?;
    let held = HeldGrants::of_session(tx, new.person, new.session).await?;
    // Somebody who was removed meanwhile learns it by the next request.
    let Some(held) = held else { return Ok(RequiredActions::default()) };
    let permissions = app.permissions.resolve(&held.lasting(app, |_| true)?);
    let tenant = app.entitlements_of(new.tenant, new.trace).await?;
    Ok(of_person(&permissions, &tenant, new.methods))
}

/// Refuses somebody who demands a second factor of others and has used none himself.
///
/// # Errors
/// `identity.factor_not_used`.
pub(super) fn may_demand(caller: &Caller) -> Result<()> {
    if caller.proven().has_second_factor() { Ok(()) } else { Err(Error::new(&codes::FACTOR_NOT_USED)) }
}
