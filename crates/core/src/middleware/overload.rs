//! Refuses what is beyond the number of requests that can be worked on at a time (S-08).
//!
//! A fixed number, and no queue of our own: the database's pool queues already, and what would wait longer than its
//! client is work for nothing. A refusal comes after the route is known and before anything that costs. It assumes that
//! clients keep to `Retry-After`, which differs from answer to answer so that they do not come back together.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::app::App;
use crate::error::{Error, codes};
use crate::module::Route;

/// The requests that are worked on.
pub(super) struct Capacity {
    most: u32,
    busy: AtomicU32,
}

/// One of them; given back on drop.
pub(super) struct Place<'a>(&'a Capacity);

impl Capacity {
    pub(super) fn new(most: u32) -> Self {
        Self { most, busy: AtomicU32::new(0) }
    }

    /// A place for a request. Probes and operators' routes need none: overload is when they are looked at.
    pub(super) fn enter(&self, app: &App, route: &Route) -> Result<Option<Place<'_>>, Error> {
        if route.is_operators() {
            return Ok(None);
        }
        match self.take() {
            Some(place) => Ok(Some(place)),
            None => {
                app.metrics.http_requests_shed_total.with(&[]).inc();
                let mut random = [0];
                app.rng.fill(&mut random);
                Err(Error::new(&codes::OVERLOADED)
                    .retry_after(Duration::from_secs(1 + u64::from(random[0] % 4))))
            }
        }
    }

    fn take(&self) -> Option<Place<'_>> {
        let place = Place(self); // dropped, it gives back what the next line takes
        (self.busy.fetch_add(1, Relaxed) < self.most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_08_a_place_is_given_back_and_a_refusal_takes_none() {
        let capacity = Capacity::new(2);
        let held = (capacity.take().unwrap(), capacity.take().unwrap());
        for _ in 0..5 {
            assert!(capacity.take().is_none());
        }
        assert_eq!(capacity.busy.load(Relaxed), 2);
        drop(held.0);
        assert!(capacity.take().is_some());
        drop(held.1);
        assert_eq!(capacity.busy.load(Relaxed), 0);
    }
}
