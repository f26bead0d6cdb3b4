//! A PostgreSQL URL, as libpq understands it: the driver itself knows only some of `sslmode`, and takes for a host what
//! is left of a password with an `@` in it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::config::Host;

use super::foreign_url;

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

/// Silence after which the kernel asks whether the other side is there, how often it asks, and how long sent bytes may
/// stay without an acknowledgement: what stands between forgets a silent connection after four minutes and more, and
/// Linux's own answer to the first is two hours. The URL's own values come later, and count.
const ALIVE: &str = "keepalives_idle=60&keepalives_interval=10&keepalives_retries=3&tcp_user_timeout=20000";

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

/// What is wrong with a URL, and what to do. Shows no part of it: what stands in the wrong place may be a password.
#[derive(Debug, PartialEq, Eq)]
pub struct UrlFault {
    /// Goes on after the name of the setting.
    pub what: Cow<'static, str>,
    /// An imperative.
    pub fix: Cow<'static, str>,
}

impl UrlFault {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// What a URL should look like.
pub(super) const FORM: &str = "Set it to postgresql://user:password@host:5432/database";

impl PostgresUrl {
    /// Reads `postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…`.
    ///
    /// # Errors
    /// Says what is wrong, without showing any part of the URL: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, UrlFault> {
        let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
        let rest = rest.ok_or_else(|| foreign_url::scheme(url))?;
        refuse_stray_marks(rest)?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut ssl = SslMode::Prefer;
        let mut root_certificates = None;
        let mut kept = vec![ALIVE.to_owned()];
        let mut seen = Vec::new();
        for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            // In a URL of libpq a plus is a plus; the rest reaches the driver as it is written.
            let literal = pair.replace('+', "%2B");
            let Some((name, value)) = form_urlencoded::parse(literal.as_bytes()).next() else { continue };
            match &*name {
                "sslmode" => ssl = mode(&value)?,
                "sslrootcert" if value == "system" => root_certificates = None,
                "sslrootcert" => root_certificates = Some(PathBuf::from(&*value)),
                _ => {
                    foreign_url::parameter(&name, &value, index + 1)?;
                    kept.push(pair.to_owned());
                }
            }
            if seen.contains(&name.to_string()) {
                return Err(UrlFault::new("says a parameter twice", "Say each parameter after the ? once"));
            }
            seen.push(name.into_owned());
        }
        if ssl == SslMode::Require && root_certificates.is_some() {
            ssl = SslMode::VerifyCa; // as libpq: to name authorities is to want them asked
        }
        let mut driver = driver(base, &kept)?;
        driver.ssl_mode(match ssl {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        Ok(Self { driver, ssl, root_certificates })
    }

    /// Whether every connection stays on this machine: it goes to a unix socket or a loopback address, whatever the
    /// host is called. `localhost` never leads elsewhere (`erp-postgres`).
    pub fn is_local(&self) -> bool {
        let (hosts, addresses) = (self.driver.get_hosts(), self.driver.get_hostaddrs());
        (0..hosts.len().max(addresses.len())).all(|index| match (addresses.get(index), hosts.get(index)) {
            (Some(address), _) => address.is_loopback(),
            (None, Some(Host::Unix(_))) => true,
            (None, Some(Host::Tcp(name))) => {
                name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            (None, None) => false,
        })
    }
}

/// Refuses what ends the user and password earlier than was meant, or later: a URL is cut at the first `/`, `?` or `#`,
/// and the user before it at `@`. `rest` follows the scheme.
fn refuse_stray_marks(rest: &str) -> Result<(), UrlFault> {
    if rest.matches('@').count() > 1 {
        return Err(stray_mark('@', "%40"));
    }
    refuse_cuts(rest)?;
    let broken = |at: usize| {
        rest.as_bytes().get(at + 1..at + 3).is_none_or(|two| !two.iter().all(u8::is_ascii_hexdigit))
    };
    match rest.match_indices('%').any(|(at, _)| broken(at)) {
        true => Err(stray_mark('%', "%25")),
        false => Ok(()),
    }
}

/// Refuses user and password in which the URL would be cut: what follows would be taken for the place.
pub(super) fn refuse_cuts(rest: &str) -> Result<(), UrlFault> {
    let Some((whom, _)) = rest.rsplit_once('@') else { return Ok(()) };
    let cuts = [('/', "%2F"), ('?', "%3F"), ('#', "%23")];
    match cuts.into_iter().find(|(mark, _)| whom.contains(*mark)) {
        Some((mark, code)) => Err(stray_mark(mark, code)),
        None => Ok(()),
    }
}

fn stray_mark(mark: char, code: &str) -> UrlFault {
    UrlFault::new(
        format!("holds a {mark} that cannot be told from one of the URL's own"),
        format!("Percent-encode each {mark} of the user, password or a parameter as {code}"),
    )
}

/// What the driver makes of it, where that can be connected to.
fn driver(base: &str, parameters: &[String]) -> Result<tokio_postgres::Config, UrlFault> {
    let url = format!("postgresql://{base}?{}", parameters.join("&"));
    let driver: tokio_postgres::Config =
        url.parse().map_err(|_| UrlFault::new("names a host or port that cannot be one", FORM))?;
    let (hosts, addresses) = (driver.get_hosts().len(), driver.get_hostaddrs().len());
    if hosts == 0 {
        return Err(UrlFault::new("names no host", FORM));
    }
    let authority = base.rsplit_once('@').map_or(base, |(_, place)| place);
    let in_authority = authority.split('/').next().is_some_and(|place| !place.is_empty());
    if in_authority && parameters.iter().any(|pair| pair.starts_with("host=")) {
        return Err(UrlFault::new(
            "names its host twice",
            "Name it before the database, or as host=, and not both",
        ));
    }
    if addresses > 0 && addresses != hosts {
        return Err(UrlFault::new(
            "has another number of hostaddr than of hosts",
            "Name one hostaddr for each host",
        ));
    }
    let plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte));
    if driver
        .get_hosts()
        .iter()
        .any(|host| matches!(host, Host::Tcp(name) if name.is_empty() || !plain(name)))
    {
        return Err(UrlFault::new("names a host that is neither a name nor an address", FORM));
    }
    Ok(driver)
}

