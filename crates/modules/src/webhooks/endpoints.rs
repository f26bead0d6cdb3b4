//! Endpoints: what is told where, and the secret that it is signed with.

use axum::response::{IntoResponse, Response};
use erp_core::answer::{Answer, NoContent, Outputs, Refusing};
use erp_core::db::{AuditEntry, FromSql, IsNull, SqlBuffer, ToSql, Type, to_sql_checked};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::events::AnyEventKind as _;
use erp_core::extract::{IfMatch, Json, Patch, Path};
use erp_core::resource::{Call, Created, Listed, Page, THIS, Tagged, Versioned};
use erp_core::shared::{Id, Int, List, ShownSecret, Text, Version};
use erp_core::stream::{Cell, CsvLine};
use erp_core::webhooks::{EndpointSeal, SigningSecret};
use erp_core::{choice, from_row, input, list, params, record, sql};
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deliveries::Delivery;
use super::fan_out::wake;
use super::{PING, codes};

/// How long two secrets sign, unless it is said, in hours.
const OVERLAP: i64 = 24;

choice! {
    /// Why an endpoint is disabled.
    pub(super) DisabledReason {
        /// It has answered 410.
        Gone = "gone",
        /// It has not succeeded for five days.
        Failing = "failing",
        /// Somebody has switched it off.
        SwitchedOff = "switched_off",
    }
}

/// The names of kinds of events.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct EventNames(Vec<String>);

impl<'a> FromSql<'a> for EventNames {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Vec::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<String> as FromSql<'_>>::accepts(ty)
    }
}

impl ToSql for EventNames {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut SqlBuffer,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<String> as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl Cell for EventNames {
    fn write(&self, line: &mut CsvLine<'_>) {
        line.text(&self.0.join(" "));
    }
}

// The endpoint of the examples.
const URL: &str = "https://hooks.example.com/erp";
const EVENT: &str = "webhooks.webhook_disabled";

record! {
    /// An endpoint that is told of events.
    pub(super) Webhook in "webhooks" as "webhook" {
        id: Id<Webhook>,
        #[schemars(example = URL)]
        url: String,
        description: Option<String>,
        /// The kinds of events that it is told of.
        events: EventNames,
        enabled: bool,
        disabled_reason: Option<DisabledReason>,
        disabled_at: Option<Timestamp>,
        created_at: Timestamp,
        updated_at: Timestamp,
        version: Version,
    }
}

/// The kinds that are asked for: names, `*` or `module.*`.
type WantedEvents = List<Text<1, 200>, 1, 200>;

input! {
    /// The body of POST.
    pub(super) NewWebhook {
        /// Where events are sent to, by POST.
        #[schemars(example = URL)]
        url: Text<1, 2048>,
        description: Option<Text<1, 500>>;
        /// Kinds of events; `*` and `module.*` stand for those that there are now.
        #[schemars(example = [EVENT])]
        events: WantedEvents,
    }
}

/// The body of PATCH (RFC 7396): absent keeps, `null` clears.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WebhookPatch {
    /// Where events are sent to.
    #[serde(default)]
    #[schemars(example = URL)]
    url: Patch<Text<1, 2048>>,
    /// What it is for.
    #[serde(default)]
    description: Patch<Option<Text<1, 500>>>,
    /// Kinds of events; `*` and `module.*` stand for those that there are now.
    #[serde(default)]
    #[schemars(example = [EVENT])]
    events: Patch<WantedEvents>,
    /// Whether it is told of anything.
    #[serde(default)]
    enabled: Patch<bool>,
}

input! {
    /// The body of a rotation.
    pub(super) Rotation {
        /// For how many hours both secrets sign; none lets the former one sign nothing more.
        overlap_hours: Option<Int<0, 168>>,
    }
}

list! {
    /// Endpoints, the newest first.
    pub(super) Webhooks of Webhook from "webhooks" sorted [-created_at]
}

/// An endpoint with its secret, which is shown this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct WebhookWithSecret {
    #[serde(flatten)]
    webhook: Webhook,
    /// What deliveries are signed with: `whsec_…`. It is not shown again.
    secret: ShownSecret,
}

impl Versioned for WebhookWithSecret {
    const TABLES: &'static [&'static str] = <Webhook as Versioned>::TABLES;

    fn version(&self) -> Version {
        self.webhook.version
    }
}

/// A secret that has taken another one's place.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotatedSecret {
    /// What deliveries are signed with from now on: `whsec_…`. It is not shown again.
    secret: ShownSecret,
    /// Until when the former one signs, too.
    previous_until: Option<Timestamp>,
}

/// A test that is under way.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookTest {
    /// The delivery, which tells what has become of it.
    delivery_id: Id<Delivery>,
}

