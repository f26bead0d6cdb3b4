//! Where a request comes from: by which listener, from which client, over what, and which page asks.

use std::net::IpAddr;

use axum::extract::Request;

pub(super) mod client;
pub(super) mod cors;
mod forwarded;
pub(crate) mod https;
pub(super) mod redirect;
pub(super) mod request_id;
pub(super) mod selection;

/// The other end of the connection, in the extensions of a request that custom middleware sees. It may be a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Whether the connection is encrypted, and ends here.
    pub tls: bool,
}

/// Marks a request that came to the management listener.
#[derive(Clone, Copy)]
pub(super) struct Managed;

/// Marks a request to a process that serves no API.
#[derive(Clone, Copy)]
pub(super) struct WithoutApi;

/// Whether operators' routes and probes are all that is answered where the request came to.
pub(super) fn has_no_api(request: &Request) -> bool {
    is_managed(request) || request.extensions().get::<WithoutApi>().is_some()
}

/// Whether the request came to the management listener.
pub(super) fn is_managed(request: &Request) -> bool {
    request.extensions().get::<Managed>().is_some()
}
