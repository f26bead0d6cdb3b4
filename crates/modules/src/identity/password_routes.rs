//! How people change a password that they know, and get another one when they do not.

use std::time::Duration;

use axum::extract::State;
use erp_core::answer::{Acknowledged, NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, PasswordHash, RequiredAction, TenantSecret, Trace};
use erp_core::db::{AuditEntry, System, SystemTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Json;
use erp_core::limits::Attempt;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::mailer::link_base;
use erp_core::shared::{Secret, TenantId, Text, UserId};
use erp_core::{from_row, mail_template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lock_out::{self, GuessTarget};
use super::login::folded;
use super::session::seconds;
use super::sessions::EndedThere;
use super::{codes, passwords, sessions};

/// What a link's secret begins with: `erp_password_`.
const KIND: &str = "password";
/// For how long a link is good.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The body of `POST /api/v1/auth/password/change`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Change {
    #[schemars(example = &"correct horse battery staple")]
    pub(super) current_password: Secret<String>,
    #[schemars(example = &"another horse battery staple")]
    pub(super) new_password: Secret<String>,
}

/// The body of `POST /api/v1/auth/password/forgot`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgot {
    #[schemars(example = &"acme")]
    pub(super) tenant: Text<1, 63>,
    #[schemars(example = &"ada@example.com")]
    pub(super) email: Text<3, 254>,
}

/// The same for every address.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinkIsSent {
    /// For how many seconds the link is good, if there is such an account.
    #[schemars(example = 3600)]
    #[schemars(range(min = 0, max = 3600))]
    expires_in: u64,
}

impl LinkIsSent {
    pub(super) const fn of(lifetime: Duration) -> Self {
        Self { expires_in: lifetime.as_secs() }
    }
}

/// The body of `POST /api/v1/auth/password/reset`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    /// The secret of the mail.
    #[schemars(example = &"erp_password_…")]
    pub(super) token: Secret<String>,
    #[schemars(example = &"another horse battery staple")]
    pub(super) password: Secret<String>,
}

/// What the mail with a link says.
pub(super) struct ResetMail {
    tenant: String,
    link: String,
}

/// What the mail after a change says.
pub(super) struct ChangedMail {
    tenant: String,
}

pub(super) static RESET: MailTemplate<ResetMail> = mail_template!(
    "identity.password_reset", "Gives the link by which somebody who has forgotten a password sets another one.", ResetMail,
    "en": { subject: "Your password for {{ mail.tenant }}", text: "identity/mails/password_reset.en.txt" },
    "de": { subject: "Ihr Passwort für {{ mail.tenant }}", text: "identity/mails/password_reset.de.txt" },
)
.confidential();

pub(super) static CHANGED: MailTemplate<ChangedMail> = mail_template!(
    "identity.password_changed", "Tells somebody that the password was changed.", ChangedMail,
    "en": { subject: "Your password was changed", text: "identity/mails/password_changed.en.txt" },
    "de": { subject: "Ihr Passwort wurde geändert", text: "identity/mails/password_changed.de.txt" },
);

const OWN: &str = "select p.id, p.email, p.name, w.phc from auth.people p left join auth.passwords w on w.person_id = p.id \
     where p.id = $1 and p.disabled_at is null";
/// Only where the hash is still the one that was looked at: of two changes at a time one is made.
const CHANGE: &str = "update auth.passwords set phc = $3, set_at = now() where person_id = $1 and phc = $2 returning person_id as id";
const SET: &str = "insert into auth.passwords (person_id, phc) values ($1, $2) \
     on conflict (person_id) do update set phc = excluded.phc, set_at = now()";
/// Sign-ins that wait for a second factor, too: the password that began them is gone.
pub(super) const DROP_LINKS: &str = "delete from auth.one_time where person_id = $1";
pub(super) const NAME: &str = "select name from tenant_profiles where tenant_id = $1";
/// It is the demanded one.
const FULFIL: &str = "with people as (update auth.people set demanded = array_remove(demanded, 'change-password') \
       where id = $1 and 'change-password' = any (demanded)) \
     update sessions set demanded = array_remove(demanded, 'change-password') where principal_id = $1 and 'change-password' = any (demanded)";
pub(super) const SLUG: &str = "select slug from tenants where id = $1";
pub(super) const FIND: &str = "select m.tenant_id, p.id, p.email from memberships m join auth.people p on p.id = m.user_id \
     where p.email = $1 and p.disabled_at is null and m.ended_at is null and m.deactivated_at is null";
const ADD_LINK: &str = "insert into auth.one_time (kind, hash, person_id, expires_at) \
     values ('reset', $1, $2, now() + $3::bigint * interval '1 second')";
/// A stranger who asks again and again must neither flood the mailbox nor end the link that is on its way.
const FEW_LINKS: &str = "select count(*) < 5 as few from auth.one_time where kind = 'reset' and person_id = $1 and expires_at > now()";
const LOOK: &str = "select p.id, p.email, p.name, w.phc, 'change-password' = any (p.demanded) as demanded \
     from auth.one_time o join auth.people p on p.id = o.person_id left join auth.passwords w on w.person_id = p.id \
     where o.kind = 'reset' and o.hash = $1 and o.used_at is null and o.expires_at > now() and p.disabled_at is null";
