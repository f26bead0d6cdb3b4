//! Who people are: sign-in, sessions, and what a caller can find out about itself.

pub mod access;
mod address_change;
mod addressees;
mod authentication;
mod browser;
mod device;
pub mod erasure;
pub mod explain;
mod factors;
mod giver;
mod invitations;
mod keys;
mod lock_out;
mod login;
mod made;
mod me;
mod members;
mod mfa;
pub mod operator;
mod own_roles;
mod owner_notice;
mod pages;
mod passkey_login;
mod passkeys;
mod password_routes;
mod passwords;
pub mod people;
pub mod people_import;
mod personal;
mod public_keys;
mod registration;
mod required;
mod review_campaigns;
mod reviews;
mod roles;
pub(crate) mod seeds;
mod service_accounts;
mod session;
mod sessions;
mod step_up;
mod tenants;
mod terms;

use std::time::Duration;

use erp_core::auth::RequiredAction;
use erp_core::config::Section;
use erp_core::limits::{Policy, Quota};
use erp_core::metrics::MetricTable;
use erp_core::module::{Access, Module, Operation, Routes, SystemGauge};

/// The identity module.
pub static MODULE: Module = Module {
    name: "identity",
    about: ABOUT,
    permissions: PERMISSIONS,
    errors: ERRORS,
    settings: &[Section::of::<IdentitySettings>()],
    routes,
    meters: &[&members::SEATS],
    migrations: erp_core::migrations![
        "0001_people" was ["0003_identity"],
        "0002_tenant_rate_limit" was ["0006_tenant_rate_limit"],
        "0003_access",
        "0004_system_access",
        "0005_sessions",
        "0006_members",
        "0007_one_time",
        "0008_factors",
        "0009_api_keys",
        "0010_lock_out",
        "0011_browser_sessions",
        "0012_roles",
        "0013_access_reviews",
        "0014_address_changes",
        "0015_impersonation",
        "0016_key_networks",
        "0017_erased_people",
        "0018_second_factor_by_role",
        "0019_registration",
        "0020_members_counted",
        "0021_required_actions",
        "0022_passkeys",
        "0023_reviews_by_themselves",
        "0024_encrypted_seeds",
    ],
    samples: erp_core::samples![
        "tenant_profiles",
        "memberships",
        "roles",
        "role_permissions",
        "grants",
        "sessions",
        "invitations",
        "service_accounts",
        "api_keys",
        "access_reviews",
        "access_review_items",
        "terms_acceptances",
    ],
    personal: personal::PERSONAL,
    system: SYSTEM,
    assets: &[pages::STYLE, pages::PASSKEYS],
    mails: &[
        &invitations::INVITATION,
        &password_routes::RESET,
        &password_routes::CHANGED,
        &mfa::ADDED,
        &mfa::REMOVED,
        &owner_notice::FAILED_TRIES,
        &address_change::ASKED,
        &address_change::CHANGED,
        &registration::LINK,
        &registration::MEMBER,
        &review_campaigns::DUE,
    ],
    metrics: &[MetricTable::of::<IdentityMetrics>()],
    gauges: &[&SESSIONS_ACTIVE],
    jobs: &[
        &lock_out::FORGET,
        &reviews::CLOSE,
        &review_campaigns::BEGIN,
        &review_campaigns::REMIND,
        &erasure::ERASE,
        &seeds::MOVE,
    ],
    schedules: &[&lock_out::NIGHTLY, &review_campaigns::QUARTERS, &seeds::NIGHTLY],
    tenant_settings: &[
        &required::SECOND_FACTOR,
        &registration::REGISTRATION,
        &registration::DOMAINS,
        &registration::ROLE,
        &terms::VERSION,
        &terms::ADDRESS,
        &review_campaigns::EVERY,
    ],
    tenant_name: Some("select name from tenant_profiles"),
    authentication: Some(&authentication::AUTHENTICATION),
    ..Module::BARE
};

/// What other modules use: how operators prove who they are, and what they do with tenants.
pub(crate) mod facade {
    pub(crate) use super::IdentitySettings;
    pub(crate) use super::addressees::addressees;
    pub(crate) use super::codes::{
        CODE_REFUSED, LAST_OWNER, LOCKED_OUT, NO_FACTOR, NO_PUBLIC_URL, SIGN_IN_FAILED, TENANT_TAKEN,
        WEAK_PASSWORD,
    };
    pub(crate) use super::device::device;
    pub(crate) use super::erasure;
    pub(crate) use super::factors::{CodeGiven, CodeVerdict, FactorTables, factor_tables, judge};
    pub(crate) use super::lock_out::{GuessTarget, begin};
    pub(crate) use super::mfa::{NewTotp, RecoveryCodes, mail_removed, new_recovery_codes, new_totp};
    pub(crate) use super::operator as tenants;
    pub(crate) use super::own_roles::{NewTenantRole, add_first};
    pub(crate) use super::passwords::{check, verify_stored};
    pub(crate) use super::people;
    pub(crate) use super::seeds;
    pub(crate) use super::session::{Impersonation, address, impersonate, seconds};
}

