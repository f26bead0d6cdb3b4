//! How people change the address of their account: the new one confirms, the old one is told, and can undo it for a week.
//!
//! Who has stolen a session and a password must not take the account for good. So the change wants a recent proof, takes effect when the
//! link to the new address is opened, and sends the old one a link that takes it back, whatever was changed since: then all
//! sessions end, and the password and factors that were set up since are gone.

use std::time::Duration;

use axum::extract::State;
use erp_core::answer::{Acknowledged, NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Caller, TenantSecret, Trace};
use erp_core::db::{AuditEntry, System, SystemTx};
use erp_core::error::{Error, Result};
use erp_core::extract::Json;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::mailer::link_base;
use erp_core::shared::{Secret, TenantId, UserId};
use erp_core::{from_row, mail_template};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::password_routes::{DROP_LINKS, LinkIsSent, NAME, ProfileName};
use super::session::seconds;
use super::step_up::require_recent;
use super::{codes, factors, sessions};

/// What the secrets of the two links begin with.
const CONFIRM: &str = "email";
const UNDO: &str = "undo";
/// For how long the new address can confirm.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// For how long the old one can undo.
const UNDO_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The body of `POST /api/v1/auth/email/change`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeAddress {
    #[schemars(example = &"ada@lovelace.example")]
    new_email: MailAddress,
}

/// The secret of a mail's link.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressLink {
    #[schemars(example = &"erp_email_…")]
    token: Secret<String>,
}

/// What the mail to the new address says.
pub(super) struct ConfirmAddressMail {
    link: String,
}

/// What the mail to the old one says.
pub(super) struct AddressChangedMail {
    tenant: String,
    link: String,
}

pub(super) static ASKED: MailTemplate<ConfirmAddressMail> = mail_template!(
    "identity.address_confirmation", "Gives a new address the link that makes it the account's.", ConfirmAddressMail,
    "en": { subject: "Confirm your new address", text: "identity/mails/address_confirmation.en.txt" },
    "de": { subject: "Bestätigen Sie Ihre neue Adresse", text: "identity/mails/address_confirmation.de.txt" },
)
.confidential();

pub(super) static CHANGED: MailTemplate<AddressChangedMail> = mail_template!(
    "identity.address_changed", "Tells the old address that the account has another one, with the link that takes it back.", AddressChangedMail,
    "en": { subject: "The address of your account was changed", text: "identity/mails/address_changed.en.txt" },
    "de": { subject: "Die Adresse Ihres Kontos wurde geändert", text: "identity/mails/address_changed.de.txt" },
)
.confidential();

/// A few at a time: nobody's mailbox is flooded in the name of an account.
const ADD: &str = "insert into auth.address_changes (hash, person_id, old_email, new_email, expires_at) \
     select $1, p.id, p.email, $3, now() + $4::bigint * interval '1 second' from auth.people p \
     where p.id = $2 and p.disabled_at is null and (select count(*) from auth.address_changes c where c.person_id = $2 \
       and c.confirmed_at is null and c.expires_at > now()) < 5 returning person_id";
const FORGET: &str =
    "delete from auth.address_changes where person_id = $1 and coalesce(undo_until, expires_at) < now()";
/// Not where the address is another one already: then this link is of old times.
const SPEND: &str = "update auth.address_changes c set confirmed_at = now(), undo_hash = $2, \
       undo_until = now() + $3::bigint * interval '1 second' from auth.people p \
     where c.hash = $1 and c.confirmed_at is null and c.expires_at > now() and p.id = c.person_id and p.email = c.old_email \
       and p.disabled_at is null returning c.person_id, c.old_email, c.new_email, c.confirmed_at";
const SPEND_UNDO: &str = "delete from auth.address_changes c using auth.people p where c.undo_hash = $1 and c.undo_until > now() \
     and p.id = c.person_id returning c.person_id, c.old_email as new_email, p.email as old_email, c.confirmed_at";
