//! Invitations: given by members who may, with roles that are within the giver's own, and accepted by the holder of the mailbox.
//!
//! Inviting looks nobody up: the answer is the same whether the address is known anywhere, and the secret is in the mail alone. It
//! is spent by POST and never by GET, since programs that look for malware follow links.

use std::time::Duration;

use axum::extract::State;
use erp_core::answer::{Acknowledged, NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, Entitlements, PasswordHash, Role, TenantSecret, Trace};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Path};
use erp_core::limits::Attempt;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::mailer::link_base;
use erp_core::shared::{Clock, Id, IdKind, List, Rng, Secret, TenantId, Text, UserId};
use erp_core::{from_row, mail_template};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::giver::Giver;
use super::lock_out::{self, GuessTarget};
use super::password_routes::ProfileName;
use super::roles::{self, RoleName};
use super::session::seconds;
use super::{IdentitySettings, codes, passwords, registration, step_up};

/// What its secret begins with: `erp_inv_`.
const KIND: &str = "inv";

/// An invitation.
#[derive(Debug)]
pub(super) enum InvitationRow {}

impl IdKind for InvitationRow {
    const NAME: &'static str = "invitation";
}

/// The body of `POST /api/v1/invitations`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitation {
    #[schemars(example = &"ada@example.com")]
    email: MailAddress,
    /// The roles that the new member will have: within the giver's own.
    #[schemars(example = ["member"])]
    roles: List<RoleName, 1, 20>,
}

/// What was done; the same for every address.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invited {
    id: Id<InvitationRow>,
    expires_at: Timestamp,
}

impl Invited {
    pub(super) const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// The body of `POST /api/v1/invitations/accept`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acceptance {
    /// The secret of the mail.
    #[schemars(example = &"erp_inv_…")]
    pub(super) token: Secret<String>,
    /// What the new member is called; one who has an account keeps the name that is there.
    #[serde(default)]
    #[schemars(example = &"Ada Lovelace")]
    pub(super) name: Option<Text<1, 200>>,
    /// A new password; for an address that has an account, the password of that account.
    #[schemars(example = &"correct horse battery staple")]
    pub(super) password: Secret<String>,
}

/// Where the new member belongs to now.
#[derive(Serialize, JsonSchema)]
pub(super) struct Joined {
    /// The tenant's slug, to sign in with.
    #[schemars(example = &"acme")]
    pub(super) tenant: String,
    #[schemars(example = &"ada@example.com")]
    pub(super) email: String,
}

/// An invitation that nobody has answered yet.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenInvitation {
    id: Id<InvitationRow>,
    #[schemars(example = &"ada@example.com")]
    email: String,
    #[schemars(example = ["member"])]
    roles: Vec<String>,
    invited_by: Option<UserId>,
    /// Whether nobody has given it: the person has registered.
    registered: bool,
    created_at: Timestamp,
    expires_at: Timestamp,
}
from_row!(OpenInvitation { id, email, roles, invited_by, registered, created_at, expires_at });

/// Those that are open, the newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct OpenInvitations {
    invitations: Vec<OpenInvitation>,
}

/// What the mail says.
pub(super) struct InvitationMail {
    pub(super) tenant: String,
    pub(super) link: String,
    pub(super) hours: u64,
}

impl InvitationMail {
    pub(super) fn of(tenant: &str, link: &str, lifetime: Duration) -> Self {
        Self { tenant: tenant.to_owned(), link: link.to_owned(), hours: lifetime.as_secs() / 3600 }
    }
}

pub(super) static INVITATION: MailTemplate<InvitationMail> = mail_template!(
    "identity.invitation", "Invites somebody to a tenant, with the link to accept by.", InvitationMail,
    "en": { subject: "You are invited to {{ mail.tenant }}", text: "identity/mails/invitation.en.txt" },
    "de": { subject: "Einladung zu {{ mail.tenant }}", text: "identity/mails/invitation.de.txt" },
)
.confidential();

