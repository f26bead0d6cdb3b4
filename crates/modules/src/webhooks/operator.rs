//! What an operator does about webhooks from a terminal, as the system's login: see how the endpoints of all tenants answer, switch
//! them, and let deliveries be sent again. What is done in a tenant stands in its audit log.

use erp_core::bootstrap::OperatorSession;
use erp_core::config::Config;
use erp_core::db::{AuditEntry, Params};
use erp_core::error::Result;
use erp_core::from_row;
use erp_core::lifecycle::StartError;
use erp_core::module::Product;
use erp_core::shared::{Id, Rng, TenantId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::deliver::{DELIVER, Deliver};
use super::endpoints::Webhook;

/// The id of an endpoint.
pub type EndpointId = Uuid;

/// Endpoints of a tenant that one transaction moves.
const BATCH: usize = 100;

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It is told of events.
    Enabled,
    /// It is told of events, and has not answered well the last time.
    Failing,
    /// It is told of nothing.
    Disabled,
}

impl EndpointState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Enabled, Self::Failing, Self::Disabled];

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
        }
    }
}

/// What an operator does with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointAction {
    /// What has failed, is held or waits is sent again, at once.
    Retry,
    /// They are told of nothing more.
    Disable,
    /// They are told of events again.
    Enable,
}

impl EndpointAction {
    /// What has become of the endpoints then.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
        }
    }
}

/// Which endpoints are meant; what is not given does not narrow.
#[derive(Debug, Clone, Default)]
pub struct EndpointFilter {
    /// These.
    pub ids: Vec<Uuid>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// In this state.
    pub state: Option<EndpointState>,
    /// At most so many.
    pub limit: i64,
}

impl EndpointFilter {
    /// Whether it narrows at all.
    pub fn narrows(&self) -> bool {
        !self.ids.is_empty() || self.tenant.is_some() || self.state.is_some()
    }
}

/// An endpoint, as an operator sees it: where it leads, but not the path, which often is a secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // they are those of the API, and the columns
pub struct ListedEndpoint {
    pub id: Uuid,
    /// The tenant's slug.
    pub tenant: String,
    pub origin: String,
    pub events: Vec<String>,
    pub enabled: bool,
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<Timestamp>,
    /// Since the last success.
    pub failures: i32,
    pub failing_since: Option<Timestamp>,
    pub rests_until: Option<Timestamp>,
    pub succeeded_at: Option<Timestamp>,
    /// Deliveries that wait, and since when the first of them does.
    pub pending: i64,
    pub pending_since: Option<Timestamp>,
    pub created_at: Timestamp,
}
from_row!(ListedEndpoint {
    id,
    tenant,
    origin,
    events,
    enabled,
    disabled_reason,
    disabled_at,
    failures,
    failing_since,
    rests_until,
    succeeded_at,
    pending,
    pending_since,
    created_at
});

/// A delivery, as an operator sees it: not what it says, nor what the endpoint has said.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ListedDelivery {
    #[serde(skip)]
    pub webhook_id: Uuid,
    pub id: Uuid,
    pub name: String,
    pub status: String,
    pub attempts: i32,
    pub last_outcome: Option<String>,
    pub last_status: Option<i32>,
    pub next_at: Option<Timestamp>,
    pub created_at: Timestamp,
}
from_row!(ListedDelivery {
    webhook_id,
    id,
    name,
    status,
    attempts,
    last_outcome,
    last_status,
    next_at,
    created_at
});

