//! The addresses of a URL, tried one after the other: each has its share of the time, so that one that takes a
//! connection and says nothing does not use up the time of those after it.

use std::iter::Peekable;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::vec;

use tokio::time::timeout;

use super::WireError;
use super::connect::{Connector, Target};

/// What an address is given where there are many.
const LEAST: Duration = Duration::from_secs(1);

/// What went wrong at one address.
#[derive(Debug)]
pub struct Fault {
    /// The address, for messages.
    pub place: String,
    /// What went wrong there.
    pub error: WireError,
}

/// What is left to be tried, and what has failed.
pub struct Attempts<'a> {
    connector: &'a Connector,
    targets: Peekable<vec::IntoIter<(usize, Target)>>,
    /// The place of the one that is being tried, among all.
    at: usize,
    balanced: bool,
    share: Duration,
    faults: Vec<Fault>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        connector: &'a Connector,
        targets: Vec<Target>,
        faults: Vec<Fault>,
        balanced: bool,
    ) -> Self {
        let count = targets.len().max(1);
        let (each, all) = connector.limit;
        let equal = all / u32::try_from(count).unwrap_or(u32::MAX);
        let share = each.unwrap_or(equal.max(LEAST.min(all)));
        let first = match balanced {
            true => connector.first.fetch_add(1, Ordering::Relaxed),
            false => connector.first.load(Ordering::Relaxed),
        };
        let mut targets: Vec<_> = targets.into_iter().enumerate().collect();
        targets.rotate_left(first % count);
        Self { connector, targets: targets.into_iter().peekable(), at: 0, balanced, share, faults }
    }

    /// The next address; `None` when all of them were tried.
    pub fn next_target(&mut self) -> Option<Target> {
        let (at, target) = self.targets.next()?;
        self.at = at;
        Some(target)
    }

    /// Waits for `work`, which opens a session at `target`, as long as that address is given.
    pub async fn make<T>(
        &mut self,
        target: &Target,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Option<T> {
        let outcome = timeout(self.share, work).await.unwrap_or(Err(WireError::Silent(self.share)));
        match outcome {
            Ok(made) => {
                if !self.balanced {
                    self.connector.first.store(self.at, Ordering::Relaxed);
                }
                Some(made)
            }
            Err(error) => {
                self.faults.push(Fault { place: target.place.clone(), error });
                None
            }
        }
    }

    /// Why there is no session.
    pub fn failed(self) -> WireError {
        WireError::Opening(self.faults)
    }
}
