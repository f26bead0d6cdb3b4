//! Answers that show a secret are kept sealed, under a key from `JWT_SECRET`, which every deployment has and rotates in steps:
//! what reads the database alone learns no secret from them.
//!
//! A sealed answer has no headers in its row; they are sealed with the body, after their length.

use zeroize::Zeroizing;

use super::claim::Stored;
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::shared::SealKeys;

const PURPOSE: &str = "erp-backend answers that show a secret";

fn keys(config: &Config) -> Result<SealKeys> {
    let keys = SealKeys::new(PURPOSE, config.jwt.ring());
    keys.ok_or_else(|| Error::internal("there is no JWT_SECRET to seal an answer with"))
}

/// Seals an answer for its `place`: it opens in no other.
pub(super) fn seal(app: &App, place: &[u8], answer: &Stored) -> Result<Vec<u8>> {
    let headers = serde_json::to_vec(&answer.headers).map_err(Error::internal)?;
    let length = u32::try_from(headers.len()).map_err(Error::internal)?.to_be_bytes();
    let text = Zeroizing::new([&length, headers.as_slice(), &answer.body].concat());
    let sealed = keys(&app.config)?.seal(app.rng.as_ref(), place, &text);
    sealed.ok_or_else(|| Error::internal("an answer could not be sealed"))
}

/// Opens what was sealed for `place`.
pub(super) fn open(config: &Config, place: &[u8], status: i16, sealed: &[u8]) -> Result<Stored> {
    let opened = keys(config)?.open(place, sealed).ok_or_else(|| {
        Error::internal(
            "the answer that is kept for an idempotency key cannot be opened: set JWT_SECRET_PREVIOUS to what JWT_SECRET was \
             before",
        )
    })?;
    let cut = || Error::internal("the answer that is kept for an idempotency key is cut off");
    let (length, rest) = opened.text.split_first_chunk().ok_or_else(cut)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(Error::internal)?;
    let (headers, body) = rest.split_at_checked(length).ok_or_else(cut)?;
    let headers = serde_json::from_slice(headers).map_err(Error::internal)?;
    Ok(Stored { status, headers, body: body.to_vec() })
}