const ADD: &str = "insert into invitations (id, email, roles, secret_hash, invited_by, registered, expires_at) \
     values ($1, $2, $3, $4, $5, $6, now() + $7::bigint * interval '1 second') returning expires_at";
const TENANT: &str = "select name, tenant_id from tenant_profiles where tenant_id = $1";
const OPEN: &str = "select id, email, roles, invited_by, registered, created_at, expires_at from invitations \
     where ended_at is null and expires_at > now() order by created_at desc, id limit 200";
const END: &str = "update invitations set ended_at = now() where id = $1 and tenant_id = $2 and ended_at is null returning id";
/// Held until the end: two who accept at the same time make one member.
const TAKE: &str = "select i.id, i.email, i.roles, i.invited_by, i.registered, t.slug, p.id as person_id, p.disabled_at is not null as disabled, w.phc \
     from invitations i join tenants t on t.id = i.tenant_id left join auth.people p on p.email = i.email \
     left join auth.passwords w on w.person_id = p.id \
     where i.tenant_id = $1 and i.secret_hash = $2 and i.ended_at is null and i.expires_at > now() and t.status = 'active'";
const SPEND: &str = "update invitations set ended_at = now(), accepted_by = $3 where id = $1 and tenant_id = $2 \
     and ended_at is null returning id";
const ADD_PERSON: &str = "insert into auth.people (id, email, name) values ($1, $2, $3)";
const ADD_PASSWORD: &str = "insert into auth.passwords (person_id, phc) values ($1, $2)";
/// Somebody who was removed comes back; somebody who is paused does not come in by another door.
pub(super) const JOIN: &str = "insert into memberships as m (user_id, email, name) select id, email, name from auth.people where id = $1 \
     on conflict (tenant_id, user_id) do update set ended_at = null, deactivated_at = null, email = excluded.email, \
       name = excluded.name where m.ended_at is not null \
     returning user_id as id";

/// Somebody who was removed does not come back by himself.
const JOIN_ANEW: &str = "insert into memberships (user_id, email, name) select id, email, name from auth.people where id = $1 \
     on conflict (tenant_id, user_id) do nothing returning user_id as id";

struct ExpiresAt {
    expires_at: Timestamp,
}
from_row!(ExpiresAt { expires_at });

struct Taken {
    id: Id<InvitationRow>,
    email: String,
    roles: Vec<String>,
    invited_by: Option<UserId>,
    registered: bool,
    slug: String,
    person_id: Option<UserId>,
    disabled: bool,
    phc: Option<String>,
}
from_row!(Taken { id, email, roles, invited_by, registered, slug, person_id, disabled, phc });

/// `POST /api/v1/invitations`.
pub(super) async fn invite(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(new): Json<NewInvitation>,
) -> Result<Acknowledged<Invited>, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN)>> {
    let tenant = caller.tenant();
    step_up::require(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let giver = Giver::hold(&app, &mut tx, &caller).await?;
    let wanted = roles::wanted(new.roles.iter().map(Text::as_str));
    let given = roles::resolve(&app, &mut tx, tenant, &wanted).await?;
    giver.may_give(&given)?;
    let names: Vec<String> = given.into_iter().map(|role| role.name).collect();
    let inviter = caller.actor().person();
    let terms = Terms::of(&app)?;
    let (invited, link) = add(&mut tx, tenant, (&new.email, &names, inviter), &terms).await?;
    let ProfileName { name } = tx.row(TENANT, &[&tenant]).await?;
    let mail = InvitationMail::of(&name, &link, terms.lifetime);
    app.mail_to(&mut tx, caller.trace(), &INVITATION, &Recipient::new(new.email), &mail)?;
    tx.commit().await?;
    Ok(Acknowledged(invited))
}

/// What an invitation is made of, beside whom it is for.
pub(super) struct Terms<'a> {
    /// What its link begins with.
    pub(super) base: String,
    /// For how long it is good.
    pub(super) lifetime: Duration,
    pub(super) clock: &'a dyn Clock,
    pub(super) rng: &'a dyn Rng,
}

