//! Refuses what is beyond the number of requests that can be worked on at a time (S-08).
//!
//! A fixed number, and no queue of our own: the database's pool queues already, and what would wait longer than its
//! client is work for nothing. A refusal comes after the route is known and before anything that costs. A place is held
//! while a body comes, which a client may draw out until `BODY_TIMEOUT`: so neither one tenant nor all strangers together
//! may have more than three quarters of the places, and one stranger's address an eighth.
//!
//! It assumes that clients keep to `Retry-After`, which differs from answer to answer so that they do not come back
//! together, and that `TRUSTED_PROXIES` names the proxies, behind which all strangers have one address otherwise.
//! `crates/server/tests/it/admission/overload.rs` shows it; the shares are those of `shares.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::app::App;
use crate::error::{Error, codes};
use crate::module::Route;
use crate::shares::{Party, REQUESTS, Share, Shares};

/// The requests that may be worked on.
pub(in crate::middleware) struct Capacity(Shares);

impl Capacity {
    /// Of as many as `all` has places.
    pub(in crate::middleware) fn new(all: Arc<Semaphore>) -> Self {
        Self(Shares::over(all, REQUESTS))
    }

    /// A place for a request. Probes and operators' routes need none: overload is when they are looked at.
    pub(in crate::middleware) fn enter(
        &self,
        app: &App,
        route: &Route,
        party: Party,
    ) -> Result<Option<Share<'_>>, Error> {
        if route.is_management() {
            return Ok(None);
        }
        self.0.take(party).map(Some).ok_or_else(|| refusal(app))
    }
}

/// Counts a request that is refused for want of room, and asks its client to come back at another time than the others.
pub(in crate::middleware) fn refusal(app: &App) -> Error {
    app.metrics.http_requests_shed_total.with(&[]).inc();
    let mut random = [0];
    app.rng.fill(&mut random);
    Error::new(&codes::OVERLOADED).retry_after(Duration::from_secs(1 + u64::from(random[0] % 4)))
}
