//! Operators of the platform: who they are, how they sign in, and what they do with tenants.
//!
//! An operator is no member of any tenant. It comes in by routes of its own (`Access::Operator`), with a credential that no other
//! route takes, and always with a second factor.

pub mod accounts;
pub mod enrolment;
mod entitlements;
mod impersonation;
mod log;
mod people;
mod personal;
mod sign_in;
mod tenants;
mod top;

use std::time::Duration;

use erp_core::config::Section;
use erp_core::limits::{Policy, Quota};
use erp_core::module::{Access, Module, Operation, Routes};

/// The operators module.
pub static MODULE: Module = Module {
    name: "operators",
    about: ABOUT,
    uses: &["identity", "tenants"],
    errors: ERRORS,
    settings: &[Section::of::<OperatorsSettings>()],
    routes,
    system: SYSTEM,
    mails: &[&impersonation::IMPERSONATED],
    system_verbs: &[("operator", &ENROL)],
    operators: Some(&sign_in::AUTHENTICATION),
    jobs: &[&sign_in::MOVE_SEEDS],
    schedules: &[&sign_in::SEEDS_NIGHTLY],
    migrations: erp_core::migrations![
        "0001_operators" after ["identity/0005_sessions"],
        "0002_platform_log",
        "0003_encrypted_seeds",
    ],
    personal: personal::PERSONAL,
    ..Module::BARE
};

const ABOUT: &str = "What operators of the platform do: with tenants, and with one another.";

erp_core::error_codes! {
    /// The codes of the operators module.
    pub ERRORS in codes {
        ENROLMENT_ENDED = "operators.enrolment_ended", 410, "The secret cannot be used";
            "It was used, its time is over, or it is not that of an operator who is to be enrolled.";
            "Ask another operator for one, or make one with 'erp-backend operator bootstrap'.";
        OPERATOR_TAKEN = "operators.operator_taken", 409, "There is an operator of this address";
            "An operator of the address is enrolled.";
            "Disable it first, where it is to begin anew.";
        LAST_OPERATOR = "operators.last_operator", 409, "There would be no operator";
            "No other operator can sign in.";
            "Invite another one first, and let it enrol.";
    }
}

erp_core::settings! {
    /// How operators sign in, and for how long.
    pub struct OperatorsSettings in "Operators" of MODULE;

    /// The longest that an operator's session lasts.
    OPERATORS_SESSION_LIFETIME session_lifetime: Duration { default: Defaults::all("8h"), range: Some(("1m", "24h")) };

    /// An operator's session that is not used for so long ends.
    OPERATORS_SESSION_IDLE session_idle: Duration { default: Defaults::all("15m"), range: Some(("1m", "1h")) };
}

erp_core::system_work! {
    /// What is done for operators, as the system: they belong to no tenant.
    SYSTEM {
        SIGN_IN = "operator-sign-in": "Proves who an operator is, and whether its session lasts.";
        ENROL = "operator-enrolment": "Lets those who have a one-time secret set an operator's password and second factor.";
        ACCOUNTS = "operator-accounts": "Lists, invites and disables operators, and shows what they did, as one of them asks for it.";
        IMPERSONATE = "impersonate": "Begins and ends sessions of operators in people's places, as an operator asks for it.";
        PEOPLE = "operate-people": "Finds people, keeps them out, signs them out and erases them, as an operator asks for it.";
        ENTITLEMENTS = "operate-plans": "Makes plans and gives them to tenants, and switches features, as an operator asks for it.";
        TENANTS = "operate-tenants": "Lists tenants, makes them and moves them from state to state, as an operator asks for it.";
    }
}

/// Failed sign-ins of one address, and of one operator from there: `RATE_LIMIT_AUTH_MAX` in `RATE_LIMIT_AUTH_WINDOW`.
static FAILED: Policy = Policy::failures("operator-sign-in", |config| {
    Quota::new(config.rate_limit.auth_max, config.rate_limit.auth_window)
});

/// Uses of a one-time secret: as many.
static SECRETS: Policy = Policy::requests("operator-secrets", |config| {
    Quota::new(config.rate_limit.auth_max, config.rate_limit.auth_window)
});