/// 202 with what is under way.
pub(super) struct Begun<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Begun<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl<T: Serialize + JsonSchema> Answer for Begun<T> {
    fn describe(outputs: &mut Outputs) {
        outputs.json::<T>(202);
    }
}

const READ: &str = sql!["select ", Webhook::COLUMNS, " from webhooks where id = $1"];
const CREATE: &str = sql![
    "with webhooks as (insert into webhooks (id, url, description, events) select $1, $2, $3, $4 \
       where (select count(*) from webhooks) < 1000 returning *), \
     secrets as (insert into webhook_secrets (webhook_id, sealed) select id, $5 from webhooks), \
     health as (insert into webhook_health (webhook_id) select id from webhooks) select ",
    Webhook::COLUMNS,
    " from webhooks"
];
const CHANGE: &str = sql![
    "with webhooks as (update webhooks set url = coalesce($3, url), \
       description = case when $4 then $5 else description end, events = coalesce($6, events), \
       enabled = coalesce($7, enabled), \
       disabled_reason = case $7 when true then null when false then coalesce(disabled_reason, 'switched_off') \
         else disabled_reason end, \
       disabled_at = case $7 when true then null when false then coalesce(disabled_at, now()) else disabled_at end where ",
    THIS,
    " returning *), \
     health as (update webhook_health h set failures = 0, failing_since = null, rests_until = null \
       from webhooks w where h.webhook_id = w.id and $7) select ",
    Webhook::COLUMNS,
    " from webhooks"
];
const DELETE: &str = sql!["delete from webhooks where ", THIS, " returning id"];
const ROTATE: &str = "update webhook_secrets set previous = case when $3 > 0 then sealed end, \
     previous_until = case when $3 > 0 then now() + $3 * interval '1 hour' end, sealed = $2 where webhook_id = $1 \
     returning previous_until";
/// Holds the endpoint's row against a job that ends, as a new delivery does.
const ENABLED: &str = "select enabled from webhooks where id = $1 for key share";
const ADD_TEST: &str = "insert into webhook_deliveries (id, webhook_id, number, name, aggregate_id, next_at) \
     values ($2, $1, 0, $3, $1, now())";

struct PreviousUntil {
    previous_until: Option<Timestamp>,
}
from_row!(PreviousUntil { previous_until });

struct Enabled {
    enabled: bool,
}
from_row!(Enabled { enabled });

pub(super) async fn list(call: Call, page: Page<Webhooks>) -> Result<Listed<Webhooks>> {
    call.list(page).await
}

pub(super) async fn read(call: Call, Path(id): Path<Id<Webhook>>) -> Result<Tagged<Webhook>> {
    call.read(READ, id).await
}

pub(super) async fn create(
    call: Call,
    Json(new): Json<NewWebhook>,
) -> Result<Created<WebhookWithSecret>, Refusing<(codes::NOT_CONFIGURED, codes::TOO_MANY)>> {
    let events = resolved(&call, &new.events)?;
    let url = call.app.outbound.admit(call.caller.tenant(), "/url", new.url.as_str()).await?;
    let id: Id<Webhook> = call.new_id();
    let (secret, sealed) = new_secret(&call, id).await?;
    let tx = call.tenant().last();
    let made: Option<Webhook> =
        tx.optional(CREATE, &[&id, &url.as_str(), &new.description, &events, &sealed]).await?;
    let webhook = made.ok_or_else(|| Error::new(&codes::TOO_MANY))?;
    Ok(call.created_at(id, WebhookWithSecret { webhook, secret: secret.text().into() })?)
}

pub(super) async fn change(
    call: Call,
    Path(id): Path<Id<Webhook>>,
    when: IfMatch,
    Json(patch): Json<WebhookPatch>,
) -> Result<Tagged<Webhook>> {
    let WebhookPatch { url, description, events, enabled } = patch;
    let events = events.value.map(|events| resolved(&call, &events)).transpose()?;
    if let Some(url) = &url.value {
        call.app.outbound.admit(call.caller.tenant(), "/url", url.as_str()).await?;
    }
    let text = description.value.flatten();
    let changed = call
        .change(CHANGE, id, when, params![&url.value, &description.given, &text, &events, &enabled.value])
        .await?;
    if enabled.value == Some(true) {
        let mut tx = call.tenant();
        let _ = hold(&mut tx, id).await?;
        wake(&call, &mut tx, &[id]).await?;
        tx.commit().await?;
    }
    Ok(changed)
}

pub(super) async fn delete(call: Call, Path(id): Path<Id<Webhook>>, when: IfMatch) -> Result<NoContent> {
    call.remove(DELETE, id, when).await
}

