//! `sslmode` against a real PostgreSQL behind a TLS endpoint that speaks its start-up protocol.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use erp_core::db::{Connection, Db, PoolOptions, reach};
use erp_core::lifecycle::Lifecycle;
use erp_core::metrics::Metrics;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// An authority, and a TLS endpoint in front of the test's PostgreSQL whose certificate names `name`.
struct Endpoint {
    port: u16,
    authority: PathBuf,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_file(&self.authority);
    }
}

impl Endpoint {
    async fn start(name: &str) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Self::showing(certificates(&params)).await
    }

    async fn showing((acceptor, authority): (TlsAcceptor, String)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = std::env::temp_dir().join(format!("erp-tls-{}-{port}.pem", std::process::id()));
        std::fs::write(&file, authority).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, acceptor.clone()));
            }
        });
        Self { port, authority: file, server }
    }

    fn url(&self, host: &str, mode: &str, authority: bool) -> String {
        let root =
            if authority { format!("&sslrootcert={}", self.authority.display()) } else { String::new() };
        format!("postgresql://postgres@{host}:{}/postgres?sslmode={mode}{root}", self.port)
    }
}

/// An endpoint that shows a certificate of an authority's, and the authority in PEM.
fn certificates(params: &CertificateParams) -> (TlsAcceptor, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    (acceptor(certificate.der().clone(), &key), ca.pem())
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers SSLRequest with `S`, shakes hands, and passes the rest on to PostgreSQL's socket. A start-up packet in the
/// clear is passed on as it is, as PostgreSQL with `hostnossl` would.
async fn relay(mut client: TcpStream, acceptor: TlsAcceptor) {
    let mut head = [0; 8];
    if client.read_exact(&mut head).await.is_err() {
        return;
    }
    let mut server = postgres().await;
    if head == [0, 0, 0, 8, 4, 210, 22, 47] {
        client.write_all(b"S").await.unwrap();
        let Ok(mut secured) = acceptor.accept(client).await else { return };
        let _ = copy_bidirectional(&mut secured, &mut server).await;
    } else {
        server.write_all(&head).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn postgres() -> UnixStream {
    let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run script/test");
    let config: tokio_postgres::Config = url.parse().unwrap();
    let Some(Host::Unix(folder)) = config.get_hosts().first() else {
        panic!("the test's PostgreSQL has a unix socket")
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.unwrap()
}

/// Asks through the driver's session, and through one that serves requests: they must agree.
async fn outcome(url: &str) -> Result<(), String> {
    let connection: Connection = url.parse()?;
    let reached = reach(&connection, &TaskTracker::new()).await;
    let reached = reached.map(drop).map_err(|refusal| refusal.error.to_string());
    let asked = ask(connection).await;
    assert_eq!(reached.is_ok(), asked.is_ok(), "{reached:?}, and {asked:?}");
    reached
}

/// Who the server says we are, asked as a request would ask.
async fn ask(connection: Connection) -> Result<String, String> {
    let lifecycle = Lifecycle::new();
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let options = PoolOptions {
        connection,
        max_connections: 1,
        acquire_timeout: 5 * second,
        connect_timeout: 5 * second,
        statement_timeout: minute,
        idle_timeout: minute,
        slow_query: minute,
        log_queries: false,
        tenant_max_connections: 1,
        prepared_statements: true,
        row_conditions: Arc::default(),
    };
    let pools = Db::open(options.clone(), options, &Metrics::new(false), &lifecycle);
    let pools = pools.map_err(|error| error.to_string())?;
    let answer = pools.runtime.role().await;
    lifecycle.stop(Duration::ZERO).await;
    pools.close();
    answer.map_err(|error| format!("{error}: {:?}", error.cause().map(ToString::to_string)))
}

#[tokio::test]
async fn each_sslmode_checks_as_much_as_libpq_does() {
    let endpoint = Endpoint::start("127.0.0.1").await;
    for mode in ["disable", "prefer", "require"] {
        outcome(&endpoint.url("127.0.0.1", mode, false)).await.unwrap();
    }
    for mode in ["verify-ca", "verify-full"] {
        outcome(&endpoint.url("127.0.0.1", mode, true)).await.unwrap();
    }
}

#[tokio::test]
async fn another_name_passes_verify_ca_and_fails_verify_full() {
    let endpoint = Endpoint::start("db.example").await;
    outcome(&endpoint.url("127.0.0.1", "verify-ca", true)).await.unwrap();
    assert!(outcome(&endpoint.url("127.0.0.1", "verify-full", true)).await.is_err());
}

#[tokio::test]
async fn another_authority_fails_both() {
    let (endpoint, other) = (Endpoint::start("127.0.0.1").await, Endpoint::start("127.0.0.1").await);
    for mode in ["verify-ca", "verify-full"] {
        let url = endpoint.url("127.0.0.1", mode, true);
        let url = url.replace(endpoint.authority.to_str().unwrap(), other.authority.to_str().unwrap());
        assert!(outcome(&url).await.is_err(), "{mode}");
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_says_its_cause_and_its_mend() {
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let params = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        params
    };
    let faults = [
        (params(&|params| params.not_after = year(2020)), "has expired", "renew it"),
        (params(&|params| params.not_before = year(2090)), "not valid yet", "clocks"),
        (params(&|params| params.subject_alt_names.clear()), "without a subjectAltName", "common name"),
    ];
    for (params, cause, mend) in faults {
        let endpoint = Endpoint::showing(certificates(&params)).await;
        let said = outcome(&endpoint.url("127.0.0.1", "verify-full", true)).await.unwrap_err();
        assert!(said.contains(cause) && said.contains(mend), "{said}");
        outcome(&endpoint.url("127.0.0.1", "require", false)).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken_as_libpq_takes_it() {
    let key = KeyPair::generate().unwrap();
    let certificate = |name: &str, ca: bool, until: i32| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = if ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        (acceptor(certificate.der().clone(), &key), certificate.pem())
    };
    for ca in [true, false] {
        let endpoint = Endpoint::showing(certificate("127.0.0.1", ca, 2090)).await;
        for mode in ["verify-ca", "verify-full"] {
            outcome(&endpoint.url("127.0.0.1", mode, true)).await.unwrap();
        }
        let other = Endpoint::showing(certificate("db.example", ca, 2090)).await;
        outcome(&other.url("127.0.0.1", "verify-ca", true)).await.unwrap();
        outcome(&other.url("127.0.0.1", "verify-full", true)).await.unwrap_err();
        let old = Endpoint::showing(certificate("127.0.0.1", ca, 2020)).await;
        let said = outcome(&old.url("127.0.0.1", "verify-ca", true)).await.unwrap_err();
        assert!(said.contains("has expired"), "{said}");
    }
}

#[tokio::test]
async fn a_missing_authority_is_said_before_connecting() {
    let problem = outcome("postgresql://u@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/nowhere.pem")
        .await
        .unwrap_err();
    assert!(problem.contains("/nowhere.pem"), "{problem}");
}

/// Passwords are asked for by an own file of rules; the tests' cluster trusts everybody else.
async fn ask_for_passwords(root: &tokio_postgres::Client) {
    let rules: String =
        root.query_one("select pg_read_file(current_setting('hba_file'))", &[]).await.unwrap().get(0);
    if rules.contains("wire_scram") {
        return;
    }
    let file: String = root.query_one("select current_setting('hba_file')", &[]).await.unwrap().get(0);
    let rules = format!(
        "local all wire_scram scram-sha-256\nlocal all wire_md5 md5\nlocal all wire_clear password\n{rules}"
    );
    let literal = rules.replace('\\', "\\\\").replace('\'', "''").replace('\t', "\\t");
    let copy = format!(
        "copy (select unnest(string_to_array(E'{literal}', E'\n'))) to '{file}' (delimiter E'\\x01')"
    );
    root.batch_execute(&copy).await.unwrap();
    root.batch_execute(
        "set password_encryption = 'scram-sha-256'; create role wire_scram login password 'geheim'; \
         create role wire_clear login password 'geheim'; \
         set password_encryption = 'md5'; create role wire_md5 login password 'geheim'; select pg_reload_conf()",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn every_way_to_sign_in_wants_the_right_password() {
    let url = std::env::var("TEST_DATABASE_URL").unwrap();
    let (root, session) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(session);
    ask_for_passwords(&root).await;
    let endpoint = Endpoint::start("127.0.0.1").await;
    let (_, socket) = url.split_once('@').unwrap();
    for role in ["wire_scram", "wire_md5", "wire_clear"] {
        // A reload takes a moment.
        let begun = std::time::Instant::now();
        while ask(format!("postgresql://{role}@{socket}").parse().unwrap()).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(5), "{role} needs no password");
        }
        for place in [socket.to_owned(), format!("127.0.0.1:{}/postgres?sslmode=require", endpoint.port)] {
            let url = |password: &str| format!("postgresql://{role}{password}@{place}").parse().unwrap();
            assert_eq!(ask(url(":geheim")).await.unwrap(), role, "{place}");
            ask(url(":falsch")).await.unwrap_err();
            ask(url("")).await.unwrap_err();
        }
    }
}
