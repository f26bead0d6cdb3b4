//! What webhooks need in both directions: the signature of Standard Webhooks 1.0, and secrets that are kept sealed.
//!
//! Outgoing webhooks themselves are the module `webhooks`'s. A module that is told of something by another service takes a
//! [`SignedWebhook`] in its handler.

mod incoming;
mod seal;
mod signature;

pub use incoming::{Receipt, SignedWebhook, VerifiedWebhook};
pub use seal::{EndpointSeal, SecretSeal};
pub use signature::{InvalidSigningSecret, SigningSecret};
