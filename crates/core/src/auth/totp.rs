//! Codes that change with the time (RFC 6238): six digits of HMAC-SHA1, a new one every 30 seconds, which is what authenticator
//! apps make of an `otpauth:` address without a word about it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::shared::{Rng, SealKeys, Secret};

/// Bytes of a seed: 160 bits, the length of the hash (RFC 4226, 4).
const SEED: usize = 20;
/// Seconds for which a code stands.
const STEP: i64 = 30;
/// How many steps a phone's clock may be off, either way.
const WINDOW: i64 = 1;
const PURPOSE: &str = "erp-backend seeds of second factors";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What a server and an authenticator app share.
pub struct TotpSeed(Zeroizing<[u8; SEED]>);

/// Seals and opens seeds as they were before there was a key of the platform: what was stored then opens still.
pub struct TotpSeal(SealKeys);

impl TotpSeed {
    /// A new one.
    pub fn new(rng: &dyn Rng) -> Self {
        let mut seed = Zeroizing::new([0; SEED]);
        rng.fill(seed.as_mut());
        Self(seed)
    }

    /// Reads its bytes, which are 20.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// Its bytes, to be encrypted.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// As people type it into an app that has no camera: base32.
    pub fn expose(&self) -> Secret<String> {
        let mut text = String::with_capacity(SEED * 8 / 5);
        for five in self.0.chunks(5) {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            let letters = (0..8).rev().filter_map(|at| BASE32.get((bits >> (at * 5) & 31) as usize));
            text.extend(letters.map(|letter| char::from(*letter)));
        }
        Secret::new(text)
    }

    /// The address that an app reads from a QR code.
    pub fn uri(&self, issuer: &str, account: &str) -> Secret<String> {
        let text = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let (issuer, account) = (text(issuer), text(account));
        let seed = self.expose();
        Secret::new(format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}", seed.expose()))
    }

    /// The newest step near `now`, in seconds since 1970, whose code this is. Were it the oldest one, a code that stands for
    /// two steps by chance would be good twice.
    pub fn matches(&self, code: &str, now: i64) -> Option<i64> {
        let now = now.div_euclid(STEP);
        // Each is compared, so that the time does not tell which.
        (now - WINDOW..=now + WINDOW).fold(None, |newest, step| {
            let same = verify_slices_are_equal(self.code(step).as_bytes(), code.as_bytes()).is_ok();
            if same { Some(step) } else { newest }
        })
    }

    fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_ref());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag.last().copied().unwrap_or_default() & 15);
        let four = tag.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
    }
}

impl TotpSeal {
    /// Under a key from `ENCRYPTION_KEY`, or where there is none, in development, from `JWT_SECRET`; `ENCRYPTION_KEY_PREVIOUS` opens.
    ///
    /// # Errors
    /// `core.internal` without either.
    pub fn of(config: &Config) -> Result<Self> {
        let keys = SealKeys::new(PURPOSE, config.encryption.ring().chain(&config.jwt.secret));
        keys.map(Self).ok_or_else(|| Error::internal("there is no ENCRYPTION_KEY to seal a seed with"))
    }

    /// Seals the seed of somebody's factor: it opens as no other's.
    ///
    /// # Errors
    /// None that is known.
    pub fn seal(&self, rng: &dyn Rng, (holder, factor): (Uuid, Uuid), seed: &TotpSeed) -> Result<Vec<u8>> {
        let sealed = self.0.seal(rng, &place(holder, factor), seed.0.as_ref());
        sealed.ok_or_else(|| Error::internal("a seed could not be sealed"))
    }

    /// Opens what was sealed for this factor.
    ///
    /// # Errors
    /// `core.internal` for anything else.
    pub fn open(&self, (holder, factor): (Uuid, Uuid), sealed: &[u8]) -> Result<TotpSeed> {
        let opened = self.0.open(&place(holder, factor), sealed);
        let seed = opened.and_then(|opened| opened.text.as_slice().try_into().ok());
        seed.map(|seed| TotpSeed(Zeroizing::new(seed))).ok_or_else(|| {
            Error::internal(
                "the secret of a second factor cannot be opened: set ENCRYPTION_KEY_PREVIOUS to what ENCRYPTION_KEY was before",
            )
        })
    }
}

fn place(holder: Uuid, factor: Uuid) -> Vec<u8> {
    [*holder.as_bytes(), *factor.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    /// That of RFC 6238, appendix B, whose codes have eight digits: ours are their last six.
    fn seed() -> TotpSeed {
        TotpSeed(Zeroizing::new(*b"12345678901234567890"))
    }

    #[test]
    fn m_02_the_codes_are_those_of_the_rfc() {
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(seed().code(time / STEP), code);
            assert_eq!(seed().matches(code, time), Some(time / STEP));
        }
    }

    #[test]
    fn m_02_a_code_is_good_one_step_early_and_late_and_no_more() {
        let code = seed().code(1000);
        let near: Vec<_> = (996..=1004).filter(|step| seed().matches(&code, step * STEP).is_some()).collect();
        assert_eq!(near, [999, 1000, 1001]);
        for bad in ["", "0", &code[1..], &format!("{code}0"), &format!(" {code}")] {
            assert_eq!(seed().matches(bad, 1000 * STEP), None, "{bad}");
        }
    }

    #[test]
    fn m_04_a_seed_has_160_bits_and_opens_in_its_place_only() {
        assert_eq!(seed().expose().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = seed().uri("ERP", "ada@example.com");
        assert_eq!(
            uri.expose(),
            "otpauth://totp/ERP:ada%40example%2Ecom?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=ERP"
        );
        let key = |text: &str| Secret::new(text.to_owned());
        let seal = TotpSeal(SealKeys::new(PURPOSE, [&key("a")]).unwrap());
        let (rng, person) = (SystemRng::new(), Uuid::from_u128(1));
        let place = (person, Uuid::from_u128(2));
        let seed = TotpSeed::new(&rng);
        let sealed = seal.seal(&rng, place, &seed).unwrap();
        assert_eq!(seal.open(place, &sealed).unwrap().0, seed.0);
        assert!(seal.open((person, Uuid::from_u128(3)), &sealed).is_err(), "another factor");
        assert!(seal.open((Uuid::from_u128(3), place.1), &sealed).is_err(), "another person");
        let other = TotpSeal(SealKeys::new(PURPOSE, [&key("b")]).unwrap());
        assert!(other.open(place, &sealed).is_err(), "another key");
    }
}
