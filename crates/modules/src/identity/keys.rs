//! API keys: how machines come in, and what people make for their programs.
//!
//! A key is `^erp_(live|test|dev)_[0-9A-Za-z]{58}$`: of production, staging or development. It can do what its principal can,
//! a member or a service account, and of that no more than its scopes, and from its networks. Its text is shown once; a hash is
//! stored. Where it is used from is read with what it can do, so that both change everywhere within five seconds.

use axum::extract::State;
use erp_core::answer::{NoContent, Refusing};
use erp_core::app::App;
use erp_core::auth::{Actor, Caller, Credential, Grants, Identity, Networks, OwnRole, TenantSecret, Trace};
use erp_core::config::Environment;
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Patch, Path};
use erp_core::shared::{Id, Int, List, PrincipalId, ShownSecret, TenantId, Text};
use erp_core::{from_row, input, sql};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::giver::Giver;
use super::made::Made;
use super::{codes, step_up};

/// How long the text before a rotation is good, unless it is said, in hours.
const OVERLAP: i64 = 24;

/// A key. It is a principal's: with the key's id audit rows say who has acted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiKey {
    id: PrincipalId,
    #[schemars(example = &"Nightly import")]
    name: String,
    /// Whose it is: a member or a service account, whose roles are the most that it can do.
    principal: PrincipalId,
    /// The permissions that it is good for, where its principal has them.
    #[schemars(example = ["catalog.item.read"])]
    scopes: Vec<String>,
    /// The networks that it is used from; none: any.
    #[schemars(example = ["192.0.2.0/24"])]
    allowed_networks: Vec<String>,
    created_at: Timestamp,
    created_by: PrincipalId,
    expires_at: Option<Timestamp>,
    /// Until when the text before the last rotation is good, too.
    overlap_until: Option<Timestamp>,
    /// When it was used last, to the minute.
    last_used_at: Option<Timestamp>,
}
from_row!(ApiKey {
    id,
    name,
    principal,
    scopes,
    allowed_networks,
    created_at,
    created_by,
    expires_at,
    overlap_until,
    last_used_at
});

/// Keys that were not revoked, the newest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiKeys {
    api_keys: Vec<ApiKey>,
}

/// A key with its text, which is shown this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct ApiKeyWithText {
    #[serde(flatten)]
    api_key: ApiKey,
    /// What requests bring: `Authorization: Bearer erp_…` or `X-API-Key: erp_…`. It is not shown again.
    #[schemars(example = &"erp_live_…")]
    key: ShownSecret,
}

/// The body of `POST /api/v1/api-keys`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewApiKey {
    #[schemars(example = &"Nightly import")]
    name: Text<1, 200>,
    /// The permissions that it is good for: within the caller's own.
    #[schemars(example = ["catalog.item.read"])]
    scopes: List<Text<1, 200>, 1, 200>,
    /// When it ends.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// The service account that it is for; without one it is the caller's own.
    #[serde(default)]
    service_account: Option<PrincipalId>,
    /// The networks that it is used from; none: any, as far as the tenant's own list goes. A key that is itself used from certain
    /// networks makes none that is used from more.
    #[schemars(example = ["192.0.2.0/24"])]
    #[serde(default)]
    allowed_networks: Option<List<Text<1, 50>, 0, 200>>,
}

/// The body of `PATCH /api/v1/api-keys/{id}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApiKeyPatch {
    /// The networks that it is used from; none: any.
    #[schemars(example = ["192.0.2.0/24"])]
    #[serde(default)]
    allowed_networks: Patch<List<Text<1, 50>, 0, 200>>,
}

input! {
    /// The body of a rotation.
    pub(super) KeyRotation {
        /// For how many hours the text before is good, too; none lets it open nothing more.
        overlap_hours: Option<Int<0, 168>>,
    }
}

const COLUMNS: &str = "k.id, k.name, k.principal_id as principal, k.scopes, k.allowed_networks, k.created_at, k.created_by, k.expires_at, \
     case when k.overlap_until > now() then k.overlap_until end as overlap_until, k.last_used_at";
