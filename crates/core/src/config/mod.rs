//! Settings: declared once in a table, read once at start, and a plain value from then on.
//!
//! ```no_run
//! use erp_core::config::{Config, EnvFile, Layers, MapSource, ProcessEnvironment};
//!
//! # fn main() -> Result<(), erp_core::config::Problems> {
//! let layers = Layers::new()
//!     .with(MapSource::flags([("PORT", "8080")]))
//!     .with(ProcessEnvironment::read())
//!     .with_optional(EnvFile::read(".env".as_ref()));
//! let config = Config::load(&layers)?;
//! assert_eq!(config.process.port, 8080);
//! # Ok(())
//! # }
//! ```

mod allowed_hosts;
mod choice;
mod consistency;
mod env_file;
mod features;
mod file;
mod files_url;
mod foreign_url;
mod groups;
mod lists;
mod mail;
mod origins;
mod postgres_url;
mod problems;
mod profile;
mod reader;
mod render;
mod secrets;
mod section;
mod service_links;
mod settings;
mod source;
mod stream_url;
mod table;
mod trim;
mod value;
mod witness_url;

pub use allowed_hosts::AllowedHosts;
pub use choice::{ClientAuth, Environment, Level, LogFormat, SmtpTls, TlsVersion, TokenAlgorithm};
pub use env_file::EnvFile;
pub use features::{Features, Rollout};
pub use files_url::{Bucket, FilesUrl};
pub use groups::{Audit, PASSWORDS, PasswordPolicy, Rbac, Security};
pub use lists::Cidr;
pub(crate) use mail::is_email;
pub use origins::{Origins, PublicUrl, TenantDomain};
pub(crate) use origins::{host_of, is_site_of};
pub use postgres_url::{PostgresUrl, SslMode, UrlFault};
pub use problems::{Problems, SettingProblem};
pub use profile::Profile;
pub use reader::Reader;
pub use render::Explained;
pub(crate) use secrets::key_bytes;
pub use secrets::{dev_secrets, new_secret};
pub use section::{ModuleSettings, Rules, Section, Settings, SettingsSchema, lists};
pub use settings::{
    AuditSettings, CacheSettings, Config, DatabaseSettings, EncryptionSettings, FileSettings, HttpSettings,
    JobSettings, JwtSettings, LifecycleSettings, LoggingSettings, MailSettings, MetricsSettings,
    OutboundSettings, ProcessSettings, RateLimitSettings, RedisSettings, SETTINGS, SpeedLimitSettings,
    TrafficSettings, TransportSettings, WebhookSettings,
};
pub use source::{Layers, MapSource, Origin, ProcessEnvironment, Source};
pub use stream_url::{AuditStreamFormat, StreamUrl};
pub use table::{Check, Defaults, OUTSIDE_DEVELOPMENT, Setting, Unit};
pub use value::{ByteSize, Value};
pub use witness_url::WitnessUrl;

impl Config {
    /// The settings of the core alone, from `layers`; those of a product are read by [`SettingsSchema::load`].
    ///
    /// # Errors
    /// As [`SettingsSchema::load`].
    pub fn load(layers: &Layers) -> Result<Self, Problems> {
        SettingsSchema::core().load(layers)
    }
}

#[cfg(test)]
mod tests;
