use std::time::Duration;

use crate::shared::Rng;

/// How long what has failed rests before its second attempt, in seconds; before each further one twice as long.
const FIRST_PAUSE: f64 = 5.0;
/// And no longer than this, in seconds.
const LONGEST_PAUSE: f64 = 3600.0;

/// How long to wait after so many failures and one more, give or take a fifth.
pub(crate) fn backoff(failures: u32, rng: &dyn Rng) -> Duration {
    let doubled = FIRST_PAUSE * 2f64.powi(i32::try_from(failures).unwrap_or(i32::MAX));
    jittered(doubled.min(LONGEST_PAUSE), rng)
}

/// So many seconds, give or take a fifth: what has failed at one time does not come back at one time.
pub(crate) fn jittered(seconds: f64, rng: &dyn Rng) -> Duration {
    let mut random = [0; 2];
    rng.fill(&mut random);
    Duration::from_secs_f64(
        seconds * (0.8 + 0.4 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX)),
    )
}
