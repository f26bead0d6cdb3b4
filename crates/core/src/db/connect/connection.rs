//! Where a database is and how it is reached: a URL, TLS as its `sslmode` asks for, and what its sessions must be.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use erp_postgres::tls::{Verify, client_config};
use erp_postgres::{Connector, PasswordSource, Socket, Target, ToSql, Type, WireError};
use rustls::ClientConfig;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config};

use crate::config::{self, PostgresUrl};
use crate::db::connect::password_file::PasswordFile;
use crate::db::connect::protected::{Binding, Protected};
use crate::db::connect::session::{Expected, QUESTION, Writes};

/// What drives the session of one connection until it ends.
pub(in crate::db) type Session = tokio_postgres::Connection<Socket, Protected>;

/// How long opening a session beside the pool may take, where the URL does not say how long an address has.
const PATIENCE: Duration = Duration::from_secs(3);

/// A database and the role it is reached as. Cheap to clone; shows no password.
#[derive(Clone)]
pub struct Connection {
    pub(in crate::db) driver: Config,
    tls: Arc<ClientConfig>,
    expected: Expected,
    /// Where another password comes from when the server refuses this one.
    passwords: Option<Arc<dyn PasswordSource>>,
    /// The address that took a connection last: all who share this begin with it.
    first: Arc<AtomicUsize>,
}

/// The two logins that serve, and how each is reached.
#[derive(Clone)]
pub struct Logins {
    /// For requests: `DATABASE_URL`.
    pub runtime: Connection,
    /// For the declared work of the system: `DATABASE_SYSTEM_URL`.
    pub system: Connection,
}

impl Logins {
    /// Both, where the system's login is named like the runtime role, with `_system` in place of `_app`, and has the same
    /// password: in development, where nobody has said otherwise.
    pub fn alike(runtime: Connection) -> Self {
        let name = runtime.user().unwrap_or_default();
        let name = format!("{}_system", name.strip_suffix("_app").unwrap_or(name));
        let mut system = runtime.clone();
        system.driver.user(name);
        Self { runtime, system }
    }
}

/// A session that is open, has been looked at, and is driven by its owner.
pub(in crate::db) struct Opened {
    pub(in crate::db) client: Client,
    pub(in crate::db) session: Session,
    /// Where it is.
    pub(in crate::db) place: String,
    pub(in crate::db) encrypted: bool,
    pub(in crate::db) writes: Writes,
}

impl Connection {
    /// Opens a connection. The caller owns its session, and drives it.
    ///
    /// # Errors
    /// [`WireError::Opening`]
    pub(in crate::db) async fn open(&self) -> Result<Opened, WireError> {
        let connector = self.connector(PATIENCE, true);
        let mut attempts = connector.attempts().await;
        while let Some(target) = attempts.next_target() {
            let start = Box::pin(self.start(&connector, &target));
            if let Some(opened) = attempts.make(&target, start).await {
                return Ok(opened);
            }
        }
        Err(attempts.failed())
    }

    async fn start(&self, connector: &Connector, target: &Target) -> Result<Opened, WireError> {
        let password = connector.password();
        match self.sign_in(connector, target, password.clone()).await {
            Err(error) => match connector.other_password(&error, password).await {
                Some(other) => self.sign_in(connector, target, Some(other)).await,
                None => Err(error),
            },
            opened => opened,
        }
    }

    async fn sign_in(
        &self,
        connector: &Connector,
        target: &Target,
        password: Option<Vec<u8>>,
    ) -> Result<Opened, WireError> {
        let (socket, binding) = connector.socket(target).await?;
        let mut driver = self.driver.clone();
        if let Some(password) = password {
            driver.password(password);
        }
        let encrypted = socket.is_encrypted();
        // The stream is protected by now: the driver has nothing left to ask for.
        driver.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        driver.ssl_negotiation(SslNegotiation::Direct);
        let (client, mut session) = driver.connect_raw(socket, Binding(binding)).await?;
        let names = self.expected.names();
        let names: [(&(dyn ToSql + Sync), Type); 1] = [(&names, Type::TEXT)];
        let asked = tokio::select! {
            biased;
            _ = &mut session => return Err(WireError::Closed),
            asked = client.query_typed(QUESTION, &names) => asked?,
        };
        let answer: &str = asked.first().map_or(Ok(""), |row| row.try_get(0))?;
        let writes = self.expected.judge(answer).map_err(|deviation| WireError::Unfit(deviation.into()))?;
        Ok(Opened { client, session, place: target.place().to_owned(), encrypted, writes })
    }

    /// What opens the connections that serve requests; each of its own takes `limit` at most, unless the URL says how
    /// long an address has.
    pub(in crate::db) fn connector(&self, limit: Duration, prepared_statements: bool) -> Connector {
        Connector::new(self.driver.clone(), Arc::clone(&self.tls))
            .prepared_statements(prepared_statements)
            .inspected(Arc::new(self.expected.clone()))
            .password_source(self.passwords.clone())
            .within(limit)
            .starting_with(Arc::clone(&self.first))
    }

    /// Reads the password from the URL in `file` anew when the server refuses the one that was read at start: it can be replaced
    /// while the process runs. Nothing else of the URL is read again.
    #[must_use]
    pub fn rereading(mut self, file: Option<&Path>) -> Self {
        let password = self.driver.get_password().unwrap_or_default().to_vec();
        self.passwords =
            file.map(|file| Arc::new(PasswordFile::new(file, password)) as Arc<dyn PasswordSource>);
        self
    }

    /// Gives the session bounds that hold even when our own side forgets, and the settings that our promises rest on.
    /// Not behind a pooler, which shares sessions and takes no start-up options.
    #[must_use]
    pub fn bounded(mut self, statement_timeout: Duration) -> Self {
        // The URL's own `options` stay; where both set the same, the later counts: ours.
        let given = self.driver.get_options().map(|given| format!("{given} ")).unwrap_or_default();
        let ours = self.expected.bounded(statement_timeout);
        self.driver.options(format!("{given}{ours}"));
        self
    }

    /// The role's name.
    pub fn user(&self) -> Option<&str> {
        self.driver.get_user()
    }

    /// `host:port` of each host, for messages.
    pub fn place(&self) -> String {
        let (hosts, ports) = (self.driver.get_hosts(), self.driver.get_ports());
        let place = |(index, host): (usize, &Host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => match name.parse::<IpAddr>() {
                    Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
                    _ => format!("{name}:{port}"),
                },
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        };
        hosts.iter().enumerate().map(place).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for Connection {
    type Err = String;

    /// Reads a URL as [`PostgresUrl`] describes it, and the certificates that it names.
    fn from_str(url: &str) -> Result<Self, String> {
        let url = PostgresUrl::parse(url).map_err(|fault| fault.what)?;
        let verify = match url.ssl {
            config::SslMode::Disable | config::SslMode::Prefer | config::SslMode::Require => Verify::Nothing,
            config::SslMode::VerifyCa => Verify::Authority,
            config::SslMode::VerifyFull => Verify::Host,
        };
        let tls = Arc::new(client_config(verify, url.root_certificates.as_deref())?);
        let mut driver = url.driver;
        if driver.get_user().is_none() {
            driver.user(account()?);
        }
        let expected = Expected::new(driver.get_target_session_attrs());
        Ok(Self { driver, tls, expected, passwords: None, first: Arc::default() })
    }
}

/// Who a URL without a user means, as libpq has it. In a container the account may have a number only.
fn account() -> Result<String, String> {
    whoami::username().map_err(|_| {
        "names no user, and the account of this process has no name in /etc/passwd: write the user into the URL".to_owned()
    })
}