const LIST: &str = sql![
    "select ",
    COLUMNS,
    " from api_keys k where k.revoked_at is null order by k.created_at desc, k.id limit 1000"
];
const READ: &str = sql!["select ", COLUMNS, " from api_keys k where k.id = $1 and k.revoked_at is null"];
const ADD: &str = sql![
    "with k as (insert into api_keys (id, principal_id, name, scopes, hash, expires_at, created_by, allowed_networks) \
       values ($1, $2, $3, $4, $5, $6, $7, $8) returning *) select ",
    COLUMNS,
    " from k"
];
const LOCK: &str = "select k.principal_id, k.scopes, k.allowed_networks, s.id is not null as of_machine from api_keys k \
     left join service_accounts s on s.tenant_id = k.tenant_id and s.id = k.principal_id and s.disabled_at is null \
     where k.tenant_id = $1 and k.id = $2 and k.revoked_at is null for update of k";
const ROTATE: &str = sql![
    "with k as (update api_keys set previous_hash = case when $4::int > 0 then hash end, \
       overlap_until = case when $4 > 0 then now() + $4 * interval '1 hour' end, hash = $3 \
       where tenant_id = $1 and id = $2 returning *) select ",
    COLUMNS,
    " from k"
];
const LIMIT: &str = sql![
    "with k as (update api_keys set allowed_networks = $3 where tenant_id = $1 and id = $2 returning *) select ",
    COLUMNS,
    " from k"
];
pub(super) const REVOKE: &str = "update api_keys set revoked_at = now() where tenant_id = $1 and id = $2 and revoked_at is null returning id";
const FIND: &str = "select id, last_used_at is null or last_used_at < now() - interval '1 minute' as unnoted from api_keys \
     where tenant_id = $1 and (hash = $2 or previous_hash = $2 and overlap_until > now()) \
       and revoked_at is null and (expires_at is null or expires_at > now())";
const NOTE_USE: &str = "update api_keys set last_used_at = now() where tenant_id = $1 and id = $2 \
     and (last_used_at is null or last_used_at < now() - interval '1 minute')";
const HOLDER: &str =
    "select principal_id as id from api_keys where tenant_id = $1 and id = $2 and revoked_at is null";
const MACHINE: &str =
    "select id from service_accounts where tenant_id = $1 and id = $2 and disabled_at is null for share";

struct OnePrincipal {
    id: PrincipalId,
}
from_row!(OnePrincipal { id });

struct FoundKey {
    id: PrincipalId,
    unnoted: bool,
}
from_row!(FoundKey { id, unnoted });

struct LockedKey {
    principal_id: PrincipalId,
    scopes: Vec<String>,
    allowed_networks: Vec<String>,
    of_machine: bool,
}
from_row!(LockedKey { principal_id, scopes, allowed_networks, of_machine });

/// What the keys of this environment begin with, between `erp_` and `_`: one of tests opens nothing of production.
fn kind(app: &App) -> &'static str {
    match app.config.process.app_env {
        Environment::Production => "live",
        Environment::Staging => "test",
        Environment::Development => "dev",
    }
}

/// Whose a key is: as it was read at most five seconds ago, or else the database is asked. A mistyped one is refused without
/// a statement (K-01).
///
/// # Errors
/// `core.unauthenticated`.
pub(super) fn credential(app: &App, system: System, text: &str) -> Result<Credential> {
    let unknown = || Error::new(&core::UNAUTHENTICATED);
    let key = TenantSecret::parse(kind(app), text).ok_or_else(unknown)?;
    let asked = app.clock.instant();
    if let Some(identity) = app.known_keys.find(&key, asked) {
        return Ok(Credential::Verified(identity));
    }
    let app = app.clone();
    Ok(Credential::Unverified(Box::pin(async move {
        let tx = system.begin(&Trace::new("api-key")).within(key.tenant).await?.last();
        let found: Option<FoundKey> = tx.optional(FIND, &[&key.tenant, &key.hash()]).await?;
        let FoundKey { id, unnoted } = found.ok_or_else(unknown)?;
        let identity = Identity::new(key.tenant, Actor::Key(id));
        app.known_keys.remember(&key, identity, asked);
        if unnoted {
            // Behind the request, which does not wait for it.
            let work = note_use(system.clone(), key.tenant, id);
            drop(app.lifecycle.serve(work));
        }
        Ok(identity)
    })))
}

