use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reading::{EventReader, read_on};
use super::{AnyEventKind, EventKind};
use crate::db::SystemWork;
use crate::error::{Error, Result};
use crate::jobs::{AnyJobKind, Job, JobFacts, give_up};
use crate::shared::{Id, IdKind, PrincipalId};

/// The id of an event.
pub type EventId = Id<EventRow>;

/// See [`EventId`].
#[derive(Debug)]
pub enum EventRow {}

impl IdKind for EventRow {
    const NAME: &'static str = "event";
}

/// The id of what an event has happened to, whatever that is.
pub type AggregateId = Id<Aggregate>;

/// See [`AggregateId`].
#[derive(Debug)]
pub enum Aggregate {}

impl IdKind for Aggregate {
    const NAME: &'static str = "aggregate";
}

/// An event, as a subscriber is told of it.
#[derive(Debug)]
pub struct DomainEvent<P> {
    /// Its id: the same in each attempt.
    pub id: EventId,
    /// Its place in the order of its tenant's events.
    pub number: i64,
    /// Its kind, such as `purchasing.order_approved`.
    pub name: String,
    /// What it has happened to: `order`.
    pub aggregate: String,
    /// And which one.
    pub aggregate_id: AggregateId,
    /// What its kind tells of it.
    pub payload: P,
    /// Who did it; nobody for work of the system.
    pub principal: Option<PrincipalId>,
    /// The correlation id of the request or job that emitted it.
    pub correlation_id: String,
    /// When it was emitted, by the clock of the database.
    pub emitted_at: Timestamp,
}

impl<P> DomainEvent<P> {
    /// The id of what it has happened to, as that of a `K`.
    ///
    /// # Errors
    /// `core.internal` where it has happened to something else.
    pub fn happened_to<K: IdKind>(&self) -> Result<Id<K>> {
        if self.aggregate == K::NAME {
            return Ok(Id::from_uuid(*self.aggregate_id.as_uuid()));
        }
        let what = format!("{} has happened to a {}, and not to a {}", self.name, self.aggregate, K::NAME);
        Err(Error::internal(what))
    }
}

impl DomainEvent<Value> {
    /// The same with its payload as a `P`.
    ///
    /// # Errors
    /// `jobs.given_up` for one that cannot be read so.
    pub(super) fn read<P: DeserializeOwned>(self) -> Result<DomainEvent<P>> {
        let Self { id, number, name, aggregate, aggregate_id, principal, correlation_id, emitted_at, .. } =
            self;
        let unreadable =
            |error| give_up(format!("The payload cannot be read as one of {name}.")).because(error);
        let payload = serde_json::from_value(self.payload).map_err(unreadable)?;
        Ok(DomainEvent {
            id,
            number,
            name,
            aggregate,
            aggregate_id,
            payload,
            principal,
            correlation_id,
            emitted_at,
        })
    }
}

/// What a subscriber does with one event: `|job, event| Box::pin(reserve(job, event))`.
pub type Handle<P> = for<'a> fn(&'a Job, DomainEvent<P>) -> BoxFuture<'a, Result<()>>;

/// Somebody who is told of each event of a kind, in each tenant: a row of its module's table.
///
/// It is a job, one at a time in each tenant, that does the declared work of the system `work` and goes from event to event in
/// their order. What it changes is committed together with how far it has read, so each event has its effect once. One that
/// fails is tried again, after 5 s and then twice as long each time up to an hour. When it has failed `attempts` times the
/// subscriber stops in that tenant, and says so; an operator lets it try again or skips the event.
///
/// ```
/// # use erp_core::error::Result;
/// # use erp_core::events::{DomainEvent, EventKind, Subscriber};
/// # use erp_core::jobs::Job;
/// # use erp_core::module::Module;
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)] struct InvoicePaid { number: String }
/// # static PAID: EventKind<InvoicePaid> = EventKind::new("billing.invoice_paid", "An invoice was paid in full.");
/// erp_core::system_work! {
///     /// What dunning does as the system.
///     SYSTEM {
///         DUNNING = "dunning": "Ends reminders once an invoice is paid, whichever person has noted the payment.";
///     }
/// }
///
/// static ON_PAID: Subscriber<InvoicePaid> =
///     Subscriber::new("dunning.on_invoice_paid", "Ends the reminders of what is paid.", &PAID, &DUNNING, |job, event| {
///         Box::pin(end_reminders(job, event))
///     });
///
/// static DUNNING_MODULE: Module =
///     Module { name: "dunning", subscribers: &[&ON_PAID], system: SYSTEM, ..Module::BARE };
///
/// async fn end_reminders(job: &Job, event: DomainEvent<InvoicePaid>) -> Result<()> {
///     let tx = job.call.tenant();
///     tx.last().rows::<()>("delete from reminders where invoice = $1", &[&event.payload.number]).await.map(drop)
/// }
/// ```
pub struct Subscriber<P: 'static> {
    facts: SubscriberFacts,
    job: JobFacts,
    handle: Handle<P>,
}

