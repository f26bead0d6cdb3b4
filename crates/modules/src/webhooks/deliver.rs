//! Sends what is to be delivered: one job for each endpoint, so that one that is slow or dead holds up no other.
//!
//! Of each aggregate the first delivery that is pending is sent, and the next ones when it has succeeded or was given up; those
//! of different aggregates are sent side by side. An endpoint that does not answer, or asks for it, rests: its job comes again
//! when it is time, and holds no slot meanwhile. What was sent is noted in one transaction with the fence of the job's attempt;
//! a process that dies before has sent it, and it is sent again under the same id.

use std::time::{Duration, Instant};

use erp_core::db::{Params, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::events::EventId;
use erp_core::from_row;
use erp_core::jobs::{Job, JobKind, jittered};
use erp_core::metrics::Metrics;
use erp_core::outbound::{OutboundError, OutboundResponse, TenantUrl};
use erp_core::shared::{Id, Rng};
use erp_core::webhooks::{EndpointSeal, SigningSecret};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deliveries::{Delivery, DeliveryStatus};
use super::endpoints::{DisabledReason, Webhook};
use super::fan_out::WebhookKey;
use super::{DELIVERY, DISABLED, WebhookDisabled, WebhookMetrics, codes};

/// Which endpoint.
#[derive(Serialize, Deserialize)]
pub(super) struct Deliver {
    pub(super) webhook: Id<Webhook>,
}

pub(super) static DELIVER: JobKind<Deliver> = JobKind::<Deliver>::new(
    "webhooks.deliver",
    "Sends an endpoint what it is to be told of.",
    |job, args| Box::pin(deliver(job, args)),
)
.attempts(1000)
.system(&DELIVERY);

/// How long one attempt may take (W-02).
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// Deliveries of an endpoint that are sent side by side, and of one that has just failed.
const SIDE_BY_SIDE: i64 = 8;
const PROBES: i64 = 1;
/// How long a job sends before others have a turn.
const TURN: Duration = Duration::from_secs(10);
/// How much of an answer is kept, in characters.
const ANSWER: usize = 500;

/// The waits between the attempts at a delivery: each three times as long as the one before, up to eight hours, for four days in
/// all (`RECORD`).
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(8 * 3600);
/// How long an endpoint rests that does not answer: twice as long each time, up to an hour; and no longer than a day where it
/// asks for more.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(3600);
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);

const TARGET: &str = "select w.url, w.enabled, s.sealed, case when s.previous_until > clock_timestamp() then s.previous end as previous, \
     h.failures, (extract(epoch from h.rests_until - clock_timestamp()) * 1000)::bigint as rests \
     from webhooks w join webhook_secrets s on s.webhook_id = w.id join webhook_health h on h.webhook_id = w.id where w.id = $1";
const DUE: &str = "select d.id, d.name, d.attempts, d.event_id, d.created_at, e.payload, \
     (extract(epoch from clock_timestamp() - d.created_at) * 1000)::bigint as age \
     from webhook_deliveries d left join events e on e.id = d.event_id \
     where d.webhook_id = $1 and d.status = 'pending' and d.next_at <= clock_timestamp() \
       and not exists (select from webhook_deliveries p where p.webhook_id = d.webhook_id and p.aggregate_id = d.aggregate_id \
         and p.status = 'pending' and p.number < d.number) \
     order by d.number limit $2";
/// Holds the endpoint against new deliveries, which refer to it, until the job is completed.
const HOLD: &str = "select id from webhooks where id = $1 for update";
const NEXT: &str = "select ceil(extract(epoch from min(d.next_at) - clock_timestamp()) * 1000)::bigint as wait from webhook_deliveries d \
     where d.webhook_id = $1 and d.status = 'pending' \
       and not exists (select from webhook_deliveries p where p.webhook_id = d.webhook_id and p.aggregate_id = d.aggregate_id \
         and p.status = 'pending' and p.number < d.number)";