fn mode(text: &str) -> Result<SslMode, UrlFault> {
    let found = SslMode::ALL.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, mode)| mode).ok_or_else(|| {
        UrlFault::new(
            "has an sslmode other than disable, prefer, require, verify-ca or verify-full",
            "Set sslmode to one of them",
        )
    })
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
            let problem = format!("{:?}", PostgresUrl::parse(url).err().unwrap());
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn a_mark_in_a_password_is_refused_by_its_code_and_never_weakens_the_mode() {
        for (url, code) in [
            ("postgresql://u:long?wyrd@h/d?sslmode=require", "%3F"),
            ("postgresql://u:long?sslmode=disable&wyrd@h/d?sslmode=require", "%3F"),
            ("postgresql://u:hun@ter2@h/d", "%40"),
            ("postgresql://u:hun@ter2?x@h/d", "%40"),
            ("postgresql://u:hun/ter2@h/d", "%2F"),
            ("postgresql://u:hun#ter2@h/d", "%23"),
            ("postgresql://u:50%@h/d", "%25"),
            ("postgresql://u:p@h/d?application_name=a@b", "%40"),
        ] {
            let fault = PostgresUrl::parse(url).err().unwrap();
            assert!(fault.fix.contains(code), "{url}: {fault:?}");
            assert!(!["hun", "ter2", "long", "wyrd"].iter().any(|part| format!("{fault:?}").contains(part)));
        }
        let url = PostgresUrl::parse("postgresql://u:a%3Fb%40c%2F:d@h/d?sslmode=require").ok().unwrap();
        assert_eq!(url.driver.get_password(), Some(&b"a?b@c/:d"[..]));
        assert_eq!(url.ssl, SslMode::Require);
        let twice = PostgresUrl::parse("postgresql://u@h/d?sslmode=require&sslmode=disable").err().unwrap();
        assert!(twice.what.contains("twice"), "{twice:?}");
    }

    #[test]
    fn where_a_connection_goes_decides_whether_it_is_local() {
        let is_local =
            |rest: &str| PostgresUrl::parse(&format!("postgresql://u@{rest}")).ok().unwrap().is_local();
        assert!(is_local("localhost/erp?hostaddr=127.0.0.1") && is_local("db.example/erp?hostaddr=::1"));
        for rest in [
            "localhost/erp?hostaddr=10.1.2.3",
            "127.0.0.1/erp?hostaddr=10.1.2.3",
            "localhost,db.example/erp",
            "localhost,localhost/erp?hostaddr=127.0.0.1,10.1.2.3",
            "/erp?host=db.example",
            "%2Ftmp/erp?hostaddr=10.1.2.3",
        ] {
            assert!(!is_local(rest), "{rest}");
        }
        for rest in
            ["localhost/erp?host=10.1.2.3", "localhost,a/erp?hostaddr=127.0.0.1", "a b/erp", "h:x/erp"]
        {
            assert!(PostgresUrl::parse(&format!("postgresql://u@{rest}")).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_silent_connection_is_kept_alive_unless_the_url_says_otherwise() {
        let url = PostgresUrl::parse("postgresql://u@h/d").ok().unwrap();
        assert_eq!(url.driver.get_keepalives_idle().as_secs(), 60);
        let url = PostgresUrl::parse("postgresql://u@h/d?keepalives_idle=7").ok().unwrap();
        assert_eq!(url.driver.get_keepalives_idle().as_secs(), 7);
    }
}
