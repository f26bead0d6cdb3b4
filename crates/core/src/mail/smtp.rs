//! The mail server: a few connections to it, exchanges that end by their deadlines, and a breaker.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::Error as LettreError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Noop, Quit, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use rustls::ClientConfig;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::address::MailAddress;
use super::dial::{SmtpStream, ask_for_tls, connect, encrypt, within};
use super::fault::{SmtpFault, SmtpFaultKind, SmtpReply, SmtpStage};
use crate::config::{MailSettings, SmtpTls};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::outbound::breaker::{Breaker, BreakerChange};
use crate::shared::Secret;

/// How long a connection is kept that nothing is sent on. Servers close theirs after some minutes.
const IDLE: Duration = Duration::from_secs(30);
/// Most mails that are sent on one connection: servers have limits of their own.
const MOST_MAILS: u32 = 100;
/// How long a mail waits for one of the connections while the others use them. A job holds a slot meanwhile: when the server is
/// slow or hangs, it is better off coming again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it then waits, at least.
const BUSY: Duration = Duration::from_secs(5);
/// How long the outcome of a probe is good for: a mail server does not like to be called every second.
const PROBED: Duration = Duration::from_secs(30);

/// The mail server of the settings, and our connections to it.
pub(super) struct MailServer {
    host: String,
    port: u16,
    tls: SmtpTls,
    account: Option<(String, Secret<String>)>,
    limit: Duration,
    outbound: Outbound,
    /// Made by the first exchange, since the authorities of the machine take a while to read.
    tls_config: OnceCell<Arc<ClientConfig>>,
    slots: Semaphore,
    idle: Mutex<Vec<IdleConnection>>,
    breaker: Mutex<Breaker>,
    probed: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
    metrics: Metrics,
}

struct IdleConnection {
    connection: AsyncSmtpConnection,
    since: Instant,
    mails: u32,
}

/// Why a mail was not sent now.
pub(super) enum NotSent {
    /// The exchange failed.
    Failed(SmtpFault),
    /// None was begun, since the server fails, or is busy with our other mails: so long is to be waited.
    LeftAlone(Duration),
}

impl MailServer {
    /// The server that the settings name, if they do.
    pub(super) fn new(settings: &MailSettings, outbound: Outbound, metrics: Metrics) -> Option<Self> {
        let account = settings.user.clone().zip(settings.password.clone());
        Some(Self {
            host: settings.host.clone()?,
            port: settings.port,
            tls: settings.tls,
            account,
            limit: settings.timeout,
            outbound,
            tls_config: OnceCell::new(),
            slots: Semaphore::new(settings.connections as usize),
            idle: Mutex::default(),
            breaker: Mutex::default(),
            probed: tokio::sync::Mutex::default(),
            metrics,
        })
    }

