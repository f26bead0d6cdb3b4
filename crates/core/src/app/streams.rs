use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, codes};
use crate::shared::TenantId;
use crate::shares::part_of;

/// When to try again: streams end when their readers are done, which nobody knows.
const LATER: Duration = Duration::from_secs(10);
/// A reader that takes less than this in so much time, 17 KiB/s, is slow: it gives its place away where another tenant has
/// none. Where nobody wants it, it may be as slow as the client of any answer.
const STRETCH: u64 = 512 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// How many streamed lists are under way. Each holds a connection of the pool for as long as its reader likes, so there are
/// few, and no tenant has all of them: one has half, the last place is for a tenant that has none, and a slow reader makes
/// room for such a tenant where there is no place at all.
pub struct Streams {
    most: usize,
    most_of_a_tenant: usize,
    under_way: Mutex<Vec<UnderWay>>,
}

/// One of them.
struct UnderWay {
    tenant: TenantId,
    /// Its reader's present stretch: since when, and how much of it was taken.
    since: Instant,
    taken: u64,
    /// Cancelled when its place is given to another; says which one this is, too.
    given_away: Arc<CancellationToken>,
}

/// A place among the streams, given back when dropped.
pub struct StreamPlace {
    streams: Arc<Streams>,
    given_away: Arc<CancellationToken>,
}

impl Streams {
    /// At most `most` at a time, but never more than half of the pool's `connections`; of one tenant half of that.
    pub fn new(most: u32, connections: u32) -> Arc<Self> {
        let most = most.min(connections / 2).max(1) as usize;
        Arc::new(Self { most, most_of_a_tenant: part_of(most, (1, 2)), under_way: Mutex::default() })
    }

    /// How many are under way, and how many may be.
    pub fn use_of_places(&self) -> (usize, usize) {
        (self.under_way().len(), self.most)
    }

    /// A place for one more stream of the tenant.
    ///
    /// # Errors
    /// `core.overloaded` when there are as many as may be: waiting would take as long as somebody's download.
    pub fn place(self: &Arc<Self>, tenant: TenantId) -> Result<StreamPlace> {
        let mut under_way = self.under_way();
        let own = under_way.iter().filter(|other| other.tenant == tenant).count();
        let left = self.most.saturating_sub(under_way.len());
        let wanted = if own == 0 { 1 } else { 2 };
        if own >= self.most_of_a_tenant || left < wanted && (own > 0 || !give_away(&mut under_way)) {
            return Err(Error::new(&codes::OVERLOADED).retry_after(LATER));
        }
        let given_away = Arc::new(CancellationToken::new());
        let ours = Arc::clone(&given_away);
        under_way.push(UnderWay { tenant, since: Instant::now(), taken: 0, given_away: ours });
        Ok(StreamPlace { streams: Arc::clone(self), given_away })
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the slowest of the slow readers; whether there was one.
fn give_away(under_way: &mut Vec<UnderWay>) -> bool {
    let oldest = under_way.iter().enumerate().min_by_key(|(_, stream)| stream.since);
    let Some((slowest, _)) = oldest.filter(|(_, stream)| stream.since.elapsed() >= PATIENCE) else {
        return false;
    };
    under_way.swap_remove(slowest).given_away.cancel();
    true
}

impl StreamPlace {
    /// Says that the reader has taken so much more.
    pub(crate) fn took(&self, bytes: u64) {
        let mut under_way = self.streams.under_way();
        if let Some(stream) = under_way.iter_mut().find(|stream| self.is_of(stream)) {
            stream.taken += bytes;
            if stream.taken >= STRETCH {
                (stream.since, stream.taken) = (Instant::now(), 0);
            }
        }
    }

    /// Ends when the place is another's, and what held it must end.
    pub(crate) async fn given_away(&self) {
        self.given_away.cancelled().await;
    }

    fn is_of(&self, stream: &UnderWay) -> bool {
        Arc::ptr_eq(&self.given_away, &stream.given_away)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.streams.under_way().retain(|stream| !self.is_of(stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{SystemClock, SystemRng};

    fn tenants<const N: usize>() -> [TenantId; N] {
        [(); N].map(|()| TenantId::new(&SystemClock, &SystemRng::new()))
    }

    fn refused(streams: &Arc<Streams>, tenant: TenantId) -> bool {
        streams.place(tenant).err().is_some_and(|error| error.code().code == "core.overloaded")
    }

    #[tokio::test(start_paused = true)]
    async fn t_22_no_tenant_has_all_places_and_none_are_lost() {
        let [a, b, c] = tenants();
        let streams = Streams::new(4, 20);
        let held = [a, a, b].map(|tenant| streams.place(tenant).unwrap());
        assert!(refused(&streams, a), "it has half of them");
        assert!(refused(&streams, b), "the last one is for a tenant that has none");
        let last = streams.place(c).unwrap();
        let [d] = tenants();
        assert!(refused(&streams, d), "four are under way");
        drop(last);
        drop(streams.place(d).unwrap());
        drop(held);
        assert!(streams.under_way().is_empty());
        // Of a small pool one connection at least is left to other requests.
        let small = Streams::new(4, 2);
        let _held = small.place(a).unwrap();
        assert!(refused(&small, a) && refused(&small, b));
    }

    #[tokio::test(start_paused = true)]
    async fn t_22_a_slow_reader_makes_room_for_a_tenant_that_has_none() {
        let [a, b, c, d, e] = tenants();
        let streams = Streams::new(4, 20);
        let [slow, swift, slower] = [b, a, a].map(|tenant| streams.place(tenant).unwrap());
        tokio::time::advance(PATIENCE / 2).await;
        slow.took(STRETCH);
        let _last = streams.place(c).unwrap();
        tokio::time::advance(PATIENCE / 2).await;
        swift.took(STRETCH);
        slower.took(STRETCH - 1);
        assert!(refused(&streams, a) && refused(&streams, b), "a tenant that has one takes nobody's");
        assert!(!slower.given_away.is_cancelled());
        let held = streams.place(d).unwrap();
        assert!(slower.given_away.is_cancelled() && !swift.given_away.is_cancelled());
        assert!(refused(&streams, e), "all others are swift, or new");
        drop(slower);
        assert!(refused(&streams, e), "its place was taken already");
        tokio::time::advance(PATIENCE / 2).await;
        let _held_too = streams.place(e).unwrap();
        assert!(slow.given_away.is_cancelled() && !held.given_away.is_cancelled());
    }
}
