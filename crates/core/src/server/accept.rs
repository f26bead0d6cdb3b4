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

use super::{Serving, arrival, conversation};
use crate::middleware::Peer;

/// How long accepting pauses when there is no file descriptor or memory left for another connection (D-06).
const PAUSE: Duration = Duration::from_millis(100);
/// What the kernel takes of an answer before it can be sent, in bytes. It would take megabytes, where nobody sees whether the
/// client takes them (D-02).
#[cfg(target_os = "linux")]
const KERNEL_HOLDS: u32 = 64 * 1024;
/// How long it then tries. Longer than our own clock, since it may count a client that takes a little at a time as one that
/// takes nothing.
#[cfg(target_os = "linux")]
const KERNEL_PATIENCE: Duration = Duration::from_secs(120);

/// As many as the system connects before we take them: tokio's. More than those came after the stop.
const BACKLOG: usize = 1024;

pub(super) async fn accept<A, F>(listener: Arc<TcpListener>, shared: Arc<Serving<A>>)
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
    // A client that the system has connected already may have sent a request: a closed listener would reset it.
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

fn admit<A, F>(stream: TcpStream, peer: SocketAddr, shared: &Arc<Serving<A>>)
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
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        let _ = socket.set_tcp_notsent_lowat(KERNEL_HOLDS);
        let _ = socket.set_tcp_user_timeout(Some(KERNEL_PATIENCE));
    }
}

fn is_of_one_client(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// What comes of it is in script/check-deep: d_02_a_client_that_reads_nothing_is_cut, and the test after it.
    #[tokio::test]
    async fn d_02_the_kernel_holds_little_and_not_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(KERNEL_PATIENCE));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), KERNEL_HOLDS);
        assert!(stream.nodelay().unwrap());
    }
}
