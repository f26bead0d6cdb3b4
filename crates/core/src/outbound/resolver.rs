//! From names to addresses. What a name leads to is looked up once for a connection, checked, and connected to: a name that
//! leads elsewhere a moment later (DNS rebinding) changes nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::policy::OutboundPolicy;

/// Looks up names.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The machine's resolver: `/etc/hosts`, and the servers and search domains of `/etc/resolv.conf`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// For what the operator has configured: all addresses.
pub(super) struct Unguarded(pub(super) Arc<dyn Resolver>);

impl Resolve for Unguarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.resolve(name.as_str());
        Box::pin(async move { Ok(addresses(found.await?)) })
    }
}

/// For what tenants have given: public addresses only.
pub(super) struct Guarded {
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) policy: Arc<OutboundPolicy>,
}

impl Guarded {
    /// The addresses of `host` that may be connected to; at least one.
    pub(super) async fn public(self: Arc<Self>, host: String) -> Result<Vec<IpAddr>, NotPublic> {
        let found = self.resolver.resolve(&absolute(&host)).await;
        let found = found.map_err(|error| NotPublic(Some(error)))?;
        let reached = self.policy.reached(&host, found);
        if reached.is_empty() { Err(NotPublic(None)) } else { Ok(reached) }
    }
}

/// A name of the public DNS and of nothing else: with the dot at its end neither search domains nor `/etc/hosts` are asked.
/// One without any dot can only be of this machine.
fn absolute(host: &str) -> String {
    if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_owned() }
}

/// The guard as the client takes it.
pub(super) struct GuardedResolve(pub(super) Arc<Guarded>);

impl Resolve for GuardedResolve {
    fn resolve(&self, name: Name) -> Resolving {
        let found = Arc::clone(&self.0).public(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses(found.await?)) })
    }
}

/// The port is the URL's.
fn addresses(found: Vec<IpAddr>) -> Addrs {
    Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)))
}

/// A name has no public address: it was not found, or it leads to private ones only. Which of the two is not told to a
/// tenant, who could map a private network by it.
#[derive(Debug)]
pub(super) struct NotPublic(Option<io::Error>);

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the name was not found",
            None => "the name leads to no public address",
        })
    }
}

impl std::error::Error for NotPublic {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as &(dyn std::error::Error + 'static))
    }
}

impl NotPublic {
    /// Whether private addresses were found, and so the call was refused rather than in vain.
    pub(super) fn is_refused(&self) -> bool {
        self.0.is_none()
    }
}
