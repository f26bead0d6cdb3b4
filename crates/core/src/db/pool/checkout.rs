//! The guard that no cancellation, panic, timeout or error gets past.
//!
//! It is armed before the first byte of a transaction is sent and disarmed when the server has said that it is outside
//! one. Dropped while armed, it takes the connection out of the borrower's hands: what is in flight gets a short while
//! to finish and is rolled back; after that its statement is cancelled and the connection closed. A connection that was
//! sent a cancel is never pooled again: the cancel could hit the next borrower.

use std::time::Duration;

use deadpool::managed::Object;
use erp_postgres::Wire;
use tokio::time::timeout;
use uuid::Uuid;

use super::parked::Parked;
use crate::db::Db;
use crate::db::doorbell::Lane;
use crate::db::generations::TenantTag;
use crate::db::pool::Opener;
use crate::shared::TenantId;
use crate::shares::TenantShare;

/// How long a statement in flight may go on after its borrower has gone. Long enough for a point read, so that a
/// burst of hang-ups does not empty the pool; short enough that nobody's report runs on.
const GRACE: Duration = Duration::from_millis(100);
/// How long the server is given to take a cancel request.
const CANCEL: Duration = Duration::from_secs(1);

/// A connection on loan from the pool.
pub(in crate::db) struct Checkout {
    object: Option<Object<Opener>>,
    /// The tenant's place in its share, held as long as the connection, clean-up included. Boxed, since transactions are moved a
    /// lot and all would carry its size.
    place: Option<Box<TenantShare>>,
    armed: bool,
    /// Where it waits again when it is dropped: see `Deferrals`.
    pub(in crate::db) returns_to: Option<(u64, Option<TenantId>)>,
    /// Jobs that the open transaction has enqueued: their lanes, and their ids.
    pub(in crate::db) enqueued: Vec<(Lane, Uuid)>,
    /// Whether the open transaction has emitted events.
    pub(in crate::db) emitted: bool,
    /// Tags whose data the open transaction changes.
    pub(in crate::db) changed: Vec<TenantTag>,
    /// The end of the transaction is under way, and may be carried out without our hearing of it.
    pub(in crate::db) in_doubt: bool,
    /// Owns the clean-up, so that a shutdown waits for it, and is told when the connection is given back.
    db: Db,
}

impl Checkout {
    pub(in crate::db) fn new(db: Db, object: Object<Opener>, mut place: Option<Box<TenantShare>>) -> Self {
        if let Some(place) = &mut place {
            place.begin(db.loads());
        }
        Self {
            object: Some(object),
            place,
            armed: false,
            returns_to: None,
            enqueued: Vec::new(),
            emitted: false,
            changed: Vec::new(),
            in_doubt: false,
            db,
        }
    }

    /// The connection belongs to a tenant's share from here on.
    pub(in crate::db) fn holds(&mut self, place: TenantShare) {
        let mut place = Box::new(place);
        place.begin(self.db.loads());
        self.place = Some(place);
    }

    /// The connection. `None` only after `drop`.
    pub(in crate::db) fn wire(&self) -> Option<&Wire> {
        self.object.as_deref().map(AsRef::as_ref)
    }

    /// The connection, to talk on it.
    pub(in crate::db) fn wire_mut(&mut self) -> Option<&mut Wire> {
        self.object.as_deref_mut().map(AsMut::as_mut)
    }

    /// From here on the connection may be inside a transaction and carry a tenant.
    pub(in crate::db) fn arm(&mut self) {
        self.armed = true;
    }

    /// The server is outside a transaction, and the tenant went with it.
    pub(in crate::db) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some((number, tenant)) = self.returns_to.take() {
            self.wait_again(number, tenant);
        } else if self.armed || self.wire().is_some_and(Wire::is_broken) {
            self.give_up();
        } else {
            self.object = None; // the pool takes it back; where it lies, since moving it costs a copy
            self.db.freed();
        }
    }
}

impl Checkout {
    /// Lets the transaction wait again that a read has looked into.
    #[cold]
    fn wait_again(&mut self, number: u64, tenant: Option<TenantId>) {
        let object = self.object.take();
        let place = self.place.take();
        let waiting = Self {
            object,
            place,
            armed: true,
            returns_to: None,
            enqueued: std::mem::take(&mut self.enqueued),
            emitted: self.emitted,
            changed: std::mem::take(&mut self.changed),
            in_doubt: false,
            db: self.db.clone(),
        };
        // Where the request is over, it is rolled back with what is returned.
        let _ = self.db.deferrals().park(number, Parked { checkout: waiting, tenant });
    }

    #[cold]
    fn give_up(&mut self) {
        let Some(object) = self.object.take() else { return };
        let changed = if self.in_doubt { std::mem::take(&mut self.changed) } else { Vec::new() };
        if !object.is_broken()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let place = self.place.take();
            let db = self.db.clone();
            let reclaiming = async move {
                reclaim(object, place).await;
                db.generations().advance(&changed); // if it was committed, that is over now
                db.freed();
            };
            drop(self.db.tasks().spawn_on(reclaiming, &runtime));
        } else {
            // Closed, and its place in the pool is free. Without a runtime nobody waits for a reply: the server rolls back.
            drop(Object::take(object));
            self.db.generations().advance(&changed);
            self.db.freed();
        }
    }
}

/// Returns the connection to the pool if it can be rolled back soon, else cancels its statement and closes it.
async fn reclaim(mut object: Object<Opener>, _place: Option<Box<TenantShare>>) {
    if let Ok(Ok(())) = timeout(GRACE, object.recover()).await {
        return;
    }
    let pool = Object::pool(&object);
    // Out of the pool first, so that a waiter can open a fresh connection in its place.
    let wire = Object::take(object);
    if let Some(pool) = pool.filter(|_| !wire.is_broken()) {
        // The outcome does not matter: the connection is closed either way, and the server then rolls back.
        let _ = timeout(CANCEL, wire.cancel().send(&pool.manager().0)).await;
    }
    drop(wire);
}
