//! Takes connections until the lifecycle says stop, and those that were already waiting then.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::patience::WRITE_STALL;
use super::{Shared, arrival, conversation};
use crate::middleware::Peer;

/// How long accepting pauses when there is no file descriptor or memory left for another connection (D-06).
const PAUSE: Duration = Duration::from_millis(100);
/// As many as the system connects before we take them: tokio's. More than those came after the stop.
const BACKLOG: usize = 1024;

pub(super) async fn accept<A, F>(listener: Arc<TcpListener>, shared: Arc<Shared<A>>)
where
    A: Fn(Peer, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let stop = shared.lifecycle.stop_serving().clone();
    let mut short = false;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                short = false;
                admit(stream, peer, &shared);
            }
            // Of one client only, which has gone before we came to it.
            Err(error) if is_of_one_client(error.kind()) => {}
            Err(error) => {
                if !short {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "No connection can be accepted; trying again"
                    );
                }
                short = true;
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
    // Whoever the system has connected already may have sent a request: a closed listener would reset it.
    let Ok(listener) = listener.as_fd().try_clone_to_owned() else { return };
    let listener = std::net::TcpListener::from(listener);
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(stream, peer, &shared);
        }
    }
}

fn admit<A, F>(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared<A>>)
where
    A: Fn(Peer, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let address = peer.ip().to_canonical();
    // A load balancer's client is counted once its header has named it.
    let named_later = shared.proxies.as_ref().is_some_and(|proxies| proxies.believe(address));
    let Some(permit) = shared.admission.admit((!named_later).then_some(address)) else { return };
    prepare(&stream);
    let shared = Arc::clone(shared);
    let lifecycle = shared.lifecycle.clone();
    if shared.proxies.is_none() && shared.tls.is_none() {
        let peer = Peer { address, tls: false };
        drop(lifecycle.serve(conversation::hold(stream, peer, shared, permit, Instant::now())));
    } else {
        drop(lifecycle.serve(arrival::receive(stream, address, shared, permit)));
    }
}

fn prepare(stream: &TcpStream) {
    // Answers leave at once: waiting for more bytes would add 40 ms to small ones.
    let _ = stream.set_nodelay(true);
    // Megabytes of an answer may wait in the kernel, where we do not see whether the client takes them: it looks itself.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(WRITE_STALL));
}

fn is_of_one_client(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// What it does is the kernel's: d_02_a_client_that_reads_nothing_is_cut, of script/check-deep, waits for it.
    #[tokio::test]
    async fn d_02_the_kernel_gives_up_a_client_as_soon_as_we_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(WRITE_STALL));
        assert!(stream.nodelay().unwrap());
    }
}
