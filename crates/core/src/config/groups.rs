//! The settings by subject, as the specification's `getSecurityConfig()` and its siblings give them.

use std::path::Path;
use std::time::Duration;

use super::{Cidr, Config, Level, LogFormat, Origins, PublicUrl, SmtpTls};
use crate::shared::Secret;

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

/// [`Config::security`].
#[derive(Debug)]
pub struct Security<'a> {
    /// Access tokens.
    pub jwt: Jwt<'a>,
    /// Password hashes.
    pub passwords: PasswordPolicy,
    /// Data at rest.
    pub encryption: Encryption<'a>,
    /// Roles and permissions.
    pub rbac: Rbac,
    /// Requests and failed sign-ins of one address.
    pub rate_limit: RateLimit,
    /// The audit log.
    pub audit: Audit,
}

/// Access tokens.
#[derive(Debug)]
pub struct Jwt<'a> {
    /// Signs and verifies.
    pub secret: Option<&'a Secret<String>>,
    /// Verifies, while it is being rotated out.
    pub previous: Option<&'a Secret<String>>,
    /// How long a token is valid.
    pub expires_in: Duration,
}

/// Data at rest.
#[derive(Debug)]
pub struct Encryption<'a> {
    /// 32 bytes as base64 or hex.
    pub key: Option<&'a Secret<String>>,
}

/// Roles and permissions.
#[derive(Debug)]
pub struct Rbac {
    /// Whether what no permission of the caller's role allows is refused. Always: there is no setting for it.
    pub deny_by_default: bool,
    /// How long a role that was taken away may still count: as long as a token that names it.
    pub role_valid_for: Duration,
}

/// Requests and failed sign-ins of one address.
#[derive(Debug)]
pub struct RateLimit {
    /// Requests in `window`.
    pub max: u32,
    /// See `max`.
    pub window: Duration,
    /// Failed sign-ins in `auth_window`.
    pub auth_max: u32,
    /// See `auth_max`.
    pub auth_window: Duration,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    /// Months for which partitions are made ahead.
    pub months_ahead: u32,
}

/// [`Config::database`].
#[derive(Debug)]
pub struct Database<'a> {
    /// As the runtime role.
    pub url: Option<&'a Secret<String>>,
    /// As the owner role.
    pub owner_url: Option<&'a Secret<String>>,
    /// Most connections of a process.
    pub max_connections: u32,
    /// Most connections of one tenant in a process.
    pub tenant_max_connections: u32,
    /// How many processes share the database.
    pub instances: u32,
    /// How long a statement may run.
    pub statement_timeout: Duration,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long opening one may take.
    pub connect_timeout: Duration,
    /// How long one may stay unused.
    pub idle_timeout: Duration,
    /// What counts as slow.
    pub slow_query: Duration,
    /// Whether every statement is logged.
    pub log_queries: bool,
    /// Whether statements are prepared on each connection.
    pub prepared_statements: bool,
}

/// [`Config::http`].
#[derive(Debug)]
pub struct Http<'a> {
    /// Name or address to listen on.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: &'a [Cidr],
    /// Origins that browsers may call from.
    pub cors_origins: &'a Origins,
    /// Whether plain HTTP is redirected or refused.
    pub force_https: bool,
    /// Where clients reach the API.
    pub public_url: Option<&'a PublicUrl>,
    /// The certificate and its key, when TLS ends here.
    pub tls: Option<(&'a Path, &'a Path)>,
}

/// [`Config::logging`].
#[derive(Debug)]
pub struct LogSettings {
    /// Least important level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: LogFormat,
}

/// [`Config::services`].
#[derive(Debug)]
pub struct Services<'a> {
    /// Redis.
    pub redis_url: Option<&'a Secret<String>>,
    /// The mail server: host, port and protection.
    pub smtp: Option<(&'a str, u16, SmtpTls)>,
    /// Signs outgoing webhooks.
    pub webhook_secret: Option<&'a Secret<String>>,
}

impl Config {
    /// Everything that protects: tokens, passwords, keys, limits, audit.
    pub fn security(&self) -> Security<'_> {
        Security {
            jwt: Jwt {
                secret: self.jwt_secret.as_ref(),
                previous: self.jwt_secret_previous.as_ref(),
                expires_in: self.jwt_expires_in,
            },
            passwords: PASSWORDS,
            encryption: Encryption { key: self.encryption_key.as_ref() },
            rbac: Rbac { deny_by_default: true, role_valid_for: self.jwt_expires_in },
            rate_limit: RateLimit {
                max: self.rate_limit_max,
                window: self.rate_limit_window,
                auth_max: self.rate_limit_auth_max,
                auth_window: self.rate_limit_auth_window,
            },
            audit: Audit { months_ahead: 12 },
        }
    }

    /// Where the database is and how it is used.
    pub fn database(&self) -> Database<'_> {
        Database {
            url: self.database_url.as_ref(),
            owner_url: self.database_owner_url.as_ref(),
            max_connections: self.database_max_connections,
            tenant_max_connections: self.database_tenant_max_connections,
            instances: self.instances,
            statement_timeout: self.database_timeout,
            acquire_timeout: self.database_acquire_timeout,
            connect_timeout: self.database_connect_timeout,
            idle_timeout: self.database_idle_timeout,
            slow_query: self.database_slow_query,
            log_queries: self.database_logging,
            prepared_statements: self.database_prepared_statements,
        }
    }

    /// Where and how requests are answered.
    pub fn http(&self) -> Http<'_> {
        Http {
            host: &self.host,
            port: self.port,
            request_timeout: self.request_timeout,
            trusted_proxies: &self.trusted_proxies,
            cors_origins: &self.cors_origins,
            force_https: self.force_https,
            public_url: self.public_url.as_ref(),
            tls: self.tls_cert_path.as_deref().zip(self.tls_key_path.as_deref()),
        }
    }

    /// What is logged, and how.
    pub fn logging(&self) -> LogSettings {
        LogSettings { level: self.log_level, format: self.log_format }
    }

    /// Redis, mail, webhooks.
    pub fn services(&self) -> Services<'_> {
        let smtp = self.smtp_host.as_deref().map(|host| (host, self.smtp_port, self.smtp_tls));
        Services { redis_url: self.redis_url.as_ref(), smtp, webhook_secret: self.webhook_secret.as_ref() }
    }
}
