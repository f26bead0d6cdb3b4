//! Hashes of passwords that other systems have made. People who are imported bring them, and each is replaced by one of ours when
//! its owner first signs in.
//!
//! | System's way | As it is written |
//! | --- | --- |
//! | argon2id, argon2i, argon2d | `$argon2id$v=19$m=65536,t=3,p=4$…$…`; Django's `argon2$argon2id$…` |
//! | bcrypt | `$2b$12$…`, `$2a$…`, `$2y$…`; Django's `bcrypt$$2b$…` |
//! | PBKDF2 with SHA-1, SHA-256 or SHA-512 | `$pbkdf2-sha256$i=600000$…$…`, passlib's `$pbkdf2-sha256$29000$…$…`, Django's `pbkdf2_sha256$600000$…$…` |
//! | scrypt | `$scrypt$ln=15,r=8,p=1$…$…` |
//!
//! What one says of its cost is believed only within bounds: a hash is a row that somebody has brought, and must not be a way to
//! burn our memory and processor time.

use std::num::NonZeroU32;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::pbkdf2;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};

/// The most memory of one hash, in KiB.
const MOST_KIB: u64 = 128 * 1024;
/// The most that it may read and write in all, in KiB: some two seconds.
const MOST_WORK_KIB: u64 = 1024 * 1024;
/// 2^14 rounds of bcrypt take about a second.
const MOST_BCRYPT_COST: u32 = 14;
const MOST_PBKDF2_ROUNDS: u32 = 2_000_000;

/// Unpadded or padded, and with whatever lies in the last bits.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// A hash of another system, read.
pub(super) enum ForeignHash {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt { text: String },
    Pbkdf2 { algorithm: pbkdf2::Algorithm, rounds: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
    Scrypt { params: scrypt::Params, salt: Vec<u8>, hash: Vec<u8> },
}

impl ForeignHash {
    /// Reads one; `None` for what is of no known way, broken, or beyond the bounds.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split('$').collect::<Vec<_>>()[..] {
            ["argon2", ..] => argon2(text.strip_prefix("argon2")?),
            ["", "argon2id" | "argon2i" | "argon2d", ..] => argon2(text),
            ["bcrypt", ..] => bcrypt(text.strip_prefix("bcrypt$")?),
            ["", "2a" | "2b" | "2y", _, _] => bcrypt(text),
            ["", way, cost, salt, hash] if way.starts_with("pbkdf2") => {
                let rounds = cost.split(',').find_map(|part| part.strip_prefix("i=")).unwrap_or(cost);
                // passlib writes '.' for '+'.
                let bytes = |text: &str| BASE64.decode(text.replace('.', "+")).ok();
                pbkdf2(
                    way.strip_prefix("pbkdf2").map(|rest| rest.trim_start_matches('-'))?,
                    rounds,
                    bytes(salt)?,
                    bytes(hash)?,
                )
            }
            // Django's salt is text.
            [way, rounds, salt, hash] if way.starts_with("pbkdf2_") => pbkdf2(
                way.strip_prefix("pbkdf2_")?,
                rounds,
                salt.as_bytes().to_vec(),
                BASE64.decode(hash).ok()?,
            ),
            ["", "scrypt", cost, salt, hash] => scrypt(cost, salt, hash),
            _ => None,
        }
    }

    /// Whether it was made from this password.
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let (found, expected) = match self {
            Self::Argon2 { algorithm, version, params, salt, hash } => {
                let mut out = vec![0; hash.len()];
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                (argon2.hash_password_into(password, salt, &mut out).ok().map(|()| out), hash)
            }
            // It knows the first 72 bytes only, as the system did that made it.
            Self::Bcrypt { text } => return bcrypt::verify(password, text).unwrap_or(false),
            Self::Pbkdf2 { algorithm, rounds, salt, hash } => {
                return pbkdf2::verify(*algorithm, *rounds, salt, password, hash).is_ok();
            }
            Self::Scrypt { params, salt, hash } => {
                let mut out = vec![0; hash.len()];
                (scrypt::scrypt(password, salt, params, &mut out).ok().map(|()| out), hash)
            }
        };
        found.is_some_and(|found| verify_slices_are_equal(&found, expected).is_ok())
    }
}

/// Lengths that a hash and its salt may have: a hash of a few bits matches many passwords.
fn is_long_enough(salt: &[u8], hash: &[u8]) -> bool {
    (4..=64).contains(&salt.len()) && (16..=64).contains(&hash.len())
}