/// An endpoint with its last deliveries.
#[derive(Debug, Serialize)]
pub struct ShownEndpoint {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: ListedEndpoint,
    /// The last ten, the newest first.
    pub deliveries: Vec<ListedDelivery>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointsMoved {
    /// Endpoints that matched.
    pub matched: usize,
    /// Endpoints that something was done with.
    pub endpoints: usize,
    /// Deliveries that are sent again.
    pub deliveries: i64,
}

const LIST: &str = "select w.id, t.slug as tenant, coalesce(substring(w.url from '^[a-z]+://[^/?#]+'), '') as origin, w.events, w.enabled, \
     w.disabled_reason, w.disabled_at, h.failures, h.failing_since, h.rests_until, h.succeeded_at, p.pending, p.pending_since, \
     w.created_at from webhooks w join tenants t on t.id = w.tenant_id \
     join webhook_health h on h.tenant_id = w.tenant_id and h.webhook_id = w.id \
     cross join lateral (select count(*) as pending, min(d.created_at) as pending_since from webhook_deliveries d \
       where d.tenant_id = w.tenant_id and d.webhook_id = w.id and d.status = 'pending') p \
     where ($1::uuid is null or w.tenant_id = $1) and (cardinality($3::uuid[]) = 0 or w.id = any ($3)) \
       and case coalesce($2::text, '') when '' then true when 'enabled' then w.enabled \
         when 'failing' then w.enabled and h.failures > 0 else not w.enabled end \
     order by w.id desc limit $4";
const DELIVERIES: &str = "select d.webhook_id, d.id, d.name, d.status, d.attempts, d.last_outcome, d.last_status, d.next_at, d.created_at \
     from webhooks w cross join lateral (select * from webhook_deliveries d where d.tenant_id = w.tenant_id \
       and d.webhook_id = w.id order by d.created_at desc, d.id desc limit 10) d where w.id = any ($1) \
     order by d.created_at desc, d.id desc";
/// Those that the action `$5` would move.
const FIND: &str = "select w.tenant_id, w.id from webhooks w \
     join webhook_health h on h.tenant_id = w.tenant_id and h.webhook_id = w.id \
     where ($1::uuid is null or w.tenant_id = $1) and (cardinality($3::uuid[]) = 0 or w.id = any ($3)) \
       and case coalesce($2::text, '') when '' then true when 'enabled' then w.enabled \
         when 'failing' then w.enabled and h.failures > 0 else not w.enabled end \
       and case $5::text when 'enabled' then not w.enabled else w.enabled end \
     order by w.tenant_id, w.id limit $4";
/// Holds the endpoints against jobs of theirs that end, as a new delivery does.
const HOLD: &str =
    "select id from webhooks where tenant_id = $1 and id = any ($2) and enabled order by id for key share";
const RETRY: &str = "with again as (update webhook_deliveries d set status = 'pending', next_at = now(), due_since = now(), \
       finished_at = null where d.tenant_id = $1 and d.webhook_id = any ($2) \
       and (d.status in ('failed', 'held') or d.status = 'pending' and d.next_at > now()) returning d.webhook_id), \
     woken as (update webhook_health h set rests_until = null where h.tenant_id = $1 \
       and h.webhook_id in (select webhook_id from again)) \
     select webhook_id as id, count(*) as deliveries from again group by webhook_id";
const DISABLE: &str = "update webhooks set enabled = false, disabled_reason = 'switched_off', disabled_at = now() \
     where tenant_id = $1 and id = any ($2) and enabled returning id, 0::bigint as deliveries";
const ENABLE: &str = "with switched as (update webhooks set enabled = true, disabled_reason = null, disabled_at = null \
       where tenant_id = $1 and id = any ($2) and not enabled returning id), \
     well as (update webhook_health h set failures = 0, failing_since = null, rests_until = null from switched s \
       where h.tenant_id = $1 and h.webhook_id = s.id) \
     select id, 0::bigint as deliveries from switched";

/// An endpoint that was found.
#[derive(Debug, Clone, Copy)]
pub struct FoundEndpoint {
    tenant_id: TenantId,
    id: Uuid,
}
from_row!(FoundEndpoint { tenant_id, id });

struct HeldEndpoint {
    id: Uuid,
}
from_row!(HeldEndpoint { id });

struct MovedEndpoint {
    id: Id<Webhook>,
    deliveries: i64,
}
from_row!(MovedEndpoint { id, deliveries });

/// The endpoints of all tenants, as an operator reaches them.
pub struct WebhookOperator {
    session: OperatorSession,
}

impl WebhookOperator {
    /// Opens the way to the database; nothing is sent before the first question.
    ///
    /// # Errors
    /// `Exit::Usage` where the product has no webhooks; `Exit::Configuration` where the URLs cannot be used.
    pub fn open(product: &Product, config: &Config, rng: &dyn Rng) -> Result<Self, StartError> {
        OperatorSession::of_verb(product, config, rng, "webhooks").map(|session| Self { session })
    }

    /// Ends what `open` has begun.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The tenant of a slug, if there is one.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenant(&self, slug: &str) -> Result<Option<TenantId>> {
        self.session.tenant(slug).await
    }

