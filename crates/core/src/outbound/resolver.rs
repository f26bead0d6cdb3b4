//! From names to addresses. What a name leads to is looked up once for a connection, checked, and connected to: a name that
//! leads elsewhere a moment later (DNS rebinding) changes nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::policy::OutboundPolicy;

/// Looks up names.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`.
    fn resolve(&self, host: &str, given: GivenBy) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Who has given a name: tenants' may be made to take long, and must hold up nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBy {
    /// The operator, in a setting.
    Operator,
    /// A tenant, in a URL.
    Tenant,
}

/// The machine's resolver: `/etc/hosts`, and the servers and search domains of `/etc/resolv.conf`.
///
/// A look-up holds a thread until it ends, however soon its caller gives up: 10 s and more while a name's own server is silent.
/// So there are only so many at a time, and passwords and files have the rest of the threads.
#[derive(Debug)]
pub struct SystemResolver {
    operator: Arc<Semaphore>,
    tenants: Arc<Semaphore>,
}

/// Most look-ups at a time, of each of the two; tokio has 512 threads for what blocks.
const LOOK_UPS: usize = 32;

impl Default for SystemResolver {
    fn default() -> Self {
        let slots = || Arc::new(Semaphore::new(LOOK_UPS));
        Self { operator: slots(), tenants: slots() }
    }
}

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, given: GivenBy) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let slots = match given {
            GivenBy::Operator => Arc::clone(&self.operator),
            GivenBy::Tenant => Arc::clone(&self.tenants),
        };
        let host = host.to_owned();
        Box::pin(blocking(slots, move || {
            let found = (host.as_str(), 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        }))
    }
}

/// Runs what blocks, in a slot that it keeps until it has ended.
async fn blocking<T: Send + 'static>(
    slots: Arc<Semaphore>,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
    let acted = tokio::task::spawn_blocking(move || {
        let result = act();
        drop(slot);
        result
    });
    acted.await.map_err(io::Error::other)?
}

/// For what the operator has configured: all addresses.
pub(super) struct Unguarded(pub(super) Arc<dyn Resolver>);

impl Resolve for Unguarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.resolve(name.as_str(), GivenBy::Operator);
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
        let found = self.resolver.resolve(&absolute(&host), GivenBy::Tenant).await;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn t_22_a_look_up_keeps_its_slot_until_it_has_ended_also_when_nobody_waits_for_it() {
        let slots = Arc::new(Semaphore::new(1));
        let (end, ended) = mpsc::channel::<()>();
        let hung = blocking(Arc::clone(&slots), move || ended.recv().map_err(io::Error::other));
        assert!(tokio::time::timeout(Duration::from_millis(50), hung).await.is_err(), "its caller gives up");
        let next = blocking(Arc::clone(&slots), || Ok(1));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), next).await.is_err(),
            "the thread is still taken"
        );
        end.send(()).unwrap();
        assert_eq!(blocking(slots, || Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn this_machine_is_found_by_its_name() {
        let found = SystemResolver::default().resolve("localhost", GivenBy::Operator).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