const RECORD: &str = "with a as materialized (
       select * from unnest($2::uuid[], $3::text[], $4::int[], $5::int[], $6::text[], $7::text[], $8::bigint[])
         a (id, outcome, status, milliseconds, answer, fate, again_in)
     ), logged as (
       insert into webhook_attempts (delivery_id, attempt, began_at, milliseconds, outcome, status, answer)
       select a.id, d.attempts + 1, clock_timestamp() - a.milliseconds * interval '1 millisecond', a.milliseconds, a.outcome,
         a.status, a.answer from a join webhook_deliveries d on d.id = a.id
     ), judged as (
       select a.*, case when a.fate = 'pending' and clock_timestamp() + a.again_in * interval '1 millisecond' > d.due_since + interval '4 days'
         then 'failed' else a.fate end as verdict from a join webhook_deliveries d on d.id = a.id
     )
     update webhook_deliveries d set attempts = d.attempts + 1, status = j.verdict, last_outcome = j.outcome, last_status = j.status,
       next_at = case when j.verdict = 'pending' then clock_timestamp() + j.again_in * interval '1 millisecond' end,
       finished_at = case when j.verdict <> 'pending' then clock_timestamp() end
     from judged j where d.id = j.id and d.webhook_id = $1 returning j.fate = 'pending' and j.verdict = 'failed' as given_up";
const SUCCEEDED: &str = "update webhook_health set failures = 0, failing_since = null, failed_at = null, \
     succeeded_at = clock_timestamp(), rests_until = clock_timestamp() + $2::bigint * interval '1 millisecond' where webhook_id = $1";
/// Two failures with days of silence between them are no five days of failures.
const FAILED: &str = "update webhook_health set failures = failures + 1, failed_at = clock_timestamp(), \
     failing_since = case when failed_at > clock_timestamp() - interval '2 days' then failing_since else clock_timestamp() end, \
     rests_until = clock_timestamp() + $2::bigint * interval '1 millisecond' where webhook_id = $1 \
     returning failing_since < clock_timestamp() - interval '5 days' as over";
const DISABLE: &str = "update webhooks set enabled = false, disabled_reason = $2, disabled_at = now() \
     where id = $1 and enabled returning id";
const GIVE_UP: &str = "update webhook_deliveries set status = 'failed', next_at = null, finished_at = now(), \
     last_outcome = 'disabled' where webhook_id = $1 and status = 'pending'";
const RESEAL: &str = "update webhook_secrets set sealed = $3 where webhook_id = $1 and sealed = $2";

struct DeliveryTarget {
    url: String,
    enabled: bool,
    sealed: Vec<u8>,
    previous: Option<Vec<u8>>,
    failures: i32,
    /// In milliseconds.
    rests: Option<i64>,
}
from_row!(DeliveryTarget { url, enabled, sealed, previous, failures, rests });

struct Due {
    id: Id<Delivery>,
    name: String,
    attempts: i32,
    event_id: Option<EventId>,
    created_at: Timestamp,
    payload: Option<Value>,
    /// In milliseconds.
    age: i64,
}
from_row!(Due { id, name, attempts, event_id, created_at, payload, age });

struct UntilNext {
    /// In milliseconds.
    wait: Option<i64>,
}
from_row!(UntilNext { wait });

struct RecordedAttempt {
    given_up: bool,
}
from_row!(RecordedAttempt { given_up });

struct FailingSince {
    over: bool,
}
from_row!(FailingSince { over });

/// What became of one attempt.
struct Sent {
    id: Id<Delivery>,
    outcome: &'static str,
    status: Option<i32>,
    took: Duration,
    answer: Option<String>,
    fate: DeliveryStatus,
    /// When it is sent again, if it is.
    again_in: Duration,
    /// How long the endpoint is left alone, where what it has answered was no refusal of this one delivery.
    rest: Option<Duration>,
    gone: bool,
}