pub(super) async fn rotate(
    call: Call,
    Path(id): Path<Id<Webhook>>,
    Json(rotation): Json<Rotation>,
) -> Result<Json<RotatedSecret>, Refusing<codes::NOT_CONFIGURED>> {
    let (secret, sealed) = new_secret(&call, id).await?;
    let hours = i32::try_from(rotation.overlap_hours.map_or(OVERLAP, i64::from)).unwrap_or_default();
    let mut tx = call.tenant();
    tx.audit(&entry("webhook.secret_rotated", id, json!({ "overlapHours": hours })))?;
    let rotated: Option<PreviousUntil> = tx.optional(ROTATE, &[&id, &sealed, &hours]).await?;
    let PreviousUntil { previous_until } = rotated.ok_or_else(|| Error::new(&core::NOT_FOUND))?;
    tx.commit().await?;
    Ok(Json(RotatedSecret { secret: secret.text().into(), previous_until }))
}

pub(super) async fn test(
    call: Call,
    Path(id): Path<Id<Webhook>>,
) -> Result<Begun<WebhookTest>, Refusing<core::WRONG_STATE>> {
    let delivery_id: Id<Delivery> = call.new_id();
    let mut tx = call.tenant();
    enabled(&mut tx, id).await?;
    tx.rows::<()>(ADD_TEST, &[&id, &delivery_id, &PING.facts().name]).await?;
    tx.audit(&entry("webhook.tested", id, Value::Null))?;
    wake(&call, &mut tx, &[id]).await?;
    tx.commit().await?;
    Ok(Begun(WebhookTest { delivery_id }))
}

/// What somebody has done with an endpoint that no change of its row shows.
pub(super) fn entry(action: &'static str, webhook: Id<Webhook>, details: Value) -> AuditEntry {
    AuditEntry {
        action,
        resource: "webhook",
        resource_id: Some(webhook.to_string()),
        outcome: "success",
        details,
    }
}

/// Holds an endpoint's row, and says whether it is enabled.
async fn hold(tx: &mut erp_core::db::TenantTx<'_>, id: Id<Webhook>) -> Result<bool> {
    let found: Option<Enabled> = tx.optional(ENABLED, &[&id]).await?;
    found.map(|row| row.enabled).ok_or_else(|| Error::new(&core::NOT_FOUND))
}

/// Holds the row of an endpoint that is enabled.
pub(super) async fn enabled(tx: &mut erp_core::db::TenantTx<'_>, id: Id<Webhook>) -> Result<()> {
    match hold(tx, id).await? {
        true => Ok(()),
        false => Err(Error::new(&core::WRONG_STATE).detail("The webhook is disabled.")),
    }
}

async fn new_secret(call: &Call, webhook: Id<Webhook>) -> Result<(SigningSecret, Vec<u8>)> {
    let seal = EndpointSeal::of(&call.app, call.caller.tenant()).await?;
    let seal = seal.ok_or_else(|| Error::new(&codes::NOT_CONFIGURED))?;
    let secret = SigningSecret::generate(call.app.rng.as_ref());
    let sealed = seal.seal(*webhook.as_uuid(), &secret).await?;
    Ok((secret, sealed))
}

/// The names that are asked for, and in place of `*` and `module.*` those that there are now: the newest form of each.
fn resolved(call: &Call, wanted: &[Text<1, 200>]) -> Result<EventNames> {
    let known = &call.app.event_kinds;
    let mut names = std::collections::BTreeSet::new();
    let mut error = Error::new(&core::INVALID);
    let mut refused = false;
    for (index, text) in wanted.iter().map(Text::as_str).enumerate() {
        let module = text.strip_suffix('*').filter(|module| module.is_empty() || module.ends_with('.'));
        let found: Vec<&str> = match module {
            Some(module) => newest(known.iter().copied().filter(|name| name.starts_with(module))),
            None => known.get(text).copied().into_iter().collect(),
        };
        if found.is_empty() {
            let what = "is no kind of event: docs/reference/events.md lists them";
            error = error.violation(Violation::new(format!("/events/{index}"), "unknown", what.to_owned()));
            refused = true;
        }
        names.extend(found);
    }
    if refused { Err(error) } else { Ok(EventNames(names.into_iter().map(str::to_owned).collect())) }
}

/// Of the forms of each kind, `…` before `…@2`, the last one.
fn newest(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut newest = std::collections::BTreeMap::new();
    for name in names {
        let (base, form) =
            name.split_once('@').map_or((name, 1), |(base, form)| (base, form.parse().unwrap_or(1)));
        let last: &mut (u32, &str) = newest.entry(base).or_insert((form, name));
        if form >= last.0 {
            *last = (form, name);
        }
    }
    newest.into_values().map(|(_, name)| name).collect()
}
