//! What a password must be (NIST SP 800-63B-4, 3.1.1.2): long, and none that anybody would try first.

use erp_core::error::{Error, Result};
use erp_core::shared::Secret;

use super::codes;

/// So long is a password that is all there is.
const LEAST: usize = 15;

/// Refuses a new password that is too short, or made of what everybody knows of its owner.
///
/// # Errors
/// `identity.weak_password`, with the reason.
pub(super) fn check(password: &Secret<String>, context: &[&str]) -> Result<()> {
    let text = password.expose();
    if text.chars().count() < LEAST {
        return Err(weak(format!("It has fewer than {LEAST} characters.")));
    }
    let folded = text.to_lowercase();
    let first = folded.chars().next().unwrap_or_default();
    if folded.chars().all(|letter| letter == first) {
        return Err(weak("It is one character, again and again.".to_owned()));
    }
    let words = context.iter().flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    let words = words.map(str::to_lowercase).chain(["erp".to_owned(), "password".to_owned()]);
    // What is left without the words that are known of its owner is what has to be guessed.
    let mut rest = folded;
    for word in words.filter(|word| word.chars().count() >= 3) {
        rest = rest.replace(&word, "");
    }
    if rest.chars().filter(|letter| letter.is_alphanumeric()).count() < LEAST / 2 {
        return Err(weak("It is mostly made of names that belong to the account.".to_owned()));
    }
    Ok(())
}

fn weak(reason: String) -> Error {
    Error::new(&codes::WEAK_PASSWORD).detail(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_01_a_02_a_password_is_long_and_otherwise_anything() {
        let context = ["ada@example.com", "acme", "Ada Lovelace"];
        let verdict = |text: &str| check(&Secret::new(text.to_owned()), &context).is_ok();
        for good in [
            "correct horse battery staple",
            "пароль из пятнадцати",
            "fifteen letters",
            "💡💡💡 bright idea 💡💡💡",
        ] {
            assert!(verdict(good), "{good}");
        }
        for bad in [
            "",
            "fourteen chars",
            "ééééééééééééééé",
            "AdaLovelaceAcme2026",
            "acme-example-password",
            "ada ada ada ada ada",
        ] {
            assert!(!verdict(bad), "{bad}");
        }
    }
}