const ABOUT: &str = "Sign-in, and what a caller can find out about itself.";

erp_core::error_codes! {
    /// The codes of the identity module.
    pub ERRORS in codes {
        SIGN_IN_FAILED = "identity.sign_in_failed", 401, "Sign-in failed";
            "The tenant, the e-mail address or the password is wrong, or the account cannot sign in.";
            "Check all three; the answer does not say which.";
        SESSION_ENDED = "identity.session_ended", 401, "The session has ended";
            "The refresh token is not one that is good: its session was signed out, has expired or was left unused for too long, or the token was used before.";
            "Sign in again.";
        INVITATION_ENDED = "identity.invitation_ended", 410, "The invitation cannot be accepted";
            "It was accepted or taken back, its time is over, or the token is not that of an invitation.";
            "Ask for another one.";
        LINK_ENDED = "identity.link_ended", 410, "The link cannot be used";
            "It was used, its time is over, or the password was changed since.";
            "Ask for another one.";
        CODE_REFUSED = "identity.code_refused", 401, "The code is not good";
            "It is wrong, was used before, or belongs to another time; or the sign-in that it was for is over.";
            "Try the next code; after five minutes, begin the sign-in anew.";
        TOO_MANY_CODES = "identity.too_many_codes", 429, "Too many codes were wrong";
            "Five of the person's codes were wrong within 15 minutes, or thirty within a day.";
            "Wait for the seconds in Retry-After, or use a recovery code.";
        LOCKED_OUT = "identity.locked_out", 429, "Strangers are shut out of the account";
            "So many sign-ins in a row have failed that only devices are let in from which somebody has signed in to it before.";
            "Sign in from such a device, or set another password by the link of a mail; either opens the account again.";
        STEP_UP_REQUIRED = "identity.step_up_required", 403, "One's identity is to be proven again";
            "The act wants somebody who has proven within the last ten minutes who it is, by the second factor where there is one.";
            "Send the password or a code to POST /api/v1/auth/step-up, and use the token that it answers.";
        FACTOR_EXISTS = "identity.factor_exists", 409, "There is a second factor already";
            "An account has one authenticator app.";
            "Remove it first.";
        NO_FACTOR = "identity.no_factor", 409, "There is no second factor";
            "None is set up, or the one that was begun has been left for longer than 15 minutes.";
            "Set one up first.";
        FACTOR_NOT_USED = "identity.factor_not_used", 409, "No second factor was used in this session";
            "Who demands a second factor of others would shut himself out.";
            "Set one up, give a code of it to POST /api/v1/auth/step-up, and ask again with the token that it answers.";
        OTHER_TERMS = "identity.other_terms", 409, "Other terms are in force";
            "The tenant's terms have another version by now, or there are none.";
            "Read GET /api/v1/auth/terms, and accept the version that it shows.";
        WEAK_PASSWORD = "identity.weak_password", 422, "The password is too easy to guess";
            "It is too short, or among what others would try first; the detail says why.";
            "Choose a longer one, of words that have nothing to do with the account.";
        MORE_THAN_OWN = "identity.more_than_own", 403, "More than one's own rights";
            "Nobody gives roles, or changes members, with rights that he has not himself.";
            "Ask somebody who has them.";
        LAST_OWNER = "identity.last_owner", 409, "The tenant would have no owner";
            "An active member keeps the role 'owner' for good.";
            "Make somebody else an owner first.";
        ROLE_TAKEN = "identity.role_taken", 409, "There is a role of this name", on roles [roles_name_key, roles_name_check];
            "Another role of the tenant has the name, in some case, or it is one of those that every tenant has.";
            "Choose another name.";
        ROLE_IN_USE = "identity.role_in_use", 409, "The role is in use";
            "Members or service accounts hold it, or an open invitation promises it.";
            "Take it back from them first: GET /api/v1/access/who says who they are.";
        TENANT_TAKEN = "identity.tenant_taken", 409, "The tenant is there already", on tenants [tenants_slug_key];
            "There is a tenant of this slug, and it has an owner.";
            "Choose another slug.";
        ADDRESS_TAKEN = "identity.address_taken", 409, "The address is another account's", on people [people_email_key];
            "There is an account of this address.";
            "Use another address.";
        PERSON_CAME = "identity.person_came", 409, "The account was made meanwhile";
            "Somebody has made an account of this address while the row was being written.";
            "Import the file again: what is there is left as it is.";
        NO_PUBLIC_URL = "identity.no_public_url", 503, "Links cannot be made";
            "The operator has not set PUBLIC_URL, which links in mails begin with.";
            "Ask the operator to set PUBLIC_URL.";
    }
}

