//! Events: what has happened to a tenant's documents, for other modules and for webhooks.
//!
//! A module declares an [`EventKind`] and lists it in its row; `call.emit(&mut tx, &KIND, id, &payload)` adds an event to a
//! transaction, which commits or vanishes with it. A [`Subscriber`] of any module is called once for each event of its kind,
//! in the order in which they were emitted; what it changes in the database is committed together with how far it has read.
//! The process that numbers events and wakes subscribers is `worker/relay.rs`.

mod codes;
mod emit;
mod kind;
mod reading;
mod subscriber;

pub use codes::{EVENT_ERRORS, event_codes};
pub use kind::{AnyEventKind, EventFacts, EventKind};
pub(crate) use reading::CURSOR_KEY;
pub use subscriber::{
    Aggregate, AggregateId, AnySubscriber, DomainEvent, EventId, EventRow, Handle, Subscriber,
    SubscriberFacts, SubscriberTable,
};