    /// Sends one mail, whose bytes end without a line end.
    pub(super) async fn send(
        &self,
        from: &MailAddress,
        to: &MailAddress,
        mail: &[u8],
    ) -> Result<(), NotSent> {
        let _slot = self.slot().await.ok_or(NotSent::LeftAlone(BUSY))?;
        self.breaker().admit(Instant::now()).map_err(NotSent::LeftAlone)?;
        let sent = self.exchange(from, to, mail).await;
        self.note(sent.as_ref().err());
        sent.map_err(NotSent::Failed)
    }

    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(PATIENCE, self.slots.acquire()).await.ok()?.ok()
    }

    async fn exchange(&self, from: &MailAddress, to: &MailAddress, mail: &[u8]) -> Result<(), SmtpFault> {
        let (mut connection, mails) = match self.rested().await {
            Some((connection, mails)) => (connection, mails),
            None => (self.open(from).await?, 0),
        };
        let outcome = self.transaction(&mut connection, from, to, mail).await;
        let is_good = match &outcome {
            Ok(()) => true,
            Err(SmtpFault { what: SmtpFaultKind::Reply(reply), .. }) if reply.code != 421 => {
                self.say(&mut connection, SmtpStage::Ready, Rset, 250).await.is_ok()
            }
            Err(_) => false, // what the server would say next may be about this mail
        };
        if is_good && mails + 1 < MOST_MAILS {
            self.idle().push(IdleConnection { connection, since: Instant::now(), mails: mails + 1 });
        } else if is_good {
            let _ = self.say(&mut connection, SmtpStage::Ready, Quit, 221).await;
        }
        outcome
    }

    async fn transaction(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &MailAddress,
        to: &MailAddress,
        mail: &[u8],
    ) -> Result<(), SmtpFault> {
        let sender = MailFrom::new(Some(from.of_lettre().clone()), Vec::new());
        self.say(connection, SmtpStage::Sender, sender, 250).await?;
        let recipient = Rcpt::new(to.of_lettre().clone(), Vec::new());
        self.say(connection, SmtpStage::Recipient, recipient, 250).await?;
        self.say(connection, SmtpStage::Data, Data, 354).await?;
        let said = self.stage(SmtpStage::Content, self.limit * 2, connection.message(mail)).await?;
        expect(SmtpStage::Content, &said, 250)
    }

    /// A connection that was used before, if the server still answers there.
    async fn rested(&self) -> Option<(AsyncSmtpConnection, u32)> {
        loop {
            let IdleConnection { mut connection, since, mails } = self.idle().pop()?;
            if since.elapsed() < IDLE && self.say(&mut connection, SmtpStage::Ready, Noop, 250).await.is_ok()
            {
                return Some((connection, mails));
            }
        }
    }

    /// A new connection: encrypted as the settings say, greeted and signed in.
    pub(super) async fn open(&self, from: &MailAddress) -> Result<AsyncSmtpConnection, SmtpFault> {
        let mut connection = self.reach(from).await?;
        if let Some((user, password)) = &self.account {
            if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
                return Err(SmtpFault::new(SmtpStage::Auth, SmtpFaultKind::Missing("auth_plain")));
            }
            let credentials = Credentials::new(user.clone(), password.expose().clone());
            let said = connection.auth(DEFAULT_MECHANISMS, &credentials);
            let said = self.stage(SmtpStage::Auth, self.limit, said).await?;
            expect(SmtpStage::Auth, &said, 235)?;
        }
        Ok(connection)
    }

    /// The same, without signing in.
    async fn reach(&self, from: &MailAddress) -> Result<AsyncSmtpConnection, SmtpFault> {
        let hello = from.domain();
        let (mut tcp, peer) = self.connect().await?;
        let stream = match self.tls {
            SmtpTls::None => SmtpStream::plain(tcp, peer),
            SmtpTls::Tls => self.encrypted((tcp, peer), false).await?,
            SmtpTls::StartTls => {
                ask_for_tls(&mut tcp, hello, self.limit).await?;
                self.encrypted((tcp, peer), true).await?
            }
        };
        let hello = ClientId::Domain(hello.to_owned());
        let greeted = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello);
        self.stage(SmtpStage::Hello, self.limit, greeted).await
    }

    async fn connect(&self) -> Result<(tokio::net::TcpStream, SocketAddr), SmtpFault> {
        let io = |stage| move |error| SmtpFault::new(stage, SmtpFaultKind::Io(error));
        let found = async { self.outbound.look_up(&self.host).await.map_err(io(SmtpStage::LookUp)) };
        let found = self.timed(SmtpStage::LookUp, self.limit, found).await?;
        let addresses: Vec<_> =
            found.into_iter().map(|address| SocketAddr::new(address, self.port)).collect();
        let opened = async { connect(&addresses).await.map_err(io(SmtpStage::Connect)) };
        self.timed(SmtpStage::Connect, self.limit, opened).await
    }

    async fn encrypted(
        &self,
        tcp: (tokio::net::TcpStream, SocketAddr),
        upgraded: bool,
    ) -> Result<SmtpStream, SmtpFault> {
        let io = |error| SmtpFault::new(SmtpStage::Tls, SmtpFaultKind::Io(error));
        let config = self.tls_config.get_or_try_init(|| async { self.outbound.tls().map(Arc::new) }).await;
        let config = Arc::clone(config.map_err(|error| io(std::io::Error::other(error)))?);
        let begun = async { encrypt(config, &self.host, tcp, upgraded).await.map_err(io) };
        self.timed(SmtpStage::Tls, self.limit, begun).await
    }

    /// One command, and the reply that it wants.
    async fn say(
        &self,
        connection: &mut AsyncSmtpConnection,
        stage: SmtpStage,
        command: impl std::fmt::Display,
        wanted: u16,
    ) -> Result<(), SmtpFault> {
        let said = self.stage(stage, self.limit, connection.command(command)).await?;
        expect(stage, &said, wanted)
    }

    async fn stage<T>(
        &self,
        stage: SmtpStage,
        limit: Duration,
        work: impl Future<Output = Result<T, LettreError>>,
    ) -> Result<T, SmtpFault> {
        self.timed(stage, limit, async { work.await.map_err(|error| fault(stage, &error)) }).await
    }

    async fn timed<T>(
        &self,
        stage: SmtpStage,
        limit: Duration,
        work: impl Future<Output = Result<T, SmtpFault>>,
    ) -> Result<T, SmtpFault> {
        let begun = Instant::now();
        let outcome = within(stage, limit, work).await;
        self.metrics.mail_stage_duration_seconds.with(&[stage.word()]).observe(begun.elapsed().as_secs_f64());
        outcome
    }

    /// Counts what became of an exchange. What is said of one recipient or one mail is no failure of the server's.
    fn note(&self, fault: Option<&SmtpFault>) {
        if let Some(fault) = fault {
            self.metrics.mail_failures_total.with(&[fault.stage.word()]).inc();
        }
        let failed = fault.is_some_and(SmtpFault::is_servers);
        if let (true, Ok(mut probed)) = (failed, self.probed.try_lock()) {
            *probed = None; // what was true half a minute ago is not any more
        }
        let change = self.breaker().note(failed, Instant::now());
        let is_open = self.breaker().is_open();
        self.metrics.mail_breaker_open.with(&[]).set(if is_open { 1.0 } else { 0.0 });
        match change {
            Some(BreakerChange::Opened) => tracing::warn!("The mail server fails, and is left alone"),
            Some(BreakerChange::Closed) => tracing::info!("The mail server takes mail again"),
            None => {}
        }
    }

    /// Whether the server greets us, as it was at most 30 s ago; else why not.
    pub(super) async fn probe(&self, from: &MailAddress) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        let fresh =
            probed.as_ref().filter(|(at, _)| at.elapsed() < PROBED).map(|(_, failure)| failure.clone());
        let failure = match fresh {
            Some(failure) => failure,
            None => {
                let failure = match self.reach(from).await {
                    Ok(mut connection) => {
                        let _ = self.say(&mut connection, SmtpStage::Ready, Quit, 221).await;
                        None
                    }
                    Err(fault) => Some(fault.to_string()),
                };
                *probed = Some((Instant::now(), failure.clone()));
                failure
            }
        };
        failure.map_or(Ok(()), Err)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A yes of another number than is wanted is no yes: what follows it would be taken for something else.
fn expect(stage: SmtpStage, said: &Response, wanted: u16) -> Result<(), SmtpFault> {
    let code = u16::from(said.code());
    let is_forwarded = stage == SmtpStage::Recipient && matches!(code, 251 | 252);
    if code == wanted || is_forwarded {
        return Ok(());
    }
    Err(SmtpFault::new(stage, SmtpFaultKind::Nonsense(format!("{code} in place of {wanted}"))))
}

/// What the library's error says.
fn fault(stage: SmtpStage, error: &LettreError) -> SmtpFault {
    use std::error::Error as _;
    let said = || error.source().map(ToString::to_string).unwrap_or_default();
    let what =
        match (error.status(), error.source().and_then(|source| source.downcast_ref::<std::io::Error>())) {
            (Some(code), _) => SmtpFaultKind::Reply(SmtpReply::new(u16::from(code), &said())),
            (None, Some(io)) => SmtpFaultKind::Io(std::io::Error::new(io.kind(), io.to_string())),
            (None, None) => SmtpFaultKind::Nonsense(said()),
        };
    SmtpFault::new(stage, what)
}
