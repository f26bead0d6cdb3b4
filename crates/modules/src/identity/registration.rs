//! Registration: people who come without an invitation, where their tenant lets them.
//!
//! Everybody who asks gets the same answer at once, whatever the tenant, the address and the tenant's wish are; what is to be done is done behind
//! it, and tells the holder of the mailbox alone. The link is that of an invitation which nobody has given: what the tenant
//! allows is asked again when it is accepted. Somebody whom an administrator has removed or paused does not come back by himself.

use axum::extract::State;
use erp_core::answer::Acknowledged;
use erp_core::app::App;
use erp_core::auth::{Entitlements, Role, SettingValue, TenantSetting, Trace};
use erp_core::db::{System, TenantTx};
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Json;
use erp_core::limits::Whom;
use erp_core::mail::{MailAddress, MailTemplate, Recipient};
use erp_core::shared::{TenantId, Text};
use erp_core::{from_row, mail_template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::invitations::{self, InvitationMail, Terms};
use super::login::folded;
use super::{IdentitySettings, OPEN_REGISTRATION, codes};

/// Most domains of a list.
const MOST_DOMAINS: usize = 50;
/// So many mails a day for one mailbox, whichever tenants are named.
const MAILS: i32 = 3;
/// So many of one tenant's, where anybody may register: a stranger could have it write to all the world.
const STRANGERS: i32 = 1000;

/// Who may register.
pub(super) static REGISTRATION: TenantSetting<String> = TenantSetting::new(
    "identity.registration",
    "closed",
    "Who becomes a member without an invitation: nobody, people with an address of the tenant's domains, or anybody.",
    &OPEN_REGISTRATION,
)
.one_of(&["closed", "domain", "open"]);

/// Whose addresses may, where it is `domain`.
pub(super) static DOMAINS: TenantSetting<MailDomains> = TenantSetting::new(
    "identity.registration_domains",
    "",
    "The domains of those who become members without an invitation, where registration is by domain. Subdomains are domains of their own.",
    &OPEN_REGISTRATION,
);

/// What they can do then.
pub(super) static ROLE: TenantSetting<String> = TenantSetting::new(
    "identity.registration_role",
    "member",
    "The role of those who become members without an invitation.",
    &OPEN_REGISTRATION,
)
.one_of(&[Role::Member.as_str(), Role::ReadOnly.as_str()]);

/// Domains of mail addresses, in their ASCII form and in small letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MailDomains(Vec<String>);

impl SettingValue for MailDomains {
    const KIND: &'static str = "domains such as example.com; none: nobody's";

    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        Self::from_json(&json!(parts))
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }

    fn fallback() -> Self {
        Self::default()
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        let list = json.as_array().ok_or_else(|| "is not a list".to_owned())?;
        if list.len() > MOST_DOMAINS {
            return Err(format!("has more than {MOST_DOMAINS} domains"));
        }
        let read = |one: &Value| {
            let domain = one.as_str().and_then(domain);
            domain.ok_or_else(|| format!("has {one}, which is no domain such as example.com"))
        };
        list.iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

/// As it stands in an address. That of one label, such as `com`, is nobody's own.
fn domain(text: &str) -> Option<String> {
    let address: MailAddress = format!("x@{text}").parse().ok()?;
    let domain = address.domain().to_ascii_lowercase();
    (domain.contains('.') && !text.contains('@')).then_some(domain)
}

/// The body of `POST /api/v1/auth/register`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    #[schemars(example = &"acme")]
    pub(super) tenant: Text<1, 63>,
    #[schemars(example = &"ada@example.com")]
    pub(super) email: Text<3, 254>,
}

/// The same for every tenant and every address.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistrationTaken {
    /// For how many seconds the link is good, if there is one.
    #[schemars(example = 259_200)]
    #[schemars(range(min = 0, max = 2_592_000))]
    expires_in: u64,
}

pub(super) static LINK: MailTemplate<InvitationMail> = mail_template!(
    "identity.registration", "Gives the link by which somebody becomes a member who has asked for it.", InvitationMail,
    "en": { subject: "Your registration at {{ mail.tenant }}", text: "identity/mails/registration.en.txt" },
    "de": { subject: "Ihre Registrierung bei {{ mail.tenant }}", text: "identity/mails/registration.de.txt" },
)
.confidential();

