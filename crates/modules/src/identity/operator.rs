//! What an operator does about tenants from a terminal, as the system's login: each thing that is done in a tenant stands in that
//! tenant's audit log.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use erp_core::app::App;
use erp_core::auth::{RequiredAction, Trace};
use erp_core::db::{AuditEntry, SystemTx, SystemWork, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::from_row;
use erp_core::mail::{MailAddress, Recipient};
use erp_core::shared::{Clock, Id, Rng, Secret, ShownSecret, TenantId, UserId};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::invitations::{self, InvitationMail, Terms};
use super::{TENANTS, codes};

/// The work that an operator's session is opened for.
pub static WORK: &SystemWork = &TENANTS;

/// What a tenant is found by: 1 to 63 small letters, digits and hyphens, which begin and end with a letter or a digit.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Slug(String);

/// The text is no slug.
#[derive(Debug, Clone, Copy)]
pub struct InvalidSlug;

impl fmt::Display for InvalidSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1 to 63 small letters, digits and hyphens, which begin and end with a letter or a digit")
    }
}

impl std::error::Error for InvalidSlug {}

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = text.bytes().next().is_some_and(letter) && text.bytes().next_back().is_some_and(letter);
        let good = ends && text.len() <= 63 && text.bytes().all(|byte| letter(byte) || byte == b'-');
        good.then_some(Self(text)).ok_or(InvalidSlug)
    }
}

impl FromStr for Slug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        Self::try_from(text.to_owned())
    }
}

impl JsonSchema for Slug {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Slug".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" })
    }
}

/// A tenant that is to be made.
pub struct NewTenant {
    /// What it is found by.
    pub slug: Slug,
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
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    #[schemars(example = &"acme")]
    pub slug: String,
    /// Whether it was made now.
    pub created: bool,
    /// Where the first owner chooses a password.
    #[schemars(example = &"https://erp.example.com/invitation?token=erp_inv_…")]
    pub invitation: ShownSecret,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A tenant, as an operator sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    #[schemars(example = &"acme")]
    pub slug: String,
    /// `active`, `suspended`, `closed`, `erasing` or `erased`.
    #[schemars(example = &"active")]
    pub status: String,
    /// Since when it is closed.
    pub closed_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}
from_row!(ListedTenant { id, slug, status, closed_at, created_at });

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

const LIST: &str = "select id, slug, status, closed_at, created_at from tenants \
     where status <> 'reserved' and slug > $1 and ($2::text is null or status = $2) order by slug limit $3";
const READ: &str =
    "select id, slug, status, closed_at, created_at from tenants where id = $1 and status <> 'reserved'";
const FIND: &str = "select id from tenants where slug = $1";
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

struct TenantBySlug {
    id: TenantId,
}
from_row!(TenantBySlug { id });

/// At most so many tenants, by their slugs, that come after one, of one state where it is said.
///
/// # Errors
/// As the database answers.
pub async fn list(
    tx: SystemTx<'_>,
    (after, status): (&str, Option<&str>),
    most: i64,
) -> Result<Vec<ListedTenant>> {
    tx.last().rows(LIST, &[&after, &status, &most]).await
}

