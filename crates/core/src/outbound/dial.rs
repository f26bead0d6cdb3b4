//! Connections that are no HTTP: to a host of the operator's or of a tenant's, with TLS or without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{GivenBy, Outbound};

/// What is read from and written to, whatever is below it.
pub(crate) trait DialedStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> DialedStream for S {}

impl Outbound {
    /// Connects to a host, of a tenant's to its public addresses only.
    ///
    /// # Errors
    /// Where no address of it takes the connection within `OUTBOUND_CONNECT_TIMEOUT`, or TLS fails.
    pub(crate) async fn dial(
        &self,
        (host, port): (&str, u16),
        given: GivenBy,
        tls: bool,
    ) -> io::Result<Box<dyn DialedStream>> {
        let patience = self.0.connect_timeout;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time");
        let addresses = timeout(patience, self.addresses(host, given)).await.map_err(|_| late())??;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match timeout(patience, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return if tls { self.encrypt(host, stream).await } else { Ok(Box::new(stream)) };
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = late(),
            }
        }
        Err(failed)
    }

    async fn addresses(&self, host: &str, given: GivenBy) -> io::Result<Vec<IpAddr>> {
        match (given, host.parse()) {
            (GivenBy::Operator, _) => self.look_up(host).await,
            (GivenBy::Tenant, Ok(address)) => Ok(self.0.policy.reached(host, vec![address])),
            (GivenBy::Tenant, Err(_)) => {
                Arc::clone(&self.0.guard).public(host.to_owned()).await.map_err(io::Error::other)
            }
        }
    }

    async fn encrypt(&self, host: &str, stream: TcpStream) -> io::Result<Box<dyn DialedStream>> {
        let connector = TlsConnector::from(Arc::new(self.tls().map_err(io::Error::other)?));
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let encrypted = timeout(self.0.connect_timeout, connector.connect(name, stream)).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS is not set up in time");
        Ok(Box::new(encrypted.map_err(late)??))
    }
}
