//! Sessions: begun by who has signed in, kept up by refresh tokens, and ended by sign-out, by an administrator, by a new
//! password, or by somebody who uses a token that was used before.

use std::time::Duration;

use erp_core::app::App;
use erp_core::auth::{AccessToken, Method, Methods, Operator, RefreshToken, RequiredAction, SignedIn, Trace};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::logging::Severity;
use erp_core::security_event;
use erp_core::shared::{Id, Secret, SessionId, ShownSecret, TenantId, UserId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::device::device;
use super::{IdentitySettings, codes, required};

/// For so long the token before still leads to its successor: who did not get the answer asks again.
const RETRY_SECONDS: i64 = 10;

/// The answer to a sign-in and to a refresh.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    /// A JWT; send it as `Authorization: Bearer …`.
    #[schemars(example = &"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI…")]
    access_token: ShownSecret,
    /// Always `Bearer`.
    #[schemars(example = &"Bearer")]
    token_type: &'static str,
    /// Seconds until the access token expires.
    #[schemars(example = 900)]
    #[schemars(range(min = 1, max = 900))]
    expires_in: u64,
    /// What `POST /api/v1/auth/refresh` takes, once.
    #[schemars(example = &"ert_AZtgk0…")]
    pub(super) refresh_token: ShownSecret,
    /// When the session ends, unless it is left unused before.
    session_expires_at: Timestamp,
    /// After a sign-in: what the device shows with its next one of the same account, so that strangers who fail do not shut it out.
    /// It opens nothing, and is good for half a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"erd_AZtgk0…")]
    pub(super) device_token: Option<ShownSecret>,
    /// What the session is for until it is done: other requests are refused with 403, and the code says what is wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_actions: Vec<RequiredAction>,
}

impl Tokens {
    /// With the secret by which the device is known to the account from now on, under the id that it had.
    pub(super) fn on_device(self, app: &App, known: Option<Uuid>, email: &str) -> Self {
        let (keys, now) = (app.authenticator.device_keys(), app.clock.now().as_second());
        let device_token = keys.issue(known, email, now, app.rng.as_ref()).map(ShownSecret::from);
        Self { device_token, ..self }
    }
}

/// Who begins a session, and how.
pub(super) struct Begin<'a> {
    pub(super) tenant: TenantId,
    pub(super) person: UserId,
    pub(super) methods: Methods,
    /// The session in another tenant that it goes on from, if it does.
    pub(super) from: Option<Earlier>,
    /// What the client says of itself: `User-Agent`.
    pub(super) agent: &'a str,
}

/// A session that has just begun.
pub(super) struct NewSession<'a> {
    pub(super) tenant: TenantId,
    pub(super) person: UserId,
    pub(super) session: SessionId,
    pub(super) methods: Methods,
    pub(super) trace: &'a Trace,
}