async fn note_use(system: System, tenant: TenantId, key: PrincipalId) {
    let noted: Result<()> = async {
        let trace = Trace::new("api-key");
        let tx = system.begin(&trace).within(tenant).await?.last();
        tx.rows::<()>(NOTE_USE, &[&tenant, &key]).await.map(drop)
    }
    .await;
    if let Err(error) = noted {
        tracing::warn!(code = error.code().code, "The use of a key was not noted");
    }
}

/// What a key can do: what its principal can, as far as its scopes go.
pub(super) fn narrowed(app: &App, grants: Grants, scopes: &[String]) -> Grants {
    let held = app.permissions.resolve(&grants).names();
    let permissions = scopes.iter().filter(|scope| held.contains(&scope.as_str())).cloned().collect();
    let own = vec![OwnRole { name: "api-key".to_owned(), permissions }];
    Grants { own, built_in: Vec::new(), ..grants }
}

/// `GET /api/v1/api-keys`.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<ApiKeys>> {
    Ok(Json(ApiKeys { api_keys: app.db.tenant_read(&caller).last().rows(LIST, &[]).await? }))
}

/// `GET /api/v1/api-keys/{id}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<PrincipalId>,
) -> Result<Json<ApiKey>> {
    let found: Option<ApiKey> = app.db.tenant_read(&caller).last().optional(READ, &[&id]).await?;
    found.map(Json).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// `POST /api/v1/api-keys`.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Json(new): Json<NewApiKey>,
) -> Result<Made<ApiKeyWithText>, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN)>> {
    let tenant = caller.tenant();
    let (scopes, networks) =
        (scopes(&app, &new.scopes)?, networks(new.allowed_networks.as_deref().unwrap_or_default())?);
    if new.expires_at.is_some_and(|end| end <= app.clock.now()) {
        let past = Violation::new("/expiresAt".to_owned(), "past", "This time is over.");
        return Err(Error::new(&core::INVALID).violation(past).into());
    }
    step_up::require(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let giver = Giver::hold(&app, &mut tx, &caller).await?;
    giver.may_scope(&scopes)?;
    giver.may_admit(&networks)?;
    let own = holder(&mut tx, &caller).await?;
    let principal = match new.service_account {
        Some(machine) => of_machine(&mut tx, tenant, machine).await?,
        None => own,
    };
    let id: PrincipalId = Id::new(app.clock.as_ref(), app.rng.as_ref());
    let secret = TenantSecret::new(kind(&app), tenant, app.rng.as_ref());
    let networks = networks.texts();
    let told = json!({ "principal": principal, "scopes": scopes, "allowedNetworks": networks });
    tx.audit(&entry("identity.key_created", id, told))?;
    let (name, hash, end) = (&new.name, &secret.hash(), &new.expires_at);
    let api_key: ApiKey = tx.row(ADD, &[&id, &principal, name, &scopes, hash, end, &own, &networks]).await?;
    tx.commit().await?;
    let key = secret.shown();
    Ok(Made::at(format!("/api/v1/api-keys/{id}"), ApiKeyWithText { api_key, key })?)
}

/// `PATCH /api/v1/api-keys/{id}`: where it is used from. What it can do, and whose it is, stays as it was made.
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
    Json(patch): Json<ApiKeyPatch>,
) -> Result<Json<ApiKey>, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN)>> {
    let tenant = caller.tenant();
    let wanted = patch.allowed_networks.value.map(|wanted| networks(&wanted)).transpose()?;
    step_up::require(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let giver = Giver::hold(&app, &mut tx, &caller).await?;
    let locked: Option<LockedKey> = tx.optional(LOCK, &[&tenant, &id]).await?;
    let LockedKey { scopes, allowed_networks, .. } = locked.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    giver.may_scope(&scopes)?;
    let allowed = match wanted {
        None => allowed_networks,
        Some(wanted) => {
            giver.may_admit(&wanted)?;
            let (before, after) = (allowed_networks, wanted.texts());
            let told = json!({ "allowedNetworks": { "before": before, "after": after } });
            tx.audit(&entry("identity.key_changed", id, told))?;
            after
        }
    };
    let api_key: ApiKey = tx.row(LIMIT, &[&tenant, &id, &allowed]).await?;
    tx.commit().await?;
    app.known_permissions.forget(tenant, id);
    Ok(Json(api_key))
}

/// `POST /api/v1/api-keys/{id}/rotate`: another text for the same key, which can do no more with it, and for no longer.
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
    Json(rotation): Json<KeyRotation>,
) -> Result<Json<ApiKeyWithText>, Refusing<(codes::STEP_UP_REQUIRED, codes::MORE_THAN_OWN)>> {
    let tenant = caller.tenant();
    let hours = i32::try_from(rotation.overlap_hours.map_or(OVERLAP, i64::from)).unwrap_or_default();
    step_up::require(&app, &caller, &system).await?;
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let giver = Giver::hold(&app, &mut tx, &caller).await?;
    let locked: Option<LockedKey> = tx.optional(LOCK, &[&tenant, &id]).await?;
    let LockedKey { principal_id, scopes, of_machine, .. } =
        locked.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    // The one who rotates a key gets its text: of another member's keys nobody does.
    let own = holder(&mut tx, &caller).await?;
    if !(of_machine || own == principal_id) {
        return Err(Error::new(&codes::MORE_THAN_OWN).into());
    }
    giver.may_scope(&scopes)?;
    let secret = TenantSecret::new(kind(&app), tenant, app.rng.as_ref());
    tx.audit(&entry("identity.key_rotated", id, json!({ "overlapHours": hours })))?;
    let api_key: ApiKey = tx.row(ROTATE, &[&tenant, &id, &secret.hash(), &hours]).await?;
    tx.commit().await?;
    app.known_keys.forget(Identity::new(tenant, Actor::Key(id)));
    let key = secret.shown();
    Ok(Json(ApiKeyWithText { api_key, key }))
}