/// What the mail to a member says.
pub(super) struct MemberMail {
    tenant: String,
    link: String,
}

pub(super) static MEMBER: MailTemplate<MemberMail> = mail_template!(
    "identity.registered_already", "Tells a member who registers once more that there is an account already.", MemberMail,
    "en": { subject: "You are a member of {{ mail.tenant }}", text: "identity/mails/registered_already.en.txt" },
    "de": { subject: "Sie sind Mitglied von {{ mail.tenant }}", text: "identity/mails/registered_already.de.txt" },
);

const TENANT: &str = "select tenant_id, name from tenant_profiles";
/// What is known of an address in the tenant. `$3` is what it is without a sub-address: of a mailbox that was shut out, none comes in.
const STANDING: &str = "select p.disabled_at is not null as disabled, \
       m.user_id is not null and m.ended_at is null and m.deactivated_at is null and m.disabled_at is null as is_member, \
       exists (select from memberships o where o.tenant_id = $1 \
         and (o.ended_at is not null or o.deactivated_at is not null or o.disabled_at is not null) \
         and (o.user_id = p.id or lower(regexp_replace(o.email, '\\+[^@]*@', '@')) = $3)) as is_shut_out \
     from (values (1)) one left join auth.people p on p.email = $2 \
     left join memberships m on m.tenant_id = $1 and m.user_id = p.id";
/// One more within a day, or no row. What is over goes with it; what another transaction holds, with its.
const COUNT: &str = "with over as (delete from auth.registration_mails where key in (select o.key from auth.registration_mails o \
       where o.since < now() - interval '1 day' and o.key <> $1 limit 100 for update skip locked)) \
     insert into auth.registration_mails as r (key, mails, since) values ($1, 1, now()) \
     on conflict (key) do update set mails = case when r.since < now() - interval '1 day' then 1 else r.mails + 1 end, \
       since = case when r.since < now() - interval '1 day' then now() else r.since end \
     where r.since < now() - interval '1 day' or r.mails < $2 returning mails";

struct NamedProfile {
    tenant_id: TenantId,
    name: String,
}
from_row!(NamedProfile { tenant_id, name });

struct AddressStanding {
    disabled: Option<bool>,
    is_member: bool,
    is_shut_out: bool,
}
from_row!(AddressStanding { disabled, is_member, is_shut_out });

/// `POST /api/v1/auth/register`: the answer is the same, and as fast, for every tenant and address: the work is done behind it.
pub(super) async fn register(
    State(app): State<App>,
    trace: Trace,
    system: System,
    Json(registration): Json<Registration>,
) -> Result<Acknowledged<RegistrationTaken>> {
    let lifetime = app.settings::<IdentitySettings>()?.invitation_lifetime;
    let work = {
        let app = app.clone();
        async move {
            if let Err(error) = answer(&app, &system, &trace, &registration).await {
                tracing::error!(
                    code = error.code().code,
                    cause = error.cause().map(ToString::to_string),
                    "A registration got no mail"
                );
            }
        }
    };
    drop(app.lifecycle.serve(work)); // it goes on, and the stop waits for it
    Ok(Acknowledged(RegistrationTaken { expires_in: lifetime.as_secs() }))
}

async fn answer(app: &App, system: &System, trace: &Trace, registration: &Registration) -> Result<()> {
    let (slug, email) = (folded(registration.tenant.as_str()), folded(registration.email.as_str()));
    let Ok(address) = email.parse::<MailAddress>() else { return Ok(()) };
    let found = match system.within(trace, &slug).await {
        Err(error) if error.code() == &core::NOT_FOUND => return Ok(()),
        found => found?.last(),
    };
    let NamedProfile { tenant_id: tenant, name } = found.row(TENANT, &[]).await?;
    let has = app.entitlements_of(tenant, trace).await?;
    if !is_welcome(&has, &address) {
        return Ok(());
    }
    let mut tx = system.begin(trace).within(tenant).await?;
    let AddressStanding { disabled, is_member, is_shut_out } = standing(&mut tx, tenant, &address).await?;
    if disabled == Some(true) || is_shut_out || !has_room(app, &mut tx, (&slug, &address), &has).await? {
        return Ok(());
    }
    let terms = Terms::of(app)?;
    if is_member {
        let mail = MemberMail { tenant: name, link: format!("{}/sign-in?tenant={slug}", terms.base) };
        app.mail_to(&mut tx, trace, &MEMBER, &Recipient::new(address), &mail)?;
    } else {
        let link = invitations::add_registered(&mut tx, tenant, (&address, role(&has)), &terms).await?;
        let mail = InvitationMail::of(&name, &link, terms.lifetime);
        app.mail_to(&mut tx, trace, &LINK, &Recipient::new(address), &mail)?;
    }
    tx.commit().await
}