/// What a session that begins without a sign-in takes along: it makes no proof newer, and lasts no longer.
pub(super) struct Earlier {
    /// When its person has last proven who it is.
    pub(super) proven: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// What is demanded of the person is held meanwhile: a demand that comes at the same time finds the session.
const BEGIN: &str = "with sessions as (insert into sessions (id, principal_id, secret_hash, key_id, auth_time, amr, device, address, \
       idle_at, expires_at, demanded) \
       values ($1, $2, $3, $4, coalesce($10, now()), $5, $6, $7::text::inet, \
         least(now() + least($8::bigint, $9) * interval '1 second', $11), least(now() + $9::bigint * interval '1 second', $11), \
         coalesce((select p.demanded from auth.people p where p.id = $2 for share), '{}')) \
       returning auth_time, expires_at) \
     select auth_time, expires_at from sessions";
/// Ends what is more than a person may have, the one that was used longest ago first.
const END_SURPLUS: &str = "update sessions set revoked_at = now(), reason = 'replaced' where id in (select id from sessions \
       where tenant_id = $2 and principal_id = $1 and revoked_at is null and expires_at > now() and idle_at > now() and operator_id is null \
       order by rotated_at desc offset $3)";
/// What is checked of the session itself stands in the update, which looks again where it has waited for another one.
const ROTATE: &str = "update sessions s set generation = s.generation + 1, secret_hash = $4, rotated_at = now(), \
       key_since = case when s.key_id = $5 then s.key_since else s.generation end, \
       key_before = case when s.key_id = $5 then s.key_before else s.key_id end, key_id = $5, \
       address = $6::text::inet, idle_at = least(now() + $7::bigint * interval '1 second', s.expires_at) \
     from memberships m, tenants t, auth.people p \
     where s.id = $1 and s.tenant_id = $8 and s.generation = $2 and s.secret_hash = $3 and s.revoked_at is null \
       and s.expires_at > now() and s.idle_at > now() \
       and m.tenant_id = s.tenant_id and m.user_id = s.principal_id and m.ended_at is null and m.deactivated_at is null \
       and t.id = s.tenant_id and t.status = 'active' and p.id = s.principal_id and p.disabled_at is null \
     returning s.principal_id, s.auth_time, s.amr, s.expires_at";
/// Why a token was not the one that is good now.
const LOOK: &str = "select s.principal_id, s.generation, s.secret_hash, s.key_id, s.key_since, s.key_before, s.auth_time, s.amr, \
       s.expires_at, s.revoked_at is null and s.expires_at > now() and s.idle_at > now() as alive, \
       s.rotated_at > now() - $3::bigint * interval '1 second' as recent \
     from sessions s join memberships m on m.tenant_id = s.tenant_id and m.user_id = s.principal_id \
     join tenants t on t.id = s.tenant_id join auth.people p on p.id = s.principal_id \
     where s.id = $1 and s.tenant_id = $2 and m.ended_at is null and m.deactivated_at is null and t.status = 'active' \
       and p.disabled_at is null";
/// Nobody has a secret of it.
const IMPERSONATE: &str = "with sessions as (insert into sessions (id, principal_id, secret_hash, key_id, auth_time, amr, device, \
       idle_at, expires_at, operator_id, operator_session, operator_reason) \
       values ($1, $2, $3, 'none', to_timestamp(0), '{}', 'An operator of the platform', $7, $7, $4, $5, $6) returning expires_at) \
     select greatest(0, floor(extract(epoch from expires_at - now())))::int8 as seconds from sessions";
const END_REUSED: &str = "update sessions set revoked_at = now(), reason = 'reuse' where id = $1 and tenant_id = $2 \
     and revoked_at is null returning id";

struct Lasting {
    seconds: i64,
}
from_row!(Lasting { seconds });

struct BegunSession {
    auth_time: Timestamp,
    expires_at: Timestamp,
}
from_row!(BegunSession { auth_time, expires_at });

/// What a refresh goes on with.
struct KeptSession {
    principal_id: UserId,
    auth_time: Timestamp,
    amr: Vec<String>,
    expires_at: Timestamp,
}
from_row!(KeptSession { principal_id, auth_time, amr, expires_at });

struct StoredSession {
    principal_id: UserId,
    generation: i32,
    secret_hash: Vec<u8>,
    key_id: String,
    key_since: i32,
    key_before: Option<String>,
    auth_time: Timestamp,
    amr: Vec<String>,
    expires_at: Timestamp,
    alive: bool,
    recent: bool,
}
from_row!(StoredSession {
    principal_id,
    generation,
    secret_hash,
    key_id,
    key_since,
    key_before,
    auth_time,
    amr,
    expires_at,
    alive,
    recent
});

/// Begins a session, under an id of its own, and tells the tenant's auditor.
pub(super) async fn begin(app: &App, system: &System, trace: &Trace, begin: Begin<'_>) -> Result<Tokens> {
    let Begin { tenant, person, methods, from, agent } = begin;
    let (proven, until) = from.map(|from| (from.proven, from.expires_at)).unzip();
    let settings = app.settings::<IdentitySettings>()?;
    let session: SessionId = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let token = RefreshToken::first(tenant, session, app.rng.as_ref());
    let key = app.authenticator.refresh_keys().current().ok_or_else(no_key)?;
    let (hash, device, address) = (token.hash(), device(agent), address(trace));
    let (idle, lifetime) = (seconds(settings.session_idle), seconds(settings.session_lifetime));
    let mut tx = system.begin(trace).within(tenant).await?;
    tx.audit(&AuditEntry {
        action: super::login::ACTION,
        resource: "user",
        resource_id: Some(person.to_string()),
        outcome: "success",
        details: json!({ "session": session.to_string(), "methods": methods.words() }),
    })?;
    let BegunSession { auth_time, expires_at } = tx
        .row(
            BEGIN,
            &[
                &session,
                &person,
                &hash,
                &key.id(),
                &methods.words(),
                &device,
                &address,
                &idle,
                &lifetime,
                &proven,
                &until,
            ],
        )
        .await?;
    let most = i64::from(settings.sessions_per_person);
    tx.last().rows::<()>(END_SURPLUS, &[&person, &tenant, &most]).await?;
    let signed_in = SignedIn { session, at: auth_time.as_second(), methods };
    let tokens = answer(app.authenticator.issue(tenant, person, Some(signed_in))?, &token, expires_at)?;
    let new = NewSession { tenant, person, session, methods, trace };
    let required_actions = required::at_first(app, system, &new).await?.iter().collect();
    Ok(Tokens { required_actions, ..tokens })
}

/// What a session of an operator in a person's place is.
pub(crate) struct Impersonation<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) person: UserId,
    pub(crate) operator: &'a Operator,
    pub(crate) reason: &'a str,
    pub(crate) until: Timestamp,
}

