//! Who people are: sign-in, and what a caller can find out about itself.

mod authentication;
mod login;
mod me;

use erp_core::limits::{Policy, Quota};
use erp_core::module::{Access, Module, Operation, Routes};

/// The identity module.
pub static MODULE: Module = Module {
    name: "identity",
    about: ABOUT,
    errors: ERRORS,
    routes,
    migrations: erp_core::migrations![
        "0001_people" was ["0003_identity"],
        "0002_tenant_rate_limit" was ["0006_tenant_rate_limit"],
        "0003_access",
        "0004_system_access",
    ],
    samples: erp_core::samples!["tenant_profiles"],
    system: SYSTEM,
    tenant_name: Some("select name from tenant_profiles"),
    authentication: Some(&authentication::AUTHENTICATION),
    ..Module::BARE
};

const ABOUT: &str = "Sign-in, and what a caller can find out about itself.";

erp_core::error_codes! {
    /// The codes of the identity module.
    pub ERRORS in codes {
        SIGN_IN_FAILED = "identity.sign_in_failed", 401, "Sign-in failed";
            "The tenant, the e-mail address or the password is wrong, or the account cannot sign in.";
            "Check all three; the answer does not say which.";
    }
}

erp_core::system_work! {
    /// What identity does as the system.
    SYSTEM {
        SIGN_IN = "sign-in": "Finds the tenant of a slug and the account of an address within it, while nobody has signed in yet.";
        SELECT_TENANT = "select-tenant": "Finds the tenant that `X-Tenant-ID` names, before it is known whether the caller belongs to it.";
    }
}

/// Failed sign-ins of one address, and of one account from there: `RATE_LIMIT_AUTH_MAX` in `RATE_LIMIT_AUTH_WINDOW`.
static FAILED_SIGN_INS: Policy = Policy::failures("sign-in", |config| {
    Quota::new(config.rate_limit.auth_max, config.rate_limit.auth_window)
});

fn routes() -> Routes {
    Routes::new()
        .post("/api/v1/auth/login", Access::Public, login::login)
        .shows_secret()
        .limit(&FAILED_SIGN_INS)
        .system(&SIGN_IN)
        .doc(
            Operation::new("signIn", "Sign in").about(
                "One answer for everything that is wrong, so that it does not tell who has an account.",
            ),
        )
        .get("/api/v1/me", Access::SignedIn, me::me)
        .doc(Operation::new("me", "Show who the caller is and what it may do"))
}
