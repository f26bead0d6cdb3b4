use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result, codes};
use crate::shared::TenantId;

/// When to try again: streams end when their readers are done, which nobody knows.
const LATER: Duration = Duration::from_secs(10);

/// How many streamed lists are under way. Each holds a connection of the pool for as long as its reader likes, so there are
/// few, and no tenant has all of them.
pub struct Streams {
    most: usize,
    most_of_a_tenant: usize,
    under_way: Mutex<HashMap<TenantId, usize>>,
}

/// A place among the streams, given back when dropped.
pub struct Place {
    streams: Arc<Streams>,
    tenant: TenantId,
}

impl Streams {
    /// At most `most` at a time, but never more than half of the pool's `connections`; of one tenant half of that.
    pub fn new(most: u32, connections: u32) -> Arc<Self> {
        let most = most.min(connections / 2).max(1) as usize;
        Arc::new(Self { most, most_of_a_tenant: most.div_ceil(2), under_way: Mutex::default() })
    }

    /// How many are under way, and how many may be.
    pub fn use_of_places(&self) -> (usize, usize) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        (under_way.values().sum(), self.most)
    }

    /// A place for one more stream of the tenant.
    ///
    /// # Errors
    /// `core.overloaded` when there are as many as may be: waiting would take as long as somebody's download.
    pub fn place(self: &Arc<Self>, tenant: TenantId) -> Result<Place> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = under_way.values().sum();
        let own = under_way.get(&tenant).copied().unwrap_or_default();
        if all >= self.most || own >= self.most_of_a_tenant {
            return Err(Error::new(&codes::OVERLOADED).retry_after(LATER));
        }
        under_way.insert(tenant, own + 1);
        Ok(Place { streams: Arc::clone(self), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.streams.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = under_way.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    #[test]
    fn t_22_no_tenant_has_all_places_and_none_are_lost() {
        let [a, b, c] = [(); 3].map(|()| TenantId::new(&SystemClock, &SystemRng::new()));
        let streams = Streams::new(4, 20);
        let held = [a, a, b].map(|tenant| streams.place(tenant).unwrap());
        assert_eq!(streams.place(a).err().unwrap().code().code, "core.overloaded");
        let last = streams.place(b).unwrap();
        assert!(streams.place(c).is_err(), "four are under way");
        drop(last);
        drop(streams.place(c).unwrap());
        drop(held);
        assert!(streams.under_way.lock().unwrap().is_empty());
        // Of a small pool one connection at least is left to other requests.
        let small = Streams::new(4, 2);
        let _held = small.place(a).unwrap();
        assert!(small.place(b).is_err());
    }
}