/// Begins a session in a person's place, in a transaction that is yet to be committed, and the token of it. It proves nothing of who
/// the person is, and nobody gets a refresh token.
pub(crate) async fn impersonate(
    app: &App,
    tx: &mut TenantTx<'_>,
    asked: &Impersonation<'_>,
) -> Result<(SessionId, AccessToken)> {
    let Impersonation { tenant, person, operator, reason, until } = asked;
    let session: SessionId = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let nobodys = RefreshToken::first(*tenant, session, app.rng.as_ref()).hash();
    let by = [operator.id().as_uuid(), operator.session().as_uuid()].map(|id| *id);
    let Lasting { seconds } =
        tx.row(IMPERSONATE, &[&session, person, &nobodys, &by[0], &by[1], reason, until]).await?;
    let signed_in = SignedIn { session, at: 0, methods: Methods::default() };
    let lifetime = Duration::from_secs(seconds.unsigned_abs());
    let token = app.authenticator.impersonate((*tenant, *person), operator.id(), signed_in, lifetime)?;
    Ok((session, token))
}

/// The next tokens of a session. A client that comes with the token before within ten seconds gets the same; one that comes with an
/// older token ends the session, since two hold it.
///
/// # Errors
/// `core.unauthenticated`, the same for every reason.
pub(super) async fn refresh(app: &App, system: &System, trace: &Trace, text: &str) -> Result<Tokens> {
    let token = RefreshToken::parse(text).ok_or_else(|| refused("not a refresh token"))?;
    let settings = app.settings::<IdentitySettings>()?;
    let keys = app.authenticator.refresh_keys();
    let key = keys.current().ok_or_else(no_key)?;
    let next = token.next(key);
    let (idle, address) = (seconds(settings.session_idle), address(trace));
    let tx = system.begin(trace).within(token.tenant).await?;
    let kept: Option<KeptSession> = tx
        .last()
        .optional(
            ROTATE,
            &[
                &token.session,
                &token.generation,
                &token.hash(),
                &next.hash(),
                &key.id(),
                &address,
                &idle,
                &token.tenant,
            ],
        )
        .await?;
    match kept {
        Some(kept) => kept.answer(app, &next),
        None => again(app, system, trace, &token).await,
    }
}

