//! What an operator does about tenants from a terminal, as the system's login: each thing that is done in a tenant stands in that
//! tenant's audit log.

use std::time::Duration;

use erp_core::bootstrap::OperatorSession;
use erp_core::db::{AuditEntry, SystemWork};
use erp_core::error::{Error, Result, codes as core};
use erp_core::from_row;
use erp_core::mail::MailAddress;
use erp_core::shared::{Clock, Id, Rng, TenantId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::invitations::{self, Terms};
use super::{TENANTS, codes};

/// The work that an operator's session is opened for.
pub static WORK: &SystemWork = &TENANTS;

/// A tenant that is to be made.
pub struct NewTenant {
    /// What it is found by: small letters, digits and hyphens.
    pub slug: String,
    /// What it calls itself.
    pub name: String,
    /// Who is to be its first owner.
    pub first_owner: MailAddress,
}

/// What making it needs.
pub struct TenantTerms<'a> {
    /// What links begin with.
    pub base: String,
    /// For how long the first owner's link is good.
    pub invitation_lifetime: Duration,
    /// The time, for ids.
    pub clock: &'a dyn Clock,
    /// Randomness, for ids and secrets.
    pub rng: &'a dyn Rng,
}

/// A tenant that was made, or was there, with the link for its first owner, which is shown this once.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// Whether it was made now.
    pub created: bool,
    /// Where the first owner chooses a password.
    pub invitation: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A tenant, as an operator sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// `active`, `suspended` or `closed`.
    pub status: String,
    /// When it was made.
    pub created_at: Timestamp,
}
from_row!(ListedTenant { id, slug, status, created_at });

/// What becomes of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantMove {
    /// Nobody comes in until it is resumed.
    Suspend,
    /// It works again.
    Resume,
    /// Nobody comes in any more.
    Close,
}

impl TenantMove {
    /// The states that it begins from, the one that it leads to, and what the audit log calls it.
    const fn rule(self) -> (&'static [&'static str], &'static str, &'static str) {
        match self {
            Self::Suspend => (&["active"], "suspended", "identity.tenant_suspended"),
            Self::Resume => (&["suspended", "closed"], "active", "identity.tenant_resumed"),
            Self::Close => (&["active", "suspended"], "closed", "identity.tenant_closed"),
        }
    }
}

const LIST: &str =
    "select id, slug, status, created_at from tenants where status <> 'reserved' order by slug";
const ADD: &str = "select app.add_tenant($1, $2)";
const ADD_PROFILE: &str = "insert into tenant_profiles (name) values ($1)";
const MOVE: &str = "select app.move_tenant($1, $2, $3) as moved";
const IS_OWNED: &str =
    "select principal_id as id from grants where tenant_id = $1 and built_in = 'owner' limit 1";
const END_INVITATIONS: &str = "update invitations set ended_at = now() where tenant_id = $1 and invited_by is null and ended_at is null";

struct Moved {
    moved: bool,
}
from_row!(Moved { moved });

/// All tenants, by their slugs.
///
/// # Errors
/// As the database answers.
pub async fn list(session: &OperatorSession) -> Result<Vec<ListedTenant>> {
    session.begin().last().rows(LIST, &[]).await
}

/// Makes a tenant, and invites its first owner. Said again before somebody has accepted, it gives another link, and the one before
/// ends.
///
/// # Errors
/// `identity.tenant_taken` where there is a tenant of this slug that has an owner, or as the database answers.
pub async fn create(
    session: &OperatorSession,
    new: &NewTenant,
    terms: TenantTerms<'_>,
) -> Result<CreatedTenant> {
    let known = session.tenant(&new.slug).await?;
    let id = known.unwrap_or_else(|| Id::new(terms.clock, terms.rng));
    let mut tx = session.begin();
    if known.is_none() {
        let _: Vec<()> = tx.rows(ADD, &[&id, &new.slug]).await?;
    }
    let mut tx = tx.within(id).await?;
    let owned: Option<()> = tx.optional(IS_OWNED, &[&id]).await?;
    if owned.is_some() {
        return Err(Error::new(&codes::TENANT_TAKEN));
    }
    if known.is_none() {
        let _: Vec<()> = tx.rows(ADD_PROFILE, &[&new.name]).await?;
    }
    let _: Vec<()> = tx.rows(END_INVITATIONS, &[&id]).await?;
    let TenantTerms { base, invitation_lifetime: lifetime, clock, rng } = terms;
    let terms = Terms { base, lifetime, clock, rng };
    let roles = ["owner".to_owned()];
    let (invited, link) = invitations::add(&mut tx, id, (&new.first_owner, &roles, None), &terms).await?;
    tx.audit(&entry("identity.tenant_created", id, json!({ "slug": new.slug })))?;
    tx.commit().await?;
    let created = known.is_none();
    Ok(CreatedTenant {
        id,
        slug: new.slug.clone(),
        created,
        invitation: link,
        expires_at: invited.expires_at(),
    })
}

/// Moves a tenant from one state to another.
///
/// # Errors
/// `core.not_found`, `core.wrong_state`, or as the database answers.
pub async fn steer(session: &OperatorSession, slug: &str, what: TenantMove, why: &str) -> Result<()> {
    let (before, after, action) = what.rule();
    let id = session.tenant(slug).await?.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    let mut tx = session.within(id).await?;
    let Moved { moved } = tx.row(MOVE, &[&id, &before, &after]).await?;
    if !moved {
        return Err(
            Error::new(&core::WRONG_STATE).detail(format!("The tenant is not {}.", before.join(" or ")))
        );
    }
    tx.audit(&entry(action, id, json!({ "why": why })))?;
    tx.commit().await
}

fn entry(action: &'static str, tenant: TenantId, details: serde_json::Value) -> AuditEntry {
    let resource_id = Some(tenant.to_string());
    AuditEntry { action, resource: "tenant", resource_id, outcome: "success", details }
}
