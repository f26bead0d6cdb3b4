//! One error type and one table of codes.
//!
//! Use [`Error`] in everything that answers a request, and [`crate::lifecycle::StartError`] in what ends the
//! process. The cause of an error goes to the log, never to the client, and it is logged once, at the edge
//! (`middleware`). A constraint is named where the code for its breach is declared, in `error_codes!`.

mod code;
mod database;
mod problem;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub use code::{Constraint, ErrorCode, Refused, codes, render_markdown};
pub(crate) use problem::{Carried, type_of};
pub use problem::{ExceededQuota, Problem, Violation, ViolationParams};

use crate::error_codes;

/// What a handler returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer other than success: a code from the table, and what is particular to this case.
pub struct Error(Box<ErrorInner>);

struct ErrorInner {
    code: &'static ErrorCode,
    detail: Option<Cow<'static, str>>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    allow: Option<String>,
    violated: Vec<&'static str>,
    constraint: Option<String>,
    needed: Option<&'static str>,
    quota: Option<ExceededQuota>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// Where a fault of our own was noticed, if `RUST_BACKTRACE` asks for that.
    backtrace: Option<Backtrace>,
}

impl Error {
    /// An error of this code and nothing more to say.
    pub fn new(code: &'static ErrorCode) -> Self {
        Self(Box::new(ErrorInner {
            code,
            detail: None,
            violations: Vec::new(),
            retry_after: None,
            allow: None,
            violated: Vec::new(),
            constraint: None,
            needed: None,
            quota: None,
            source: None,
            backtrace: (code.status == 500).then(Backtrace::capture),
        }))
    }

    /// A fault of our own: the client learns nothing, the log everything.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(&codes::INTERNAL).because(source)
    }

    /// A sentence for the client about this case. It must hold nothing that the caller may not know.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// One thing that is wrong with the request's body or parameters.
    #[must_use]
    pub fn violation(mut self, violation: Violation) -> Self {
        self.0.violations.push(violation);
        self
    }

    /// When the client may try again; becomes `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// When it may be tried again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The methods that the path knows; becomes `Allow` (RFC 9110, 15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// The rate limits that are exceeded; becomes `violated-policies`.
    #[must_use]
    pub(crate) fn violated(mut self, policies: Vec<&'static str>) -> Self {
        self.0.violated = policies;
        self
    }

    /// The quota of the plan that there is no room in.
    #[must_use]
    pub(crate) fn beyond(mut self, quota: ExceededQuota) -> Self {
        let ExceededQuota { meter, limit, used } = &quota;
        self.0.detail =
            Some(format!("The plan has no room for more: {used} of {limit} are used ({meter}).").into());
        self.0.quota = Some(quota);
        self
    }

    /// The permission that the caller lacks, for the security log and the audit row.
    #[must_use]
    pub(crate) fn needs(mut self, permission: &'static str) -> Self {
        self.0.needed = Some(permission);
        self
    }

    pub(crate) fn needed(&self) -> Option<&'static str> {
        self.0.needed
    }

    /// The cause, for the log only.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same cause under another code.
    fn of_code(self, code: &'static ErrorCode) -> Self {
        let mut named = Self::new(code);
        named.0.source = self.0.source;
        named
    }

    /// The row of the table that this error is of.
    pub fn code(&self) -> &'static ErrorCode {
        self.0.code
    }

    /// What is wrong with the request's values.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// What the client is told about this case; where there is nothing to say of it, about all of its code.
    pub fn told(&self) -> &str {
        self.0.detail.as_deref().unwrap_or(self.0.code.what)
    }

    /// Where a fault of our own was noticed, if that was recorded: for the log, and for developers.
    pub(crate) fn backtrace(&self) -> Option<&Backtrace> {
        self.0.backtrace.as_ref().filter(|trace| trace.status() == BacktraceStatus::Captured)
    }

    /// The cause, as it goes to the log.
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The error codes of all modules by the constraints whose breach they tell.
#[derive(Debug, Default)]
pub struct Constraints(HashMap<&'static str, (&'static ErrorCode, &'static Constraint)>);

impl Constraints {
    /// Those that the codes declare.
    pub fn new(codes: impl Iterator<Item = &'static ErrorCode>) -> Self {
        let named = codes.flat_map(|code| code.constraints.iter().map(move |one| (one.name, (code, one))));
        Self(named.collect())
    }

    /// The code of the constraint that `error` tells of, if it is declared, and the pointer to the value that breaks it.
    pub(crate) fn of(&self, error: &Error) -> Option<(&'static ErrorCode, &'static str)> {
        let (code, constraint) = self.0.get(error.0.constraint.as_deref()?)?;
        Some((code, constraint.pointer.unwrap_or_default()))
    }

    /// The breach of a constraint that is declared becomes its code; other errors pass unchanged.
    pub(crate) fn name(&self, error: Error) -> Error {
        match self.of(&error) {
            None => error,
            Some((code, "")) => error.of_code(code),
            // Of one of several values, only the handler can say which: see `Call::locate`.
            Some((code, pointer)) => {
                let pointer = pointer.split("/*").next().unwrap_or_default();
                error.of_code(code).violation(Violation::new(pointer, "unknown", code.what))
            }
        }
    }
}

impl fmt::Display for Error {
    /// The code and the detail; not the cause, since the logger walks the chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code.code)?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code.code)
            .field("detail", &self.0.detail)
            .field("violations", &self.0.violations)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause()
    }
}

