//! Opens connections: finds a host that answers, protects the stream, starts a session.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_rustls::TlsConnector;

use super::socket::Socket;
use super::startup::channel_binding;
use super::{Error, Plans, Wire};

/// Opens connections to one database as one role.
pub(in crate::db) struct Connector {
    pub(super) config: Config,
    tls: TlsConnector,
    /// Whether sessions keep statements under a name.
    pub(super) naming: bool,
    pub(super) plans: Arc<Plans>,
    /// Counts up when a migration has made the statements of all sessions stale.
    generation: AtomicU64,
    /// Which host comes first, with `load_balance_hosts=random`: each in its turn.
    turn: AtomicUsize,
}

/// An address that was connected to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    address: Address,
    /// The name that the certificate must show.
    host: Option<String>,
}

#[derive(Debug, Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Connector {
    pub(in crate::db) fn new(config: Config, tls: Arc<rustls::ClientConfig>, naming: bool) -> Self {
        let (generation, turn) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { config, tls: tls.into(), naming, plans: Arc::default(), generation, turn }
    }

    /// What this process knows of its statements.
    pub(in crate::db) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// A migration made what is known of statements stale: sessions opened before are not used again.
    pub(in crate::db) fn forget(&self) {
        self.plans.forget();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Opens a connection to the first host that takes it.
    ///
    /// # Errors
    /// Those of the last host.
    pub(in crate::db) async fn connect(&self) -> Result<Wire, Error> {
        let mut last = Error::Session("the URL names no host".into());
        for target in self.targets().await {
            match self.open(target).await {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, target: Result<Target, Error>) -> Result<Wire, Error> {
        let target = target?;
        let (socket, binding) = self.socket(&target).await?;
        let mut wire = Wire::start(socket, self, target, binding).await?;
        let read_only = match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => false,
            TargetSessionAttrs::ReadOnly => true,
            _ => return Ok(wire),
        };
        if wire.is_read_only().await? == read_only {
            return Ok(wire);
        }
        Err(Error::Session(
            if read_only { "the server takes writes" } else { "the server is read-only" }.into(),
        ))
    }

    /// All addresses of all hosts, in the order to try them; and what could not be resolved.
    async fn targets(&self) -> Vec<Result<Target, Error>> {
        let (hosts, addresses, ports) =
            (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        let mut targets = Vec::new();
        for index in 0..hosts.len().max(addresses.len()) {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let name = match hosts.get(index) {
                Some(Host::Tcp(name)) => Some(name.clone()),
                _ => None,
            };
            match (addresses.get(index), hosts.get(index)) {
                (Some(ip), _) => {
                    targets.push(Ok(Target { address: Address::Tcp((*ip, port).into()), host: name }));
                }
                (None, Some(Host::Unix(folder))) => {
                    let address = Address::Unix(folder.join(format!(".s.PGSQL.{port}")));
                    targets.push(Ok(Target { address, host: None }));
                }
                (None, Some(Host::Tcp(host))) => match lookup_host((host.as_str(), port)).await {
                    Ok(found) => targets
                        .extend(found.map(|address| {
                            Ok(Target { address: Address::Tcp(address), host: name.clone() })
                        })),
                    Err(error) => targets.push(Err(error.into())),
                },
                (None, None) => {}
            }
        }
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random && !targets.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % targets.len();
            targets.rotate_left(turn);
        }
        targets
    }

    /// A protected stream to an address, and what binds a session to its certificate.
    pub(super) async fn socket(&self, target: &Target) -> Result<(Socket, Option<Vec<u8>>), Error> {
        let mode = self.config.get_ssl_mode();
        match &target.address {
            Address::Unix(_) if mode == SslMode::Require => Err(Error::Session(
                "PostgreSQL has no TLS on a unix socket: name a host, or sslmode=disable".into(),
            )),
            Address::Unix(path) => Ok((Socket::Unix(self.in_time(UnixStream::connect(path)).await?), None)),
            Address::Tcp(address) => {
                let stream = self.in_time(TcpStream::connect(address)).await?;
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
    ) -> Result<(Socket, Option<Vec<u8>>), Error> {
        if mode == SslMode::Disable {
            return Ok((Socket::Tcp(stream), None));
        }
        if self.config.get_ssl_negotiation() == SslNegotiation::Postgres && !asks_for_tls(&mut stream).await?
        {
            return match mode {
                SslMode::Prefer => Ok((Socket::Tcp(stream), None)),
                _ => Err(Error::Session("the server has no TLS, and sslmode asks for it".into())),
            };
        }
        let host = host.ok_or_else(|| Error::Session("TLS needs the name of the host".into()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::Session(error.into()))?;
        let stream = self.tls.connect(name, stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let binding = certificate.and_then(|certificate| channel_binding(certificate));
        Ok((Socket::Tls(Box::new(stream)), binding))
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
        let limit = self.config.get_connect_timeout().copied().unwrap_or(Duration::MAX);
        let outcome =
            timeout(limit, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok(outcome?)
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

/// SSLRequest. The answer is one byte; whatever came after it in the clear would be read as part of the handshake.
async fn asks_for_tls(stream: &mut TcpStream) -> Result<bool, Error> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(Error::Protocol("neither yes nor no to TLS")),
    }
}
