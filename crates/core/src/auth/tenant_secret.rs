//! Secrets that are shown once and name their tenant: invitations, links to set a password, and API keys.
//!
//! `erp_<kind>_<22 letters of the tenant><30 random ones><6 of the checksum>`, base62: 178 random bits. The tenant leads to the rows
//! among which it is looked for, and the checksum refuses what was mistyped without a statement (K-01). Only its SHA-256 is stored.

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::shared::{Rng, Secret, ShownSecret, TenantId};

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TENANT: usize = 22;
const RANDOM: usize = 30;
const CHECK: usize = 6;

/// One such secret.
pub struct TenantSecret {
    /// Whose it is.
    pub tenant: TenantId,
    text: Secret<String>,
}

impl TenantSecret {
    /// A new one of a kind: `inv`, `reset`, `live`.
    pub fn new(kind: &str, tenant: TenantId, rng: &dyn Rng) -> Self {
        let mut text = format!("erp_{kind}_");
        text.push_str(&written(tenant.as_uuid().as_u128(), TENANT));
        while text.len() < kind.len() + 5 + TENANT + RANDOM {
            let mut byte = [0];
            rng.fill(&mut byte);
            // 248 is four times 62: what is above would make some letters likelier than others.
            if byte[0] < 248 {
                text.push(char::from(LETTERS[usize::from(byte[0]) % 62]));
            }
        }
        let check = written(u128::from(crc32fast::hash(text.as_bytes())), CHECK);
        text.push_str(&check);
        Self { tenant, text: Secret::new(text) }
    }

    /// Reads what a client has sent; `None` for what is none of the kind.
    pub fn parse(kind: &str, text: &str) -> Option<Self> {
        let body = text.strip_prefix("erp_")?.strip_prefix(kind)?.strip_prefix('_')?;
        let letters = body.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if body.len() != TENANT + RANDOM + CHECK || !letters {
            return None;
        }
        let (said, check) = text.split_at(text.len() - CHECK);
        if written(u128::from(crc32fast::hash(said.as_bytes())), CHECK) != check {
            return None;
        }
        let tenant = read(body.get(..TENANT)?)?;
        Some(Self {
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            text: Secret::new(text.to_owned()),
        })
    }

    /// The secret as its owner gets it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The secret in the answer that shows it, this once.
    pub fn shown(&self) -> ShownSecret {
        ShownSecret::from(self.text.clone())
    }

    /// What is stored of it.
    pub fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.text.expose().as_bytes()).as_ref().to_vec()
    }
}

fn written(mut number: u128, width: usize) -> String {
    let mut letters = vec!['0'; width];
    for letter in letters.iter_mut().rev() {
        *letter = usize::try_from(number % 62)
            .ok()
            .and_then(|at| LETTERS.get(at))
            .map_or('0', |byte| char::from(*byte));
        number /= 62;
    }
    letters.into_iter().collect()
}

fn read(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = LETTERS.iter().position(|letter| *letter == byte)?;
        number.checked_mul(62)?.checked_add(digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    #[test]
    fn k_01_a_secret_is_read_as_it_was_written_and_a_mistyped_one_is_none() {
        let rng = SystemRng::new();
        let tenant = TenantId::from_uuid(Uuid::from_u128(u128::MAX));
        let made = TenantSecret::new("inv", tenant, &rng);
        let text = made.expose();
        assert!(text.starts_with("erp_inv_") && text.len() == 8 + 58, "{text}");
        let read = TenantSecret::parse("inv", text).unwrap();
        assert_eq!((read.tenant, read.hash()), (tenant, made.hash()));
        assert!(TenantSecret::parse("reset", text).is_none(), "of another kind");
        for at in 8..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(TenantSecret::parse("inv", std::str::from_utf8(&bytes).unwrap()).is_none(), "{at}");
        }
        for bad in
            ["", "erp_inv_", &text[..text.len() - 1], &format!("{text}A"), &text.replace("erp_", "ERP_")]
        {
            assert!(TenantSecret::parse("inv", bad).is_none(), "{bad}");
        }
        assert_ne!(TenantSecret::new("inv", tenant, &rng).hash(), made.hash());
    }
}
