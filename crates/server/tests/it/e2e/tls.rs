//! HTTPS from the built binary: its certificate, its renewal, and every verb that asks a server which speaks it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::database::Database;
use super::http::{Answer, receive};
use super::process::{Home, Process, eventually, run};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and the files that it has signed, in a test's home.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than that of what it signs: OpenSSL takes that for self-signed otherwise.
        params.distinguished_name.push(DnType::CommonName, "An authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: folder.to_owned() };
        authority.write("ca.pem", &authority.issuer.pem());
        authority.renew();
        authority
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A new certificate for 127.0.0.1 and localhost, with its key.
    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        self.write("cert.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
    }

    fn connect(&self, address: &str) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

/// Asks for `/ping` and leaves the connection open.
fn ping(stream: &mut Tls) {
    stream.write_all(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"pong") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..read]);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let hsts = "\r\nstrict-transport-security: max-age=31536000; includeSubDomains\r\n"; // H-03
    assert!(text.contains(hsts), "{text}");
}

/// The certificate of a new connection.
fn shown(authority: &Authority, address: &str) -> Vec<u8> {
    let mut stream = authority.connect(address);
    ping(&mut stream);
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

#[test]
fn d_08_a_renewed_certificate_is_taken_over_without_a_dropped_connection() {
    let (home, database) = (Home::new(), Database::migrated("tls"));
    let authority = Authority::new(home.path());
    let (certificate, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let tls = [("TLS_CERT_PATH", &*certificate), ("TLS_KEY_PATH", &*key)];
    let server = Process::serve(&home, &[tls[0], tls[1], ("DATABASE_URL", &database.runtime_url)]);
    let address = server.address();
    server.said(&format!("https://localhost:{}", port_of(&address)));
    let mut kept = authority.connect(&address);
    ping(&mut kept);
    let first = shown(&authority, &address);

    authority.renew();
    server.signal("HUP");
    server.line("The TLS certificate was loaded anew");
    let second = shown(&authority, &address);
    assert_ne!(first, second);
    ping(&mut kept);

    authority.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let line = server.line("The new TLS certificate was refused"); // noticed without a signal
    assert!(line.contains("is not the key of the first certificate"), "{line}");
    assert_eq!(shown(&authority, &address), second);
    ping(&mut kept);

    authority.renew();
    eventually("the files are noticed", || shown(&authority, &address) != second);
    ping(&mut kept);

    let variables = [tls[0], tls[1], ("PORT", port_of(&address)), ("HOST", "127.0.0.1")];
    assert_eq!(run(&home, &["healthcheck"], &variables).code, 0);
    assert_eq!(run(&home, &["config", "check"], &variables).code, 0);
    curl(&authority, &address);
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(receive(plain).unwrap().status, 400);
    assert_eq!(server.stop("TERM").code, 0);
}

/// Where there is a curl: over HTTP/2, and TLS 1.2 refused.
fn curl(authority: &Authority, address: &str) {
    let url = format!("https://localhost:{}/ping", port_of(address));
    let ca = authority.path("ca.pem");
    let run = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--ipv4",
            "--cacert",
            &ca,
            "-w",
            " %{http_version}",
        ]);
        command.args(more).arg(&url).output()
    };
    let Ok(output) = run(&[]) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pong 2", "{output:?}");
    assert!(!run(&["--tls-max", "1.2"]).unwrap().status.success());
}

#[test]
fn d_08_a_certificate_that_cannot_be_shown_refuses_the_start_and_the_check() {
    let home = Home::new();
    let authority = Authority::new(home.path());
    let (certificate, key) = (authority.path("cert.pem"), authority.path("other.pem"));
    authority.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let variables = [("TLS_CERT_PATH", &*certificate), ("TLS_KEY_PATH", &*key)];
    for arguments in [&[][..], &["config", "check"]] {
        let ended = run(&home, arguments, &variables);
        assert_eq!((ended.code, ended.err.len()), (78, 1), "{ended:#?}");
        assert!(
            ended.err[0].contains("TLS_KEY_PATH: ") && ended.err[0].contains("is not the key"),
            "{ended:#?}"
        );
    }
    let ended = run(&home, &["config", "check", "--json"], &variables);
    let problems: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    assert_eq!((ended.code, &problems["problems"][0]["name"]), (78, &"TLS_KEY_PATH".into()));
    for (name, value, part) in [
        ("TLS_CERT_PATH", &*certificate, "TLS_KEY_PATH: is not set"),
        ("TLS_KEY_PATH", &key, "TLS_CERT_PATH: is not set"),
        ("TLS_CLIENT_AUTH", "required", "TLS_CLIENT_CA_PATH: is not set"),
        ("TLS_CLIENT_CA_PATH", &certificate, "TLS_CLIENT_AUTH: is off"),
        ("HTTP_REDIRECT_PORT", "8080", "HTTP_REDIRECT_PORT: redirects to HTTPS"),
    ] {
        let ended = run(&home, &["config", "check"], &[(name, value)]);
        assert!(ended.code == 78 && ended.err.join("\n").contains(part), "{name}: {ended:#?}");
    }
}

