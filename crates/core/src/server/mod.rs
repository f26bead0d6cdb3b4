//! Our own accept loop: every connection has deadlines, every address its share, and a drain ends.
//!
//! - `accept`: takes connections, through a lack of file descriptors too;
//! - `admission`: how many there may be, together and of one address;
//! - `proxy`: the client's address, from a load balancer that speaks the PROXY protocol;
//! - `tls`: the certificate, its renewal, and the handshake;
//! - `arrival`: both of these, before the first request;
//! - `redirect`: where a request of plain HTTP belongs;
//! - `conversation`: one connection, over HTTP/1.1 or HTTP/2;
//! - `patience`: the two clocks of a connection: the next request's head, and the silence between requests;
//! - `taking`: whether the client of a stream takes its answer;
//! - `host`: whether a request says whom it is for, and once;
//! - `linger`: the rest of a body that nobody reads;
//! - `activity`: what a connection is doing, as its bytes and requests show it;
//! - `unread`: what was no request, and is answered all the same;
//! - `loopback`: how the process asks itself, whatever its listener speaks.

mod accept;
mod activity;
mod admission;
mod arrival;
#[cfg(test)]
mod attacks;
mod conversation;
mod framing;
mod host;
mod linger;
mod loopback;
mod patience;
mod proxy;
mod redirect;
#[cfg(test)]
mod slow_readers;
mod taking;
#[cfg(test)]
mod tests;
mod tls;
mod unread;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::lifecycle::{Background, Exit, Lifecycle, StartError, StopStage};
use crate::middleware::Peer;
use crate::shared::authority;
use admission::Admission;

pub use loopback::{Loopback, introduce};
pub use proxy::Proxies;
pub(crate) use redirect::https;
pub(crate) use tls::CERTIFICATE;
pub use tls::Tls;

/// Listeners that are bound and do not answer yet.
pub struct Server {
    listeners: Vec<TcpListener>,
    tls: Option<Tls>,
    proxies: Option<Proxies>,
    connections: Arc<AtomicU32>,
}

/// What a listener allows its clients.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// How long a connection may take until its first request's head is complete, and each later head from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may be silent between two requests.
    pub keep_alive_timeout: Duration,
    /// Most connections at a time.
    pub max_connections: u32,
    /// Most connections at a time of one address, or of one /64 network of IPv6.
    pub max_connections_per_address: u32,
}

impl From<&Config> for ConnectionLimits {
    fn from(config: &Config) -> Self {
        Self {
            header_timeout: config.traffic.header_timeout,
            keep_alive_timeout: config.traffic.keep_alive_timeout,
            max_connections: config.traffic.max_connections,
            max_connections_per_address: config.traffic.max_connections_per_address,
        }
    }
}

/// What all connections of a server share.
struct Serving<A> {
    answer: A,
    limits: ConnectionLimits,
    admission: Arc<Admission>,
    lifecycle: Lifecycle,
    tls: Option<Tls>,
    proxies: Option<Proxies>,
}

/// Takes the connections of one listener.
pub(crate) static ACCEPT: Background<Accept> = Background {
    name: "accept",
    about: "Takes connections; one for each address that is listened on.",
    critical: true,
    stops: StopStage::Intake,
    run: |accept, _| accept(),
    observe: |_| {},
};

/// Makes the loop of one listener.
pub(crate) type Accept = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

impl Server {
    /// Binds `host`, a name or an address; `setting` is what chose the port. `localhost` binds 127.0.0.1 and, where there is IPv6, ::1. Port 0 takes a free one.
    ///
    /// # Errors
    /// `Exit::Unavailable` when the port is taken or the address is not this machine's.
    pub async fn bind(setting: &str, host: &str, port: u16) -> Result<Self, StartError> {
        if host != "localhost" {
            let listener = TcpListener::bind((host, port))
                .await
                .map_err(|error| cannot_bind(setting, host, port, error))?;
            return Ok(Self::on(vec![listener]));
        }
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let first = first.map_err(|error| cannot_bind(setting, host, port, error))?;
        let port = first.local_addr().map_or(port, |address| address.port());
        let second = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(cannot_bind(setting, host, port, error));
            }
            Err(_) => None, // no IPv6 on this machine
        };
        Ok(Self::on(std::iter::once(first).chain(second).collect()))
    }

    fn on(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, tls: None, proxies: None, connections: Arc::default() }
    }

    /// Speaks HTTPS, and nothing else.
    #[must_use]
    pub fn secured(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Takes the client's address from the header that each connection then begins with.
    #[must_use]
    pub fn behind(mut self, proxies: Option<Proxies>) -> Self {
        self.proxies = proxies;
        self
    }

    /// Counts its connections where others see it.
    #[must_use]
    pub fn counted(mut self, connections: Arc<AtomicU32>) -> Self {
        self.connections = connections;
        self
    }

    /// The first address that is listened on.
    pub fn address(&self) -> SocketAddr {
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(unknown)
    }

    /// Starts to answer with what `answer` makes of a request and its peer, in tasks that the lifecycle owns.
    pub fn start<A, F>(self, lifecycle: &Lifecycle, limits: ConnectionLimits, answer: A)
    where
        A: Fn(Peer, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let Self { listeners, tls, proxies, connections } = self;
        let admission = Admission::new(limits, connections);
        let owner = lifecycle.clone();
        let shared = Arc::new(Serving { answer, limits, admission, lifecycle: owner, tls, proxies });
        for listener in listeners {
            let (listener, shared) = (Arc::new(listener), Arc::clone(&shared));
            let accept = move || accept::accept(Arc::clone(&listener), Arc::clone(&shared)).boxed();
            lifecycle.start(&ACCEPT, Arc::new(accept) as Accept);
        }
    }
}

fn cannot_bind(setting: &str, host: &str, port: u16, error: io::Error) -> StartError {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("Port {port} on {host} is taken by another program: stop it, or set {setting}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("Port {port} needs privileges: set {setting} to 1024 or above")
        }
        _ => format!("{} cannot be listened on: {error}; check HOST", authority(host, port)),
    };
    StartError::new(Exit::Unavailable, message).because(error)
}
