//! What a password must be (NIST SP 800-63B-4, 3.1.1.2): long, and none that anybody would try first. And how one is proven.

use erp_core::app::App;
use erp_core::auth::{PasswordHash, PasswordVerdict, Trace, is_blocked, normalised};
use erp_core::db::System;
use erp_core::error::{Error, Result};
use erp_core::shared::{Secret, UserId};
use uuid::Uuid;

use super::codes;

/// So long is a password that is all there is.
const LEAST: usize = 15;

/// Only where the hash is still the one that was looked at: a password that was set meanwhile stays.
const REPLACE: &str =
    "update auth.passwords set phc = $3 where person_id = $1 and phc = $2 returning person_id as id";

/// Refuses a new password that is too short, known to everybody, or made of what everybody knows of its owner.
///
/// # Errors
/// `identity.weak_password`, with the reason.
pub(crate) fn check(password: &Secret<String>, context: &[&str]) -> Result<()> {
    let password = normalised(password.clone());
    let text = password.expose();
    if text.chars().count() < LEAST {
        return Err(weak(format!("It has fewer than {LEAST} characters.")));
    }
    if is_blocked(&password) {
        return Err(weak(
            "It is on a list of passwords that were stolen from others, or that many think of.".to_owned(),
        ));
    }
    let folded = text.to_lowercase();
    if period(&folded) <= LEAST.div_ceil(2) {
        return Err(weak("It is a few characters, again and again.".to_owned()));
    }
    let words = context.iter().flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    let words = words.map(str::to_lowercase).chain(["erp", "backend", "password"].map(str::to_owned));
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

/// How many characters a text is made of, which come again and again until its end.
fn period(text: &str) -> usize {
    let letters: Vec<char> = text.chars().collect();
    let comes_again =
        |length: &usize| letters.iter().skip(*length).eq(letters.iter().take(letters.len() - length));
    (1..letters.len()).find(comes_again).unwrap_or(letters.len())
}

/// Whether it is the right password of an account, if there is one. It takes as long if there is none, or if it is the wrong one.
/// For the right one a hash that is not made as hashes are made now is replaced on the way.
///
/// # Errors
/// `core.overloaded` when too many other passwords are being hashed.
pub(super) async fn verify(
    app: &App,
    system: &System,
    trace: &Trace,
    (account, password): (Option<(UserId, &str)>, Secret<String>),
) -> Result<bool> {
    let account = account.map(|(person, phc)| (*person.as_uuid(), phc));
    verify_stored(app, system, trace, (account, password, REPLACE)).await
}

/// The same for whatever has a password: `replace` is the statement that replaces its hash, `$2`, by `$3`.
///
/// # Errors
/// As [`verify`].
pub(crate) async fn verify_stored(
    app: &App,
    system: &System,
    trace: &Trace,
    (account, password, replace): (Option<(Uuid, &str)>, Secret<String>, &'static str),
) -> Result<bool> {
    let stored = account.map(|(_, phc)| PasswordHash::from_stored(phc.to_owned()));
    let verdict = app.passwords.verify(password.clone(), stored).await?;
    if let (Some(account), PasswordVerdict::Outdated) = (account, verdict)
        && let Err(error) = rehash(app, system, trace, (account, password, replace)).await
    {
        // It was the right one all the same: the next sign-in tries again.
        tracing::warn!(error = &error as &dyn std::error::Error, "An outdated hash of a password stays");
    }
    Ok(verdict.is_right())
}

async fn rehash(
    app: &App,
    system: &System,
    trace: &Trace,
    ((holder, phc), password, replace): ((Uuid, &str), Secret<String>, &'static str),
) -> Result<()> {
    let hash = app.passwords.hash(password).await?;
    let _: Option<()> =
        system.begin(trace).last().optional(replace, &[&holder, &phc, &hash.expose()]).await?;
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
            "abcdefgabcdefgabcdefg",
            "abcdefg abcdefg ab",
        ] {
            assert!(!verdict(bad), "{bad}");
        }
    }

    #[test]
    fn a_01_a_letter_counts_once_however_it_was_typed() {
        let verdict = |text: &str| check(&Secret::new(text.to_owned()), &[]).is_ok();
        assert!(
            !verdict("u\u{308}berga\u{308}nge o\u{308}f"),
            "12 letters, of 15 code points as they were sent"
        );
        assert!(verdict("übergänge öffnen"));
    }

    #[test]
    fn a_03_the_answer_says_why_a_password_is_refused() {
        let reason = |text: &str, context: &[&str]| {
            let error = check(&Secret::new(text.to_owned()), context).unwrap_err();
            assert_eq!(error.code(), &codes::WEAK_PASSWORD);
            error.told().to_owned()
        };
        assert!(reason("short", &[]).contains("fewer than 15"));
        assert!(reason("CorrectHorseBatteryStaple", &[]).contains("stolen"));
        assert!(reason("vierviervierviervier", &[]).contains("again and again"));
        assert!(
            reason("initech-milton-waddams", &["initech", "milton@waddams.example"])
                .contains("belong to the account")
        );
        assert!(reason("erp-backend password", &[]).contains("belong to the account"), "the product");
    }
}
