//! What an operator does with people: finds them, keeps them out everywhere, helps one who has lost the second factor, and forgets one.
//!
//! A person is no tenant's, so that no tenant's administrator does any of it. What is done stands in the audit log of each tenant that
//! the person belongs to, with the reason, and without a name or an address.

use erp_core::db::{AuditEntry, SystemTx, SystemWork, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::shared::{TenantId, UserId};
use erp_core::{from_row, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::address_change::{DROP_CHANGES, DROP_PASSWORD};
use super::factors::HAS_FACTOR;
use super::members::{self, ENDING};
use super::operator::{DemandedAction, demand_action};
use super::password_routes::DROP_LINKS;
use super::sessions::{self, EndedThere};
use super::{PEOPLE, codes, giver};

/// The work that an operator's session is opened for.
pub static WORK: &SystemWork = &PEOPLE;

/// A person, as an operator sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedPerson {
    /// Its id.
    pub id: UserId,
    /// By which it signs in.
    #[schemars(example = &"ada@example.com")]
    pub email: String,
    /// What it calls itself.
    #[schemars(example = &"Ada Lovelace")]
    pub name: String,
    /// `active`, `disabled` or `erased`.
    #[schemars(example = &"active")]
    pub status: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Whether it has a second factor.
    pub has_factor: bool,
    /// The slugs of those that it belongs to.
    #[schemars(example = ["acme"])]
    pub tenants: Vec<String>,
}
from_row!(ListedPerson { id, email, name, status, created_at, has_factor, tenants });

/// What becomes of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonMove {
    /// It comes in nowhere until it is enabled.
    Disable,
    /// It comes in again.
    Enable,
    /// All its sessions end.
    SignOut,
    /// It has no second factor any more, and sets up another one.
    RemoveFactor,
    /// What is known of it outside its tenants is deleted, and its memberships end.
    Erase,
}

impl PersonMove {
    /// What the audit log calls it, and why its sessions end.
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Disable => ("identity.person_disabled", "removed"),
            Self::Enable => ("identity.person_enabled", "ended"),
            Self::SignOut => ("identity.person_signed_out", "ended"),
            Self::RemoveFactor => ("identity.person_factor_removed", "ended"),
            Self::Erase => ("identity.person_erased", "removed"),
        }
    }

    /// What it does to the person itself.
    const fn statements(self) -> &'static [&'static str] {
        match self {
            Self::Disable => &[DISABLE, DROP_LINKS],
            Self::Enable => &[ENABLE],
            Self::SignOut => &[DROP_LINKS],
            Self::RemoveFactor => &[DROP_FACTORS, DROP_PASSKEYS, DROP_CODES, DROP_LINKS],
            Self::Erase => &[
                FORGET,
                DROP_PASSWORD,
                DROP_FACTORS,
                DROP_PASSKEYS,
                DROP_CODES,
                DROP_FAILURES,
                DROP_LINKS,
                DROP_CHANGES,
                DROP_IDENTITIES,
            ],
        }
    }
}

const COLUMNS: &str = sql![
    "select p.id, p.email, p.name, p.created_at, \
       case when p.erased_at is not null then 'erased' when p.disabled_at is not null then 'disabled' else 'active' end as status, ",
    HAS_FACTOR,
    ", array(select t.slug from memberships m join tenants t on t.id = m.tenant_id \
         where m.user_id = p.id and m.ended_at is null order by t.slug) as tenants from auth.people p "
];
/// Those of the isolation proof, and those who are erased, have addresses that no mail reaches.
const LIST: &str = sql![
    COLUMNS,
    "where p.email > $1 and p.email not like '%@erp.invalid' and ($2::text is null or exists (select from memberships m \
       join tenants t on t.id = m.tenant_id where m.user_id = p.id and m.ended_at is null and t.slug = $2)) \
     order by p.email limit $3"
];
const READ: &str =
    sql![COLUMNS, "where p.id = $1 and (p.erased_at is not null or p.email not like '%@erp.invalid')"];
const FIND: &str = "select id from auth.people where email = $1 and email not like '%@erp.invalid'";
const LOCK: &str = sql![
    "select p.erased_at is not null as erased, ",
    HAS_FACTOR,
    ", array(select m.tenant_id from memberships m where m.user_id = p.id and m.ended_at is null order by 1) as tenants \
     from auth.people p where p.id = $1 and (p.erased_at is not null or p.email not like '%@erp.invalid') for update of p"
];
const DISABLE: &str = "update auth.people set disabled_at = coalesce(disabled_at, now()) where id = $1";
const ENABLE: &str = "update auth.people set disabled_at = null where id = $1";
const FORGET: &str = "update auth.people set email = 'erased-' || id || '@erp.invalid', name = '', erased_at = now(), \
     disabled_at = coalesce(disabled_at, now()) where id = $1";
const DROP_FACTORS: &str = "delete from auth.factors where person_id = $1";
const DROP_PASSKEYS: &str = "delete from auth.passkeys where person_id = $1";
const DROP_CODES: &str = "delete from auth.recovery_codes where person_id = $1";
const DROP_FAILURES: &str = "delete from auth.factor_failures where person_id = $1";
const DROP_IDENTITIES: &str = "delete from auth.identities where person_id = $1";
/// A session tells a device and an address.
const DROP_SESSIONS: &str = "delete from sessions where principal_id = $1";
const COPY: &str = "update memberships set disabled_at = (select p.disabled_at from auth.people p where p.id = $2) \
     where tenant_id = $1 and user_id = $2 and ended_at is null";
