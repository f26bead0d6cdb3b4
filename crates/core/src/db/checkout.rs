//! The guard that no cancellation, panic, timeout or error gets past.
//!
//! It is armed before the first byte of a transaction is sent and disarmed when COMMIT or ROLLBACK has been
//! answered. Dropped while armed, it takes the connection out of the borrower's hands: what is in flight gets a
//! short while to finish and is rolled back; after that its statement is cancelled and the connection closed.
//! A connection that was sent a cancel is never pooled again: the cancel could hit the next borrower.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::tenant_share::Place;

/// How long a statement in flight may go on after its borrower has gone. Long enough for a point read, so that a
/// burst of hang-ups does not empty the pool; short enough that nobody's report runs on.
const GRACE: Duration = Duration::from_millis(100);
/// How long the server is given to take a cancel request.
const CANCEL: Duration = Duration::from_secs(1);

/// A connection on loan from the pool.
pub(super) struct Checkout {
    object: Option<Object>,
    /// The tenant's place in its share, held as long as the connection, clean-up included.
    place: Option<Place>,
    armed: bool,
    cleaning: Cleaning,
}

/// What clean-up needs.
#[derive(Clone)]
pub(super) struct Cleaning {
    /// Owns the tasks, so that a shutdown waits for them.
    pub(super) tasks: TaskTracker,
    /// A cancel request travels over a connection of its own, protected like the others.
    pub(super) tls: MakeRustlsConnect,
}

impl Checkout {
    pub(super) fn new(object: Object, place: Option<Place>, cleaning: Cleaning) -> Self {
        Self { object: Some(object), place, armed: false, cleaning }
    }

    /// The connection. `None` only after `drop`.
    pub(super) fn client(&self) -> Option<&ClientWrapper> {
        self.object.as_deref()
    }

    /// From here on the connection may be inside a transaction and carry a tenant.
    pub(super) fn arm(&mut self) {
        self.armed = true;
    }

    /// COMMIT or ROLLBACK has been answered: outside a transaction, and the tenant went with it.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if !self.armed || object.is_closed() {
            return; // the pool takes it back, and throws a closed one away
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(
                self.cleaning
                    .tasks
                    .spawn_on(reclaim(object, self.place.take(), self.cleaning.tls.clone()), &runtime),
            ),
            // No runtime, nobody to wait for the reply: close it. The server rolls back.
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// Returns the connection to the pool if it can be rolled back soon, else cancels its statement and closes it.
async fn reclaim(object: Object, _place: Option<Place>, tls: MakeRustlsConnect) {
    if let Ok(Ok(())) = timeout(GRACE, object.batch_execute("rollback")).await {
        return;
    }
    let cancel = object.cancel_token();
    // Out of the pool first, so that a waiter can open a fresh connection in its place.
    let client = Object::take(object);
    // The outcome does not matter: the connection is closed either way, and the server then rolls back.
    let _ = timeout(CANCEL, cancel.cancel_query(tls)).await;
    drop(client);
}