const SPEND: &str = "update auth.one_time set used_at = now() where kind = 'reset' and hash = $1 and used_at is null \
     and expires_at > now() returning person_id as id";

/// Somebody's account, as only its owner sees it.
pub(super) struct OwnAccount {
    pub(super) id: UserId,
    pub(super) email: String,
    name: String,
    phc: Option<String>,
}
from_row!(OwnAccount { id, email, name, phc });

struct LinkOwner {
    id: UserId,
    email: String,
    name: String,
    phc: Option<String>,
    demanded: bool,
}
from_row!(LinkOwner { id, email, name, phc, demanded });

pub(super) struct Forgetful {
    pub(super) tenant_id: TenantId,
    id: UserId,
    pub(super) email: String,
}
from_row!(Forgetful { tenant_id, id, email });

struct RoomForLink {
    few: bool,
}
from_row!(RoomForLink { few });

pub(super) struct TenantSlug {
    pub(super) slug: String,
}
from_row!(TenantSlug { slug });

pub(super) struct ProfileName {
    pub(super) name: String,
}
from_row!(ProfileName { name });

/// `POST /api/v1/auth/password/change`: wants the current one, and ends the person's other sessions.
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    system: System,
    Json(change): Json<Change>,
) -> Result<NoContent, Refusing<(codes::SIGN_IN_FAILED, codes::WEAK_PASSWORD, codes::LOCKED_OUT)>> {
    let Change { current_password, new_password } = change;
    app.passwords.admit(&new_password)?;
    let person = caller.user()?;
    let own = own(&app, &caller, &system, &attempt, current_password).await?;
    passwords::check(&new_password, &[&own.email, &own.name])?;
    if caller.required().has(RequiredAction::ChangePassword) {
        is_another(&app, &new_password, own.phc.as_deref()).await?;
    }
    let hash = app.passwords.hash(new_password).await?;
    let mut tx = system.on_behalf(&caller);
    let changed: Option<()> = tx.optional(CHANGE, &[&own.id, &own.phc, &hash.expose()]).await?;
    if changed.is_none() {
        return Err(Error::new(&codes::SIGN_IN_FAILED).because("another change came first").into());
    }
    let mine = caller.signed_in().map(|signed_in| signed_in.session);
    let ended = sessions::end_in(&mut tx, (person, "password", mine)).await?;
    finish(
        &app,
        &system,
        tx,
        Finish { trace: caller.trace(), tenant: caller.tenant(), person, email: &own.email, ended },
    )
    .await?;
    Ok(NoContent)
}

/// The caller's own account, for the right password; a wrong one counts as a failed sign-in.
pub(super) async fn own(
    app: &App,
    caller: &Caller,
    system: &System,
    attempt: &Attempt,
    password: Secret<String>,
) -> Result<OwnAccount> {
    app.passwords.admit(&password)?;
    let own: Option<OwnAccount> =
        system.begin(caller.trace()).last().optional(OWN, &[&caller.user()?]).await?;
    let own = own.ok_or_else(|| Error::new(&codes::SIGN_IN_FAILED))?;
    // A guess comes from within the session: it is counted by itself, and strangers do not shut it out.
    let session = caller.signed_in().map_or(*own.id.as_uuid(), |signed_in| *signed_in.session.as_uuid());
    let tenant = caller.tenant().to_string();
    let target = GuessTarget { tenant: &tenant, email: &own.email, device: Some(session) };
    let guess = lock_out::begin((app, system, caller.trace()), attempt, &target).await?;
    let stored = own.phc.clone().map(PasswordHash::from_stored);
    match app.passwords.verify(password, stored).await {
        Ok(verdict) if verdict.is_right() => {
            guess.succeeded().await;
            Ok(own)
        }
        Ok(_) => Err(Error::new(&codes::SIGN_IN_FAILED)),
        Err(error) => {
            guess.undecided().await;
            Err(error)
        }
    }
}

/// `POST /api/v1/auth/password/forgot`: the answer is the same, and as fast, for every address: the work is done behind it.
pub(super) async fn forgot(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(forgot): Json<Forgot>,
) -> Result<Acknowledged<LinkIsSent>> {
    let work = {
        let (app, system) = (app.clone(), system.clone());
        async move {
            if let Err(error) = send_link(&app, &system, &trace, &forgot).await {
                tracing::error!(
                    code = error.code().code,
                    cause = error.cause().map(ToString::to_string),
                    "No link to set a password was sent"
                );
            }
        }
    };
    drop(app.lifecycle.serve(work)); // it goes on, and the stop waits for it
    Ok(Acknowledged(LinkIsSent::of(LIFETIME)))
}

