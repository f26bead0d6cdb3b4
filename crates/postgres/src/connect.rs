//! Opens connections: finds a host that answers, protects the stream, starts a session.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, SslNegotiation};
use tokio_rustls::TlsConnector;

use super::attempts::{Attempts, Fault};
use super::socket::{Socket, Stream};
use super::startup::channel_binding;
use super::{Idleness, Inspection, MemoryLimits, PasswordSource, Plans, Wire, WireError};

/// How long opening a session may take, unless something else is said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens connections to one database as one role.
pub struct Connector {
    pub(super) config: Config,
    tls: TlsConnector,
    /// Whether sessions keep statements under a name.
    pub(super) naming: bool,
    pub(super) plans: Arc<Plans>,
    /// What each session must be.
    pub(super) inspection: Option<Arc<dyn Inspection>>,
    /// Where the password comes from, if not from `config`.
    pub(super) passwords: Option<Arc<dyn PasswordSource>>,
    pub(super) limits: MemoryLimits,
    /// How long an address is given, and else all of them together.
    pub(super) limit: (Option<Duration>, Duration),
    /// Counts up when a migration has made the statements of all sessions stale.
    generation: AtomicU64,
    /// Which address comes first: the last that took a connection; with `load_balance_hosts=random`, each in its turn.
    pub(super) first: Arc<AtomicUsize>,
    pub(super) idleness: Idleness,
}

/// An address to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) address: Address,
    /// The name that the certificate must show.
    host: Option<String>,
    /// Where that is, for messages.
    pub(super) place: String,
}