erp_core::permissions! {
    /// The permissions of the identity module.
    pub PERMISSIONS {
        READ_USERS = "identity.user.read" to [Owner, Member]: "See who the members are, and what roles they have.";
        INVITE = "identity.user.invite" to [Owner]: "Invite people, and take invitations back.";
        OPEN_REGISTRATION = "identity.registration.open" to [Owner] alone: "Say who becomes a member without an invitation, and as what.";
        MANAGE_USERS = "identity.user.manage" to [Owner]: "Give members roles, pause and remove them.";
        OWN = "identity.tenant.own" to [Owner] alone: "Answer for the tenant: make and unmake owners.";
        READ_ROLES = "identity.role.read" to [Owner, Member, Auditor]: "See the roles that there are, and what they allow.";
        MANAGE_ROLES = "identity.role.manage" to [Owner]: "Make, change and remove roles of the tenant's own, within one's own rights.";
        EXPLAIN_ACCESS = "identity.access.explain" to [Owner, Auditor]: "See who may do what, and by which role.";
        READ_REVIEWS = "identity.access_review.read" to [Owner, Auditor]: "See the reviews of access, and what was decided.";
        REVIEW_ACCESS = "identity.access_review.decide" to [Owner] alone: "Begin and close reviews of access, and decide who keeps a role.";
        END_SESSIONS = "identity.session.end" to [Owner]: "End the sessions of others.";
        DEMAND_FACTOR = "identity.factor.demand" to [Owner]: "Say who needs a second factor in the tenant.";
        SET_TERMS = "identity.terms.set" to [Owner]: "Say which terms the tenant's people accept before they go on.";
        MANAGE_KEYS = "identity.key.manage" to [Owner]: "Make API keys within one's own rights, see, rotate and revoke them.";
        MANAGE_MACHINES = "identity.service_account.manage" to [Owner]: "Make service accounts, give them roles, and end them.";
    }
}

erp_core::settings! {
    /// How people sign in, and for how long.
    pub struct IdentitySettings in "Identity" of MODULE;

    /// The longest that a session lasts, however often it is refreshed.
    IDENTITY_SESSION_LIFETIME session_lifetime: Duration { default: Defaults::all("30d"), range: Some(("1m", "30d")) };

    /// A session that is not refreshed for so long ends.
    IDENTITY_SESSION_IDLE session_idle: Duration { default: Defaults::all("7d"), range: Some(("1m", "30d")) };

    /// How many sessions a person has in a tenant at a time; one more ends the one that was used longest ago.
    IDENTITY_SESSIONS_PER_PERSON sessions_per_person: u32 { default: Defaults::all("20"), range: Some(("1", "1000")) };

    /// How many failed sign-ins in a row shut strangers out of an account until one succeeds; its owner comes in from known devices.
    IDENTITY_LOCK_OUT_AFTER lock_out_after: u32 { default: Defaults::all("100"), range: Some(("10", "100")) };

    /// How long an invitation can be accepted.
    IDENTITY_INVITATION_LIFETIME invitation_lifetime: Duration { default: Defaults::all("3d"), range: Some(("1h", "30d")) };

    /// How long a tenant stays closed before it can be erased.
    IDENTITY_CLOSED_FOR closed_for: Duration { default: Defaults::all("30d"), range: Some(("0s", "3650d")) };
}

erp_core::metrics! {
    /// What is measured of sign-ins.
    pub struct IdentityMetrics of MODULE;

    /// Sign-ins whose password was looked at, by outcome: `succeeded`, `pending` (a second factor is missing), `failed`, `undecided`
    /// (a fault of ours).
    identity_sign_ins_total: Counter[outcome] { unit: "sign-ins" }

    /// Sign-ins and other proofs of a password that were refused before it was looked at, by what has failed too often: the `address`
    /// or device, the `account`, for good (`locked_out`), the `tenant`, or many accounts from one address (`stuffing`).
    identity_sign_ins_refused_total: Counter[by] { unit: "sign-ins" }

    /// Sessions that are alive at present, in all tenants and of all instances, by what carries them: `token` or `cookie`.
    sessions_active: Gauge[by] { unit: "sessions" }
}