/// A server with TLS, and a port that leads to it.
fn redirecting(home: &Home, database: &Database, authority: &Authority, more: &[(&str, &str)]) -> Process {
    let (certificate, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let settings = [
        ("DATABASE_URL", database.runtime_url.as_str()),
        ("TLS_CERT_PATH", &certificate),
        ("TLS_KEY_PATH", &key),
        ("HTTP_REDIRECT_PORT", "0"),
    ];
    Process::serve(home, &[&settings[..], more].concat())
}

#[test]
fn h_03_the_redirecting_port_leads_to_https_and_nowhere_else() {
    let (home, database) = (Home::new(), Database::migrated("redirect"));
    let authority = Authority::new(home.path());
    let server = redirecting(&home, &database, &authority, &[]);
    let started: Value = serde_json::from_str(&server.line("Server started")).unwrap();
    let ask = |method: &str, host: &str, path: &str| -> Answer {
        let mut stream = TcpStream::connect(started["redirect"].as_str().unwrap()).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        receive(stream).unwrap()
    };
    let to = format!("https://localhost:{}/api/v1/items?limit=1", port_of(&server.address()));
    for method in ["GET", "HEAD"] {
        let answer = ask(method, "localhost:8080", "/api/v1/items?limit=1");
        assert_eq!((answer.status, answer.header("location")), (308, Some(&*to)), "{answer:?}");
        assert!(answer.header("x-request-id").is_some() && answer.body.is_empty(), "{answer:?}");
    }
    for (method, host) in
        [("POST", "localhost"), ("PUT", "localhost"), ("OPTIONS", "localhost"), ("GET", "evil.example")]
    {
        let answer = ask(method, host, "/api/v1/auth/login");
        assert_eq!((answer.status, answer.header("location")), (403, None), "{method} {host}: {answer:?}");
        assert_eq!(answer.json()["code"], "core.https_required");
    }
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn h_03_the_redirecting_port_leads_to_the_public_url_where_there_is_one() {
    let (home, database) = (Home::new(), Database::migrated("public_url"));
    let settings = [("PUBLIC_URL", "https://api.example.com"), ("FORCE_HTTPS", "true")];
    let authority = Authority::new(home.path());
    let server = redirecting(&home, &database, &authority, &settings);
    let started: Value = serde_json::from_str(&server.line("Server started")).unwrap();
    let mut stream = TcpStream::connect(started["redirect"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").unwrap();
    let answer = receive(stream).unwrap();
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://api.example.com/x")));
    assert_eq!(answer.header("strict-transport-security"), None, "not over plain HTTP: {answer:?}");
    ping(&mut authority.connect(&server.address())); // what came over TLS here is served
    assert_eq!(server.stop("TERM").code, 0);
}

#[test]
fn a_rehearsal_and_a_health_check_speak_what_the_listener_speaks() {
    let (home, database) = (Home::new(), Database::migrated("tls_rehearsal"));
    let authority = Authority::new(home.path());
    let [certificate, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| authority.path(name));
    let mut variables = vec![
        ("DATABASE_URL", &*database.runtime_url),
        ("TLS_CERT_PATH", &*certificate),
        ("TLS_KEY_PATH", &*key),
        ("TLS_CLIENT_CA_PATH", &*ca),
        ("TLS_CLIENT_AUTH", "required"),
        ("HTTP_REDIRECT_PORT", "8080"),
        ("PROXY_PROTOCOL", "on"),
    ];
    let ended = run(&home, &["serve", "--rehearse"], &variables);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let ended = run(&home, &["healthcheck"], &variables);
    assert!(ended.code == 78 && ended.err[0].contains("METRICS_PORT"), "{ended:#?}");

    variables
        .retain(|(name, _)| !["TLS_CLIENT_AUTH", "TLS_CLIENT_CA_PATH", "HTTP_REDIRECT_PORT"].contains(name));
    variables.push(("TRUSTED_PROXIES", "10.0.0.0/8"));
    let server = Process::serve(&home, &variables);
    let address = server.address();
    variables.extend([("PORT", port_of(&address)), ("HOST", "127.0.0.1")]);
    assert_eq!(run(&home, &["healthcheck"], &variables).code, 0);
    assert_eq!(server.stop("TERM").code, 0);
}
