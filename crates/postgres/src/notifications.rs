//! The bounded queue between the connection that listens and the task that takes what it brings.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Channel, WireError};

/// What another session has said with NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What it was said on.
    pub channel: Channel,
    /// At most 8000 bytes; empty for a NOTIFY without one.
    pub payload: String,
    /// The server's process that said it, as `pg_backend_pid()` tells.
    pub process_id: i32,
}

/// What comes next of a connection that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody has said something.
    Notification(Notification),
    /// So many notifications came here, and were dropped since the queue was full. A task that keeps something in
    /// step with the notifications looks at the tables again.
    Lost(u64),
}

/// The notifications of one connection, in the order of the server. See [`Connector::listen`](crate::Connector::listen).
#[derive(Debug)]
pub struct Notifications(Queue);

#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<SharedQueue>);

#[derive(Debug)]
struct SharedQueue {
    capacity: usize,
    state: Mutex<QueueState>,
    /// Told when something was queued, or the connection has ended.
    arrived: Notify,
    /// Told when nobody is left to take anything.
    abandoned: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    /// At most `capacity` notifications, and no two losses beside each other.
    events: VecDeque<Event>,
    /// How many of the events are notifications.
    waiting: usize,
    ended: bool,
    /// Why, until it was told.
    why: Option<WireError>,
}

impl Notifications {
    pub(super) fn new(capacity: usize) -> (Queue, Self) {
        let state = Mutex::default();
        let arrived = Notify::new();
        let abandoned = Notify::new();
        let queue = Queue(Arc::new(SharedQueue { capacity: capacity.max(1), state, arrived, abandoned }));
        (queue.clone(), Self(queue))
    }

    /// Waits for what comes next. May be given up, and called again.
    ///
    /// # Errors
    /// Why the connection has ended, after everything that it had brought; and [`WireError::Closed`] from then on.
    /// What is said meanwhile is lost: a listener that begins anew looks at the tables again.
    pub async fn next(&mut self) -> Result<Event, WireError> {
        loop {
            if let Some(next) = self.0.pop() {
                return next;
            }
            self.0.0.arrived.notified().await;
        }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.0.0.abandoned.notify_one();
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, notification: Notification) {
        let mut state = self.state();
        if state.waiting < self.0.capacity {
            state.waiting += 1;
            state.events.push_back(Event::Notification(notification));
        } else if let Some(Event::Lost(lost)) = state.events.back_mut() {
            *lost += 1;
        } else {
            state.events.push_back(Event::Lost(1));
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    fn pop(&self) -> Option<Result<Event, WireError>> {
        let mut state = self.state();
        if let Some(event) = state.events.pop_front() {
            state.waiting -= usize::from(matches!(event, Event::Notification(_)));
            return Some(Ok(event));
        }
        state.ended.then(|| Err(state.why.take().unwrap_or(WireError::Closed)))
    }

    /// The connection has ended; the first reason counts.
    pub(super) fn end(&self, why: WireError) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.ended, true) {
            state.why = Some(why);
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Waits until nobody is left to take anything.
    pub(super) async fn abandoned(&self) {
        self.0.abandoned.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: Channel = Channel::new("orders").unwrap();

    fn said(number: i32) -> Notification {
        Notification { channel: CHANNEL, payload: number.to_string(), process_id: 1 }
    }

    #[tokio::test]
    async fn a_full_queue_drops_what_comes_and_says_where_and_how_much() {
        let (queue, mut notifications) = Notifications::new(2);
        for number in 1..=5 {
            queue.push(said(number));
        }
        let mut next = async || notifications.next().await;
        assert_eq!(next().await.unwrap(), Event::Notification(said(1)));
        queue.push(said(6)); // there is room for one again, behind those that were lost
        queue.push(said(7));
        queue.push(said(8));
        queue.end(WireError::NoTls);
        queue.end(WireError::Closed);
        assert_eq!(next().await.unwrap(), Event::Notification(said(2)));
        assert_eq!(next().await.unwrap(), Event::Lost(3));
        assert_eq!(next().await.unwrap(), Event::Notification(said(6)));
        assert_eq!(next().await.unwrap(), Event::Lost(2));
        assert!(matches!(next().await, Err(WireError::NoTls)), "after all that had come, and once");
        assert!(matches!(next().await, Err(WireError::Closed)));
    }

    #[test]
    fn a_channel_means_the_same_in_listen_and_in_pg_notify() {
        const LONG: &str = "x234567890x234567890x234567890x234567890x234567890x234567890x234";
        for name in ["a", "_", "orders_2", &LONG[..63]] {
            assert!(Channel::new(name).is_some(), "{name}");
        }
        for name in ["", "2", "Orders", "a-b", "a b", "a;b", "ä", "a\0", "\"a\"", LONG] {
            assert!(Channel::new(name).is_none(), "{name}");
        }
    }
}