async fn deliver(job: &Job, Deliver { webhook }: Deliver) -> Result<()> {
    let begun = Instant::now();
    loop {
        let found: Option<DeliveryTarget> =
            job.call.tenant_read().last().optional(TARGET, &[&webhook]).await?;
        let Some(target) = found.filter(|target| target.enabled) else { return Ok(()) };
        if let Some(rests) = target.rests.filter(|rests| *rests > 0) {
            job.put_off(Duration::from_millis(rests.unsigned_abs()));
            return Ok(());
        }
        let most = if target.failures > 0 { PROBES } else { SIDE_BY_SIDE };
        let due: Vec<Due> = job.call.tenant_read().last().rows(DUE, &[&webhook, &most]).await?;
        if due.is_empty() {
            return end(job, webhook).await;
        }
        let endpoint = SignedTarget::open(job, webhook, &target).await?;
        if let Some(pause) = send_all(job, webhook, &endpoint, target.failures, &due).await? {
            job.put_off(pause);
            return Ok(());
        }
        if i64::try_from(due.len()).is_ok_and(|due| due < most) {
            return end(job, webhook).await;
        }
        if begun.elapsed() > TURN {
            job.put_off(Duration::ZERO);
            return Ok(());
        }
        job.keep(&()).await?;
    }
}

/// Looks once more, and ends or rests while it holds the endpoint. What was noted before is committed along with it.
async fn end(job: &Job, webhook: Id<Webhook>) -> Result<()> {
    let mut tx = job.call.tenant();
    let _: Option<WebhookKey> = tx.optional(HOLD, &[&webhook]).await?;
    let UntilNext { wait } = tx.last().row(NEXT, &[&webhook]).await?;
    if let Some(wait) = wait {
        job.put_off(Duration::from_millis(wait.max(0).unsigned_abs()));
    }
    Ok(())
}

/// Where an endpoint is, and what signs.
struct SignedTarget {
    url: std::result::Result<TenantUrl, &'static str>,
    secrets: Vec<SigningSecret>,
}

impl SignedTarget {
    async fn open(job: &Job, webhook: Id<Webhook>, target: &DeliveryTarget) -> Result<Self> {
        let (app, tenant) = (&job.call.app, job.call.caller.tenant());
        let seal = EndpointSeal::of(app, tenant).await?;
        let seal = seal.ok_or_else(|| Error::new(&codes::NOT_CONFIGURED))?;
        let (secret, stale) = seal.open(*webhook.as_uuid(), &target.sealed).await?;
        if stale {
            let anew = seal.seal(*webhook.as_uuid(), &secret).await?;
            let tx = job.call.tenant();
            tx.last().rows::<()>(RESEAL, &[&webhook, &target.sealed, &anew]).await?;
            job.keep(&()).await?;
        }
        let previous = match &target.previous {
            Some(sealed) => Some(seal.open(*webhook.as_uuid(), sealed).await?),
            None => None,
        };
        let secrets = std::iter::once(secret).chain(previous.map(|(secret, _)| secret)).collect();
        let url = app.outbound.tenant_url(tenant, &target.url).map_err(|_| "refused");
        Ok(Self { url, secrets })
    }

    /// One attempt.
    async fn send(&self, job: &Job, due: &Due) -> std::result::Result<OutboundResponse, OutboundError> {
        let app = &job.call.app;
        let url = self.url.as_ref().map_err(|what| OutboundError::Refused((*what).into()))?;
        let data = match (&due.payload, due.event_id) {
            (Some(payload), _) => payload.clone(),
            (None, Some(_)) => return Err(OutboundError::Malformed("the event is kept no longer".into())),
            (None, None) => json!({}),
        };
        let body = json!({ "type": due.name, "timestamp": due.created_at, "data": data });
        let body = serde_json::to_vec(&body).map_err(|error| OutboundError::Malformed(error.into()))?;
        let (id, at) = (due.id.to_string(), app.clock.now().as_second());
        let signatures: Vec<String> = self.secrets.iter().map(|secret| secret.sign(&id, at, &body)).collect();
        let request = app.outbound.post(job.call.caller.trace(), url);
        let request = request.header("webhook-id", &id).header("webhook-timestamp", &at.to_string());
        let request = request.header("webhook-signature", &signatures.join(" "));
        request.body("application/json", body).once().within(TIME_LIMIT).send().await
    }
}

