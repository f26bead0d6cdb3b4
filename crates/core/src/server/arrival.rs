//! From an accepted connection to one that can be talked on: the load balancer's header first, then the handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::Serving;
use super::admission::Permit;
use super::conversation::hold;
use super::patience::FAREWELL;
use crate::middleware::Peer;

/// How long a connection may live without a request, whatever it spends that time on (D-01).
const WITHOUT_REQUEST: Duration = Duration::from_secs(15);

/// A connection that is not plain HTTP from its first byte on.
pub(super) async fn receive<A, F>(stream: TcpStream, address: IpAddr, shared: Arc<Serving<A>>, permit: Permit)
where
    A: Fn(Peer, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let accepted = Instant::now();
    let Some((stream, client, permit)) = whose(stream, address, &shared, permit).await else { return };
    let Some(tls) = &shared.tls else {
        return hold(stream, Peer { address: client, tls: false }, shared, permit, accepted).await;
    };
    let Some(Ok(stream)) = until_stopped(&shared, tls.accept(stream, accepted + WITHOUT_REQUEST)).await
    else {
        return;
    };
    let begun = first_head(accepted, Instant::now(), shared.limits.header_timeout);
    hold(stream, Peer { address: client, tls: true }, shared, permit, begun).await;
}

/// From when the first head's time counts: from `now` on, after the handshake, while the connection has so much left.
fn first_head(accepted: Instant, now: Instant, header_timeout: Duration) -> Instant {
    now.min(accepted + WITHOUT_REQUEST.saturating_sub(header_timeout))
}

/// The client, as the load balancer names it; its connections are counted from here on.
async fn whose<A>(
    mut stream: TcpStream,
    peer: IpAddr,
    shared: &Serving<A>,
    mut permit: Permit,
) -> Option<(TcpStream, IpAddr, Permit)> {
    let Some(proxies) = &shared.proxies else { return Some((stream, peer, permit)) };
    let header = timeout(shared.limits.header_timeout, proxies.client(&mut stream, peer));
    let client = until_stopped(shared, header).await?.ok()?.ok()?;
    permit.count(client).then_some((stream, client, permit))
}

/// `None` when the process stops: a client that has not begun to ask is not waited for.
async fn until_stopped<A, T>(shared: &Serving<A>, work: impl Future<Output = T>) -> Option<T> {
    let stop = shared.lifecycle.stop_serving().child_token();
    let stopped = async {
        stop.cancelled().await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = stopped => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_01_a_handshake_does_not_add_its_time_to_that_of_the_first_head() {
        let accepted = Instant::now();
        for (header_timeout, handshake, most) in
            [(10, 0, 10), (10, 3, 13), (10, 10, 15), (15, 10, 15), (1, 10, 11)]
        {
            let [limit, now] = [header_timeout, handshake].map(Duration::from_secs);
            let end = first_head(accepted, accepted + now, limit) + limit;
            assert_eq!(end - accepted, Duration::from_secs(most), "{header_timeout} {handshake}");
        }
    }
}
