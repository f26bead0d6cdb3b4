//! `sslmode` of a PostgreSQL URL, as libpq understands it: the driver itself knows only disable, prefer and require.

use std::path::PathBuf;

/// How a connection to PostgreSQL is protected (libpq, "SSL Support").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// In the clear.
    Disable,
    /// Encrypted when the server can; an attacker on the way can prevent it. libpq's default.
    Prefer,
    /// Encrypted, with whatever certificate the server shows; with `sslrootcert` as `verify-ca`.
    Require,
    /// Encrypted, with a certificate of a known authority.
    VerifyCa,
    /// The same, and it must name the host.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// A PostgreSQL URL, without what the driver does not understand.
#[derive(Clone)]
pub struct PostgresUrl {
    /// What the driver gets: host, user, password, database, `sslmode` as far as it knows it.
    pub driver: tokio_postgres::Config,
    /// How the connection is protected.
    pub ssl: SslMode,
    /// `sslrootcert`: a PEM file of trusted authorities; `None` for the system's.
    pub root_certificates: Option<PathBuf>,
}

impl PostgresUrl {
    /// Reads `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`.
    ///
    /// # Errors
    /// Says what is wrong, without showing any part of the URL: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err("is not a PostgreSQL URL");
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut ssl, mut root_certificates) = (SslMode::Prefer, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // In a URL of libpq a plus is a plus; the rest reaches the driver as it is written.
            let literal = pair.replace('+', "%2B");
            let Some((name, value)) = form_urlencoded::parse(literal.as_bytes()).next() else { continue };
            match &*name {
                "sslmode" => ssl = mode(&value)?,
                "sslrootcert" if value == "system" => root_certificates = None,
                "sslrootcert" => root_certificates = Some(PathBuf::from(&*value)),
                _ => rest.push(pair),
            }
        }
        if ssl == SslMode::Require && root_certificates.is_some() {
            ssl = SslMode::VerifyCa; // as libpq: whoever names authorities wants them asked
        }
        let rest = rest.join("&");
        let stripped = if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") };
        let mut driver: tokio_postgres::Config = stripped.parse().map_err(|_| "is not a PostgreSQL URL")?;
        if driver.get_hosts().is_empty() {
            return Err("names no host");
        }
        driver.ssl_mode(match ssl {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        Ok(Self { driver, ssl, root_certificates })
    }

    /// Whether every host is this machine: a unix socket or a loopback address.
    pub fn is_local(&self) -> bool {
        use tokio_postgres::config::Host;
        self.driver.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        })
    }
}

fn mode(text: &str) -> Result<SslMode, &'static str> {
    let found = SslMode::ALL.into_iter().find(|(name, _)| *name == text);
    found
        .map(|(_, mode)| mode)
        .ok_or("has an sslmode other than disable, prefer, require, verify-ca or verify-full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_is_read_and_taken_out() {
        let url = PostgresUrl::parse(
            "postgres://u:p@db.example/erp?sslmode=verify-full&sslrootcert=%2Fca.pem&application_name=x",
        )
        .ok()
        .unwrap();
        assert_eq!(url.ssl, SslMode::VerifyFull);
        assert_eq!(url.root_certificates, Some("/ca.pem".into()));
        assert_eq!(url.driver.get_application_name(), Some("x"));
        assert!(!url.is_local());
    }

    #[test]
    fn what_the_driver_understands_reaches_it_as_written() {
        let url = PostgresUrl::parse("postgres://u@h/d?options=-c%20a%3D1+2&sslmode=require").ok().unwrap();
        assert_eq!(url.driver.get_options(), Some("-c a=1+2"));
    }

    #[test]
    fn naming_authorities_asks_for_them() {
        let mode = |query: &str| PostgresUrl::parse(&format!("postgres://u@h/d?{query}")).ok().unwrap().ssl;
        assert_eq!(mode("sslmode=require&sslrootcert=%2Fca.pem"), SslMode::VerifyCa);
        assert_eq!(mode("sslrootcert=%2Fca.pem&sslmode=require"), SslMode::VerifyCa);
        assert_eq!(mode("sslmode=require"), SslMode::Require);
    }

    #[test]
    fn a_socket_and_loopback_are_local() {
        for url in [
            "postgresql://u@%2Ftmp%2Fs:5432/erp",
            "postgresql://u@127.0.0.1/erp",
            "postgresql://u@localhost/erp",
        ] {
            assert!(PostgresUrl::parse(url).ok().unwrap().is_local(), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for url in [
            "mysql://u:hunter2@h/d",
            "postgresql://u:hunter2@h/d?sslmode=allow",
            "postgresql://u:hunter2@h:x/d",
        ] {
            let problem = PostgresUrl::parse(url).err().unwrap();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