const TENANT: &str = "select status in ('closed', 'erasing') as closed from tenants where id = $1";

struct LockedPerson {
    erased: bool,
    has_factor: bool,
    tenants: Vec<TenantId>,
}
from_row!(LockedPerson { erased, has_factor, tenants });

struct FoundPerson {
    id: UserId,
}
from_row!(FoundPerson { id });

struct TenantEnd {
    closed: bool,
}
from_row!(TenantEnd { closed });

/// At most so many people, by their addresses, that come after one; of one tenant, where it is said.
///
/// # Errors
/// As the database answers.
pub async fn list(
    tx: SystemTx<'_>,
    (after, tenant): (&str, Option<&str>),
    most: i64,
) -> Result<Vec<ListedPerson>> {
    tx.last().rows(LIST, &[&after, &tenant, &most]).await
}

/// One of them.
///
/// # Errors
/// `core.not_found`.
pub async fn read(tx: SystemTx<'_>, id: UserId) -> Result<ListedPerson> {
    let found: Option<ListedPerson> = tx.last().optional(READ, &[&id]).await?;
    found.ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// The person of an id or an address.
///
/// # Errors
/// `core.not_found`.
pub async fn find(tx: SystemTx<'_>, text: &str) -> Result<UserId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let found: Option<FoundPerson> = tx.last().optional(FIND, &[&text.to_lowercase()]).await?;
    found.map(|found| found.id).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// Does something with a person, and tells the auditors of its tenants; those tenants. Each tenant is told in a transaction of its own,
/// which `begin` makes: said again after it was interrupted, it does what is left to do.
///
/// # Errors
/// `core.not_found`; `core.wrong_state` for one that is erased; `identity.no_factor` where there is none to remove;
/// `identity.last_owner` where one that is to be erased is the only owner of a tenant.
pub async fn steer<'db>(
    begin: impl Fn() -> SystemTx<'db>,
    person: UserId,
    (what, why): (PersonMove, &str),
) -> Result<Vec<TenantId>> {
    let LockedPerson { erased, has_factor, tenants } = locked(&mut begin(), person).await?;
    if erased && what != PersonMove::Erase {
        return Err(Error::new(&core::WRONG_STATE).detail("The person is erased."));
    }
    if what == PersonMove::RemoveFactor && !has_factor {
        return Err(Error::new(&codes::NO_FACTOR));
    }
    if what == PersonMove::Erase {
        // Before the person itself: a tenant that would have no owner is found while nothing is lost.
        for tenant in &tenants {
            end_membership(begin().within(*tenant).await?, (*tenant, person)).await?;
        }
    }
    let ended = change(begin(), person, what).await?;
    for tenant in &tenants {
        let mut tx = begin().within(*tenant).await?;
        let _: Vec<()> = tx.rows(COPY, &[tenant, &person]).await?;
        tx.audit(&entry(person, (what, why), (*tenant, &ended)))?;
        tx.commit().await?;
    }
    Ok(tenants)
}

/// Demands something of a person before its sessions open anything else, or takes the demand back, and tells the auditors of its tenants,
/// each in a transaction of its own; those tenants.
///
/// # Errors
/// `core.not_found`; `core.wrong_state` for one that is erased, or belongs to no tenant.
pub async fn demand<'db>(
    begin: impl Fn() -> SystemTx<'db>,
    person: UserId,
    (demand, why): ((DemandedAction, bool), &str),
) -> Result<Vec<TenantId>> {
    let LockedPerson { tenants, .. } = locked(&mut begin(), person).await?;
    if tenants.is_empty() {
        return Err(Error::new(&core::WRONG_STATE).detail("The person belongs to no tenant."));
    }
    for tenant in &tenants {
        demand_action(begin(), (*tenant, person), demand, why).await?.commit().await?;
    }
    Ok(tenants)
}

async fn locked(tx: &mut SystemTx<'_>, person: UserId) -> Result<LockedPerson> {
    let locked: Option<LockedPerson> = tx.optional(LOCK, &[&person]).await?;
    locked.ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// Changes the person itself, and ends its sessions in all tenants.
async fn change(mut tx: SystemTx<'_>, person: UserId, what: PersonMove) -> Result<Vec<EndedThere>> {
    locked(&mut tx, person).await?;
    for statement in what.statements() {
        let _: Vec<()> = tx.rows(*statement, &[&person]).await?;
    }
    let (_, reason) = what.told();
    let ended = sessions::end_in(&mut tx, (person, reason, None)).await?;
    if what == PersonMove::Erase {
        let _: Vec<()> = tx.rows(DROP_SESSIONS, &[&person]).await?;
    }
    tx.commit().await?;
    Ok(ended)
}

/// Ends a membership as its tenant's administrator would; in a closed tenant also the last owner's.
async fn end_membership(mut tx: TenantTx<'_>, (tenant, person): (TenantId, UserId)) -> Result<()> {
    giver::wait(&mut tx, tenant).await?;
    for statement in ENDING {
        let _: Vec<()> = tx.rows(*statement, &[&tenant, &person]).await?;
    }
    let TenantEnd { closed } = tx.row(TENANT, &[&tenant]).await?;
    if !closed {
        members::refuse_without_owner(&mut tx, tenant).await?;
    }
    tx.commit().await
}

fn entry(
    person: UserId,
    (what, why): (PersonMove, &str),
    (tenant, ended): (TenantId, &[EndedThere]),
) -> AuditEntry {
    let sessions = sessions::of_tenant(ended, tenant);
    AuditEntry {
        action: what.told().0,
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "why": why, "sessions": sessions }),
    }
}