fn argon2(text: &str) -> Option<ForeignHash> {
    let parsed = phc::PasswordHash::new(text).ok()?;
    let (salt, hash) = (parsed.salt?.to_vec(), parsed.hash?.as_bytes().to_vec());
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
    // What has no version is of the one before it was written down.
    let version = Version::try_from(parsed.version.unwrap_or(0x10)).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    let memory = u64::from(params.m_cost());
    let work = memory.saturating_mul(u64::from(params.t_cost()));
    let bounded = memory <= MOST_KIB && work <= MOST_WORK_KIB && is_long_enough(&salt, &hash);
    bounded.then_some(ForeignHash::Argon2 { algorithm, version, params, salt, hash })
}

fn bcrypt(text: &str) -> Option<ForeignHash> {
    let [_, version, cost, rest] = text.split('$').collect::<Vec<_>>()[..] else { return None };
    let known = matches!(version, "2a" | "2b" | "2y") && cost.len() == 2 && rest.len() == 53;
    let bounded = (4..=MOST_BCRYPT_COST).contains(&cost.parse().ok()?);
    (known && bounded).then(|| ForeignHash::Bcrypt { text: text.to_owned() })
}

fn pbkdf2(digest: &str, rounds: &str, salt: Vec<u8>, hash: Vec<u8>) -> Option<ForeignHash> {
    let algorithm = match digest {
        "" | "sha1" => pbkdf2::PBKDF2_HMAC_SHA1,
        "sha256" => pbkdf2::PBKDF2_HMAC_SHA256,
        "sha512" => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return None,
    };
    let rounds: NonZeroU32 = rounds.parse().ok()?;
    let bounded = rounds.get() <= MOST_PBKDF2_ROUNDS && is_long_enough(&salt, &hash);
    bounded.then_some(ForeignHash::Pbkdf2 { algorithm, rounds, salt, hash })
}