static SESSIONS_ACTIVE: SystemGauge = SystemGauge {
    metric: "sessions_active",
    work: &SESSIONS,
    sql: "select case when cookie_hash is null then 'token' else 'cookie' end as label, count(*)::float8 as value from sessions \
        where revoked_at is null and idle_at > now() and expires_at > now() group by 1",
    labels: &["token", "cookie"],
    set: |metrics, by, count| {
        metrics.of::<IdentityMetrics>()?.sessions_active.with(&[by]).set(count);
        Ok(())
    },
};

erp_core::system_work! {
    /// What identity does as the system.
    SYSTEM {
        SIGN_IN = "sign-in": "Finds the tenant of a slug and the account of an address within it, while nobody has signed in yet, and counts what fails.";
        SESSIONS = "sessions": "Keeps up and ends sessions: a refresh token comes before its tenant is known, and a person's sessions may be in several.";
        PASSWORDS = "passwords": "Sets passwords, which no tenant sees, for those who know the one before or have the link of a mail.";
        FACTORS = "factors": "Keeps second factors, which no tenant sees, and proves their codes, also of those who are no callers yet.";
        MEMBERS = "members": "Makes, changes and ends memberships on behalf of those who may, and of those who accept an invitation or register and are no callers yet.";
        ROLES = "roles": "Makes, changes and removes a tenant's roles on behalf of those who may.";
        MACHINES = "machines": "Makes, changes and ends service accounts and API keys on behalf of those who may.";
        REVIEWS = "access-reviews": "Begins reviews of access and keeps decisions on behalf of those who may, and ends what nobody has confirmed.";
        EXPLAIN = "explain-access": "Says who may do what in a tenant, as operators ask for it.";
        ACCESS = "access": "Shows a tenant's keys, roles and reviews, revokes keys and gives and takes roles, as operators ask for it.";
        TENANTS = "tenants": "Makes tenants, moves them from state to state and erases them, as operators ask for it.";
        ADDRESSES = "addresses": "Changes people's addresses, which no tenant owns, for those who open the link of a mail.";
        PEOPLE = "people": "Finds, disables, signs out and erases people, who belong to no tenant, and brings them from other systems into one, as operators ask for it.";
        SELECT_TENANT = "select-tenant": "Finds the tenant that a request selects, before it is known whether the caller belongs to it, and the API key that a request brings, and notes its use.";
    }
}

/// Failed sign-ins of one address, and of one account from there: `RATE_LIMIT_AUTH_MAX` in `RATE_LIMIT_AUTH_WINDOW`.
static FAILED_SIGN_INS: Policy = Policy::failures("sign-in", |config| {
    Quota::new(config.rate_limit.auth_max, config.rate_limit.auth_window)
});

/// Links to set a password that one address asks for: `RATE_LIMIT_AUTH_MAX` in `RATE_LIMIT_AUTH_WINDOW`.
static LINKS: Policy = Policy::requests("password-links", |config| {
    Quota::new(config.rate_limit.auth_max, config.rate_limit.auth_window)
});

