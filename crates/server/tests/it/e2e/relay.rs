//! Ways to a test's PostgreSQL, which listens on a socket only: over TCP, with TLS or without, and ways that go wrong.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A way to a PostgreSQL, on a port of its own; dropping it closes it.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    silent: Arc<AtomicBool>,
    _runtime: Runtime,
}

/// What lies on the way.
#[derive(Clone)]
enum Kind {
    /// Nothing.
    Plain,
    /// A TLS endpoint.
    Tls(TlsAcceptor),
    /// What forgets a connection on which nothing was said for so long, and swallows what comes later.
    Forgetful(Duration),
}

impl Relay {
    pub(super) fn plain(socket: PathBuf) -> Self {
        Self::start(socket, Kind::Plain)
    }

    pub(super) fn forgetful(socket: PathBuf, silence: Duration) -> Self {
        Self::start(socket, Kind::Forgetful(silence))
    }

    pub(super) fn tls(
        socket: PathBuf,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::start(socket, Kind::Tls(TlsAcceptor::from(Arc::new(config))))
    }

    fn start(socket: PathBuf, kind: Kind) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, silent) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        listener.set_nonblocking(true).unwrap();
        let swallows = Arc::clone(&silent);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, socket.clone(), kind.clone(), Arc::clone(&swallows)));
            }
        });
        Self { address, silent, _runtime: runtime }
    }

    /// From now on nothing comes through, on old connections and new ones, and none is closed.
    pub(super) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }
}

async fn pass_on(
    mut client: TcpStream,
    socket: PathBuf,
    kind: Kind,
    silent: Arc<AtomicBool>,
) -> io::Result<()> {
    let mut server = UnixStream::connect(&socket).await?;
    match kind {
        Kind::Tls(acceptor) => {
            client.read_exact(&mut [0; 8]).await?; // SSLRequest
            client.write_all(b"S").await?;
            let mut secured = acceptor.accept(client).await?;
            copy_bidirectional(&mut secured, &mut server).await?;
        }
        Kind::Plain => carry(client, server, None, &silent).await?,
        Kind::Forgetful(silence) => carry(client, server, Some(silence), &silent).await?,
    }
    Ok(())
}

/// Carries bytes both ways until one side closes; after that much silence it carries none, and closes nothing.
async fn carry(
    client: TcpStream,
    server: UnixStream,
    silence: Option<Duration>,
    silent: &AtomicBool,
) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let step = async {
            tokio::select! {
                read = from_client.read(&mut up) => read.map(|read| (read, true)),
                read = from_server.read(&mut down) => read.map(|read| (read, false)),
            }
        };
        let step = match silence {
            Some(silence) => timeout(silence, step).await,
            None => Ok(step.await),
        };
        let Ok(step) = step else { std::future::pending().await };
        match step? {
            (0, _) => return Ok(()),
            _ if silent.load(Ordering::SeqCst) => {}
            (read, true) => to_server.write_all(&up[..read]).await?,
            (read, false) => to_client.write_all(&down[..read]).await?,
        }
    }
}

/// An authority of a test's own, in a PEM file in `folder`.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(super) file: PathBuf,
}

impl Authority {
    pub(super) fn new(folder: &std::path::Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A certificate for a host, with its key.
    pub(super) fn certificate(&self, host: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}