async fn send_link(app: &App, system: &System, trace: &Trace, forgot: &Forgot) -> Result<()> {
    let (tenant, email) = (folded(forgot.tenant.as_str()), folded(forgot.email.as_str()));
    let mut tx = match system.within(trace, &tenant).await {
        Err(error) if error.code() == &core::NOT_FOUND => return Ok(()),
        found => found?,
    };
    let Some(found): Option<Forgetful> = tx.optional(FIND, &[&email]).await? else { return Ok(()) };
    let RoomForLink { few } = tx.row(FEW_LINKS, &[&found.id]).await?;
    let Some(base) = link_base(&app.config).filter(|_| few) else { return Ok(()) };
    let secret = TenantSecret::new(KIND, found.tenant_id, app.rng.as_ref());
    let seconds = seconds(LIFETIME);
    let _: Vec<()> = tx.rows(ADD_LINK, &[&secret.hash(), &found.id, &seconds]).await?;
    let ProfileName { name } = tx.row(NAME, &[&found.tenant_id]).await?;
    let mail = ResetMail { tenant: name, link: format!("{base}/password?token={}", secret.expose()) };
    // To the stored address, and never to what was typed.
    let address: MailAddress = found.email.parse().map_err(Error::internal)?;
    app.mail_to(&mut tx, trace, &RESET, &Recipient::new(address), &mail)?;
    tx.audit(&AuditEntry {
        action: "identity.password_forgotten",
        resource: "user",
        resource_id: Some(found.id.to_string()),
        outcome: "success",
        details: json!(null),
    })?;
    tx.commit().await
}

/// `POST /api/v1/auth/password/reset`: begins no session, and spares nobody a second factor.
pub(super) async fn reset(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(reset): Json<Reset>,
) -> Result<NoContent, Refusing<(codes::LINK_ENDED, codes::WEAK_PASSWORD)>> {
    Box::pin(set(&app, &trace, &system, reset)).await?;
    Ok(NoContent)
}

/// The same for the page.
pub(super) async fn set(app: &App, trace: &Trace, system: &System, reset: Reset) -> Result<()> {
    let Reset { token, password } = reset;
    app.passwords.admit(&password)?;
    let ended = || Error::new(&codes::LINK_ENDED);
    let secret = TenantSecret::parse(KIND, token.expose()).ok_or_else(ended)?;
    let owner: Option<LinkOwner> = system.begin(trace).last().optional(LOOK, &[&secret.hash()]).await?;
    let LinkOwner { id: person, email, name, phc, demanded } = owner.ok_or_else(ended)?;
    passwords::check(&password, &[&email, &name])?;
    if demanded {
        is_another(app, &password, phc.as_deref()).await?;
    }
    let hash = app.passwords.hash(password).await?;
    let mut tx = system.begin(trace);
    let spent: Option<()> = tx.optional(SPEND, &[&secret.hash()]).await?;
    if spent.is_none() {
        return Err(ended());
    }
    let _: Vec<()> = tx.rows(SET, &[&person, &hash.expose()]).await?;
    let ended = sessions::end_in(&mut tx, (person, "password", None)).await?;
    finish(app, system, tx, Finish { trace, tenant: secret.tenant, person, email: &email, ended }).await
}

/// Refuses the password that is to be changed in its own place.
async fn is_another(app: &App, new: &Secret<String>, stored: Option<&str>) -> Result<()> {
    let stored = stored.map(|phc| PasswordHash::from_stored(phc.to_owned()));
    if app.passwords.verify(new.clone(), stored).await?.is_right() {
        return Err(Error::new(&codes::WEAK_PASSWORD).detail("It is the one that is to be changed."));
    }
    Ok(())
}

/// What is left to do once a password is another one.
struct Finish<'a> {
    trace: &'a Trace,
    tenant: TenantId,
    person: UserId,
    email: &'a str,
    ended: Vec<EndedThere>,
}

/// Ends links that are on their way, tells the auditor and the person, commits, and tells the auditors of other tenants whose
/// sessions have ended.
async fn finish(app: &App, system: &System, mut tx: SystemTx<'_>, finish: Finish<'_>) -> Result<()> {
    let Finish { trace, tenant, person, email, ended } = finish;
    let _: Vec<()> = tx.rows(DROP_LINKS, &[&person]).await?;
    let _: Vec<()> = tx.rows(FULFIL, &[&person]).await?;
    let mut tx = tx.within(tenant).await?;
    let ProfileName { name } = tx.row(NAME, &[&tenant]).await?;
    let TenantSlug { slug } = tx.row(SLUG, &[&tenant]).await?;
    // What strangers have done shuts nobody out any more: it was another password that they tried.
    let _: Vec<()> = tx.rows(lock_out::OPEN, &[&lock_out::account_name(app, &slug, email)]).await?;
    tx.audit(&AuditEntry {
        action: "identity.password_changed",
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "sessionsEnded": ended.len() }),
    })?;
    let address: MailAddress = email.parse().map_err(Error::internal)?;
    app.mail_to(&mut tx, trace, &CHANGED, &Recipient::new(address), &ChangedMail { tenant: name })?;
    tx.commit().await?;
    sessions::tell_others(app, system, trace, (person, "password", tenant), &ended).await
}