fn routes() -> Routes {
    pages::add(Routes::new())
        .post("/api/v1/auth/login", Access::Public, login::login)
        .shows_secret()
        .limit(&FAILED_SIGN_INS)
        .system(&SIGN_IN)
        .doc(
            Operation::new("signIn", "Sign in").about(
                "One answer for everything that is wrong, so that it does not tell who has an account. An account with a second factor \
                 gets an `mfaToken`, which `POST /api/v1/auth/mfa/verify` takes and nothing else.",
            ),
        )
        .post("/api/v1/auth/login/passkey/challenge", Access::Public, passkey_login::challenge)
        .doc(Operation::new("challengeSignIn", "Ask what a passkey is to answer, to sign in by it alone").about(
            "What a browser's `navigator.credentials.get` is called with. The answer goes to `POST /api/v1/auth/login/passkey`, once, within \
             five minutes.",
        ))
        .post("/api/v1/auth/login/passkey", Access::Public, passkey_login::login)
        .shows_secret()
        .limit(&FAILED_SIGN_INS)
        .system(&SIGN_IN)
        .doc(Operation::new("signInByPasskey", "Sign in by a passkey alone").about(
            "By one that finds its owner by itself and asks for a PIN or a finger: it proves two things at once, and no second factor is \
             asked for. One answer for everything that is wrong. What strangers guess of the account's password does not shut it out.",
        ))
        .post("/api/v1/auth/mfa/verify", Access::Public, mfa::verify)
        .shows_secret()
        .system(&FACTORS)
        .doc(Operation::new("verifyFactor", "Finish a sign-in by the second factor").about(
            "It takes a code of the authenticator app or a recovery code. Each is good once, and few wrong ones are let through.",
        ))
        .post("/api/v1/auth/mfa/totp", Access::SignedIn, mfa::enrol)
        .opens_for(&[RequiredAction::SecondFactor])
        .open_to_readers("everybody has a second factor of their own")
        .shows_secret()
        .limit(&FAILED_SIGN_INS)
        .system(&FACTORS)
        .doc(Operation::new("enrolTotp", "Begin to set up an authenticator app").about(
            "The secret is shown this once. It counts from the first code on that `…/confirm` is given.",
        ))
        .post("/api/v1/auth/mfa/totp/confirm", Access::SignedIn, mfa::confirm)
        .opens_for(&[RequiredAction::SecondFactor])
        .open_to_readers("everybody has a second factor of their own")
        .system(&FACTORS)
        .doc(Operation::new("confirmTotp", "Finish setting up an authenticator app"))
        .delete("/api/v1/auth/mfa/totp", Access::SignedIn, mfa::remove)
        .open_to_readers("everybody has a second factor of their own")
        .system(&FACTORS)
        .doc(Operation::new("removeTotp", "Remove the authenticator app").about(
            "With the recovery codes, where there is no passkey. It wants a code of the app, or a recovery code, within the last ten minutes.",
        ))
        .post("/api/v1/auth/mfa/passkey", Access::Public, mfa::ask_passkey)
        .system(&FACTORS)
        .doc(Operation::new("askPasskey", "Ask what a passkey is to answer, to finish a sign-in").about(
            "The answer goes to `POST /api/v1/auth/mfa/verify`, once.",
        ))
        .get("/api/v1/auth/passkeys", Access::SignedIn, passkeys::list)
        .opens_for(&[RequiredAction::SecondFactor])
        .system(&FACTORS)
        .doc(Operation::new("listPasskeys", "List one's passkeys"))
        .post("/api/v1/auth/passkeys/options", Access::SignedIn, passkeys::options)
        .open_to_readers("everybody has passkeys of their own")
        .opens_for(&[RequiredAction::SecondFactor])
        .system(&FACTORS)
        .doc(Operation::new("beginPasskey", "Begin to make a passkey").about(
            "What a browser's `navigator.credentials.create` is called with. It wants a proof of who one is within the last ten minutes.",
        ))
        .post("/api/v1/auth/passkeys", Access::SignedIn, passkeys::create)
        .open_to_readers("everybody has passkeys of their own")
        .opens_for(&[RequiredAction::SecondFactor])
        .system(&FACTORS)
        .doc(Operation::new("createPasskey", "Keep the passkey that a browser has made").about(
            "From then on a sign-in asks for a second factor. It proves nothing of the session: `POST /api/v1/auth/step-up` does.",
        ))
        .post("/api/v1/auth/passkeys/challenge", Access::SignedIn, passkeys::challenge)
        .open_to_readers("everybody proves who they are")
        .opens_for(&[RequiredAction::SecondFactor])
        .system(&FACTORS)
        .doc(Operation::new("challengePasskey", "Ask what a passkey is to answer, for a step-up").about(
            "What a browser's `navigator.credentials.get` is called with. The answer goes to `POST /api/v1/auth/step-up`, once.",
        ))
        .delete("/api/v1/auth/passkeys/{id}", Access::SignedIn, passkeys::remove)
        .open_to_readers("everybody has passkeys of their own")
        .system(&FACTORS)
        .doc(Operation::new("removePasskey", "Remove a passkey").about(
            "It wants a second factor within the last ten minutes. The recovery codes go with the last factor.",
        ))
        .post("/api/v1/auth/mfa/recovery-codes", Access::SignedIn, mfa::make_recovery_codes)
        .open_to_readers("everybody has recovery codes of their own")
        .shows_secret()
        .system(&FACTORS)
        .doc(Operation::new("makeRecoveryCodes", "Make new recovery codes").about(
            "Ten, shown this once; those before are good no more.",
        ))
        .post("/api/v1/auth/step-up", Access::SignedIn, step_up::step_up)
        .opens_for(&[RequiredAction::SecondFactor])
        .open_to_readers("everybody proves who they are")
        .shows_secret()
        .limit(&FAILED_SIGN_INS)
        .system(&FACTORS)
        .doc(Operation::new("stepUp", "Prove again who one is").about(
            "What wants a recent proof refuses with `identity.step_up_required`. The session goes on; the access token is another one.",
        ))
        .post("/api/v1/auth/refresh", Access::Public, sessions::refresh)
        .shows_secret()
        .system(&SESSIONS)
        .doc(Operation::new("refresh", "Get the next tokens of a session").about(
            "A refresh token is good once. Who has not got the answer asks again within ten seconds and gets the same; a token \
             that was used before ends its session.",
        ))
        .post("/api/v1/auth/password/change", Access::SignedIn, password_routes::change)
        .opens_for(&[RequiredAction::ChangePassword])
        .open_to_readers("everybody has a password of their own")
        .limit(&FAILED_SIGN_INS)
        .system(&PASSWORDS)
        .doc(Operation::new("changePassword", "Change one's password").about(
            "It wants the current one, and ends all other sessions of the person, in all tenants.",
        ))
        .post("/api/v1/auth/password/forgot", Access::Public, password_routes::forgot)
        .limit(&LINKS)
        .system(&PASSWORDS)
        .doc(Operation::new("forgotPassword", "Ask for a link to set a password").about(
            "The answer is the same for every address. The link is good for an hour, once, and goes to the address that is stored.",
        ))
        .post("/api/v1/auth/password/reset", Access::Public, password_routes::reset)
        .limit(&LINKS)
        .system(&PASSWORDS)
        .doc(Operation::new("resetPassword", "Set a password by a link").about(
            "It ends all sessions of the person and begins none.",
        ))
        .post("/api/v1/auth/register", Access::Public, registration::register)
        .limit(&LINKS)
        .system(&MEMBERS)
        .doc(Operation::new("register", "Ask for a link to become a member").about(
            "The answer is the same for every tenant and address, whether the tenant lets people register (`identity.registration`) or not. \
             Where it does, the link is in the mail, and is accepted as that of an invitation; a member is told by mail that it is one. \
             A mailbox gets three such mails a day.",
        ))
        .get("/api/v1/auth/csrf-token", Access::SignedIn, browser::csrf_token)
        .opens_for(&RequiredAction::ALL)
        .doc(Operation::new("csrfToken", "Get the token of one's pages").about(
            "For scripts of this server's pages, which change things by the session's cookie: they send it as `X-CSRF-Token`.",
        ))
        .post("/api/v1/auth/email/change", Access::SignedIn, address_change::change)
        .open_to_readers("everybody has an address of their own")
        .limit(&LINKS)
        .system(&ADDRESSES)
        .doc(Operation::new("changeAddress", "Ask for another address of one's account").about(
            "The answer is the same for every address. The link goes to the new one, and is good for an hour, once. It wants a proof \
             of who one is within the last ten minutes.",
        ))
        .post("/api/v1/auth/email/confirm", Access::Public, address_change::confirm)
        .limit(&LINKS)
        .system(&ADDRESSES)
        .doc(Operation::new("confirmAddress", "Confirm a new address by the link that it got").about(
            "The address before is told, and can undo it for a week.",
        ))
        .post("/api/v1/auth/email/undo", Access::Public, address_change::undo)
        .limit(&LINKS)
        .system(&ADDRESSES)
        .doc(Operation::new("undoAddress", "Take an address back by the link that it got").about(
            "It ends all sessions of the person, its password, and the factors that were set up since.",
        ))
        .get("/api/v1/auth/sessions", Access::SignedIn, sessions::list)
        .doc(Operation::new("listSessions", "List one's own sessions"))
        .delete("/api/v1/auth/sessions/{id}", Access::SignedIn, sessions::end)
        .open_to_readers("everybody ends sessions of their own")
        .system(&SESSIONS)
        .doc(Operation::new("endSession", "End a session"))
        .post("/api/v1/auth/logout", Access::SignedIn, sessions::logout)
        .opens_for(&RequiredAction::ALL)
        .open_to_readers("everybody signs out")
        .system(&SESSIONS)
        .doc(Operation::new("signOut", "Sign out"))
        .post("/api/v1/auth/logout-all", Access::SignedIn, sessions::logout_all)
        .opens_for(&RequiredAction::ALL)
        .open_to_readers("everybody signs out")
        .system(&SESSIONS)
        .doc(Operation::new("signOutEverywhere", "Sign out of all sessions, in all tenants"))
        .get("/api/v1/auth/tenants", Access::SignedIn, tenants::list)
        .system(&SESSIONS)
        .doc(Operation::new("listOwnTenants", "List the tenants that one belongs to"))
        .post("/api/v1/auth/switch", Access::SignedIn, tenants::switch)
        .open_to_readers("everybody works in the tenants that they belong to")
        .shows_secret()
        .system(&SESSIONS)
        .doc(Operation::new("switchTenant", "Go on in another tenant").about(
            "By a session of its own there, which lasts no longer than the one that asks, and in which its person has proven who it is \
             when and how it did in this one. For a tenant that one does not belong to the answer is the same as for one that is not there.",
        ))
        .get("/api/v1/auth/terms", Access::SignedIn, terms::read)
        .opens_for(&[RequiredAction::AcceptTerms])
        .doc(Operation::new("readTerms", "Show the tenant's terms, and whether one has accepted them"))
        .post("/api/v1/auth/terms/accept", Access::SignedIn, terms::accept)
        .open_to_readers("everybody accepts the terms for themselves")
        .opens_for(&[RequiredAction::AcceptTerms])
        .system(&MEMBERS)
        .doc(Operation::new("acceptTerms", "Accept the tenant's terms").about(
            "In the version that is in force. Who has accepted which version, and when, is kept.",
        ))
        .get("/api/v1/users", Access::Permission(&READ_USERS), members::list)
        .doc(Operation::new("listUsers", "List the members"))
        .get("/api/v1/users/{id}", Access::Permission(&READ_USERS), members::read)
        .doc(Operation::new("readUser", "Read a member"))
        .delete("/api/v1/users/{id}", Access::Permission(&MANAGE_USERS), members::remove)
        .system(&MEMBERS)
        .doc(Operation::new("removeUser", "End a membership").about(
            "With its roles, its sessions, its keys and the invitations that it has given. The person keeps its account.",
        ))
        .put("/api/v1/users/{id}/roles", Access::Permission(&MANAGE_USERS), members::give)
        .system(&MEMBERS)
        .doc(Operation::new("setRoles", "Say which roles a member has"))
        .post("/api/v1/users/{id}/deactivate", Access::Permission(&MANAGE_USERS), members::deactivate)
        .system(&MEMBERS)
        .doc(Operation::new("deactivateUser", "Keep a member out until further notice"))
        .post("/api/v1/users/{id}/reactivate", Access::Permission(&MANAGE_USERS), members::reactivate)
        .system(&MEMBERS)
        .doc(Operation::new("reactivateUser", "Let a member in again"))
        .get("/api/v1/invitations", Access::Permission(&INVITE), invitations::list)
        .doc(Operation::new("listInvitations", "List the open invitations"))
        .post("/api/v1/invitations", Access::Permission(&INVITE), invitations::invite)
        .system(&MEMBERS)
        .doc(Operation::new("invite", "Invite somebody").about(
            "The answer is the same for every address; the link is in the mail.",
        ))
        .delete("/api/v1/invitations/{id}", Access::Permission(&INVITE), invitations::revoke)
        .system(&MEMBERS)
        .doc(Operation::new("revokeInvitation", "Take an invitation back"))
        .post("/api/v1/invitations/accept", Access::Public, invitations::accept)
        .limit(&FAILED_SIGN_INS)
        .system(&MEMBERS)
        .doc(Operation::new("acceptInvitation", "Accept an invitation"))
        .get("/api/v1/access/explain", Access::Permission(&EXPLAIN_ACCESS), explain::explain_one)
        .doc(Operation::new("explainAccess", "Say why somebody may do something, or may not").about(
            "Of a person, a service account or a key. It is what the next request of theirs would be told.",
        ))
        .get("/api/v1/access/who", Access::Permission(&EXPLAIN_ACCESS), explain::who_may)
        .doc(Operation::new("listAccess", "Say who has a permission, holds a role, or has any access at all"))
        .get("/api/v1/access/reviews", Access::Permission(&READ_REVIEWS), reviews::list)
        .doc(Operation::new("listAccessReviews", "List the reviews of access"))
        .post("/api/v1/access/reviews", Access::Permission(&REVIEW_ACCESS), reviews::begin)
        .system(&REVIEWS)
        .doc(Operation::new("beginAccessReview", "Begin a review of access").about(
            "It lists who holds which role now. What nobody has confirmed by its end, ends.",
        ))
        .get("/api/v1/access/reviews/{id}", Access::Permission(&READ_REVIEWS), reviews::read)
        .doc(Operation::new("readAccessReview", "Read a review of access, with all that it is about"))
        .put("/api/v1/access/reviews/{id}/items/{item}", Access::Permission(&REVIEW_ACCESS), reviews::decide)
        .system(&REVIEWS)
        .doc(Operation::new("decideAccess", "Decide whether somebody keeps a role").about(
            "By a person, and not of a role of its own. Until the review is closed it can be decided otherwise.",
        ))
        .post("/api/v1/access/reviews/{id}/close", Access::Permission(&REVIEW_ACCESS), reviews::close_now)
        .system(&REVIEWS)
        .doc(Operation::new("closeAccessReview", "Close a review of access before its time").about(
            "Roles that nobody has confirmed end. Where no owner would be left, owners stay.",
        ))
        .get("/api/v1/permissions", Access::Permission(&READ_ROLES), own_roles::permissions)
        .doc(Operation::new("listPermissions", "List all that a role can allow"))
        .get("/api/v1/roles", Access::Permission(&READ_ROLES), own_roles::list)
        .doc(Operation::new("listRoles", "List the roles"))
        .post("/api/v1/roles", Access::Permission(&MANAGE_ROLES), own_roles::create)
        .system(&ROLES)
        .doc(Operation::new("createRole", "Make a role").about(
            "It allows nothing that its maker may not. It wants a proof of one's identity within the last ten minutes.",
        ))
        .get("/api/v1/roles/{id}", Access::Permission(&READ_ROLES), own_roles::read)
        .doc(Operation::new("readRole", "Read a role"))
        .put("/api/v1/roles/{id}", Access::Permission(&MANAGE_ROLES), own_roles::replace)
        .system(&ROLES)
        .doc(Operation::new("replaceRole", "Say what a role allows").about(
            "To all who hold it, within five seconds. Nobody changes a role that allows more than he may, before or after.",
        ))
        .delete("/api/v1/roles/{id}", Access::Permission(&MANAGE_ROLES), own_roles::remove)
        .system(&ROLES)
        .doc(Operation::new("removeRole", "Remove a role that nobody holds"))
        .get("/api/v1/api-keys", Access::Permission(&MANAGE_KEYS), keys::list)
        .doc(Operation::new("listApiKeys", "List the API keys"))
        .post("/api/v1/api-keys", Access::Permission(&MANAGE_KEYS), keys::create)
        .shows_secret()
        .system(&MACHINES)
        .doc(Operation::new("createApiKey", "Make an API key").about(
            "Of the caller's own, or of a service account. It can do what its principal can, as far as its scopes go, which are \
             within the caller's own rights.",
        ))
        .get("/api/v1/api-keys/{id}", Access::Permission(&MANAGE_KEYS), keys::read)
        .doc(Operation::new("readApiKey", "Read an API key"))
        .patch("/api/v1/api-keys/{id}", Access::Permission(&MANAGE_KEYS), keys::change)
        .system(&MACHINES)
        .doc(Operation::new("changeApiKey", "Say where an API key is used from").about(
            "It counts within five seconds, on every instance; a rotation keeps it. Nobody changes a key that can do more than he can, and              a key gives none more networks than it has itself.",
        ))
        .delete("/api/v1/api-keys/{id}", Access::Permission(&MANAGE_KEYS), keys::revoke)
        .system(&MACHINES)
        .doc(Operation::new("revokeApiKey", "Revoke an API key"))
        .post("/api/v1/api-keys/{id}/rotate", Access::Permission(&MANAGE_KEYS), keys::rotate)
        .shows_secret()
        .system(&MACHINES)
        .doc(Operation::new("rotateApiKey", "Give an API key another text").about(
            "The one before is good for as long as is said. Of members' keys only one's own are rotated.",
        ))
        .get("/api/v1/service-accounts", Access::Permission(&MANAGE_MACHINES), service_accounts::list)
        .doc(Operation::new("listServiceAccounts", "List the service accounts"))
        .post("/api/v1/service-accounts", Access::Permission(&MANAGE_MACHINES), service_accounts::create)
        .system(&MACHINES)
        .doc(Operation::new("createServiceAccount", "Make a service account"))
        .delete("/api/v1/service-accounts/{id}", Access::Permission(&MANAGE_MACHINES), service_accounts::remove)
        .system(&MACHINES)
        .doc(Operation::new("removeServiceAccount", "End a service account, with its roles and keys"))
        .put("/api/v1/service-accounts/{id}/roles", Access::Permission(&MANAGE_MACHINES), service_accounts::give)
        .system(&MACHINES)
        .doc(Operation::new("setServiceAccountRoles", "Say which roles a service account has"))
        .get("/.well-known/jwks.json", Access::Public, public_keys::public_keys)
        .doc(Operation::new("listPublicKeys", "List the keys that verify access tokens").about(
            "As a JWK set, where JWT_ALGORITHM is EdDSA; else there is none. A client that keeps it looks again when it meets a \
             `kid` that it does not know.",
        ))
        .get("/api/v1/me", Access::SignedIn, me::me)
        .opens_for(&RequiredAction::ALL)
        .doc(Operation::new("me", "Show who the caller is and what it may do"))
}
