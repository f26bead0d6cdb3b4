//! What follows from a secret of the deployment for one purpose, and says nothing about the secret or about what follows for another
//! purpose. All instances that share the secret come to the same.

use aws_lc_rs::hmac;

use super::Secret;

/// 32 bytes for this purpose.
pub(crate) fn derived(secret: &Secret<String>, purpose: &str) -> hmac::Tag {
    let given = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hmac::sign(&given, purpose.as_bytes())
}

/// A key that signs for this purpose.
pub(crate) fn derived_key(secret: &Secret<String>, purpose: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derived(secret, purpose).as_ref())
}
