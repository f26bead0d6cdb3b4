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
//! assert_eq!(config.port, 8080);
//! # Ok(())
//! # }
//! ```

mod choice;
mod consistency;
mod env_file;
mod features;
mod file;
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
mod secret_files;
mod secrets;
mod service_links;
mod settings;
mod source;
mod table;
mod trim;
mod value;

pub use choice::{ClientAuth, Environment, Level, LogFormat, SmtpTls, TlsVersion};
pub use env_file::EnvFile;
pub use features::{Features, Rollout};
pub use groups::{
    Audit, Database, Encryption, Http, Jwt, LogSettings, PASSWORDS, PasswordPolicy, RateLimit, Rbac,
    Security, Services,
};
pub use lists::Cidr;
pub use origins::{Origins, PublicUrl};
pub use postgres_url::{PostgresUrl, SslMode, UrlFault};
pub use problems::{Problem, Problems};
pub use profile::Profile;
pub use render::{Explained, explain, render_env_example, render_markdown};
pub use secrets::dev_secrets;
pub use settings::{Config, SETTINGS};
pub use source::{Layers, MapSource, Origin, ProcessEnvironment, Source};
pub use table::{Check, Defaults, Setting, Unit};

use reader::Reader;

impl Config {
    /// Reads every setting of the table from `layers`.
    ///
    /// In development a missing `JWT_SECRET` stays `None`: see [`dev_secrets`].
    ///
    /// # Errors
    /// **All** problems at once: missing, invalid, weak and misspelt settings. No message shows a secret's value.
    pub fn load(layers: &Layers) -> Result<Self, Problems> {
        let mut reader = Reader::new(layers);
        reader.collect();
        reader.refuse_unknown();
        let config = Self::read(&mut reader);
        reader.compare();
        reader.notice_service_links();
        reader.notice_open_files();
        reader.finish(config)
    }
}

#[cfg(test)]
mod tests;
