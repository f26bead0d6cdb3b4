//! The mail server at its worst: servers of our own that hang, refuse, break off, speak nonsense and lie at each stage.

#![allow(clippy::disallowed_methods)] // the tasks of these servers are tests' own

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::address::MailAddress;
use super::fault::{SmtpFault, SmtpStage};
use super::smtp::{MailServer, NotSent};
use crate::config::{Config, MapSource};
use crate::metrics::Metrics;
use crate::outbound::{Outbound, OutboundOptions, SystemResolver};
use crate::shared::{SystemClock, SystemRng};

/// What the server does at one place of the exchange, and is well-behaved everywhere else.
#[derive(Clone, Copy)]
enum Act {
    /// Says nothing more, and leaves the connection open.
    Hang,
    /// Closes the connection.
    Close,
    /// Says this.
    Say(&'static [u8]),
    /// Says this again and again.
    Pour(&'static [u8]),
}

/// A server that acts so when it hears `at`; `""` is the connection itself, `.` the end of the content.
struct Hostile {
    port: u16,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const OFFER: &[u8] = b"250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n";

impl Hostile {
    async fn start(at: &'static str, act: Act) -> Self {
        Self::with(move |stream| Box::pin(converse(stream, at, act))).await
    }

    async fn with(
        serve: impl Fn(TcpStream) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { port, connections, task }
    }
}

/// Speaks SMTP with one client, until the place comes where it acts. Returns what it has heard.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send, at: &'static str, act: Act) {
    let mut stream = BufReader::new(stream);
    let mut heard = String::new();
    loop {
        let place = heard.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if place == at {
            match act {
                Act::Hang => return std::future::pending().await,
                Act::Close => return,
                Act::Say(said) => drop(stream.write_all(said).await),
                Act::Pour(said) => while stream.write_all(said).await.is_ok() {},
            }
        } else {
            let said: &[u8] = match place.as_str() {
                "" => b"220 mail.test\r\n",
                "EHLO" => OFFER,
                "AUTH" => b"235 2.7.0 in\r\n",
                "DATA" => b"354 go on\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 2.0.0 fine\r\n",
            };
            if stream.write_all(said).await.is_err() {
                return;
            }
        }
        let content = place == "DATA" && (at != "DATA" || !matches!(act, Act::Say(_)));
        loop {
            heard.clear();
            match stream.read_line(&mut heard).await {
                Ok(0) | Err(_) => return,
                Ok(_) if content && heard != ".\r\n" => {}
                Ok(_) => break,
            }
        }
    }
}

fn server(port: u16, more: &[(&'static str, &str)]) -> MailServer {
    let settings = [
        ("SMTP_HOST", "localhost"),
        ("SMTP_PORT", &port.to_string()),
        ("SMTP_FROM", "erp@product.example"),
        ("SMTP_TLS", "none"),
        ("SMTP_TIMEOUT", "300ms"),
    ];
    let kept = settings.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    let config = Config::load(&MapSource::environment(kept.chain(more.iter().copied())).into()).unwrap();
    let metrics = Metrics::new(true);
    let options = OutboundOptions {
        resolver: Arc::new(SystemResolver::default()),
        user_agent: String::new(),
        metrics: metrics.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng::new()),
    };
    let outbound = Outbound::new(&config, options).unwrap();
    MailServer::new(&config.mail, outbound, metrics).unwrap()
}

fn address(text: &str) -> MailAddress {
    text.parse().unwrap()
}

async fn send(server: &MailServer) -> Result<(), NotSent> {
    server.send(&address("erp@product.example"), &address("bob@example.com"), b"Subject: x\r\n\r\nx").await
}

/// Sends one mail; the fault, and how long it took.
async fn fault(server: &MailServer) -> (SmtpFault, Duration) {
    let begun = Instant::now();
    match send(server).await {
        Err(NotSent::Failed(fault)) => (fault, begun.elapsed()),
        Err(NotSent::LeftAlone(wait)) => panic!("left alone for {wait:?}"),
        Ok(()) => panic!("it was sent"),
    }
}

const ACCOUNT: [(&str, &str); 2] = [("SMTP_USER", "erp"), ("SMTP_PASSWORD", "kR4-vX9_mT2")];
const PLACES: [(&str, SmtpStage); 7] = [
    ("", SmtpStage::Hello),
    ("EHLO", SmtpStage::Hello),
    ("AUTH", SmtpStage::Auth),
    ("MAIL", SmtpStage::Sender),
    ("RCPT", SmtpStage::Recipient),
    ("DATA", SmtpStage::Data),
    (".", SmtpStage::Content),
];

#[tokio::test]
async fn a_server_that_hangs_is_left_by_the_deadline_of_each_stage() {
    for (at, stage) in PLACES {
        let hostile = Hostile::start(at, Act::Hang).await;
        let (fault, took) = fault(&server(hostile.port, &ACCOUNT)).await;
        assert_eq!(fault.class(), format!("{} timed_out", stage.word()), "{at}");
        assert!(took < Duration::from_secs(2), "{at}: {took:?}");
    }
    // One whose queue of connections is full, or that is behind a firewall, answers nothing at all.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (fault, _) = fault(&server(listener.local_addr().unwrap().port(), &[])).await;
    assert_eq!(fault.class(), "hello timed_out");
}

#[tokio::test]
async fn a_server_that_breaks_off_or_speaks_nonsense_fails_the_exchange_and_no_more() {
    for (at, stage) in PLACES {
        for act in [
            Act::Close,
            Act::Say(b"what do you want?\r\n"),
            Act::Say(b"999 a code that is none\r\n"),
            Act::Say(b"\r\n"),
            Act::Say(b"250-one\r\n550 two\r\n"),
            Act::Say(b"\xff\xfe\x00\x80\r\n"),
            Act::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ] {
            let hostile = Hostile::start(at, act).await;
            let (fault, _) = fault(&server(hostile.port, &ACCOUNT)).await;
            let class = fault.class();
            assert!(class.starts_with(stage.word()), "{at}: {class}");
            assert!(!fault.is_configuration(), "{at}: {class}");
        }
    }
}

#[tokio::test]
async fn a_server_that_pours_out_lines_takes_no_memory() {
    for said in [&[b'x'; 4096][..], b"250-more\r\n250-more\r\n", b"250-\xff\r\n"] {
        for (at, stage) in
            [("", SmtpStage::Hello), ("EHLO", SmtpStage::Hello), ("RCPT", SmtpStage::Recipient)]
        {
            let hostile = Hostile::start(at, Act::Pour(said)).await;
            let (fault, took) = fault(&server(hostile.port, &[])).await;
            assert!(fault.class().starts_with(stage.word()), "{at}: {}", fault.class());
            assert!(took < Duration::from_secs(3), "{at}: {took:?}");
        }
    }
}

#[tokio::test]
async fn a_yes_of_another_kind_is_no_yes() {
    for (at, said) in [
        ("DATA", &b"250 already?\r\n"[..]),
        ("RCPT", b"354 go on\r\n"),
        (".", b"354 more\r\n"),
        ("AUTH", b"250 hm\r\n"),
    ] {
        let hostile = Hostile::start(at, Act::Say(said)).await;
        let (fault, _) = fault(&server(hostile.port, &ACCOUNT)).await;
        assert!(fault.class().ends_with(" nonsense"), "{at}: {}", fault.class());
    }
}

#[tokio::test]
async fn a_refusal_in_another_encoding_is_read() {
    let hostile = Hostile::start("RCPT", Act::Say(b"550 5.1.1 gr\xfc\xdf Gott\r\n")).await;
    let (fault, _) = fault(&server(hostile.port, &[])).await;
    assert_eq!(fault.class(), "recipient 550 5.1.1");
    assert_eq!(fault.to_string(), "at the stage 'recipient' the server said 550 5.1.1 gr?? Gott");
}

#[tokio::test]
async fn nobody_listens_and_a_name_that_leads_nowhere() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(fault(&server(port, &[])).await.0.class(), "connect refused");
    let nowhere = server(25, &[("SMTP_HOST", "mail.invalid"), ("SMTP_TIMEOUT", "2s")]);
    let class = fault(&nowhere).await.0.class();
    assert!(class.starts_with("look_up "), "{class}");
}

#[tokio::test]
async fn a_password_is_sent_to_a_server_that_offers_to_take_one_only() {
    let offer = b"250 mail.test\r\n";
    let hostile = Hostile::start("EHLO", Act::Say(offer)).await;
    let (fault, _) = fault(&server(hostile.port, &ACCOUNT)).await;
    assert_eq!((fault.class().as_str(), fault.is_configuration()), ("auth no_auth_plain", true));
}

/// An acceptor with a certificate for `name`, and the file of its authority.
fn certificates(name: &str) -> (TlsAcceptor, std::path::PathBuf) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let file = std::env::temp_dir().join(format!("erp-smtp-{}-{name}-{:p}.pem", std::process::id(), &ca));
    std::fs::write(&file, ca.pem()).unwrap();
    (TlsAcceptor::from(Arc::new(config.unwrap())), file)
}

/// Speaks as far as `STARTTLS`, says `more` in the clear behind its yes, and goes on under TLS.
async fn upgrade(mut stream: TcpStream, acceptor: TlsAcceptor, offer: &'static [u8], more: &'static [u8]) {
    let _ = stream.write_all(b"220 mail.test\r\n").await;
    let mut bytes = [0; 200];
    let _ = stream.read(&mut bytes).await;
    let _ = stream.write_all(offer).await;
    let _ = stream.read(&mut bytes).await;
    let _ = stream.write_all(&[b"220 go on\r\n", more].concat()).await;
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut stream = BufReader::new(stream);
    let mut heard = String::new();
    while stream.read_line(&mut heard).await.is_ok_and(|read| read > 0) {
        let said: &[u8] = match &heard[..4] {
            "EHLO" => OFFER,
            "DATA" => b"354 go on\r\n",
            "AUTH" => b"235 2.7.0 in\r\n",
            _ => b"250 2.0.0 fine\r\n",
        };
        let _ = stream.write_all(said).await;
        if heard.starts_with("DATA") {
            while stream.read_line(&mut heard).await.is_ok_and(|read| read > 0)
                && !heard.ends_with("\r\n.\r\n")
            {}
            let _ = stream.write_all(b"250 2.0.0 taken\r\n").await;
        }
        heard.clear();
    }
}

async fn over_tls(
    name: &'static str,
    offer: &'static [u8],
    more: &'static [u8],
) -> (Hostile, std::path::PathBuf) {
    let (acceptor, authority) = certificates(name);
    let hostile = Hostile::with(move |stream| Box::pin(upgrade(stream, acceptor.clone(), offer, more))).await;
    (hostile, authority)
}

const STARTTLS: &[u8] = b"250-mail.test\r\n250-starttls\r\n250 8BITMIME\r\n";

#[tokio::test]
async fn tls_is_spoken_with_the_right_server_and_with_no_other() {
    let trusting = |port, authority: &std::path::Path| {
        server(port, &[("SMTP_TLS", "starttls"), ("OUTBOUND_CA_PATH", authority.to_str().unwrap())])
    };
    let (good, authority) = over_tls("localhost", STARTTLS, b"").await;
    let secure = trusting(good.port, &authority);
    for _ in 0..3 {
        assert!(send(&secure).await.is_ok());
    }
    assert_eq!(good.connections.load(Ordering::SeqCst), 1, "one connection for several mails");
    // Of an authority that nobody trusts; for another name; and one of each.
    let (other, others) = over_tls("mail.example.com", STARTTLS, b"").await;
    for untrusting in [
        server(good.port, &[("SMTP_TLS", "starttls")]),
        trusting(good.port, &others),
        trusting(other.port, &others),
    ] {
        let (fault, _) = fault(&untrusting).await;
        assert_eq!((fault.class().as_str(), fault.is_configuration()), ("tls invalid", true), "{fault}");
    }
    for file in [authority, others] {
        let _ = std::fs::remove_file(file);
    }
}

#[tokio::test]
async fn starttls_cannot_be_taken_away_or_talked_past() {
    // Somebody in between takes the offer out of what the server says.
    let (stripped, authority) = over_tls("localhost", b"250-mail.test\r\n250 8BITMIME\r\n", b"").await;
    let settings = |authority: &std::path::Path| {
        [("SMTP_TLS", "starttls".to_owned()), ("OUTBOUND_CA_PATH", authority.to_str().unwrap().to_owned())]
    };
    let tls = settings(&authority);
    let more: Vec<_> = tls.iter().map(|(name, value)| (*name, value.as_str())).chain(ACCOUNT).collect();
    let (refused, _) = fault(&server(stripped.port, &more)).await;
    assert_eq!((refused.class().as_str(), refused.is_configuration()), ("starttls no_starttls", true));
    // Or puts an answer in the clear behind the yes, to be read as if it came under TLS (CVE-2011-0411).
    let (injected, authority) = over_tls("localhost", STARTTLS, b"250-x\r\n250 AUTH LOGIN\r\n").await;
    let tls = settings(&authority);
    let more: Vec<_> = tls.iter().map(|(name, value)| (*name, value.as_str())).chain(ACCOUNT).collect();
    let (refused, _) = fault(&server(injected.port, &more)).await;
    assert_eq!(refused.stage, SmtpStage::Tls, "{refused}");
    // What follows the yes within the deadline is a handshake, or nothing.
    let silent = Hostile::start("STARTTLS", Act::Hang).await;
    let class = fault(&server(silent.port, &[("SMTP_TLS", "starttls")])).await.0.class();
    assert_eq!(class, "starttls no_starttls", "the well-behaved part offers none");
    let mute = Hostile::start("", Act::Hang).await;
    for (tls, class) in [("tls", "tls timed_out"), ("starttls", "hello timed_out")] {
        assert_eq!(fault(&server(mute.port, &[("SMTP_TLS", tls)])).await.0.class(), class);
    }
}

#[tokio::test]
async fn a_connection_that_has_died_meanwhile_costs_no_mail() {
    for act in [Act::Close, Act::Say(b"221 idle for too long\r\n"), Act::Say(b"421 4.4.2 bye\r\n"), Act::Hang]
    {
        let hostile = Hostile::start("NOOP", act).await;
        let server = server(hostile.port, &[]);
        for _ in 0..3 {
            assert!(send(&server).await.is_ok());
        }
        assert_eq!(hostile.connections.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn a_mail_that_is_given_up_midway_gives_its_connection_back() {
    let hostile = Hostile::start(".", Act::Hang).await;
    let server = server(hostile.port, &[("SMTP_CONNECTIONS", "1"), ("SMTP_TIMEOUT", "30s")]);
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(100), send(&server)).await;
        assert!(given_up.is_err(), "it is under way, and not left alone");
    }
    assert_eq!(hostile.connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_refused_recipient_costs_the_next_mail_no_connection() {
    let hostile = Hostile::start("RCPT", Act::Say(b"550 5.1.1 nobody\r\n")).await;
    let server = server(hostile.port, &[]);
    for _ in 0..20 {
        assert_eq!(fault(&server).await.0.class(), "recipient 550 5.1.1");
    }
    assert_eq!(hostile.connections.load(Ordering::SeqCst), 1, "and the breaker does not mind");
}

#[tokio::test]
async fn a_server_that_is_dead_is_left_alone_after_a_few_failures() {
    let hostile = Hostile::start("", Act::Hang).await;
    let server = server(hostile.port, &[("SMTP_TIMEOUT", "50ms")]);
    let mut failed = 0;
    let wait = loop {
        match send(&server).await {
            Err(NotSent::Failed(_)) => failed += 1,
            Err(NotSent::LeftAlone(wait)) => break wait,
            Ok(()) => panic!("it was sent"),
        }
    };
    assert_eq!(failed, 5);
    assert!(wait > Duration::from_secs(4), "{wait:?}");
    let begun = Instant::now();
    for _ in 0..1000 {
        assert!(matches!(send(&server).await, Err(NotSent::LeftAlone(_))));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "it costs next to nothing");
    assert_eq!(hostile.connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_slow_server_gets_so_many_mails_at_a_time_and_the_others_do_not_wait_for_long() {
    let hostile = Hostile::start(".", Act::Hang).await;
    let server = Arc::new(server(hostile.port, &[("SMTP_TIMEOUT", "4s"), ("SMTP_CONNECTIONS", "2")]));
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { send(&server).await.is_ok() })
        })
        .collect();
    while hostile.connections.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert!(matches!(send(&server).await, Err(NotSent::LeftAlone(_))));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    slow.into_iter().for_each(|mail| mail.abort());
}

#[tokio::test]
async fn a_probe_says_where_it_fails_and_calls_at_most_twice_a_minute() {
    let from = address("erp@product.example");
    let well = Hostile::start("never", Act::Hang).await;
    let server_ = server(well.port, &ACCOUNT);
    for _ in 0..5 {
        assert_eq!(server_.probe(&from).await, Ok(()));
    }
    assert_eq!(well.connections.load(Ordering::SeqCst), 1);
    let hostile = Hostile::start("EHLO", Act::Hang).await;
    let why = server(hostile.port, &[]).probe(&from).await.unwrap_err();
    assert_eq!(why, "at the stage 'hello' there was no answer within 300ms");
}