/// What the table says of a subscriber, whatever the payload.
#[derive(Clone, Copy)]
pub struct SubscriberFacts {
    /// `module.on_what`, which is also the name of the kind of its jobs.
    pub name: &'static str,
    /// The kind of event that it is told of; of every kind where there is none.
    pub of: Option<&'static dyn AnyEventKind>,
    /// How often an event is tried in all. Default: 10, over some 85 minutes.
    pub attempts: u16,
    /// How long one event may take. Default: 1 minute.
    pub time_limit: Duration,
    /// Whether a new subscriber is told of all events that are kept. Default: of those from now on.
    pub from_start: bool,
}

impl SubscriberFacts {
    /// The name of the kind of event, if it is for one only.
    pub fn event(&self) -> Option<&'static str> {
        self.of.map(|kind| kind.facts().name)
    }
}

impl<P: Serialize + DeserializeOwned + JsonSchema> Subscriber<P> {
    /// A subscriber with the defaults of [`SubscriberFacts`]. `name` is `module.on_what`; `work` is declared in the module's
    /// table.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        kind: &'static EventKind<P>,
        work: &'static SystemWork,
        handle: Handle<P>,
    ) -> Self {
        Self::of(name, about, Some(kind), work, handle)
    }
}

impl Subscriber<Value> {
    /// The same for events of every kind, with their payloads as they are stored.
    pub const fn of_all(
        name: &'static str,
        about: &'static str,
        work: &'static SystemWork,
        handle: Handle<Value>,
    ) -> Self {
        Self::of(name, about, None, work, handle)
    }
}

impl<P> Subscriber<P> {
    const fn of(
        name: &'static str,
        about: &'static str,
        of: Option<&'static dyn AnyEventKind>,
        work: &'static SystemWork,
        handle: Handle<P>,
    ) -> Self {
        let facts = SubscriberFacts {
            name,
            of,
            attempts: 10,
            time_limit: Duration::from_secs(60),
            from_start: false,
        };
        // Its attempts are for what befalls the job itself, such as a database that is away.
        let job = JobFacts {
            name,
            about,
            attempts: 1000,
            time_limit: Duration::from_secs(600),
            priority: 1,
            at_most: None,
            threads: false,
            system: Some(work),
        };
        Self { facts, job, handle }
    }

    /// See [`SubscriberFacts::attempts`].
    pub const fn attempts(self, attempts: u16) -> Self {
        Self { facts: SubscriberFacts { attempts, ..self.facts }, ..self }
    }

    /// See [`SubscriberFacts::time_limit`]; at most 5 minutes.
    pub const fn time_limit(self, time_limit: Duration) -> Self {
        Self { facts: SubscriberFacts { time_limit, ..self.facts }, ..self }
    }

    /// See [`SubscriberFacts::from_start`].
    pub const fn from_start(self) -> Self {
        Self { facts: SubscriberFacts { from_start: true, ..self.facts }, ..self }
    }
}

/// A subscriber, whatever the payload of its events.
pub trait AnySubscriber: AnyJobKind {
    /// What the table says of it.
    fn subscribes(&self) -> &SubscriberFacts;
}

impl<P: DeserializeOwned + Send + 'static> AnySubscriber for Subscriber<P> {
    fn subscribes(&self) -> &SubscriberFacts {
        &self.facts
    }
}

impl<P: DeserializeOwned + Send + 'static> AnyJobKind for Subscriber<P> {
    fn facts(&self) -> &JobFacts {
        &self.job
    }

    fn run<'a>(&self, job: &'a Job, _: Value) -> Result<BoxFuture<'a, Result<()>>> {
        let reader = EventReader { facts: self.facts, handle: self.handle };
        Ok(Box::pin(read_on(job, reader)))
    }
}

/// Every subscriber of every module, by name.
#[derive(Clone, Default)]
pub struct SubscriberTable(BTreeMap<&'static str, &'static dyn AnySubscriber>);

impl SubscriberTable {
    /// Those that the modules declare.
    pub fn new(subscribers: impl Iterator<Item = &'static dyn AnySubscriber>) -> Self {
        Self(subscribers.map(|subscriber| (subscriber.subscribes().name, subscriber)).collect())
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn AnySubscriber> {
        self.0.values().copied()
    }

    /// The subscriber of this name.
    pub fn get(&self, name: &str) -> Option<&'static dyn AnySubscriber> {
        self.0.get(name).copied()
    }

    /// Those that are told of events of this kind.
    pub fn told_of<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'static dyn AnySubscriber> + 'a {
        self.iter().filter(move |subscriber| subscriber.subscribes().event().is_none_or(|name| name == event))
    }
}