impl<'a> Terms<'a> {
    pub(super) fn of(app: &'a App) -> Result<Self> {
        let base = link_base(&app.config).ok_or_else(|| Error::new(&codes::NO_PUBLIC_URL))?;
        let lifetime = app.settings::<IdentitySettings>()?.invitation_lifetime;
        Ok(Self { base, lifetime, clock: app.clock.as_ref(), rng: app.rng.as_ref() })
    }
}

/// Writes an invitation; also the link that accepts it.
pub(super) async fn add(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (email, roles, inviter): (&MailAddress, &[String], Option<UserId>),
    terms: &Terms<'_>,
) -> Result<(Invited, String)> {
    write(tx, tenant, (email, roles, inviter, false), terms).await
}

/// Writes the invitation of somebody who has registered; the link that accepts it.
pub(super) async fn add_registered(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (email, role): (&MailAddress, Role),
    terms: &Terms<'_>,
) -> Result<String> {
    let roles = [role.to_string()];
    write(tx, tenant, (email, &roles, None, true), terms).await.map(|(_, link)| link)
}

async fn write(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (email, roles, inviter, registered): (&MailAddress, &[String], Option<UserId>, bool),
    terms: &Terms<'_>,
) -> Result<(Invited, String)> {
    let id: Id<InvitationRow> = Id::new(terms.clock, terms.rng);
    let secret = TenantSecret::new(KIND, tenant, terms.rng);
    let (base, seconds) = (&terms.base, seconds(terms.lifetime));
    let email = email.to_string().to_lowercase();
    let ExpiresAt { expires_at } =
        tx.row(ADD, &[&id, &email, &roles, &secret.hash(), &inviter, &registered, &seconds]).await?;
    Ok((Invited { id, expires_at }, format!("{base}/invitation?token={}", secret.expose())))
}

/// `GET /api/v1/invitations`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<OpenInvitations>> {
    Ok(Json(OpenInvitations { invitations: app.db.tenant_read(&caller).last().rows(OPEN, &[]).await? }))
}