/// Somebody comes with a token that is not the one that is good now.
async fn again(app: &App, system: &System, trace: &Trace, token: &RefreshToken) -> Result<Tokens> {
    let look = system.begin(trace).within(token.tenant).await?.last();
    let stored: Option<StoredSession> =
        look.optional(LOOK, &[&token.session, &token.tenant, &RETRY_SECONDS]).await?;
    let stored = stored.filter(|stored| stored.alive).ok_or_else(|| refused("the session has ended"))?;
    let keys = app.authenticator.refresh_keys();
    let key_of = |generation: i32| match stored.key_since <= generation {
        true => keys.by_id(&stored.key_id),
        false => stored.key_before.as_deref().and_then(|id| keys.by_id(id)),
    };
    if !token.leads_to(stored.generation, &stored.secret_hash, key_of) {
        return Err(refused("a refresh token that never was"));
    }
    let is_predecessor = token.generation + 1 == stored.generation;
    if let (true, Some(key)) = (is_predecessor && stored.recent, key_of(token.generation)) {
        let StoredSession { principal_id, auth_time, amr, expires_at, .. } = stored;
        return KeptSession { principal_id, auth_time, amr, expires_at }.answer(app, &token.next(key));
    }
    end_reused(app, system, trace, (token, stored.principal_id)).await?;
    Err(refused("a refresh token that was used before"))
}

/// Two hold the session: it ends for both.
async fn end_reused(
    app: &App,
    system: &System,
    trace: &Trace,
    (token, person): (&RefreshToken, UserId),
) -> Result<()> {
    let mut tx = system.begin(trace).within(token.tenant).await?;
    let ended: Option<()> = tx.optional(END_REUSED, &[&token.session, &token.tenant]).await?;
    if ended.is_none() {
        return Ok(());
    }
    tx.audit(&AuditEntry {
        action: "identity.token_reuse",
        resource: "session",
        resource_id: Some(token.session.to_string()),
        outcome: "denied",
        details: json!({ "user": person.to_string() }),
    })?;
    tx.commit().await?;
    app.known_permissions.forget(token.tenant, person.into());
    security_event!(
        Severity::High,
        "A refresh token was used twice: its session has ended",
        action = "identity.token_reuse",
        tenant_id = %token.tenant,
        user_id = %person,
        ip = address(trace),
    );
    Ok(())
}

impl KeptSession {
    fn answer(self, app: &App, next: &RefreshToken) -> Result<Tokens> {
        let methods = Methods::of_words(self.amr.iter().map(String::as_str));
        let signed_in = SignedIn { session: next.session, at: self.auth_time.as_second(), methods };
        let access = app.authenticator.issue(next.tenant, self.principal_id, Some(signed_in))?;
        answer(access, next, self.expires_at)
    }
}

fn answer(access: AccessToken, refresh: &RefreshToken, session_expires_at: Timestamp) -> Result<Tokens> {
    let AccessToken { access_token, token_type, expires_in } = access;
    Ok(Tokens {
        access_token,
        token_type,
        expires_in,
        refresh_token: Secret::new(refresh.expose()).into(),
        session_expires_at,
        device_token: None,
        required_actions: Vec::new(),
    })
}

/// The device that shows this secret, if it is known to the account.
pub(super) fn known_device(app: &App, secret: Option<&Secret<String>>, email: &str) -> Option<Uuid> {
    let now = app.clock.now().as_second();
    app.authenticator.device_keys().read(secret?.expose(), email, now)
}

/// The ways of somebody who has given a password, and nothing else.
pub(super) fn by_password() -> Methods {
    Methods::default().and(Method::Password)
}

pub(crate) fn address(trace: &Trace) -> Option<String> {
    trace.client_ip.map(|ip| ip.to_string())
}

/// Whole seconds, as statements take them.
pub(crate) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn refused(reason: &'static str) -> Error {
    Error::new(&codes::SESSION_ENDED).because(reason)
}

fn no_key() -> Error {
    Error::internal("the ring of refresh keys is empty")
}
