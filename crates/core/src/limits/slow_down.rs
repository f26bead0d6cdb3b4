//! Answers that come later and later, before they do not come at all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::shares::{Party, SLEEPERS, Shares};

/// Slows clients down that have used more than half of what they may, so that they notice before they are refused.
pub struct SlowDown {
    /// For each unit above half of the limit: `SPEED_LIMIT_STEP`.
    step: Duration,
    /// The most: `SPEED_LIMIT_MAX_DELAY`.
    most: Duration,
    /// Those that are waiting, at most `SPEED_LIMIT_SLEEPERS`.
    sleepers: Shares,
}

/// There are too many waiting already.
#[derive(Debug)]
pub(crate) struct Full;

impl SlowDown {
    /// A step of 0 switches it off.
    pub fn new(step: Duration, most: Duration, sleepers: u32) -> Self {
        Self { step, most, sleepers: Shares::new(sleepers as usize, SLEEPERS) }
    }

    /// How many are waiting, and how many may.
    pub(crate) fn use_of_places(&self) -> (usize, usize) {
        self.sleepers.in_use()
    }

    /// Whether anybody is slowed down.
    pub(crate) fn is_on(&self) -> bool {
        !self.step.is_zero()
    }

    /// How long who has used so much of a limit waits.
    pub(crate) fn delay(&self, used: u32, limit: u32) -> Duration {
        let above = used.saturating_sub(limit.div_ceil(2));
        self.step.saturating_mul(above).min(self.most)
    }

    /// Waits, but not beyond the stop. What waits here holds nothing but its share of the places.
    pub(crate) async fn pause(
        &self,
        delay: Duration,
        party: Party,
        stop: &CancellationToken,
    ) -> Result<(), Full> {
        let _place = self.sleepers.take(party).ok_or(Full)?;
        stop.run_until_cancelled(tokio::time::sleep(delay)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::TenantId;

    fn slow_down(sleepers: u32) -> SlowDown {
        SlowDown::new(Duration::from_millis(50), Duration::from_secs(2), sleepers)
    }

    #[test]
    fn the_delay_grows_from_half_of_the_limit_to_its_ceiling() {
        let slow_down = slow_down(1);
        let delay = |used| slow_down.delay(used, 100).as_millis();
        assert_eq!([0, 1, 50, 51, 52, 90, 91, 100].map(delay), [0, 0, 0, 50, 100, 2000, 2000, 2000]);
        assert_eq!(slow_down.delay(2, 3), Duration::ZERO);
        assert_eq!(slow_down.delay(3, 3), Duration::from_millis(50));
        assert!(!SlowDown::new(Duration::ZERO, Duration::from_secs(2), 1).is_on());
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn stranger(number: u8) -> Party {
        Party::Stranger([192, 0, 2, number].into())
    }

    fn member(number: u128) -> Party {
        Party::Tenant(TenantId::from_uuid(uuid::Uuid::from_u128(number)))
    }

    #[tokio::test(start_paused = true)]
    async fn l_06_no_more_wait_than_may_and_nobody_has_all_places() {
        let (slow_down, stop) = (slow_down(100), CancellationToken::new());
        let refused = async |whom: Vec<_>| {
            let sleepers = whom.into_iter().map(|whom| slow_down.pause(SECOND, whom, &stop));
            futures_util::future::join_all(sleepers).await.iter().filter(|slept| slept.is_err()).count()
        };
        assert_eq!(refused([stranger(1); 50].to_vec()).await, 37, "an address has an eighth");
        assert_eq!(refused([member(1); 50].to_vec()).await, 37, "and so has a tenant");
        let networks: Vec<_> = (0..20).flat_map(|number| [stranger(number); 13]).collect();
        let all = networks.clone().into_iter().chain((0..20).flat_map(|number| [member(number); 13]));
        assert_eq!(refused(networks).await, 260 - 75, "all strangers have three quarters");
        assert_eq!(refused(all.collect()).await, 520 - 100);
        assert_eq!(refused(vec![stranger(1)]).await, 0, "the places are free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_wakes_everybody() {
        let (slow_down, stop) = (slow_down(1), CancellationToken::new());
        let began = tokio::time::Instant::now();
        let (slept, ()) =
            tokio::join!(slow_down.pause(2 * SECOND, stranger(1), &stop), async { stop.cancel() });
        assert!(slept.is_ok() && began.elapsed().is_zero());
    }
}