/// The role that the tenant gives those who register: if its setting cannot be read, the one that may do least.
fn role(has: &Entitlements) -> Role {
    if has.setting(&ROLE) == Role::Member.as_str() { Role::Member } else { Role::ReadOnly }
}

/// Refuses the link of somebody who would not get it now.
///
/// # Errors
/// `identity.invitation_ended`.
pub(super) async fn admit(
    tx: &mut TenantTx<'_>,
    tenant: TenantId,
    (email, has): (&str, &Entitlements),
) -> Result<Role> {
    let address: MailAddress = email.parse().map_err(Error::internal)?;
    let standing = standing(tx, tenant, &address).await?;
    if !is_welcome(has, &address) || standing.is_shut_out {
        return Err(Error::new(&codes::INVITATION_ENDED).because("the tenant lets nobody register with it"));
    }
    Ok(role(has))
}

/// Whether the tenant lets the holder of this address register.
fn is_welcome(has: &Entitlements, address: &MailAddress) -> bool {
    match has.setting(&REGISTRATION).as_str() {
        "open" => true,
        // What stands before the `@` could lead a mail server of the old kind to another one: `evil.com!ada`, `ada%evil.com`.
        "domain" => {
            let local = local(address);
            !local.contains(['!', '%'])
                && has.setting(&DOMAINS).0.iter().any(|domain| address.domain().eq_ignore_ascii_case(domain))
        }
        _ => false,
    }
}

async fn standing(tx: &mut TenantTx<'_>, tenant: TenantId, address: &MailAddress) -> Result<AddressStanding> {
    tx.row(STANDING, &[&tenant, &address.folded(), &mailbox(address)]).await
}

/// Whether the mailbox, and where anybody may register the tenant, has not had its mails of the day.
async fn has_room(
    app: &App,
    tx: &mut TenantTx<'_>,
    (slug, address): (&str, &MailAddress),
    has: &Entitlements,
) -> Result<bool> {
    let name = app.limits.name(Whom::Account("", &mailbox(address)));
    let mut room: Option<()> = tx.optional(COUNT, &[&name, &MAILS]).await?;
    if room.is_some() && has.setting(&REGISTRATION) == "open" {
        room = tx.optional(COUNT, &[&app.limits.name(Whom::Named(slug)), &STRANGERS]).await?;
    }
    Ok(room.is_some())
}

fn local(address: &MailAddress) -> &str {
    address.as_ref().rsplit_once('@').map_or("", |(local, _)| local)
}

/// The address without a sub-address, `ada+erp@example.com`: whose mailbox it is.
fn mailbox(address: &MailAddress) -> String {
    let mailbox = local(address).split('+').next().unwrap_or_default();
    format!("{mailbox}@{}", address.domain()).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_one_form_and_is_somebodys_own() {
        for (text, read) in [
            ("acme.com", "acme.com"),
            ("ACME.com", "acme.com"),
            ("Bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("ａｃｍｅ.com", "acme.com"),
        ] {
            assert_eq!(domain(text).as_deref(), Some(read), "{text}");
        }
        for none in [
            "",
            "com",
            "acme.com.",
            ".acme.com",
            "*.acme.com",
            "@acme.com",
            "x@acme.com",
            "acme .com",
            "acme..com",
            "192.0.2.7",
            "[192.0.2.7]",
            "acme.com/x",
            "acme.com:25",
            "xn--a.example",
        ] {
            assert_eq!(domain(none), None, "{none}");
        }
    }

    #[test]
    fn a_sub_address_is_of_its_mailbox() {
        for (address, of) in [
            ("Ada@Example.com", "ada@example.com"),
            ("ada+erp@example.com", "ada@example.com"),
            ("ada+a+b@example.com", "ada@example.com"),
            ("ada.l@example.com", "ada.l@example.com"),
        ] {
            assert_eq!(mailbox(&address.parse().unwrap()), of);
        }
    }
}
