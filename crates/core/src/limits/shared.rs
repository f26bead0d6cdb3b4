//! The counters of all instances together, in Redis 5 or later: one script call a decision, and none while Redis does
//! not answer.

use std::sync::Arc;
use std::time::Duration;

use redis::ServerErrorKind::NoScript;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    RedisResult,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Charge, Outcome};
use crate::lifecycle::{Exit, Lifecycle, StartError};
use crate::metrics::Metrics;
use crate::shared::{Secret, Seldom};

const CHARGE: &str = include_str!("charge.lua");
const REFUND: &str = include_str!("refund.lua");
/// A counter of nobody's, which is charged to see whether Redis takes writes.
const PROBE: &str = "erp:rl:{probe}";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long after a failure Redis is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is said that Redis does not answer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Redis, as the store of counters. Clones share everything.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
    /// `None` while Redis does not answer: then nobody waits for it.
    link: watch::Sender<Option<Link>>,
    /// Wakes the task that connects.
    broken: Notify,
    complaint: Seldom,
    metrics: Metrics,
}

/// A connection over which all requests speak at once, and the scripts' names there.
#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    charge: Script,
    refund: Script,
}

#[derive(Clone)]
struct Script {
    text: &'static str,
    sha: Arc<str>,
}

impl Shared {
    /// Connects, if Redis answers, and keeps at it in the background until the stop.
    ///
    /// # Errors
    /// `Exit::Configuration` when the URL is none.
    pub async fn open(
        url: &Secret<String>,
        patience: Duration,
        metrics: Metrics,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let client = client(url).map_err(|error| {
            let message = "REDIS_URL cannot be used: set it to redis://user:password@host:6379/0";
            StartError::new(Exit::Configuration, message).because(error)
        })?;
        let shared = Self(Arc::new(Inner {
            client,
            patience,
            link: watch::Sender::new(None),
            broken: Notify::new(),
            complaint: Seldom::new(LOG_INTERVAL),
            metrics,
        }));
        shared.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        shared.connect().await;
        let (ours, stop) = (shared.clone(), lifecycle.stop_background().clone());
        lifecycle.spawn_critical("rate limit store", move || ours.clone().keep(stop.clone()));
        Ok(shared)
    }

    /// Charges all keys one unit, or none; `None` when Redis does not say.
    pub(super) async fn charge(&self, charges: &[Charge]) -> Option<Outcome> {
        let link = self.link()?;
        let answer: Vec<u64> = self.run(&link, &link.charge, charges).await?;
        let mut outcome = Outcome { allowed: answer.first() == Some(&1), ..Outcome::default() };
        outcome.spent.iter_mut().zip(answer.iter().skip(1)).for_each(|(spent, told)| *spent = *told);
        Some(outcome)
    }

    /// Gives each key its unit back. When Redis does not answer, the unit is lost.
    pub(super) async fn refund(&self, charges: &[Charge]) {
        if let Some(link) = self.link() {
            let _: Option<u64> = self.run(&link, &link.refund, charges).await;
        }
    }

    fn link(&self) -> Option<Link> {
        self.0.link.borrow().clone()
    }

    async fn run<T: FromRedisValue>(&self, link: &Link, script: &Script, charges: &[Charge]) -> Option<T> {
        let arguments = |command: &mut Cmd| {
            command.arg(charges.len());
            for charge in charges {
                command.arg(charge.key.to_string());
            }
            for charge in charges {
                command.arg(charge.quota.interval()).arg(charge.quota.capacity());
            }
        };
        match tokio::time::timeout(self.0.patience, script.run(link.connection.clone(), arguments)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => self.complain(&error),
            Err(late) => self.complain(&late),
        }
        // Whoever comes next does not wait for it, until it has answered again.
        self.0.link.send_replace(None);
        self.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        self.0.broken.notify_one();
        None
    }

    /// Counts what went wrong, and says so at most once in [`LOG_INTERVAL`].
    fn complain(&self, error: &(dyn std::error::Error + 'static)) {
        self.0.metrics.rate_limit_store_errors_total.with(&[]).inc();
        if self.0.complaint.is_due() {
            tracing::warn!(error, "Redis does not answer: each instance limits by itself");
        }
    }

    async fn keep(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let up = self.0.link.borrow().is_some();
            let pause = async {
                if up {
                    self.0.broken.notified().await;
                }
                tokio::time::sleep(PAUSE).await;
            };
            if stop.run_until_cancelled(pause).await.is_some() && self.link().is_none() {
                stop.run_until_cancelled(self.connect()).await;
            }
        }
    }

    /// Takes Redis into use, if it answers as fast as requests will want it to.
    async fn connect(&self) {
        match tokio::time::timeout(CONNECT, self.try_connect()).await {
            Ok(Ok(link)) => {
                self.0.link.send_replace(Some(link));
                self.0.metrics.rate_limit_fallback.with(&[]).set(0.0);
                tracing::info!("Redis answers: instances share their limits");
            }
            Ok(Err(error)) => self.complain(&error),
            Err(late) => self.complain(&late),
        }
    }

    async fn try_connect(&self) -> RedisResult<Link> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        let charge = Script::load(connection.clone(), CHARGE).await?;
        let refund = Script::load(connection.clone(), REFUND).await?;
        let link = Link { connection, charge, refund };
        // A replica and a full Redis take a connection, and no writes.
        let probe = |command: &mut Cmd| {
            command.arg(1).arg(PROBE).arg(1).arg(1_000_000);
        };
        let probed = link.charge.run::<Vec<u64>>(link.connection.clone(), probe);
        match tokio::time::timeout(self.0.patience, probed).await {
            Ok(answer) => answer.map(|_| link),
            Err(_) => Err(RedisError::from((ErrorKind::Io, "too slow"))),
        }
    }
}

impl Script {
    async fn load(mut connection: MultiplexedConnection, text: &'static str) -> RedisResult<Self> {
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async(&mut connection).await?;
        Ok(Self { text, sha: sha.into() })
    }

    /// By its name; with its text, if Redis has been emptied since.
    async fn run<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.sha);
        arguments(&mut command);
        match command.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(NoScript) => {}
            answer => return answer,
        }
        let mut command = redis::cmd("EVAL");
        command.arg(self.text);
        arguments(&mut command);
        command.query_async(&mut connection).await
    }
}

fn client(url: &Secret<String>) -> RedisResult<Client> {
    let info = url.expose().as_str().into_connection_info()?;
    // Small commands leave at once: waiting for more bytes would add up to 40 ms.
    Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
