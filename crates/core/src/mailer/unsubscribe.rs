//! The link in a promotional mail by which its recipient gets no more of them (RFC 8058): whose it is, is signed.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::MailId;
use crate::app::App;
use crate::config::{Config, Environment};
use crate::shared::{Id, Secret, TenantId, authority, derived_key};

/// Bytes of an id, and of the part of the signature that is kept.
const PART: usize = 16;

/// The route that the link leads to; the module `mails` has it.
const PATH: &str = "/unsubscribe/";

/// Where clients reach us: `PUBLIC_URL`, or in development this machine.
pub fn base(config: &Config) -> Option<String> {
    match &config.http.public_url {
        Some(url) => Some(url.as_str().trim_end_matches('/').to_owned()),
        None if config.process.app_env == Environment::Development => {
            Some(format!("http://{}", authority(&config.process.host, config.process.port)))
        }
        None => None,
    }
}

/// The link of one mail.
pub(super) fn link(app: &App, tenant: TenantId, mail: &Uuid) -> Option<String> {
    let secret = app.config.jwt.secret.as_ref()?;
    let said = [tenant.as_uuid().as_bytes().as_slice(), mail.as_bytes()].concat();
    let token = URL_SAFE_NO_PAD.encode([said.as_slice(), &signature(secret, &said)].concat());
    Some(format!("{}{PATH}{token}", base(&app.config)?))
}

/// Whose link it is, if it is one of ours.
pub fn unsubscribing(app: &App, token: &str) -> Option<(TenantId, MailId)> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == 3 * PART)?;
    let (said, signed) = bytes.split_at(2 * PART);
    let ours = |secret: &Secret<String>| verify_slices_are_equal(&signature(secret, said), signed).is_ok();
    if !app.config.jwt.ring().any(ours) {
        return None;
    }
    let (tenant, mail) = said.split_at(PART);
    Some((Id::from_uuid(Uuid::from_slice(tenant).ok()?), Id::from_uuid(Uuid::from_slice(mail).ok()?)))
}

/// Signed with a key that is for nothing else.
fn signature(secret: &Secret<String>, said: &[u8]) -> [u8; PART] {
    let key = derived_key(secret, "erp-backend unsubscribe links");
    let mut short = [0; PART];
    short.copy_from_slice(&hmac::sign(&key, said).as_ref()[..PART]);
    short
}
