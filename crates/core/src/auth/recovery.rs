//! Codes for those who have lost their second factor: each is good once.

use aws_lc_rs::digest;

use crate::shared::{Rng, Secret};

/// Letters of a recovery code, five bits each: 120, which nobody guesses, so that a plain hash is enough (M-04).
const RECOVERY: usize = 24;
/// Crockford's base32: no letter that is taken for another.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new recovery code, as its owner gets it: four groups of six.
pub fn recovery_code(rng: &dyn Rng) -> Secret<String> {
    let mut bytes = [0; RECOVERY];
    rng.fill(&mut bytes);
    let mut text = String::with_capacity(RECOVERY + 3);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % 6 == 0 {
            text.push('-');
        }
        text.extend(LETTERS.get(usize::from(byte & 31)).map(|letter| char::from(*letter)));
    }
    Secret::new(text)
}

/// What is stored of a recovery code; `None` for what is none.
pub fn recovery_hash(code: &str) -> Option<Vec<u8>> {
    let letters = code.bytes().filter(|byte| !matches!(byte, b'-' | b' ')).map(|byte| match byte {
        b'o' | b'O' => b'0',
        b'i' | b'I' | b'l' | b'L' => b'1',
        other => other.to_ascii_uppercase(),
    });
    let letters: Vec<u8> = letters.take(RECOVERY + 1).collect();
    let known = letters.len() == RECOVERY && letters.iter().all(|letter| LETTERS.contains(letter));
    known.then(|| digest::digest(&digest::SHA256, &letters).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::SystemRng;

    #[test]
    fn m_04_a_recovery_code_has_120_bits_and_is_read_as_people_type_it() {
        let code = recovery_code(&SystemRng::new());
        let text = code.expose();
        assert_eq!((text.len(), text.split('-').count()), (27, 4), "{text}");
        let hash = recovery_hash(text);
        assert!(hash.is_some());
        assert_eq!(recovery_hash(&text.to_lowercase().replace('-', " ")), hash);
        assert_eq!(recovery_hash(&text.replace('0', "o").replace('1', "l")), hash);
        for bad in ["", "123456", &text[1..], &format!("{text}A"), &text.replace('-', "_")] {
            assert_eq!(recovery_hash(bad), None, "{bad}");
        }
        assert_ne!(recovery_hash(recovery_code(&SystemRng::new()).expose()), hash);
    }
}