fn scrypt(cost: &str, salt: &str, hash: &str) -> Option<ForeignHash> {
    let part = |name: &str| cost.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let (log_n, r, p): (u8, u32, u32) =
        (part("ln")?.parse().ok()?, part("r")?.parse().ok()?, part("p")?.parse().ok()?);
    let (salt, hash) = (BASE64.decode(salt).ok()?, BASE64.decode(hash).ok()?);
    let memory = u64::from(r).checked_mul(1_u64.checked_shl(log_n.into())?)?.checked_mul(128)? / 1024;
    let work = memory.saturating_mul(u64::from(p)).saturating_mul(2);
    let bounded = log_n < 32 && memory <= MOST_KIB && work <= MOST_WORK_KIB && is_long_enough(&salt, &hash);
    let params = scrypt::Params::new(log_n, r, p).ok()?;
    bounded.then_some(ForeignHash::Scrypt { params, salt, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse battery stäple";

    /// Made by argon2-cffi, bcrypt, passlib and Django.
    const MADE: [&str; 14] = [
        "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$dw6dSAa/weLxHLlgBH6cAvWCtfogvyQNskbbwpwP9go",
        "$argon2i$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$0NLvwi6sJBopWpOC+ueU6D4u+Mv/HpD88j0xX7GwFHc",
        "$argon2d$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$rcuY2+TMcCzNwaleHoWKWnvdvt6cEnRrOEvxGxSv6xQ",
        "$argon2i$v=16$m=1024,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$T2BivcfZxhq/v8q8uIpOtAuBpkv8a4/JM/HzDWqmD4c",
        "$argon2i$m=1024,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$T2BivcfZxhq/v8q8uIpOtAuBpkv8a4/JM/HzDWqmD4c",
        "argon2$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$dw6dSAa/weLxHLlgBH6cAvWCtfogvyQNskbbwpwP9go",
        "$2b$04$L9.euXYCCUt0SvyyCNl/HOTCzN.1mhJb5daYBCnIJ0RIhFiDqXt5C",
        "$2a$04$v//hvRRESA8ek47.3.13vuvWb/T4v41AXRVyY/IdkYW6FBoBGFEEK",
        "bcrypt$$2b$04$FTPI/o7IfrVfz4wYn9ZYDeOOwqsUodcUgkwrJwE3KJkgJOUdiyajy",
        "$pbkdf2$1000$7R2D0NpbCyGE8B5jjFGqtQ$JkM8sZbKGAIZUWjo3j5gj/X.Bd8",
        "$pbkdf2-sha256$1000$mrPWeq.VEqJ0jtF6r5Xyfg$vOdsDZmE.LAWHsv6GrWO9A3AZL9AqgCgkIDiAoDM.Sg",
        "$pbkdf2-sha512$i=1000,l=64$jfFeK2Wsda5V6n1PqVUqpQ$LOINSOQ6O/lRLRiynHnvf2YyKXnjId1BEH+q5UuoB90NvjBB89E0P3MJLPxiipYMvzWcEnXI3Hx4ADiudzh98g",
        "pbkdf2_sha256$1000$seasalt$603ieDNyKJZNvuZOW7/jEm04THNxl4bN9ChJnetSntI=",
        "$scrypt$ln=10,r=8,p=1$DwFgLAXAOIewVgoBAEAoRQ$AeJ756SwMc9CCKOwQoOpM6G3JaPIJQkyW7jXwf9uEfM",
    ];

    #[test]
    fn a_04_hashes_of_other_systems_match_their_password_and_no_other() {
        for made in MADE {
            let hash = ForeignHash::parse(made).unwrap_or_else(|| panic!("{made}"));
            assert!(hash.matches(PASSWORD.as_bytes()), "{made}");
            for other in ["", "correct horse battery staple", "Correct horse battery stäple"] {
                assert!(!hash.matches(other.as_bytes()), "{made}: {other}");
            }
        }
    }

    #[test]
    fn a_09_a_hash_that_costs_too_much_or_says_too_little_is_none() {
        for bad in [
            "",
            "$",
            "plain text",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$dw6dSAa/weLxHLlgBH6cAvWCtfogvyQNskbbwpwP9go",
            "$argon2id$v=19$m=65536,t=1000,p=1$c29tZXNhbHRzb21lc2FsdA$dw6dSAa/weLxHLlgBH6cAvWCtfogvyQNskbbwpwP9go",
            "$argon2id$v=18$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$dw6dSAa/weLxHLlgBH6cAvWCtfogvyQNskbbwpwP9go",
            "$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHRzb21lc2FsdA",
            "$2b$31$L9.euXYCCUt0SvyyCNl/HOTCzN.1mhJb5daYBCnIJ0RIhFiDqXt5C",
            "$2x$04$L9.euXYCCUt0SvyyCNl/HOTCzN.1mhJb5daYBCnIJ0RIhFiDqXt5C",
            "$2b$04$L9.euXYCCUt0SvyyCNl/HOTCzN",
            "$pbkdf2-sha256$0$mrPWeq.VEqJ0jtF6r5Xyfg$vOdsDZmE.LAWHsv6GrWO9A3AZL9AqgCgkIDiAoDM.Sg",
            "$pbkdf2-sha256$4000000000$mrPWeq.VEqJ0jtF6r5Xyfg$vOdsDZmE.LAWHsv6GrWO9A3AZL9AqgCgkIDiAoDM.Sg",
            "$pbkdf2-md5$1000$mrPWeq.VEqJ0jtF6r5Xyfg$vOdsDZmE.LAWHsv6GrWO9A3AZL9AqgCgkIDiAoDM.Sg",
            "$pbkdf2-sha256$1000$mrPWeq.VEqJ0jtF6r5Xyfg$vOc",
            "$scrypt$ln=30,r=8,p=1$DwFgLAXAOIewVgoBAEAoRQ$AeJ756SwMc9CCKOwQoOpM6G3JaPIJQkyW7jXwf9uEfM",
            "$scrypt$ln=255,r=8,p=1$DwFgLAXAOIewVgoBAEAoRQ$AeJ756SwMc9CCKOwQoOpM6G3JaPIJQkyW7jXwf9uEfM",
            "$scrypt$ln=10,r=4294967295,p=1$DwFgLAXAOIewVgoBAEAoRQ$AeJ756SwMc9CCKOwQoOpM6G3JaPIJQkyW7jXwf9uEfM",
            "$scrypt$ln=10,r=8,p=100000$DwFgLAXAOIewVgoBAEAoRQ$AeJ756SwMc9CCKOwQoOpM6G3JaPIJQkyW7jXwf9uEfM",
        ] {
            assert!(ForeignHash::parse(bad).is_none(), "{bad}");
        }
    }
}
