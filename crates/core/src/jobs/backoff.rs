use std::time::Duration;

use crate::shared::Rng;

/// How long what has failed rests before its second attempt; before each further one twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// And no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long to wait after so many failures and one more, give or take a fifth.
pub(crate) fn backoff(failures: u32, rng: &dyn Rng) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE), rng)
}

/// This time, give or take a fifth: what has failed at one time does not come back at one time.
pub fn jittered(time: Duration, rng: &dyn Rng) -> Duration {
    let mut random = [0; 2];
    rng.fill(&mut random);
    time.mul_f64(0.8 + 0.4 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}