    /// The endpoints that match, the newest first.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn list(&self, filter: &EndpointFilter) -> Result<Vec<ListedEndpoint>> {
        let EndpointFilter { ids, tenant, state, limit } = filter;
        let state = state.map(EndpointState::as_str);
        self.session.begin().last().rows(LIST, &[tenant, &state, ids, limit]).await
    }

    /// The same with the last deliveries of each.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn show(&self, filter: &EndpointFilter) -> Result<Vec<ShownEndpoint>> {
        let endpoints = self.list(filter).await?;
        let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let mut deliveries: Vec<ListedDelivery> =
            self.session.begin().last().rows(DELIVERIES, &[&ids]).await?;
        let shown = endpoints.into_iter().map(|endpoint| {
            let of_it = deliveries.extract_if(.., |delivery| delivery.webhook_id == endpoint.id).collect();
            ShownEndpoint { deliveries: of_it, endpoint }
        });
        Ok(shown.collect())
    }

    /// The endpoints that match and that the action would move.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn find(&self, action: EndpointAction, filter: &EndpointFilter) -> Result<Vec<FoundEndpoint>> {
        let EndpointFilter { ids, tenant, state, limit } = filter;
        let (state, done) = (state.map(EndpointState::as_str), action.done());
        self.session.begin().last().rows(FIND, &[tenant, &state, ids, limit, &done]).await
    }

    /// Does it, tenant by tenant, with entries in their audit logs. What has moved on by itself is let be.
    ///
    /// # Errors
    /// As the database answers; what was done before stays done.
    pub async fn steer(&self, action: EndpointAction, found: &[FoundEndpoint]) -> Result<EndpointsMoved> {
        let mut moved = EndpointsMoved { matched: found.len(), ..EndpointsMoved::default() };
        for of_tenant in found.chunk_by(|one, next| one.tenant_id == next.tenant_id) {
            for batch in of_tenant.chunks(BATCH) {
                let done = self.batch(action, batch).await?;
                moved.endpoints += done.len();
                moved.deliveries += done.iter().map(|endpoint| endpoint.deliveries).sum::<i64>();
            }
        }
        Ok(moved)
    }

    async fn batch(&self, action: EndpointAction, batch: &[FoundEndpoint]) -> Result<Vec<MovedEndpoint>> {
        let Some(tenant) = batch.first().map(|endpoint| endpoint.tenant_id) else { return Ok(Vec::new()) };
        let ids: Vec<Uuid> = batch.iter().map(|endpoint| endpoint.id).collect();
        let mut tx = self.session.within(tenant).await?;
        let held: Vec<HeldEndpoint> = match action {
            EndpointAction::Retry => tx.rows(HOLD, &[&tenant, &ids]).await?,
            EndpointAction::Disable | EndpointAction::Enable => Vec::new(),
        };
        let held: Vec<Uuid> = held.into_iter().map(|endpoint| endpoint.id).collect();
        let (of_held, of_all): (Params<'_>, Params<'_>) = (&[&tenant, &held], &[&tenant, &ids]);
        let moved: Vec<MovedEndpoint> = match action {
            EndpointAction::Retry => tx.rows(RETRY, of_held).await?,
            EndpointAction::Disable => tx.rows(DISABLE, of_all).await?,
            EndpointAction::Enable => tx.rows(ENABLE, of_all).await?,
        };
        if action != EndpointAction::Disable {
            for MovedEndpoint { id, .. } in &moved {
                let args = Deliver { webhook: *id };
                self.session.enqueue(&mut tx, &DELIVER, (tenant, &id.to_string()), &args).await?;
            }
        }
        if action == EndpointAction::Retry && !moved.is_empty() {
            tx.audit(&retried(&moved))?;
        }
        tx.commit().await.map(|()| moved)
    }
}

/// That an endpoint is switched, its own row tells.
fn retried(moved: &[MovedEndpoint]) -> AuditEntry {
    let deliveries: i64 = moved.iter().map(|endpoint| endpoint.deliveries).sum();
    AuditEntry {
        action: "webhook.deliveries_retried",
        resource: "webhook",
        resource_id: None,
        outcome: "success",
        details: json!({ "webhooks": moved.len(), "deliveries": deliveries }),
    }
}
