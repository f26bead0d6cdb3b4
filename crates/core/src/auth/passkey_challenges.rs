//! Challenges for those of whom nobody knows yet who they are: signed and not stored, so that strangers fill no table.
//!
//! 32 bytes: when it was made, bytes of its own, and the MAC of both. That one is answered once is seen to where its answer is looked at.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use super::PasskeyChallenge;
use crate::shared::{Rng, Secret, derived_key};

const BODY: usize = 16;
const MADE_AT: usize = 4;

/// The keys that sign such challenges, the current one first.
pub struct PasskeyChallengeKeys(Vec<hmac::Key>);

impl PasskeyChallengeKeys {
    /// For how many seconds one can be answered.
    pub const LASTS: i64 = 300;
    /// The clocks of two instances are apart by less.
    const LEEWAY: i64 = 60;

    /// Of the secrets that sign access tokens, the current one first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret<String>>) -> Self {
        Self(
            secrets
                .into_iter()
                .map(|secret| derived_key(secret, "erp-backend challenges of passkeys"))
                .collect(),
        )
    }

    /// A new one; `None` without a key.
    pub fn issue(&self, now: i64, rng: &dyn Rng) -> Option<PasskeyChallenge> {
        let mut body = [0; BODY];
        rng.fill(&mut body);
        let (made_at, _) = body.split_first_chunk_mut::<MADE_AT>()?;
        *made_at = u32::try_from(now).ok()?.to_be_bytes();
        let tag = hmac::sign(self.0.first()?, &body);
        let bytes = [&body, tag.as_ref().get(..BODY)?].concat();
        bytes.try_into().ok().map(PasskeyChallenge::of)
    }

    /// Whether it is one of ours, and can be answered still.
    pub fn accept(&self, challenge: &PasskeyChallenge, now: i64) -> bool {
        let (body, tag) = challenge.bytes().split_at(BODY);
        let genuine = self.0.iter().any(|key| {
            let whole = hmac::sign(key, body);
            whole.as_ref().get(..BODY).is_some_and(|ours| verify_slices_are_equal(ours, tag).is_ok())
        });
        let made_at = body.first_chunk::<MADE_AT>().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)));
        genuine && (-Self::LEEWAY..=Self::LASTS).contains(&now.saturating_sub(made_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    const NOW: i64 = 1_770_000_000;

    fn keys(secrets: &[&str]) -> PasskeyChallengeKeys {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        PasskeyChallengeKeys::new(&secrets)
    }

    #[test]
    fn a_challenge_is_good_for_five_minutes_while_its_key_is_on_the_ring() {
        let rng = SystemRng::new();
        let challenge = keys(&["old"]).issue(NOW, &rng).unwrap();
        let good = |ring: &[&str], now| keys(ring).accept(&challenge, now);
        assert!(good(&["old"], NOW) && good(&["new", "old"], NOW + 300) && good(&["old"], NOW - 60));
        assert!(!good(&["old"], NOW + 301) && !good(&["new"], NOW) && !good(&[], NOW));
        assert!(!good(&["old"], NOW - 61), "a clock that was set back makes no old one good");
        assert!(keys(&[]).issue(NOW, &rng).is_none());
    }

    #[test]
    fn a_challenge_of_which_a_bit_differs_is_not_ours_and_no_two_are_the_same() {
        let (keys, rng) = (keys(&["a"]), SystemRng::new());
        let challenge = keys.issue(NOW, &rng).unwrap();
        for bit in 0..256 {
            let mut bytes = *challenge.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!keys.accept(&PasskeyChallenge::of(bytes), NOW), "{bit}");
        }
        assert_ne!(keys.issue(NOW, &rng), Some(challenge));
        assert!(!keys.accept(&PasskeyChallenge::new(&rng), NOW));
    }
}
