//! Sessions of browsers: a cookie that no script can read leads to the session, for as long as the session lasts.
//!
//! A page signs somebody in as the API does, and then the session changes hands: from its refresh token, which nobody has seen, to a
//! cookie. Of the cookie's text the hash is stored. Whose it is is remembered for five seconds, as it is of a key, so that most
//! requests cost no statement; that the session still stands is looked at where the permissions are read.

use axum::extract::State;
use erp_core::answer::Refusing;
use erp_core::app::App;
use erp_core::auth::{
    Actor, Caller, Credential, DeviceKeys, Identity, Methods, RefreshToken, SESSION_COOKIE, SignedIn,
    TenantSecret, Trace, cookie,
};
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::extract::Json;
use erp_core::from_row;
use erp_core::shared::{Secret, SessionId, TenantId, UserId};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::IdentitySettings;
use super::session::{Tokens, seconds};

/// What the text of a cookie begins with: `erp_session_`.
const KIND: &str = "session";
/// Where a browser keeps the secret by which it is known to an account.
const DEVICE_COOKIE: &str = "__Host-erp-device";

/// The token before is a secret that nobody has any more.
const TAKE_OVER: &str = "update sessions set cookie_hash = $4, secret_hash = $5 where id = $1 and tenant_id = $2 and secret_hash = $3 \
     and revoked_at is null returning expires_at";
const REPLACE: &str = "update sessions set cookie_hash = $3 where id = $1 and tenant_id = $2 and cookie_hash is not null \
     and revoked_at is null returning expires_at";
const FIND: &str = "select id, principal_id, auth_time, amr, rotated_at < now() - interval '1 minute' as unnoted from sessions \
     where tenant_id = $1 and cookie_hash = $2 and revoked_at is null and expires_at > now() and idle_at > now()";
const NOTE_USE: &str = "update sessions set rotated_at = now(), idle_at = least(now() + $3::bigint * interval '1 second', expires_at) \
     where tenant_id = $1 and id = $2 and revoked_at is null and rotated_at < now() - interval '1 minute'";

struct CarriedSession {
    expires_at: Timestamp,
}
from_row!(CarriedSession { expires_at });

struct BrowserSession {
    id: SessionId,
    principal_id: UserId,
    auth_time: Timestamp,
    amr: Vec<String>,
    unnoted: bool,
}
from_row!(BrowserSession { id, principal_id, auth_time, amr, unnoted });

/// The answer of `GET /api/v1/auth/csrf-token`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CsrfToken {
    /// What a script of this server's pages sends as `X-CSRF-Token` with each change that it asks for by the session's cookie.
    #[schemars(example = &"mZ4hXl0…")]
    csrf_token: String,
}