/// `DELETE /api/v1/invitations/{id}`.
pub(super) async fn revoke(
    caller: Caller,
    system: System,
    Path(id): Path<Id<InvitationRow>>,
) -> Result<NoContent> {
    let tx = system.on_behalf(&caller).within(caller.tenant()).await?;
    let ended: Option<()> = tx.last().optional(END, &[&id, &caller.tenant()]).await?;
    ended.map(|()| NoContent).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// `POST /api/v1/invitations/accept`.
pub(super) async fn accept(
    State(app): State<App>,
    trace: Trace,
    attempt: Attempt,
    system: System,
    Json(acceptance): Json<Acceptance>,
) -> Result<
    Json<Joined>,
    Refusing<(
        codes::INVITATION_ENDED,
        codes::SIGN_IN_FAILED,
        codes::WEAK_PASSWORD,
        codes::LOCKED_OUT,
        core::OVER_QUOTA,
    )>,
> {
    Ok(Json(accepted(&app, &trace, &attempt, &system, acceptance).await?))
}

/// The same for the page.
pub(super) async fn accepted(
    app: &App,
    trace: &Trace,
    attempt: &Attempt,
    system: &System,
    acceptance: Acceptance,
) -> Result<Joined> {
    app.passwords.admit(&acceptance.password)?;
    let Acceptance { token, name, password } = acceptance;
    let ended = || Error::new(&codes::INVITATION_ENDED);
    let secret = TenantSecret::parse(KIND, token.expose()).ok_or_else(ended)?;
    let look = system.begin(trace).within(secret.tenant).await?.last();
    let taken: Option<Taken> = look.optional(TAKE, &[&secret.tenant, &secret.hash()]).await?;
    let taken = taken.filter(|taken| !taken.disabled).ok_or_else(ended)?;
    // What takes long, or a connection of its own, is done before the transaction.
    let allowed = match taken.registered {
        true => Some(app.entitlements_of(secret.tenant, trace).await?),
        false => None,
    };
    let person = match (taken.person_id, taken.phc.clone()) {
        (Some(person), Some(phc)) => {
            // It came by mail: what strangers do at the account does not count.
            let device = Some(*taken.id.as_uuid());
            let target = GuessTarget { tenant: &taken.slug, email: &taken.email, device };
            let guess = lock_out::begin((app, system, trace), attempt, &target).await?;
            match passwords::verify(app, system, trace, (Some((person, &phc)), password)).await {
                Ok(true) => guess.succeeded().await,
                Ok(false) => return Err(Error::new(&codes::SIGN_IN_FAILED)),
                Err(error) => {
                    guess.undecided().await;
                    return Err(error);
                }
            }
            Joining { person, allowed, new_name: None, new_hash: None }
        }
        (person, _) => {
            passwords::check(
                &password,
                &[&taken.email, &taken.slug, name.as_ref().map_or("", Text::as_str)],
            )?;
            let hash = app.passwords.hash(password).await?;
            let new_name = match person {
                Some(_) => None,
                None => Some(name.ok_or_else(name_is_missing)?),
            };
            let fresh = || Id::new(app.clock.as_ref(), app.rng.as_ref());
            Joining { person: person.unwrap_or_else(fresh), allowed, new_name, new_hash: Some(hash) }
        }
    };
    join(app, system, trace, (secret.tenant, &taken, person)).await?;
    Ok(Joined { tenant: taken.slug, email: taken.email })
}

/// Who joins: somebody with an account, or a new one.
struct Joining {
    person: UserId,
    /// What the tenant lets those do who have registered; of others that is not asked.
    allowed: Option<Entitlements>,
    new_name: Option<Text<1, 200>>,
    new_hash: Option<PasswordHash>,
}

fn name_is_missing() -> Error {
    Error::new(&core::INVALID).violation(Violation::new("/name", "required", "A new account has a name."))
}

async fn join(
    app: &App,
    system: &System,
    trace: &Trace,
    (tenant, taken, joining): (TenantId, &Taken, Joining),
) -> Result<()> {
    let Joining { person, new_name, new_hash, allowed } = joining;
    // A person who joins is no caller yet; there may be no seat left since the invitation was sent.
    let entitlements = app.entitlements_of(tenant, trace).await?;
    let mut tx = system.begin(trace).within(tenant).await?.limited(&entitlements);
    let spent: Option<()> = tx.optional(SPEND, &[&taken.id, &tenant, &person]).await?;
    if spent.is_none() {
        return Err(Error::new(&codes::INVITATION_ENDED));
    }
    let roles = match &allowed {
        Some(has) => vec![registration::admit(&mut tx, tenant, (&taken.email, has)).await?.to_string()],
        None => taken.roles.clone(),
    };
    if let Some(name) = &new_name {
        let _: Vec<()> = tx.rows(ADD_PERSON, &[&person, &taken.email, name]).await?;
    }
    if let Some(hash) = &new_hash {
        let _: Vec<()> = tx.rows(ADD_PASSWORD, &[&person, &hash.expose()]).await?;
    }
    let joined: Option<()> =
        tx.optional(if allowed.is_some() { JOIN_ANEW } else { JOIN }, &[&person]).await?;
    if joined.is_none() {
        return Err(Error::new(&codes::INVITATION_ENDED).because("already a member, or was one"));
    }
    let wanted = roles::wanted(roles.iter().map(String::as_str));
    let given = roles::resolve(app, &mut tx, tenant, &wanted).await?;
    roles::grant(&mut tx, (person.into(), taken.invited_by.map(Into::into)), &given).await?;
    tx.audit(&AuditEntry {
        action: "identity.joined",
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "invitation": taken.id.to_string(), "roles": roles, "registered": allowed.is_some() }),
    })?;
    tx.commit().await?;
    app.known_permissions.forget(tenant, person.into());
    Ok(())
}
