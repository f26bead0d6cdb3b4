//! The settings by subject, as the specification's `getSecurityConfig()` gives them: views of the sections, and what no
//! setting can change.

use crate::shared::Secret;
use std::path::Path;
use std::time::Duration;

use super::settings::TransportSettings;
use super::{Config, EncryptionSettings, JwtSettings, RateLimitSettings};

/// How passwords are hashed (OWASP's minimum for argon2id, ASVS 5 appendix C) and how long one may be.
pub const PASSWORDS: PasswordPolicy = PasswordPolicy { memory_kib: 19 * 1024, passes: 2, max_bytes: 1024 };

/// See [`PASSWORDS`].
#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Longer input is refused before it is hashed: hashing must not be a way to burn our CPU.
    pub max_bytes: usize,
}

/// Everything that protects: see [`Config::security`].
#[derive(Debug)]
pub struct Security<'a> {
    /// Access tokens.
    pub jwt: &'a JwtSettings,
    /// Password hashes.
    pub passwords: PasswordPolicy,
    /// Data at rest.
    pub encryption: &'a EncryptionSettings,
    /// Roles and permissions.
    pub rbac: Rbac,
    /// Requests and failed sign-ins of one client.
    pub rate_limit: &'a RateLimitSettings,
    /// The audit log.
    pub audit: Audit,
}

/// Roles and permissions.
#[derive(Debug)]
pub struct Rbac {
    /// Whether what no permission of the caller's role allows is refused. Always: there is no setting for it.
    pub deny_by_default: bool,
    /// How long a role that was taken away may still count: as long as a token that names it.
    pub role_valid_for: Duration,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    /// Months for which partitions are made ahead.
    pub months_ahead: u32,
}

impl Config {
    /// Everything that protects: tokens, passwords, keys, limits, audit.
    pub fn security(&self) -> Security<'_> {
        Security {
            jwt: &self.jwt,
            passwords: PASSWORDS,
            encryption: &self.encryption,
            rbac: Rbac { deny_by_default: true, role_valid_for: self.jwt.expires_in },
            rate_limit: &self.rate_limit,
            audit: Audit { months_ahead: 12 },
        }
    }
}

impl JwtSettings {
    /// The secrets that are known: the one that signs and seals, the one before it, and the next.
    pub fn ring(&self) -> impl Iterator<Item = &Secret<String>> {
        self.secret.iter().chain(&self.secret_previous).chain(&self.secret_next)
    }
}

impl EncryptionSettings {
    /// The keys that are known: the one that wraps, the one before it, and the next.
    pub fn ring(&self) -> impl Iterator<Item = &Secret<String>> {
        self.key.iter().chain(&self.key_previous).chain(&self.key_next)
    }
}

impl TransportSettings {
    /// The certificate and its key, when TLS ends here.
    pub fn certificate(&self) -> Option<(&Path, &Path)> {
        self.tls_cert_path.as_deref().zip(self.tls_key_path.as_deref())
    }
}
