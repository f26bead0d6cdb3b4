//! Our own accept loop: deadlines on silence, and a drain that ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};

use crate::lifecycle::{Exit, Lifecycle, StartError};
use crate::middleware::Edge;

/// How long a connection's first request may keep us waiting, and how long any request's head may take (D-01).
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long accepting pauses when there is no file descriptor left (D-06).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Listeners that are bound and do not answer yet.
pub struct Server {
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Binds `host`, a name or an address. `localhost` binds 127.0.0.1 and, where there is IPv6, ::1. Port 0 takes a free one.
    ///
    /// # Errors
    /// `Exit::Unavailable` when the port is taken or the address is not this machine's.
    pub async fn bind(host: &str, port: u16) -> Result<Self, StartError> {
        if host != "localhost" {
            let listener =
                TcpListener::bind((host, port)).await.map_err(|error| cannot_bind(host, port, error))?;
            return Ok(Self { listeners: vec![listener] });
        }
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let first = first.map_err(|error| cannot_bind(host, port, error))?;
        let port = first.local_addr().map_or(port, |address| address.port());
        let second = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(cannot_bind(host, port, error));
            }
            Err(_) => None, // no IPv6 on this machine
        };
        Ok(Self { listeners: std::iter::once(first).chain(second).collect() })
    }

    /// The first address that is listened on.
    pub fn address(&self) -> SocketAddr {
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(unknown)
    }

    /// Starts to answer, in tasks that the lifecycle owns.
    pub fn start(self, edge: &Arc<Edge>) {
        for listener in self.listeners {
            let lifecycle = edge.app.lifecycle.clone();
            let tasks = lifecycle.connections().clone();
            tasks.spawn(accept(listener, Arc::clone(edge), lifecycle));
        }
    }
}

async fn accept(listener: TcpListener, edge: Arc<Edge>, lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            () = lifecycle.stop_serving().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                lifecycle.connections().spawn(converse(
                    stream,
                    peer.ip(),
                    Arc::clone(&edge),
                    lifecycle.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, until its client or the lifecycle ends it.
async fn converse(stream: TcpStream, client: IpAddr, edge: Arc<Edge>, lifecycle: Lifecycle) {
    // Answers leave at once: waiting for more bytes would add 40 ms to small ones.
    let _ = stream.set_nodelay(true);
    let asked = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        first.store(true, Ordering::Relaxed);
        let edge = Arc::clone(&edge);
        async move { Ok::<_, std::convert::Infallible>(edge.handle(client, request.map(Body::new)).await) }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A client that breaks its connection off is no event.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = silence(&asked) => return,
        () = lifecycle.stop_serving().cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Ends when no request has come in time. Hyper's own deadline begins only when it has told HTTP/1 from HTTP/2, for
/// which a silent client lets it wait for ever.
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(HEAD_DEADLINE).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(100)
        .max_buf_size(MAX_HEADER_BYTES.max(8192) * 4);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(200)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Duration::from_secs(20));
    builder
}

fn cannot_bind(host: &str, port: u16, error: io::Error) -> StartError {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("Port {port} on {host} is taken by another program: stop it, or set PORT")
        }
        io::ErrorKind::PermissionDenied => format!("Port {port} needs privileges: set PORT to 1024 or above"),
        _ => format!("{host}:{port} cannot be listened on: {error}; check HOST"),
    };
    StartError::new(Exit::Unavailable, message).because(error)
}