fn routes() -> Routes {
    Routes::new()
        .post("/api/v1/admin/auth/enrol", Access::Public, enrolment::enrol)
        .shows_secret()
        .limit(&SECRETS)
        .system(&ENROL)
        .doc(Operation::new("enrolOperator", "Set an operator's password, and begin the second factor").about(
            "By the one-time secret of `erp-backend operator bootstrap` or of an invitation. Until the factor is confirmed it can be said \
             again, and nothing else is open.",
        ))
        .post("/api/v1/admin/auth/enrol/confirm", Access::Public, enrolment::confirm)
        .shows_secret()
        .limit(&SECRETS)
        .system(&ENROL)
        .doc(Operation::new("confirmOperator", "Finish an operator's second factor").about(
            "It spends the one-time secret, and shows the recovery codes this once. From now on the operator signs in.",
        ))
        .post("/api/v1/admin/auth/login", Access::Public, sign_in::sign_in)
        .shows_secret()
        .limit(&FAILED)
        .system(&SIGN_IN)
        .doc(Operation::new("signInOperator", "Sign in as an operator").about(
            "With the password and a code of the authenticator app, or a recovery code, at once; one answer for everything that is wrong. \
             There is no refresh token: a session that is over, or was left unused, is begun anew.",
        ))
        .post("/api/v1/admin/auth/logout", Access::Operator, sign_in::sign_out)
        .system(&SIGN_IN)
        .doc(Operation::new("signOutOperator", "Sign out as an operator"))
        .get("/api/v1/admin/operators", Access::Operator, accounts::list)
        .system(&ACCOUNTS)
        .doc(Operation::new("listOperators", "List the operators"))
        .post("/api/v1/admin/operators", Access::Operator, accounts::invite)
        .shows_secret()
        .system(&ACCOUNTS)
        .doc(Operation::new("inviteOperator", "Invite an operator").about(
            "The one-time secret is shown this once, for an hour, and is handed over by the operator who asked for it. Said again before it is used, \
             it gives another one.",
        ))
        .post("/api/v1/admin/operators/{id}/disable", Access::Operator, accounts::disable)
        .system(&ACCOUNTS)
        .doc(Operation::new("disableOperator", "Disable an operator").about(
            "Its sessions end at once on every instance, and its password and factor are removed. An invitation lets it begin anew.",
        ))
        .get("/api/v1/admin/log", Access::Operator, log::list)
        .system(&ACCOUNTS)
        .doc(Operation::new("listOperatorLog", "List what operators did that concerns no tenant").about("The latest first."))
        .get("/api/v1/admin/tenants", Access::Operator, tenants::list)
        .system(&TENANTS)
        .doc(Operation::new("listTenants", "List the tenants").about("In the order of their slugs."))
        .post("/api/v1/admin/tenants", Access::Operator, tenants::create)
        .shows_secret()
        .system(&TENANTS)
        .doc(Operation::new("createTenant", "Make a tenant").about(
            "Its first owner is invited by mail; the link is shown this once, too. Said again before somebody has accepted, it gives \
             another link, and makes no other tenant.",
        ))
        .get("/api/v1/admin/tenants/top", Access::Operator, top::top)
        .system(&TENANTS)
        .doc(Operation::new("topTenants", "List the tenants that ask most of the instance that answers").about(
            "By database time, requests, errors or connections, over the last five minutes of this instance alone.",
        ))
        .get("/api/v1/admin/tenants/{id}", Access::Operator, tenants::read)
        .system(&TENANTS)
        .doc(Operation::new("readTenant", "Read a tenant"))
        .post("/api/v1/admin/tenants/{id}/suspend", Access::Operator, tenants::suspend)
        .system(&TENANTS)
        .doc(Operation::new("suspendTenant", "Let nobody of a tenant in until it is resumed").about(
            "Every credential of the tenant stops within five seconds, on every instance.",
        ))
        .post("/api/v1/admin/tenants/{id}/resume", Access::Operator, tenants::resume)
        .system(&TENANTS)
        .doc(Operation::new("resumeTenant", "Let a tenant work again"))
        .post("/api/v1/admin/tenants/{id}/close", Access::Operator, tenants::close)
        .system(&TENANTS)
        .doc(Operation::new("closeTenant", "Let nobody of a tenant in any more").about(
            "Its data stays for `IDENTITY_CLOSED_FOR`, in which it can be resumed; then it can be erased.",
        ))
        .post("/api/v1/admin/tenants/{id}/erase", Access::Operator, tenants::erase)
        .system(&TENANTS)
        .doc(Operation::new("eraseTenant", "Erase a tenant that is closed").about(
            "A job deletes its people who belong to no other tenant, its files and its rows. There is no way back. What stays is its id, and              what its audit log tells of the tenant itself. Said again, it goes on with what was interrupted.",
        ))
        .get("/api/v1/admin/plans", Access::Operator, entitlements::plans)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("listPlans", "List the plans"))
        .patch("/api/v1/admin/plans/{name}", Access::Operator, entitlements::set_plan)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("setPlan", "Make a plan, or change one").about(
            "A merge patch: what is absent stays, and `null` is as the deployment's settings have it. It counts within five seconds, everywhere.",
        ))
        .put("/api/v1/admin/tenants/{id}/plan", Access::Operator, entitlements::give_plan)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("givePlan", "Give a tenant a plan, or take it away"))
        .get("/api/v1/admin/flags", Access::Operator, entitlements::flags)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("listFlagsOfAll", "List the features, as all tenants have them"))
        .put("/api/v1/admin/flags/{flag}/rollout", Access::Operator, entitlements::roll_out)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("rollOutFlag", "Let a feature be on for a part of all tenants").about(
            "Who has it at 10 % has it at 20 %.",
        ))
        .get("/api/v1/admin/tenants/{id}/flags", Access::Operator, entitlements::explain_flags)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("explainFlags", "List the features, as a tenant has them, and why"))
        .put("/api/v1/admin/tenants/{id}/flags/{flag}", Access::Operator, entitlements::set_flag)
        .system(&ENTITLEMENTS)
        .doc(Operation::new("setFlag", "Switch a feature on or off for a tenant"))
        .get("/api/v1/admin/users", Access::Operator, people::list)
        .system(&PEOPLE)
        .doc(Operation::new("listPeople", "List people").about("Of all tenants or of one, in the order of their addresses."))
        .get("/api/v1/admin/users/{id}", Access::Operator, people::read)
        .system(&PEOPLE)
        .doc(Operation::new("readPerson", "Read a person"))
        .post("/api/v1/admin/users/{id}/disable", Access::Operator, people::disable)
        .system(&PEOPLE)
        .doc(Operation::new("disablePerson", "Let a person in nowhere until it is enabled").about(
            "Its sessions and keys stop in all its tenants within five seconds, on every instance.",
        ))
        .post("/api/v1/admin/users/{id}/enable", Access::Operator, people::enable)
        .system(&PEOPLE)
        .doc(Operation::new("enablePerson", "Let a person in again"))
        .post("/api/v1/admin/users/{id}/sign-out", Access::Operator, people::sign_out)
        .system(&PEOPLE)
        .doc(Operation::new("signOutPerson", "End all sessions of a person").about("In all tenants; links to set a password end, too."))
        .post("/api/v1/admin/users/{id}/remove-factor", Access::Operator, people::remove_factor)
        .system(&PEOPLE)
        .doc(Operation::new("removeFactorOfPerson", "Take a person's second factor away").about(
            "For one who has lost the phone and the recovery codes, and has proven otherwise who it is. It is told by mail, and its sessions end.",
        ))
        .post("/api/v1/admin/users/{id}/demand", Access::Operator, people::demand)
        .system(&PEOPLE)
        .doc(Operation::new("demandOfPerson", "Demand something of a person before anything else").about(
            "Another password, or a second factor in each session: until then its sessions open nothing but that, on every instance within five \
             seconds.",
        ))
        .post("/api/v1/admin/users/{id}/erase", Access::Operator, people::erase)
        .system(&PEOPLE)
        .doc(Operation::new("erasePerson", "Forget a person").about(
            "Its address, name, password, factors and sessions are deleted, and its memberships end. What a tenant has recorded of a member              stays the tenant's. It cannot be undone, and is refused for the only owner of a tenant.",
        ))
        .post("/api/v1/admin/impersonate", Access::Operator, impersonation::begin)
        .shows_secret()
        .system(&IMPERSONATE)
        .doc(Operation::new("impersonate", "Act in a person's place").about(
            "With the person's own permissions, but for credentials, roles and members. The person is told by mail, and each line of the log \
             and each audit row says both. It cannot be made longer.",
        ))
        .delete("/api/v1/admin/impersonate/{id}", Access::Operator, impersonation::end)
        .system(&IMPERSONATE)
        .doc(Operation::new("endImpersonation", "Stop acting in a person's place"))
}