/// `DELETE /api/v1/api-keys/{id}`.
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    system: System,
    Path(id): Path<PrincipalId>,
) -> Result<NoContent> {
    let tenant = caller.tenant();
    let mut tx = system.on_behalf(&caller).within(tenant).await?;
    let revoked: Option<OnePrincipal> = tx.optional(REVOKE, &[&tenant, &id]).await?;
    let OnePrincipal { id } = revoked.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.audit(&entry("identity.key_revoked", id, Value::Null))?;
    tx.commit().await?;
    app.known_keys.forget(Identity::new(tenant, Actor::Key(id)));
    app.known_permissions.forget(tenant, id);
    Ok(NoContent)
}

/// Whose keys the caller makes: a key makes keys of its own principal.
async fn holder(tx: &mut TenantTx<'_>, caller: &Caller) -> Result<PrincipalId> {
    let principal = caller.actor().principal().ok_or_else(|| Error::new(&core::FORBIDDEN))?;
    if !matches!(caller.actor(), Actor::Key(_)) {
        return Ok(principal);
    }
    let found: Option<OnePrincipal> = tx.optional(HOLDER, &[&caller.tenant(), &principal]).await?;
    found.map(|found| found.id).ok_or_else(|| Error::new(&core::UNAUTHENTICATED))
}

async fn of_machine(tx: &mut TenantTx<'_>, tenant: TenantId, machine: PrincipalId) -> Result<PrincipalId> {
    let found: Option<OnePrincipal> = tx.optional(MACHINE, &[&tenant, &machine]).await?;
    found.map(|found| found.id).ok_or_else(|| {
        let what = "There is no such service account.";
        Error::new(&core::INVALID).violation(Violation::new("/serviceAccount".to_owned(), "unknown", what))
    })
}

/// The scopes that are asked for: permissions that there are.
fn scopes(app: &App, wanted: &[Text<1, 200>]) -> Result<Vec<String>> {
    let mut scopes: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    for (at, scope) in scopes.iter().enumerate() {
        if app.permissions.iter().all(|permission| permission.name != scope) {
            let unknown = Violation::new(format!("/scopes/{at}"), "unknown", "There is no such permission.");
            return Err(Error::new(&core::INVALID).violation(unknown));
        }
    }
    scopes.sort();
    scopes.dedup();
    Ok(scopes)
}

/// The networks that are asked for.
fn networks(wanted: &[Text<1, 50>]) -> Result<Networks> {
    Networks::read(wanted.iter().map(|text| text.as_str())).map_err(|wrong| {
        let violation = Violation::new("/allowedNetworks", "invalid", format!("It {wrong}."));
        Error::new(&core::INVALID).violation(violation)
    })
}

fn entry(action: &'static str, key: PrincipalId, details: Value) -> AuditEntry {
    AuditEntry {
        action,
        resource: "api_key",
        resource_id: Some(key.to_string()),
        outcome: "success",
        details,
    }
}