error_codes! {
    /// The codes that the core itself answers with.
    pub CORE in core {
        INTERNAL = "core.internal", 500, "Internal error";
            "A fault on our side; the request may or may not have had an effect.";
            "Read the resource before trying again, and report the correlation id.";
        UNREADABLE = "core.unreadable", 500, "Data that cannot be read";
            "What is asked for is encrypted, and does not open: its key is not there, or it was changed.";
            "Report the correlation id: trying again does not help.";
        MALFORMED_REQUEST = "core.malformed_request", 400, "Malformed request";
            "What was sent is no HTTP request.";
            "Send HTTP/1.1 as RFC 9112 has it, or HTTP/2; to a port of HTTPS, with TLS.";
        MALFORMED_BODY = "core.malformed_body", 400, "Malformed body";
            "The body is not well-formed JSON.";
            "Send one JSON document in UTF-8, without a byte order mark and at most 64 levels deep.";
        MALFORMED_HEADER = "core.malformed_header", 400, "Malformed header";
            "A header is malformed, or was sent more than once.";
            "Send the header named in the detail once, in the form described there.";
        TENANT_SELECTION = "core.tenant_selection", 400, "It is not clear which tenant is meant";
            "The name of the host, the path, X-Tenant-ID and the body name different tenants, or one of them is no tenant's slug or UUID.";
            "Name one tenant, in one of these ways.";
        MALFORMED_CURSOR = "core.malformed_cursor", 400, "Malformed cursor";
            "The cursor was not issued by this endpoint for this sort order.";
            "Pass nextCursor back unchanged, or start again without a cursor.";
        UNAUTHENTICATED = "core.unauthenticated", 401, "Not signed in";
            "The credential is missing, invalid or has expired.";
            "Sign in and send the access token as 'Authorization: Bearer …'.";
        WEBHOOK_NOT_SIGNED = "core.webhook_not_signed", 401, "The webhook is not signed as it should be";
            "A header of the signature is missing or wrong, or the time in it is more than five minutes off.";
            "Sign the body as Standard Webhooks 1.0 says, with the secret that was agreed on, and check the clock.";
        FORBIDDEN = "core.forbidden", 403, "Not allowed";
            "The caller's roles do not have the permission that this wants.";
            "Ask an owner of the tenant for a role that has it; in development the header X-Missing-Permission names it.";
        FOREIGN_PAGE = "core.foreign_page", 403, "Not from a page of this server";
            "A change by a browser's session, or a form, comes from a page of another site.";
            "Open the page of this server and try there; a program sends `Authorization` or `X-API-Key` instead of a cookie.";
        CSRF_TOKEN = "core.csrf_token", 403, "The page does not belong to the session";
            "A change by a browser's session lacks the token of its page, or has that of another session: somebody signed in or out meanwhile.";
            "Load the page anew; a script sends the token of GET /api/v1/auth/csrf-token as `X-CSRF-Token`.";
        IMPERSONATED = "core.impersonated", 403, "Not in another's place";
            "An operator who acts in a person's place changes no credentials, roles or members, and sees no secret that is shown once.";
            "Let the person do it.";
        PASSWORD_CHANGE_REQUIRED = "core.password_change_required", 403, "Another password is required";
            "The operator demands that the caller's password is changed before its sessions open anything else.";
            "Change it by POST /api/v1/auth/password/change, and go on.";
        SECOND_FACTOR_REQUIRED = "core.second_factor_required", 403, "A second factor is required";
            "The tenant, or a role of the caller's there, demands a second factor, and none was used in this session.";
            "Set one up by POST /api/v1/auth/mfa/totp and /confirm, give its next code to POST /api/v1/auth/step-up, and use the token that it answers.";
        TERMS_REQUIRED = "core.terms_required", 403, "The terms are to be accepted";
            "The tenant has terms that the caller has not accepted in the version that they have now.";
            "Read GET /api/v1/auth/terms, accept them by POST /api/v1/auth/terms/accept, and go on.";
        TENANT_MISMATCH = "core.tenant_mismatch", 403, "Not a member of this tenant";
            "X-Tenant-ID, the name of the host or the path selects a tenant that the caller is not a member of.";
            "Select none, or one that the caller belongs to.";
        HTTPS_REQUIRED = "core.https_required", 403, "HTTPS required";
            "The request came over plain HTTP, and had no effect.";
            "Use https://. If you did, the proxy that ends TLS must send 'X-Forwarded-Proto: https'.";
        SEPARATION_OF_DUTIES = "core.separation_of_duties", 403, "Another person is needed";
            "Who has made the document, or taken an earlier step with it, must not take this one.";
            "Ask somebody else who has the permission.";
        ADDRESS_REFUSED = "core.address_refused", 403, "Not from this address";
            "The tenant's requests, or those of the key, come from certain networks, and the client's address is in none of them.";
            "Use a network that the tenant's administrator has allowed.";
        FEATURE_OFF = "core.feature_off", 403, "The feature is off";
            "It is off for the tenant; GET /api/v1/flags lists those that are on.";
            "Ask the operator to switch it on.";
        NOT_FOUND = "core.not_found", 404, "Not found";
            "There is nothing here that the caller may see.";
            "Check the path and the id.";
        METHOD_NOT_ALLOWED = "core.method_not_allowed", 405, "Method not allowed";
            "The path exists, but not with this method.";
            "Use one of the methods in the Allow header.";
        NOT_ACCEPTABLE = "core.not_acceptable", 406, "Not acceptable";
            "No representation matches the Accept or Accept-Encoding header.";
            "Accept one that the detail names.";
        REQUEST_TIMEOUT = "core.request_timeout", 408, "Body too slow";
            "The body came more slowly than 1 KiB/s, or took longer than BODY_TIMEOUT.";
            "Send the whole body at once, over a connection that keeps up.";
        CONFLICT = "core.conflict", 409, "Conflict";
            "The change collides with data that exists.";
            "Read the resource again and repeat the change on its present state.";
        IDEMPOTENCY_IN_FLIGHT = "core.idempotency_in_flight", 409, "Still being worked on";
            "A request with this Idempotency-Key is being worked on.";
            "Try again with the same key after the seconds in Retry-After.";
        WRONG_STATE = "core.wrong_state", 409, "Not in this state";
            "The document is in a state from which this cannot be done.";
            "Read it again: 'params' of the error names the state it is in, and those from which this can be done.";
        OVER_QUOTA = "core.over_quota", 409, "No room in the plan";
            "The tenant's plan has no room for more of what 'quota' names.";
            "Remove some, or ask the operator for a larger plan; GET /api/v1/usage shows what is used.";
        STALE = "core.stale", 412, "Changed meanwhile";
            "The resource is not in the state that If-Match names.";
            "Read it again, and send the ETag it has now.";
        TOO_LARGE = "core.too_large", 413, "Body too large";
            "The body is larger than the limit.";
            "Send at most 1 MiB.";
        URI_TOO_LONG = "core.uri_too_long", 414, "URI too long";
            "The request's target is longer than 8 KiB.";
            "Shorten the query.";
        UNSUPPORTED_MEDIA_TYPE = "core.unsupported_media_type", 415, "Unsupported media type";
            "The body's media type is not one that this endpoint reads.";
            "Send 'Content-Type: application/json' (PATCH also reads application/merge-patch+json).";
        UNSUPPORTED_CODING = "core.unsupported_coding", 415, "Unsupported content coding";
            "The body is compressed, which is not read here.";
            "Send it without Content-Encoding.";
        INVALID = "core.invalid", 422, "Invalid request";
            "A value has the wrong type, is out of its bounds or is not known.";
            "See 'errors': each entry points at one value.";
        IDEMPOTENCY_KEY_REUSED = "core.idempotency_key_reused", 422, "Idempotency-Key already used";
            "The Idempotency-Key was used for another request.";
            "Make a new key for each new request; keep it only to repeat the very same one.";
        HEADERS_TOO_LARGE = "core.headers_too_large", 431, "Header fields too large";
            "The request's header fields are too many or too large.";
            "Send at most 100 fields, and at most 16 KiB together.";
        RATE_LIMITED = "core.rate_limited", 429, "Too many requests";
            "The client has used up the limit named in 'violated-policies', or too many are being slowed down already.";
            "Wait for the seconds in Retry-After; the header RateLimit says how much is left.";
        QUOTA_USED_UP = "core.quota_used_up", 429, "Used up for today";
            "The tenant has used what its plan has for a day (UTC) of what 'quota' names.";
            "Wait for the seconds in Retry-After, or ask the operator for a larger plan.";
        EXTERNAL_FAILED = "core.external_failed", 502, "Another service failed";
            "A service that this request needs could not be reached, or did not answer as it should.";
            "Read the resource, then try again later; after the seconds in Retry-After, where that is sent.";
        UNAVAILABLE = "core.unavailable", 503, "Temporarily unavailable";
            "The database cannot be reached, or the server is starting or stopping.";
            "Try again after the seconds in Retry-After.";
        READ_ONLY = "core.read_only", 503, "Read only at the moment";
            "The database takes no changes at the moment; nothing was changed, and reads are served.";
            "Try again after the seconds in Retry-After.";
        OVERLOADED = "core.overloaded", 503, "Overloaded";
            "No capacity was free in time.";
            "Try again after the seconds in Retry-After.";
        TIMEOUT = "core.timeout", 503, "Took too long";
            "The request was given up at its deadline; a change that was just being committed may have been made.";
            "Read the resource, then try again after the seconds in Retry-After, with a smaller request if it was a large one.";
        OUTCOME_UNKNOWN = "core.outcome_unknown", 503, "Outcome unknown";
            "The database was lost while the change was being committed: it may have been made, or not.";
            "Wait for the seconds in Retry-After, then read the resource: to repeat may make the change a second time.";
    }
}