const MOVE: &str = "update auth.people set email = $2 where id = $1";
pub(super) const DROP_CHANGES: &str = "delete from auth.address_changes where person_id = $1";
pub(super) const DROP_PASSWORD: &str = "delete from auth.passwords where person_id = $1";
const DROP_FACTORS: &str =
    "delete from auth.factors where person_id = $1 and coalesce(confirmed_at, now()) >= $2";
const DROP_PASSKEYS: &str = "delete from auth.passkeys where person_id = $1 and created_at >= $2";
const TENANTS: &str = "select tenant_id from memberships where user_id = $1 and ended_at is null";
const COPY: &str =
    "update memberships set email = $3 where tenant_id = $1 and user_id = $2 and ended_at is null";

/// An address that becomes another one.
struct MovedAddress {
    person_id: UserId,
    old_email: String,
    new_email: String,
    confirmed_at: Timestamp,
}
from_row!(MovedAddress { person_id, old_email, new_email, confirmed_at });

struct MemberTenant {
    tenant_id: TenantId,
}
from_row!(MemberTenant { tenant_id });

/// `POST /api/v1/auth/email/change`: the same for every address, whether there is an account of it or not.
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(change): Json<ChangeAddress>,
) -> Result<Acknowledged<LinkIsSent>, Refusing<(codes::STEP_UP_REQUIRED, codes::NO_PUBLIC_URL)>> {
    let (tenant, person) = (caller.tenant(), caller.user()?);
    let has_factor = factors::has_factor(&system, caller.trace(), person).await?;
    require_recent(&app, &caller, has_factor)?;
    let base = link_base(&app.config).ok_or_else(|| Error::new(&codes::NO_PUBLIC_URL))?;
    let secret = TenantSecret::new(CONFIRM, tenant, app.rng.as_ref());
    let email = change.new_email.to_string().to_lowercase();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let _: Vec<()> = tx.rows(FORGET, &[&person]).await?;
    let added: Option<()> = tx.optional(ADD, &[&secret.hash(), &person, &email, &seconds(LIFETIME)]).await?;
    if added.is_some() {
        let mail = ConfirmAddressMail { link: format!("{base}/address?token={}", secret.expose()) };
        app.mail_to(&mut tx, caller.trace(), &ASKED, &Recipient::new(change.new_email), &mail)?;
    }
    tx.audit(&entry("identity.address_change_asked", person))?;
    tx.commit().await?;
    Ok(Acknowledged(LinkIsSent::of(LIFETIME)))
}

/// `POST /api/v1/auth/email/confirm`.
pub(super) async fn confirm(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(link): Json<AddressLink>,
) -> Result<NoContent, Refusing<(codes::LINK_ENDED, codes::ADDRESS_TAKEN, codes::NO_PUBLIC_URL)>> {
    confirmed(&app, &trace, &system, &link.token).await?;
    Ok(NoContent)
}

/// The same for the page.
pub(super) async fn confirmed(
    app: &App,
    trace: &Trace,
    system: &System,
    token: &Secret<String>,
) -> Result<()> {
    let ended = || Error::new(&codes::LINK_ENDED);
    let secret = TenantSecret::parse(CONFIRM, token.expose()).ok_or_else(ended)?;
    let base = link_base(&app.config).ok_or_else(|| Error::new(&codes::NO_PUBLIC_URL))?;
    let undo = TenantSecret::new(UNDO, secret.tenant, app.rng.as_ref());
    let mut tx = system.begin(trace);
    let spent = tx.optional(SPEND, &[&secret.hash(), &undo.hash(), &seconds(UNDO_LIFETIME)]).await?;
    let moved: MovedAddress = spent.ok_or_else(ended)?;
    let tenants = relocate(&mut tx, &moved).await?;
    let mut tx = tx.within(secret.tenant).await?;
    let _: Vec<()> = tx.rows(COPY, &[&secret.tenant, &moved.person_id, &moved.new_email]).await?;
    let ProfileName { name } = tx.row(NAME, &[&secret.tenant]).await?;
    let mail =
        AddressChangedMail { tenant: name, link: format!("{base}/address/undo?token={}", undo.expose()) };
    let old: MailAddress = moved.old_email.parse().map_err(Error::internal)?;
    app.mail_to(&mut tx, trace, &CHANGED, &Recipient::new(old), &mail)?;
    tx.audit(&entry("identity.address_changed", moved.person_id))?;
    tx.commit().await?;
    copy_to_others(system, trace, (&moved, secret.tenant, "identity.address_changed"), &tenants).await
}

