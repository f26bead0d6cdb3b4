//! The PROXY protocol, version 2: what a TCP load balancer says of a client before the client's first byte.
//!
//! Source: HAProxy's `proxy-protocol.txt`, section 2.2. Deployment: every connection comes through the load balancer;
//! with `TRUSTED_PROXIES` others must send the header too, and are not believed. The extensions (TLVs) are skipped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::{Cidr, Config};
use crate::shared::Seldom;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD: usize = 16;
/// Room for addresses and extensions: the largest of those is a client certificate.
const LARGEST: usize = 4096;
/// How often a refusal is logged: a refused client comes back at once.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Whose headers are believed; cheap to clone.
#[derive(Clone)]
pub struct Proxies {
    trusted: Arc<[Cidr]>,
    warning: Arc<Seldom>,
}

impl Proxies {
    /// As `PROXY_PROTOCOL` and `TRUSTED_PROXIES` say; `None` when connections begin with the client's first byte.
    pub fn new(config: &Config) -> Option<Self> {
        if !config.transport.proxy_protocol {
            return None;
        }
        Some(Self {
            trusted: config.http.trusted_proxies.as_slice().into(),
            warning: Arc::new(Seldom::new(LOG_INTERVAL)),
        })
    }

    /// Whether `peer` is believed.
    pub(super) fn believe(&self, peer: IpAddr) -> bool {
        self.trusted.is_empty() || self.trusted.iter().any(|network| network.contains(peer))
    }

    /// Reads the header and says whose connection it is.
    pub(super) async fn client<S>(&self, stream: &mut S, peer: IpAddr) -> Result<IpAddr, HeaderRefusal>
    where
        S: AsyncRead + Unpin,
    {
        match read(stream).await {
            Ok(Some(client)) if self.believe(peer) => Ok(client),
            Ok(_) => Ok(peer),
            Err(refusal) => {
                if self.warning.is_due() {
                    tracing::warn!(%peer, reason = %refusal, "A connection was refused for its PROXY protocol header");
                }
                Err(refusal)
            }
        }
    }
}

/// Why a connection has no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderRefusal {
    /// It ended before the header did.
    Cut,
    /// It begins with something else.
    None,
    /// It begins with the text form.
    Version1,
    TooLarge,
    Malformed,
}

impl fmt::Display for HeaderRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it ends within the header",
            Self::None => "it does not begin with one",
            Self::Version1 => "it is of version 1: send version 2",
            Self::TooLarge => "it is larger than 4 KiB",
            Self::Malformed => "it is malformed",
        })
    }
}

/// Reads a header, and not a byte more; `None` when the connection is the load balancer's own, or the client has no IP
/// address.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, HeaderRefusal> {
    let mut head = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match stream.read(&mut head[filled..]).await {
            Ok(0) | Err(_) => return Err(HeaderRefusal::Cut),
            Ok(more) => filled += more,
        }
        begins_well(&head[..filled])?;
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > LARGEST {
        return Err(HeaderRefusal::TooLarge);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.map_err(|_| HeaderRefusal::Cut)?;
    client(head[12], head[13], &rest)
}

/// Refuses at the first wrong byte: who speaks something else need not wait for the deadline.
fn begins_well(bytes: &[u8]) -> Result<(), HeaderRefusal> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes[..compared] == SIGNATURE[..compared] {
        return Ok(());
    }
    Err(if bytes.starts_with(b"PROXY ") { HeaderRefusal::Version1 } else { HeaderRefusal::None })
}

/// The client of a whole header: version and command, family and protocol, addresses and extensions.
fn client(command: u8, family: u8, rest: &[u8]) -> Result<Option<IpAddr>, HeaderRefusal> {
    let (address, addresses) = match (command, family) {
        (0x20, _) => return Ok(None), // LOCAL, such as a health check: the addresses mean nothing
        (0x21, 0x00) => return Ok(None),
        (0x21, 0x11) => (rest.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()), 12),
        (0x21, 0x21) => (rest.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).to_canonical()), 36),
        (0x21, 0x31) => (None, 216), // a UNIX socket
        _ => return Err(HeaderRefusal::Malformed),
    };
    let extensions = rest.get(addresses..).ok_or(HeaderRefusal::Malformed)?;
    skip(extensions).map(|()| address)
}

/// Extensions are a type, a length of two bytes, and as many bytes.
fn skip(mut extensions: &[u8]) -> Result<(), HeaderRefusal> {
    while !extensions.is_empty() {
        let [_, high, low] = extensions.first_chunk::<3>().copied().ok_or(HeaderRefusal::Malformed)?;
        let end = 3 + usize::from(u16::from_be_bytes([high, low]));
        extensions = extensions.get(end..).ok_or(HeaderRefusal::Malformed)?;
    }
    Ok(())
}

/// The header of a connection of our own, which a load balancer would send for its health checks.
pub(super) fn local() -> [u8; HEAD] {
    let mut header = [0; HEAD];
    header[..SIGNATURE.len()].copy_from_slice(SIGNATURE);
    header[SIGNATURE.len()] = 0x20;
    header
}

#[cfg(test)]
mod tests;
