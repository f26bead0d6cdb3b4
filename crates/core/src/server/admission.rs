//! How many connections there may be: together, and of one address (D-06).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ConnectionLimits;
use crate::shared::{Seldom, network};

/// How often refusals are logged: those who are refused come back at once.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Admission {
    most: u32,
    most_of_one: u32,
    /// How many there are; the health checks look at it.
    total: Arc<AtomicU32>,
    present: Mutex<Admitted>,
    warning: Seldom,
}

/// Bounded by the number of connections: an address without one is not in the map.
#[derive(Default)]
struct Admitted {
    of_one: HashMap<IpAddr, u32>,
}

/// The right to one connection, given back on drop.
pub(super) struct Permit {
    admission: Arc<Admission>,
    /// Whose share it is of; `None` while only a load balancer knows.
    network: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(limits: ConnectionLimits, total: Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(Self {
            most: limits.max_connections,
            most_of_one: limits.max_connections_per_address,
            total,
            present: Mutex::default(),
            warning: Seldom::new(LOG_INTERVAL),
        })
    }

    /// `None` when there are too many connections, or too many of this client.
    pub(super) fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Permit> {
        let one_more = |total| (total < self.most).then_some(total + 1);
        if self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            self.warn(client, "MAX_CONNECTIONS");
            return None;
        }
        let mut permit = Permit { admission: Arc::clone(self), network: None };
        client.is_none_or(|client| permit.count(client)).then_some(permit)
    }

    fn warn(&self, client: Option<IpAddr>, setting: &str) {
        if self.warning.is_due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(client, setting, "A connection was refused: there are too many");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts the connection as one of `client`, now that it is known; `false` when it has too many.
    pub(super) fn count(&mut self, client: IpAddr) -> bool {
        let network = network(client);
        if self.network == Some(network) {
            return true; // it was when it came
        }
        let mut present = self.admission.lock();
        let theirs = present.of_one.get(&network).copied().unwrap_or(0);
        if theirs >= self.admission.most_of_one {
            drop(present);
            self.admission.warn(Some(client), "MAX_CONNECTIONS_PER_ADDRESS");
            return false;
        }
        present.of_one.insert(network, theirs + 1);
        self.network = Some(network);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let mut present = self.admission.lock();
        if let Some(network) = self.network
            && let Entry::Occupied(mut theirs) = present.of_one.entry(network)
        {
            *theirs.get_mut() -= 1;
            if *theirs.get() == 0 {
                theirs.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(most: u32, most_of_one: u32) -> Arc<Admission> {
        let limits = ConnectionLimits {
            header_timeout: Duration::from_secs(1),
            keep_alive_timeout: Duration::from_secs(1),
            max_connections: most,
            max_connections_per_address: most_of_one,
        };
        Admission::new(limits, Arc::default())
    }

    #[test]
    fn d_06_an_address_has_its_share_and_leaves_nothing_behind() {
        let admission = admission(3, 2);
        let admit = |address: &str| admission.admit(Some(address.parse().unwrap()));
        let first = admit("192.0.2.1").unwrap();
        let second = admit("192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());
        let other = admit("192.0.2.2").unwrap();
        assert!(admit("192.0.2.3").is_none(), "three are all there may be");
        drop(first);
        assert!(admit("192.0.2.1").is_some());
        drop((second, other));
        let present = admission.lock();
        assert_eq!((admission.total.load(Ordering::Relaxed), present.of_one.len()), (0, 0));
    }

    #[test]
    fn d_06_a_network_of_ipv6_counts_as_one_address() {
        let admission = admission(9, 1);
        let _one = admission.admit(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert!(admission.admit(Some("2001:db8::ffff:2".parse().unwrap())).is_none());
        assert!(admission.admit(Some("2001:db8:0:1::1".parse().unwrap())).is_some());
    }
}
