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

use super::{Shared, arrival, conversation};
use crate::middleware::Peer;

/// How long accepting pauses when there is no file descriptor or memory left for another connection (D-06).
const PAUSE: Duration = Duration::from_millis(100);

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
    while let Ok((stream, peer)) = listener.accept() {
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
    // Answers leave at once: waiting for more bytes would add 40 ms to small ones.
    let _ = stream.set_nodelay(true);
    let shared = Arc::clone(shared);
    let lifecycle = shared.lifecycle.clone();
    if shared.proxies.is_none() && shared.tls.is_none() {
        let peer = Peer { address, tls: false };
        drop(lifecycle.serve(conversation::hold(stream, peer, shared, permit, Instant::now())));
    } else {
        drop(lifecycle.serve(arrival::receive(stream, address, shared, permit)));
    }
}

fn is_of_one_client(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}
