use aws_lc_rs::hmac;
use erp_core::shared::Clock as _;

use crate::TestApp;

/// An authenticator app, made by the book and not of the product's parts.
pub struct AuthenticatorApp {
    seed: Vec<u8>,
}

impl AuthenticatorApp {
    /// With the secret that was shown: base32.
    ///
    /// # Panics
    /// When it is not.
    pub fn of(secret: &str) -> Self {
        let mut bits = 0_u64;
        let mut seed = Vec::new();
        for (at, letter) in secret.bytes().enumerate() {
            let five = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(char::from(letter)).unwrap();
            bits = bits << 5 | five as u64;
            if at % 8 == 7 {
                seed.extend_from_slice(&bits.to_be_bytes()[3..]);
                bits = 0;
            }
        }
        Self { seed }
    }

    /// What it shares with the server.
    pub fn seed(&self) -> &[u8] {
        &self.seed
    }

    /// The code of so many steps later than now.
    ///
    /// # Panics
    /// Never.
    pub fn code(&self, app: &TestApp, later: i64) -> String {
        let step = app.clock().now().as_second() / 30 + later;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.seed);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag[19] & 15);
        let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }

    /// A code that is none of those near now.
    ///
    /// # Panics
    /// Never: there are more such codes than are near.
    pub fn wrong(&self, app: &TestApp) -> String {
        let near: Vec<String> = (-3..=3).map(|later| self.code(app, later)).collect();
        (0..10).map(|digit| format!("{digit}00000")).find(|code| !near.contains(code)).unwrap()
    }
}
