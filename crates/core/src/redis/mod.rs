//! The Redis that instances share, 5 or later: one connection over which all requests speak at once.
//!
//! It is taken into use when it answers as fast as requests want it to, and not asked while it does not: one request finds
//! out, and the next ones do not wait. Limits and the cache use it; each says what it does without.

mod script;
mod trouble;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo as _, RedisError, RedisResult,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use script::NamesDenied;
pub(crate) use script::RedisScript;
pub(crate) use trouble::Trouble;

use crate::lifecycle::{Background, Exit, Lifecycle, StartError, StopStage};
use crate::metrics::Metrics;
use crate::shared::{Secret, Seldom};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long after a failure Redis is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// The same where somebody must do something first.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// How often it is said that Redis does not answer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The Redis of all instances. Clones share everything.
#[derive(Clone)]
pub struct Redis(Arc<RedisInner>);

struct RedisInner {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
    probe: RedisProbe,
    /// `None` while Redis does not answer: then nobody waits for it.
    link: watch::Sender<Option<RedisLink>>,
    /// Wakes the task that connects.
    broken: Notify,
    /// Why there is no link; what it was last, while there is one.
    trouble: Mutex<Trouble>,
    complaint: Seldom,
    metrics: Metrics,
}

/// A connection that has passed the probe.
#[derive(Clone)]
pub(crate) struct RedisLink {
    connection: MultiplexedConnection,
    patience: Duration,
    names_denied: NamesDenied,
}

/// Why Redis did not do what it was asked for.
pub(crate) struct RedisFailure {
    pub(crate) trouble: Trouble,
    pub(crate) error: RedisError,
}

/// What must work before Redis is taken into use.
pub(crate) type RedisProbe = fn(&RedisLink) -> BoxFuture<'_, RedisResult<()>>;

/// Keeps the connection to Redis.
pub(crate) static STORE: Background<Redis> = Background {
    name: "redis",
    about: "Keeps the connection to Redis, and takes it into use again when it answers as fast as requests want it to.",
    critical: true,
    stops: StopStage::Foundation,
    run: |redis, stop| Box::pin(redis.keep(stop.token().clone())),
    observe: |_| {},
};

impl Redis {
    /// Connects, if Redis answers, and keeps at it in the background until the stop.
    ///
    /// # Errors
    /// `Exit::Configuration` when the URL is none.
    pub(crate) async fn open(
        url: &Secret<String>,
        patience: Duration,
        probe: RedisProbe,
        metrics: Metrics,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let client = client(url).map_err(|error| {
            let message = "REDIS_URL cannot be used: set it to redis://user:password@host:6379/0";
            StartError::new(Exit::Configuration, message).because(error)
        })?;
        let redis = Self(Arc::new(RedisInner {
            client,
            patience,
            probe,
            link: watch::Sender::new(None),
            broken: Notify::new(),
            trouble: Mutex::new(Trouble::Silent),
            complaint: Seldom::new(LOG_INTERVAL),
            metrics,
        }));
        redis.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        redis.connect().await;
        lifecycle.start(&STORE, redis.clone());
        Ok(redis)
    }

    /// Whether it is in use.
    pub(crate) fn is_up(&self) -> bool {
        self.0.link.borrow().is_some()
    }

    /// Whether it is in use, and if not, why.
    pub(crate) fn standing(&self) -> Result<(), &'static str> {
        if self.is_up() { Ok(()) } else { Err(self.trouble().text()) }
    }

    /// Waits until it is in use.
    pub(crate) async fn up(&self) {
        let mut link = self.0.link.subscribe();
        let _ = link.wait_for(Option::is_some).await; // the sender lives as long as `self`
    }

    /// What `script` answers; `None` while Redis is not in use. One that does not answer in time is not asked again until
    /// it does; whether another failure is a reason for that too is for the caller to say, with [`Redis::leave`].
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &RedisScript,
        arguments: impl Fn(&mut Cmd),
    ) -> Option<Result<T, RedisFailure>> {
        let link = self.0.link.borrow().clone()?;
        Some(self.judge(link.in_time(link.run(script, arguments)).await))
    }

    /// The same for one command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<Result<T, RedisFailure>> {
        let link = self.0.link.borrow().clone()?;
        let mut connection = link.connection.clone();
        Some(self.judge(link.in_time(command.query_async(&mut connection)).await))
    }

    /// Does not ask it any more, after this failure, until it has passed the probe again.
    pub(crate) fn leave(&self, failure: &RedisFailure) {
        self.complain(failure.trouble, &failure.error);
        self.0.link.send_replace(None);
        self.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        self.0.broken.notify_one();
    }

    fn judge<T>(&self, outcome: RedisResult<T>) -> Result<T, RedisFailure> {
        outcome.map_err(|error| {
            let failure = RedisFailure { trouble: Trouble::of(&error), error };
            if failure.trouble == Trouble::Silent {
                self.leave(&failure);
            }
            failure
        })
    }

    fn trouble(&self) -> Trouble {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what went wrong, and says so: what is new at once, and else once in [`LOG_INTERVAL`].
    fn complain(&self, trouble: Trouble, error: &(dyn std::error::Error + 'static)) {
        let last =
            std::mem::replace(&mut *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner), trouble);
        if self.0.complaint.is_due() || last != trouble {
            tracing::warn!(error, "{}", trouble.text());
        }
    }

    async fn keep(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let up = self.is_up();
            let pause = async {
                if up {
                    self.0.broken.notified().await;
                }
                tokio::time::sleep(if self.trouble().lasts() { LONG_PAUSE } else { PAUSE }).await;
            };
            if stop.run_until_cancelled(pause).await.is_some() && !self.is_up() {
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
            Ok(Err(error)) => self.complain(Trouble::of(&error), &error),
            Err(late) => self.complain(Trouble::Silent, &late),
        }
    }

    async fn try_connect(&self) -> RedisResult<RedisLink> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        let patience = self.0.patience;
        let link = RedisLink { connection, patience, names_denied: NamesDenied::default() };
        (self.0.probe)(&link).await?;
        link.in_time((self.0.probe)(&link)).await?; // the first time scripts were sent along
        Ok(link)
    }
}

fn client(url: &Secret<String>) -> RedisResult<Client> {
    let info = url.expose().as_str().into_connection_info()?;
    // Small commands leave at once: waiting for more bytes would add up to 40 ms.
    Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