/// Sends all that is due, and notes what became of it. Says how long the endpoint is left alone, if it is.
async fn send_all(
    job: &Job,
    webhook: Id<Webhook>,
    endpoint: &SignedTarget,
    failures: i32,
    due: &[Due],
) -> Result<Option<Duration>> {
    let app = &job.call.app;
    let sending = due.iter().map(|due| async move {
        let begun = Instant::now();
        let answer = endpoint.send(job, due).await;
        (due, answer, begun.elapsed())
    });
    let (mut sent, mut left_alone) = (Vec::new(), None);
    for (due, answer, took) in join_all(sending).await {
        match answer {
            Err(OutboundError::LeftAlone(pause)) => left_alone = left_alone.max(Some(pause)),
            answer => sent.push(Sent::of(due, answer, took, failures, app.clock.now(), app.rng.as_ref())),
        }
    }
    tell(&app.metrics, due, &sent)?;
    if !sent.is_empty() {
        left_alone = left_alone.max(note(job, webhook, &sent).await?);
    }
    Ok(left_alone)
}

/// Notes what was sent, to be committed with the fence of the job's attempt. Says how long the endpoint rests, if it does.
async fn note(job: &Job, webhook: Id<Webhook>, sent: &[Sent]) -> Result<Option<Duration>> {
    let rest = sent.iter().filter_map(|sent| sent.rest).max();
    let millis = rest.map(milliseconds);
    let gone = sent.iter().any(|sent| sent.gone).then_some(DisabledReason::Gone);
    let mut tx = job.call.tenant();
    let given_up = record(&mut tx, webhook, sent).await?;
    let metrics: &WebhookMetrics = job.call.app.metrics.of()?;
    metrics.webhooks_given_up_total.with(&[]).add(given_up);
    if gone.is_none() && sent.iter().any(|sent| sent.fate == DeliveryStatus::Succeeded) {
        tx.last().rows::<()>(SUCCEEDED, &[&webhook, &millis]).await?;
        return Ok(rest);
    }
    let is_failing = sent.iter().any(|sent| sent.fate != DeliveryStatus::Held);
    let failing = is_failing && has_failed_for_days(&mut tx, webhook, millis).await?;
    if let Some(reason) = gone.or(failing.then_some(DisabledReason::Failing)) {
        disable(job, &mut tx, webhook, reason).await?;
    }
    tx.commit().await?;
    Ok(rest)
}

/// Writes the attempts, and what becomes of their deliveries; how many of these are given up.
async fn record(tx: &mut TenantTx<'_>, webhook: Id<Webhook>, sent: &[Sent]) -> Result<u64> {
    let ids: Vec<Id<Delivery>> = sent.iter().map(|sent| sent.id).collect();
    let outcomes: Vec<&str> = sent.iter().map(|sent| sent.outcome).collect();
    let statuses: Vec<Option<i32>> = sent.iter().map(|sent| sent.status).collect();
    let times: Vec<i32> =
        sent.iter().map(|sent| i32::try_from(sent.took.as_millis()).unwrap_or(i32::MAX)).collect();
    let answers: Vec<Option<&str>> = sent.iter().map(|sent| sent.answer.as_deref()).collect();
    let fates: Vec<&str> = sent.iter().map(|sent| sent.fate.as_str()).collect();
    let waits: Vec<i64> = sent.iter().map(|sent| milliseconds(sent.again_in)).collect();
    let params: Params<'_> = &[&webhook, &ids, &outcomes, &statuses, &times, &answers, &fates, &waits];
    let recorded: Vec<RecordedAttempt> = tx.rows(RECORD, params).await?;
    Ok(recorded.iter().filter(|row| row.given_up).count() as u64)
}

/// Notes that the endpoint has failed. Whether it has for five days.
async fn has_failed_for_days(tx: &mut TenantTx<'_>, webhook: Id<Webhook>, rest: Option<i64>) -> Result<bool> {
    let since: Option<FailingSince> = tx.optional(FAILED, &[&webhook, &rest]).await?;
    Ok(since.is_some_and(|since| since.over))
}