/// `POST /api/v1/auth/email/undo`.
pub(super) async fn undo(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(link): Json<AddressLink>,
) -> Result<NoContent, Refusing<(codes::LINK_ENDED, codes::ADDRESS_TAKEN)>> {
    undone(&app, &trace, &system, &link.token).await?;
    Ok(NoContent)
}

/// The same for the page.
pub(super) async fn undone(app: &App, trace: &Trace, system: &System, token: &Secret<String>) -> Result<()> {
    let ended = || Error::new(&codes::LINK_ENDED);
    let secret = TenantSecret::parse(UNDO, token.expose()).ok_or_else(ended)?;
    let mut tx = system.begin(trace);
    let spent: Option<MovedAddress> = tx.optional(SPEND_UNDO, &[&secret.hash()]).await?;
    let moved = spent.ok_or_else(ended)?;
    let person = moved.person_id;
    let tenants = relocate(&mut tx, &moved).await?;
    // The links that go back to what a thief has made of the account; what he has set up to come in by; and his sessions.
    for statement in [DROP_CHANGES, DROP_PASSWORD] {
        let _: Vec<()> = tx.rows(statement, &[&person]).await?;
    }
    let _: Vec<()> = tx.rows(DROP_FACTORS, &[&person, &moved.confirmed_at]).await?;
    let _: Vec<()> = tx.rows(DROP_PASSKEYS, &[&person, &moved.confirmed_at]).await?;
    let sessions = sessions::end_in(&mut tx, (person, "password", None)).await?;
    let mut tx = tx.within(secret.tenant).await?;
    let _: Vec<()> = tx.rows(COPY, &[&secret.tenant, &person, &moved.new_email]).await?;
    tx.audit(&entry("identity.address_change_undone", person))?;
    tx.commit().await?;
    sessions::tell_others(app, system, trace, (person, "password", secret.tenant), &sessions).await?;
    copy_to_others(system, trace, (&moved, secret.tenant, "identity.address_change_undone"), &tenants).await
}

/// Gives the person its other address, and ends what is on its way to the former; the tenants that have a copy of it.
async fn relocate(tx: &mut SystemTx<'_>, moved: &MovedAddress) -> Result<Vec<MemberTenant>> {
    let _: Vec<()> = tx.rows(MOVE, &[&moved.person_id, &moved.new_email]).await?;
    let _: Vec<()> = tx.rows(DROP_LINKS, &[&moved.person_id]).await?;
    tx.rows(TENANTS, &[&moved.person_id]).await
}

/// The other tenants' copies, each with its entry, in a transaction of its own.
async fn copy_to_others(
    system: &System,
    trace: &Trace,
    (moved, here, action): (&MovedAddress, TenantId, &'static str),
    tenants: &[MemberTenant],
) -> Result<()> {
    for MemberTenant { tenant_id } in tenants.iter().filter(|tenant| tenant.tenant_id != here) {
        let mut tx = system.begin(trace).within(*tenant_id).await?;
        let _: Vec<()> = tx.rows(COPY, &[tenant_id, &moved.person_id, &moved.new_email]).await?;
        tx.audit(&entry(action, moved.person_id))?;
        tx.commit().await?;
    }
    Ok(())
}

/// No address is in it: audit rows outlive people's data.
fn entry(action: &'static str, person: UserId) -> AuditEntry {
    let resource_id = Some(person.to_string());
    AuditEntry { action, resource: "user", resource_id, outcome: "success", details: json!(null) }
}