/// One of them.
///
/// # Errors
/// `core.not_found`.
pub async fn read(tx: SystemTx<'_>, id: TenantId) -> Result<ListedTenant> {
    let found: Option<ListedTenant> = tx.last().optional(READ, &[&id]).await?;
    found.ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// The id of a slug, if there is such a tenant.
///
/// # Errors
/// As the database answers.
pub async fn find(tx: &mut SystemTx<'_>, slug: &str) -> Result<Option<TenantId>> {
    let found: Option<TenantBySlug> = tx.optional(FIND, &[&slug]).await?;
    Ok(found.map(|found| found.id))
}

/// Makes a tenant, and invites its first owner, in a transaction that is yet to be committed. Said again before somebody has accepted,
/// it gives another link, and the one before ends.
///
/// # Errors
/// `identity.tenant_taken` where there is a tenant of this slug that has an owner, or as the database answers.
pub async fn create<'db>(
    mut tx: SystemTx<'db>,
    new: &NewTenant,
    terms: TenantTerms<'_>,
) -> Result<(TenantTx<'db>, CreatedTenant)> {
    let slug = new.slug.as_str();
    let known = find(&mut tx, slug).await?;
    let id = known.unwrap_or_else(|| Id::new(terms.clock, terms.rng));
    if known.is_none() {
        let _: Vec<()> = tx.rows(ADD, &[&id, &slug]).await?;
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
    tx.audit(&entry("identity.tenant_created", id, json!({ "slug": slug })))?;
    let created = CreatedTenant {
        id,
        slug: slug.to_owned(),
        created: known.is_none(),
        invitation: Secret::new(link).into(),
        expires_at: invited.expires_at(),
    };
    Ok((tx, created))
}

/// Sends the first owner of a tenant that is being made its link.
///
/// # Errors
/// As the database answers.
pub(crate) fn mail_first_owner(
    app: &App,
    tx: &mut TenantTx<'_>,
    trace: &Trace,
    (new, made): (&NewTenant, &CreatedTenant),
    lifetime: Duration,
) -> Result<()> {
    let mail = InvitationMail::of(&new.name, made.invitation.expose(), lifetime);
    let recipient = Recipient::new(new.first_owner.clone());
    app.mail_to(tx, trace, &invitations::INVITATION, &recipient, &mail).map(drop)
}

/// Moves a tenant from one state to another.
///
/// # Errors
/// `core.wrong_state`, or as the database answers.
pub async fn steer(tx: SystemTx<'_>, id: TenantId, what: TenantMove, why: &str) -> Result<()> {
    let (before, after, action) = what.rule();
    let mut tx = tx.within(id).await?;
    let Moved { moved } = tx.row(MOVE, &[&id, &before, &after]).await?;
    if !moved {
        return Err(
            Error::new(&core::WRONG_STATE).detail(format!("The tenant is not {}.", before.join(" or ")))
        );
    }
    tx.audit(&entry(action, id, json!({ "why": why })))?;
    tx.commit().await
}

/// Something that an operator demands of a person before its sessions open anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemandedAction {
    /// Another password: it is demanded until there is one.
    ChangePassword,
    /// A second factor, in each session.
    SecondFactor,
}

impl DemandedAction {
    /// Its word, as the API has it, too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangePassword => RequiredAction::ChangePassword.as_str(),
            Self::SecondFactor => RequiredAction::SecondFactor.as_str(),
        }
    }
}

const IS_MEMBER: &str =
    "select user_id as id from memberships where tenant_id = $1 and user_id = $2 and ended_at is null";
/// First the person, whose row sessions that begin hold meanwhile; then the sessions that there are.
const DEMAND_OF_PERSON: &str = "update auth.people set demanded = array_append(demanded, $2::text) where id = $1 and $2::text <> all (demanded)";
const DEMAND_OF_SESSIONS: &str = "update sessions set demanded = array_append(demanded, $2::text) where principal_id = $1 \
     and operator_id is null and revoked_at is null and $2::text <> all (demanded)";
const WITHDRAW: &str = "with people as (update auth.people set demanded = array_remove(demanded, $2::text) where id = $1) \
     update sessions set demanded = array_remove(demanded, $2::text) where principal_id = $1 and $2::text = any (demanded)";

/// Demands something of a person, in all its sessions of all tenants, or takes the demand back, in a transaction that is yet to be
/// committed. It counts within five seconds on every instance. The auditor of the tenant is told, through which the operator names the
/// person.
///
/// # Errors
/// `core.not_found` where the person is no member of the tenant, or as the database answers.
pub async fn demand_action<'db>(
    mut tx: SystemTx<'db>,
    (tenant, person): (TenantId, UserId),
    (action, demanded): (DemandedAction, bool),
    why: &str,
) -> Result<TenantTx<'db>> {
    let word = action.as_str();
    if demanded {
        let _: Vec<()> = tx.rows(DEMAND_OF_PERSON, &[&person, &word]).await?;
        let _: Vec<()> = tx.rows(DEMAND_OF_SESSIONS, &[&person, &word]).await?;
    } else {
        let _: Vec<()> = tx.rows(WITHDRAW, &[&person, &word]).await?;
    }
    let mut tx = tx.within(tenant).await?;
    let member: Option<()> = tx.optional(IS_MEMBER, &[&tenant, &person]).await?;
    member.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.audit(&AuditEntry {
        action: if demanded { "identity.action_demanded" } else { "identity.demand_withdrawn" },
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "action": word, "why": why }),
    })?;
    Ok(tx)
}

/// Demands another password of somebody who was made a moment ago, and has no session.
pub(super) async fn demand_of_new(tx: &mut TenantTx<'_>, person: UserId) -> Result<()> {
    let word = DemandedAction::ChangePassword.as_str();
    let _: Vec<()> = tx.rows(DEMAND_OF_PERSON, &[&person, &word]).await?;
    Ok(())
}

fn entry(action: &'static str, tenant: TenantId, details: serde_json::Value) -> AuditEntry {
    let resource_id = Some(tenant.to_string());
    AuditEntry { action, resource: "tenant", resource_id, outcome: "success", details }
}