/// Tells an endpoint nothing any more, and the tenant of that.
async fn disable(
    job: &Job,
    tx: &mut TenantTx<'_>,
    webhook: Id<Webhook>,
    reason: DisabledReason,
) -> Result<()> {
    let disabled: Option<WebhookKey> = tx.optional(DISABLE, &[&webhook, &reason]).await?;
    tx.rows::<()>(GIVE_UP, &[&webhook]).await?;
    if disabled.is_some() {
        job.call.emit(tx, &DISABLED, webhook, &WebhookDisabled { webhook_id: webhook, reason })?;
        let metrics: &WebhookMetrics = job.call.app.metrics.of()?;
        metrics.webhooks_disabled_total.with(&[reason.as_str()]).inc();
        tracing::warn!(webhook = %webhook, reason = reason.as_str(), "An endpoint was disabled");
    }
    Ok(())
}

fn tell(metrics: &Metrics, due: &[Due], sent: &[Sent]) -> Result<()> {
    let metrics: &WebhookMetrics = metrics.of()?;
    for sent in sent {
        metrics.webhooks_attempts_total.with(&[sent.outcome]).inc();
        metrics.webhooks_attempt_duration_seconds.with(&[]).observe_time(sent.took);
    }
    for due in due.iter().filter(|due| due.attempts == 0) {
        metrics
            .webhooks_first_delivery_delay_seconds
            .with(&[])
            .observe_time(Duration::from_millis(due.age.max(0).unsigned_abs()));
    }
    Ok(())
}

impl Sent {
    fn of(
        due: &Due,
        answer: std::result::Result<OutboundResponse, OutboundError>,
        took: Duration,
        failures: i32,
        now: Timestamp,
        rng: &dyn Rng,
    ) -> Self {
        let grown = |first: Duration, factor: u32, made: i32, longest: Duration| {
            let power = factor.saturating_pow(u32::try_from(made).unwrap_or_default());
            jittered(first.saturating_mul(power).min(longest), rng)
        };
        let again_in = grown(FIRST_WAIT, 3, due.attempts, LONGEST_WAIT);
        let own_rest = grown(FIRST_REST, 2, failures, LONGEST_REST);
        let (fate, rest, asked, gone) = judge(&answer, now);
        let rest = rest.then(|| own_rest.max(asked.unwrap_or_default().min(LONGEST_ASKED)));
        let outcome = match &answer {
            Ok(response) => outcome(response.status),
            Err(error) => error.outcome(),
        };
        Self {
            id: due.id,
            outcome,
            status: answer.as_ref().ok().map(|response| response.status.as_u16().into()),
            took,
            answer: answer.ok().map(|response| first_bytes(&response.body)),
            fate,
            again_in: again_in.max(rest.unwrap_or_default()),
            rest,
            gone,
        }
    }
}

/// What becomes of the delivery; whether the endpoint rests, and how long it asks to; and whether it is gone (W-02).
fn judge(
    answer: &std::result::Result<OutboundResponse, OutboundError>,
    now: Timestamp,
) -> (DeliveryStatus, bool, Option<Duration>, bool) {
    let response = match answer {
        Ok(response) => response,
        Err(OutboundError::Held) => return (DeliveryStatus::Held, false, None, false),
        Err(OutboundError::Malformed(_)) => return (DeliveryStatus::Failed, false, None, false),
        // A page where one word would do: its status counts.
        Err(OutboundError::TooLarge(status)) if status.is_success() => {
            return (DeliveryStatus::Succeeded, false, None, false);
        }
        Err(_) => return (DeliveryStatus::Pending, true, None, false),
    };
    let asked = response.retry_after(now);
    match response.status.as_u16() {
        200..=299 => (DeliveryStatus::Succeeded, asked.is_some(), asked, false),
        410 => (DeliveryStatus::Failed, false, None, true),
        429 | 502..=504 => (DeliveryStatus::Pending, true, asked, false),
        _ => (DeliveryStatus::Pending, asked.is_some(), asked, false),
    }
}

fn outcome(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "success",
        3 => "redirected",
        4 => "client_error",
        5 => "server_error",
        _ => "other",
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The beginning of an answer, as text that can be stored and shown.
fn first_bytes(body: &[u8]) -> String {
    let start = body.get(..4 * ANSWER).unwrap_or(body);
    let text = String::from_utf8_lossy(start);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(ANSWER).collect()
}