/// `GET /api/v1/auth/csrf-token`.
pub(super) async fn csrf_token(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<CsrfToken>, Refusing<core::FORBIDDEN>> {
    Ok(Json(CsrfToken { csrf_token: app.csrf_token(&caller)? }))
}

/// What the forms of a page that is shown to the caller have in their field `csrf`: nothing where no cookie brought it.
pub(super) fn form_token(app: &App, caller: &Caller) -> Result<String> {
    if caller.by_cookie() { app.csrf_token(caller) } else { Ok(String::new()) }
}

/// Turns a session that has just begun into one of a browser: the cookie that it gets.
///
/// # Errors
/// `core.unauthenticated` when the session has ended meanwhile.
pub(super) async fn take_over(
    app: &App,
    system: &System,
    trace: &Trace,
    tokens: &Tokens,
) -> Result<HeaderValue> {
    let held = RefreshToken::parse(tokens.refresh_token.expose()).ok_or_else(ended)?;
    let (tenant, session) = (held.tenant, held.session);
    let secret = TenantSecret::new(KIND, tenant, app.rng.as_ref());
    let nobodys = RefreshToken::first(tenant, session, app.rng.as_ref());
    let tx = system.begin(trace).within(tenant).await?.last();
    let carried: Option<CarriedSession> =
        tx.optional(TAKE_OVER, &[&session, &tenant, &held.hash(), &secret.hash(), &nobodys.hash()]).await?;
    session_cookie(app, &secret, carried)
}

/// Another cookie for the caller's session, for somebody who has just proven again who it is: what is remembered of the one before
/// does not say so yet, here and on other instances.
///
/// # Errors
/// `core.unauthenticated` when the session has ended meanwhile, or is not one of a browser.
pub(super) async fn replace_cookie(app: &App, system: &System, caller: &Caller) -> Result<HeaderValue> {
    let (tenant, session) = (caller.tenant(), caller.signed_in().ok_or_else(ended)?.session);
    let secret = TenantSecret::new(KIND, tenant, app.rng.as_ref());
    let mut tx = system.on_behalf(caller).within(tenant).await?;
    let carried: Option<CarriedSession> = tx.optional(REPLACE, &[&session, &tenant, &secret.hash()]).await?;
    tx.commit().await?;
    session_cookie(app, &secret, carried)
}

fn session_cookie(app: &App, secret: &TenantSecret, carried: Option<CarriedSession>) -> Result<HeaderValue> {
    let CarriedSession { expires_at } = carried.ok_or_else(ended)?;
    let left = expires_at.duration_since(app.clock.now()).as_secs().max(0);
    set_cookie(SESSION_COOKIE, secret.expose(), left)
}

/// What takes the session's cookie from a browser.
pub(super) fn no_cookie() -> Result<HeaderValue> {
    set_cookie(SESSION_COOKIE, "", 0)
}

/// What a browser keeps, so that strangers who guess do not shut its owner out.
pub(super) fn device_cookie(tokens: &Tokens) -> Result<Option<HeaderValue>> {
    let token = tokens.device_token.as_ref();
    token.map(|token| set_cookie(DEVICE_COOKIE, token.expose(), DeviceKeys::LASTS)).transpose()
}

/// What was kept so at the last sign-in.
pub(super) fn device_token(headers: &HeaderMap) -> Option<Secret<String>> {
    let kept = cookie(headers, DEVICE_COOKIE).ok().flatten();
    kept.map(|token| Secret::new(token.to_owned()))
}

/// `Lax`: a link of a mail leads to a page as who one is, and a form of a foreign page does not.
fn set_cookie(name: &str, text: &str, seconds: i64) -> Result<HeaderValue> {
    let cookie = format!("{name}={text}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut value = HeaderValue::try_from(cookie).map_err(Error::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whose session a cookie leads to: as it was read at most five seconds ago, or else the database is asked.
///
/// # Errors
/// `core.unauthenticated`, the same for every reason.
pub(super) fn credential(app: &App, system: System, text: &str) -> Result<Credential> {
    let secret = TenantSecret::parse(KIND, text).ok_or_else(ended)?;
    let asked = app.clock.instant();
    if let Some(identity) = app.known_keys.find(&secret, asked) {
        return Ok(Credential::Verified(identity));
    }
    let app = app.clone();
    Ok(Credential::Unverified(Box::pin(async move {
        let trace = Trace::new("browser-session");
        let tx = system.begin(&trace).within(secret.tenant).await?.last();
        let found: Option<BrowserSession> = tx.optional(FIND, &[&secret.tenant, &secret.hash()]).await?;
        let found = found.ok_or_else(ended)?;
        let identity = found.identity(secret.tenant);
        app.known_keys.remember(&secret, identity, asked);
        if found.unnoted {
            // Behind the request, which does not wait for it.
            let idle = seconds(app.settings::<IdentitySettings>()?.session_idle);
            drop(app.lifecycle.serve(note_use(system.clone(), secret.tenant, found.id, idle)));
        }
        Ok(identity)
    })))
}

async fn note_use(system: System, tenant: TenantId, session: SessionId, idle: i64) {
    let noted: Result<()> = async {
        let trace = Trace::new("browser-session");
        let tx = system.begin(&trace).within(tenant).await?.last();
        tx.rows::<()>(NOTE_USE, &[&tenant, &session, &idle]).await.map(drop)
    }
    .await;
    if let Err(error) = noted {
        tracing::warn!(code = error.code().code, "The use of a session was not noted");
    }
}

impl BrowserSession {
    fn identity(&self, tenant: TenantId) -> Identity {
        let methods = Methods::of_words(self.amr.iter().map(String::as_str));
        let signed_in = SignedIn { session: self.id, at: self.auth_time.as_second(), methods };
        let of = Identity::new(tenant, Actor::Person(self.principal_id));
        Identity { signed_in: Some(signed_in), by_cookie: true, ..of }
    }
}

fn ended() -> Error {
    Error::new(&core::UNAUTHENTICATED)
}