#[derive(Debug, Clone)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Connector {
    /// Opens connections as `config` says, and speaks TLS by `tls` where its `sslmode` asks for it. An address is given
    /// the `connect_timeout` of `config`; without one, all together are given [`CONNECT_TIMEOUT`].
    pub fn new(config: Config, tls: Arc<rustls::ClientConfig>) -> Self {
        let limit = (config.get_connect_timeout().copied(), CONNECT_TIMEOUT);
        Self {
            config,
            tls: tls.into(),
            naming: true,
            plans: Arc::default(),
            inspection: None,
            passwords: None,
            limits: MemoryLimits::default(),
            limit,
            generation: AtomicU64::new(0),
            first: Arc::default(),
            idleness: Idleness::default(),
        }
    }

    /// Whether sessions keep statements under a name, which is so by default. Off behind a pooler that gives each
    /// transaction another session.
    #[must_use]
    pub fn prepared_statements(mut self, kept: bool) -> Self {
        self.naming = kept;
        self
    }

    /// What each session is asked before its first use; by default nothing.
    #[must_use]
    pub fn inspected(mut self, inspection: Arc<dyn Inspection>) -> Self {
        self.inspection = Some(inspection);
        self
    }

    /// How much each connection holds of what the server sends.
    #[must_use]
    pub fn limits(mut self, limits: MemoryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How long all addresses together are given, where `config` does not say how long each is.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit.1 = limit;
        self
    }

    /// Shares with others which address comes first: the last that took a connection.
    #[must_use]
    pub fn starting_with(mut self, first: Arc<AtomicUsize>) -> Self {
        self.first = first;
        self
    }

    /// So much time has passed since the connector was made. Who lends connections out for long says so about twice a
    /// second: a connection that was not used for five seconds of this time is asked for a sign of life
    /// ([`Wire::is_fit`]).
    pub fn tell_time(&self, elapsed: Duration) {
        self.idleness.tell(elapsed);
    }

    /// What this process knows of its statements.
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// A migration made what is known of statements stale: sessions opened before are not used again.
    pub fn forget(&self) {
        self.plans.forget();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Opens a connection to the first host that takes it.
    ///
    /// # Errors
    /// [`WireError::Opening`], with what went wrong at each address.
    pub async fn connect(&self) -> Result<Wire, WireError> {
        let mut attempts = self.attempts().await;
        while let Some(target) = attempts.next_target() {
            if let Some(wire) = attempts.make(&target, Wire::open(self, target.clone())).await {
                return Ok(wire);
            }
        }
        Err(attempts.failed())
    }

    /// All addresses of all hosts, in the order to try them.
    pub async fn attempts(&self) -> Attempts<'_> {
        let (hosts, addresses, ports) =
            (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        let mut targets = Vec::new();
        let mut faults = Vec::new();
        for index in 0..hosts.len().max(addresses.len()) {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match (addresses.get(index), hosts.get(index)) {
                (Some(ip), Some(Host::Tcp(name))) => targets.push(Target::tcp(Some(name), *ip, port)),
                (Some(ip), _) => targets.push(Target::tcp(None, *ip, port)),
                (None, Some(Host::Unix(folder))) => targets.push(Target {
                    address: Address::Unix(folder.join(format!(".s.PGSQL.{port}"))),
                    host: None,
                    place: format!("{}:{port}", folder.display()),
                }),
                (None, Some(Host::Tcp(name))) => match self.look_up(name, port).await {
                    Ok(found) => {
                        targets.extend(found.into_iter().map(|ip| Target::tcp(Some(name), ip, port)));
                    }
                    Err(error) => faults.push(Fault { place: format!("{name}:{port}"), error }),
                },
                (None, None) => {}
            }
        }
        let balanced = self.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        Attempts::new(self, targets, faults, balanced)
    }

    /// The addresses of a host. `localhost` is this machine, whatever a name service says: a URL that names it may go
    /// without TLS.
    async fn look_up(&self, name: &str, port: u16) -> Result<Vec<IpAddr>, WireError> {
        let found = timeout(self.limit.0.unwrap_or(self.limit.1), lookup_host((name, port))).await;
        let found =
            found.map_err(|_| WireError::Name(io::ErrorKind::TimedOut.into()))?.map_err(WireError::Name)?;
        let here = |ip: &IpAddr| name != "localhost" || ip.is_loopback();
        let found: Vec<IpAddr> = found.map(|address| address.ip()).filter(here).collect();
        if found.is_empty() { Err(WireError::Name(io::Error::other("it has no address"))) } else { Ok(found) }
    }

    /// A protected stream to an address, and what binds a session to its certificate.
    pub async fn socket(&self, target: &Target) -> Result<(Socket, Option<Vec<u8>>), WireError> {
        let mode = self.config.get_ssl_mode();
        match &target.address {
            Address::Unix(_) if mode == SslMode::Require => Err(WireError::Tls(
                "PostgreSQL has none on a unix socket: name a host, or sslmode=disable".into(),
            )),
            Address::Unix(path) => Ok((Socket(Stream::Unix(UnixStream::connect(path).await?)), None)),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                self.tune(&stream)?;
                self.protect(stream, mode, target.host.as_deref()).await
            }
        }
    }

    async fn protect(
        &self,
        mut stream: TcpStream,
        mode: SslMode,
        host: Option<&str>,
    ) -> Result<(Socket, Option<Vec<u8>>), WireError> {
        if mode == SslMode::Disable {
            return Ok((Socket(Stream::Tcp(stream)), None));
        }
        if self.config.get_ssl_negotiation() == SslNegotiation::Postgres && !asks_for_tls(&mut stream).await?
        {
            return match mode {
                SslMode::Prefer => Ok((Socket(Stream::Tcp(stream)), None)),
                _ => Err(WireError::NoTls),
            };
        }
        let host = host.ok_or_else(|| WireError::Tls("it needs the name of the host".into()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| WireError::Tls(error.into()))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| WireError::Tls(error.into()))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let binding = certificate.and_then(|certificate| channel_binding(certificate));
        Ok((Socket(Stream::Tls(Box::new(stream))), binding))
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        #[cfg(target_os = "linux")]
        if let Some(limit) = self.config.get_tcp_user_timeout() {
            socket.set_tcp_user_timeout(Some(*limit))?;
        }
        if self.config.get_keepalives() {
            let mut keepalive = TcpKeepalive::new().with_time(self.config.get_keepalives_idle());
            if let Some(interval) = self.config.get_keepalives_interval() {
                keepalive = keepalive.with_interval(interval);
            }
            if let Some(retries) = self.config.get_keepalives_retries() {
                keepalive = keepalive.with_retries(retries);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        Ok(())
    }
}

impl Target {
    pub(super) fn tcp(name: Option<&str>, ip: IpAddr, port: u16) -> Self {
        let address = SocketAddr::from((ip, port));
        let place = match name {
            Some(name) if name.parse() != Ok(ip) => format!("{name}:{port} ({ip})"),
            _ => address.to_string(),
        };
        Self { address: Address::Tcp(address), host: name.map(str::to_owned), place }
    }

    /// Where it is, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether nothing but the kernel stands between.
    pub(super) fn is_socket(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }
}

/// SSLRequest. The answer is one byte; whatever came after it in the clear would be read as part of the handshake.
pub(super) async fn asks_for_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<bool, WireError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(WireError::Protocol("neither yes nor no to TLS")),
    }
}
