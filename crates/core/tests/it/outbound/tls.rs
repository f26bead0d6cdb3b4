//! TLS and HTTP/2 towards other services.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use erp_core::outbound::{Destination, OutboundError};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Caller, PATIENCE};

/// A server of HTTP/2 over TLS, with a certificate for `name` of an authority of its own.
struct Secure {
    port: u16,
    authority: PathBuf,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.authority);
    }
}

impl Secure {
    async fn start(name: &str) -> Self {
        let (acceptor, pem) = certificates(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = std::env::temp_dir().join(format!("erp-outbound-{}-{port}.pem", std::process::id()));
        std::fs::write(&authority, pem).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, acceptor.clone()));
            }
        });
        Self { port, authority, connections, task }
    }

    fn caller(&self) -> Caller {
        let caller = Caller::new(&[("OUTBOUND_CA_PATH", self.authority.to_str().unwrap())]);
        caller.names.leads("service.example.com", &["127.0.0.1"]);
        caller
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let answer = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
        let version = format!("{:?}", request.version());
        Ok::<_, Infallible>(hyper::Response::new(version))
    });
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
}

/// An acceptor with a certificate for `name`, and its authority in PEM.
fn certificates(name: &str) -> (TlsAcceptor, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), ca.pem())
}

fn service(port: u16) -> Destination {
    Destination::new("service", &format!("https://service.example.com:{port}")).unwrap()
}

#[tokio::test]
async fn http_2_is_spoken_with_a_server_of_an_authority_that_is_named() {
    let server = Secure::start("service.example.com").await;
    let caller = server.caller();
    for _ in 0..3 {
        assert_eq!(caller.get(&service(server.port)).await.unwrap(), "200 HTTP/2.0");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_of_no_known_authority_or_of_another_name_is_not_spoken_with() {
    let server = Secure::start("service.example.com").await;
    let stranger = Caller::new(&[]);
    stranger.names.leads("service.example.com", &["127.0.0.1"]);
    let error = stranger.get(&service(server.port)).await.unwrap_err();
    assert!(matches!(error, OutboundError::Unreachable(_)), "{error:?}");
    let other = Secure::start("other.example.com").await;
    let error = other.caller().get(&service(other.port)).await.unwrap_err();
    assert!(matches!(error, OutboundError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_refuse_the_start() {
    let folder = std::env::temp_dir();
    let empty = folder.join(format!("erp-outbound-empty-{}", std::process::id()));
    std::fs::write(&empty, "no certificate").unwrap();
    for (path, why) in [
        (folder.clone(), "is no file"),
        (folder.join("nowhere.pem"), "is no file"),
        (empty.clone(), "holds no certificate"),
    ] {
        let problem = Caller::refused(&[("OUTBOUND_CA_PATH", path.to_str().unwrap())]);
        assert!(problem.contains("OUTBOUND_CA_PATH") && problem.contains(why), "{problem}");
    }
    std::fs::remove_file(empty).unwrap();
}

/// A way to the server on which established connections can fall silent, as behind a NAT that has forgotten them.
async fn way(to: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&silent);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let born_silent = told.load(Ordering::SeqCst);
                let fallen = async {
                    while born_silent || !told.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = fallen => std::future::pending().await, // both ends stay open
                }
            });
        }
    });
    (port, silent)
}

#[tokio::test]
async fn a_connection_of_http_2_that_has_fallen_silent_is_given_up() {
    let server = Secure::start("service.example.com").await;
    let (port, silent) = way(server.port).await;
    let caller = server.caller();
    assert_eq!(caller.get(&service(port)).await.unwrap(), "200 HTTP/2.0");
    silent.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let mut failed = 0;
    // Each call ends before a sign of life is due, so that none of them is under way then. New connections work.
    while begun.elapsed() < PATIENCE {
        let call =
            caller.outbound.get(&caller.trace, service(port).at("")).within(Duration::from_secs(1)).once();
        match call.send().await {
            Ok(answer) => {
                assert_eq!(answer.body, "HTTP/2.0");
                assert!(failed > 0, "the connection had fallen silent");
                return;
            }
            Err(_) => failed += 1,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{failed} calls went into a dead connection");
}
