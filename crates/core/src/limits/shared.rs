//! The counters of all instances together, in Redis 5 or later: one script call a decision, and none while Redis does
//! not answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::ServerErrorKind::NoScript;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    RedisResult,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::failures::{Count, FailureCount, Judgement, Rule};
use super::key::Key;
use super::trouble::{Trouble, is_denied};
use super::{Charge, Charging};
use crate::lifecycle::{Background, Exit, Lifecycle, StartError, StopStage};
use crate::metrics::Metrics;
use crate::shared::{Secret, Seldom};

const CHARGE: &str = include_str!("charge.lua");
const REFUND: &str = include_str!("refund.lua");
const ATTEMPT: &str = include_str!("attempt.lua");
const FORGET: &str = include_str!("forget.lua");
/// Counters of nobody's, which are charged to see whether Redis takes writes. There are many, since one node of a cluster
/// would take some of them and not the others.
const PROBES: u32 = 16;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long after a failure Redis is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// The same where somebody must do something first.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// How often it is said that Redis does not answer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Redis, as the store of counters. Clones share everything.
#[derive(Clone)]
pub struct Shared(Arc<SharedInner>);

struct SharedInner {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
    /// `None` while Redis does not answer: then nobody waits for it.
    link: watch::Sender<Option<RedisLink>>,
    /// Wakes the task that connects.
    broken: Notify,
    /// Why there is no link; what it was last, while there is one.
    trouble: Mutex<Trouble>,
    complaint: Seldom,
    metrics: Metrics,
}

/// A connection over which all requests speak at once, and the scripts' names there.
#[derive(Clone)]
struct RedisLink {
    connection: MultiplexedConnection,
    charge: RedisScript,
    refund: RedisScript,
    attempt: RedisScript,
    forget: RedisScript,
}

#[derive(Clone)]
struct RedisScript {
    text: &'static str,
    /// `None` where the user may not run it by name.
    sha: Option<Arc<str>>,
}

/// Keeps the connection to Redis.
pub(crate) static STORE: Background<Shared> = Background {
    name: "rate limit store",
    about: "Keeps the connection to Redis, and takes it into use again when it answers as fast as requests want it to.",
    critical: true,
    stops: StopStage::Foundation,
    run: |shared, stop| Box::pin(shared.keep(stop.token().clone())),
    observe: |_| {},
};

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
        let shared = Self(Arc::new(SharedInner {
            client,
            patience,
            link: watch::Sender::new(None),
            broken: Notify::new(),
            trouble: Mutex::new(Trouble::Silent),
            complaint: Seldom::new(LOG_INTERVAL),
            metrics,
        }));
        shared.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        shared.connect().await;
        lifecycle.start(&STORE, shared.clone());
        Ok(shared)
    }

    /// Charges all keys one unit, or none; `None` when Redis does not say.
    pub(super) async fn charge(&self, charges: &[Charge]) -> Option<Charging> {
        let link = self.link()?;
        let answer: Vec<u64> = self.run(&link, &link.charge, |command| units(command, charges)).await?;
        let mut outcome = Charging { allowed: answer.first() == Some(&1), ..Charging::default() };
        outcome.spent.iter_mut().zip(answer.iter().skip(1)).for_each(|(spent, told)| *spent = *told);
        Some(outcome)
    }

    /// Gives each key its unit back. When Redis does not answer, the unit is lost.
    pub(super) async fn refund(&self, charges: &[Charge]) {
        if let Some(link) = self.link() {
            let _: Option<u64> = self.run(&link, &link.refund, |command| units(command, charges)).await;
        }
    }

    /// Charges all counters one attempt, or none; `None` when Redis does not say.
    pub(super) async fn attempt(&self, counters: &[FailureCount]) -> Option<Judgement> {
        let link = self.link()?;
        let arguments = |command: &mut Cmd| {
            keys(command, counters.iter().map(|counter| counter.key));
            for FailureCount { rule: Rule { most, window, pause, longest }, .. } in counters {
                command.arg(most).arg(window).arg(pause).arg(longest);
            }
        };
        let told: Vec<u64> = self.run(&link, &link.attempt, arguments).await?;
        let [allowed, moment, told @ ..] = &told[..] else { return None };
        let mut answer = Judgement { allowed: *allowed == 1, moment: *moment, ..Judgement::default() };
        for (count, told) in answer.counts.iter_mut().zip(told.chunks_exact(3)) {
            let [failures, wait, next] = *told else { continue };
            *count = Count { failures: u32::try_from(failures).unwrap_or(u32::MAX), wait, next };
        }
        Some(answer)
    }

    /// Takes an attempt back. When Redis does not answer, it counts.
    pub(super) async fn forget(&self, counters: &[FailureCount], moment: u64, success: bool) {
        let arguments = |command: &mut Cmd| {
            keys(command, counters.iter().map(|counter| counter.key));
            command.arg(moment);
            for FailureCount { rule, .. } in counters {
                command.arg(u8::from(success && rule.pause > 0));
            }
        };
        if let Some(link) = self.link() {
            let _: Option<u64> = self.run(&link, &link.forget, arguments).await;
        }
    }

    /// Whether it is in use, and if not, why.
    pub(super) fn standing(&self) -> Result<(), &'static str> {
        if self.0.link.borrow().is_some() { Ok(()) } else { Err(self.trouble().text()) }
    }

    fn trouble(&self) -> Trouble {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Option<RedisLink> {
        self.0.link.borrow().clone()
    }

    async fn run<T: FromRedisValue>(
        &self,
        link: &RedisLink,
        script: &RedisScript,
        arguments: impl Fn(&mut Cmd),
    ) -> Option<T> {
        match tokio::time::timeout(self.0.patience, script.run(link.connection.clone(), arguments)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => self.complain(Trouble::of(&error), &error),
            Err(late) => self.complain(Trouble::Silent, &late),
        }
        self.0.metrics.rate_limit_store_errors_total.with(&[]).inc();
        // The next requests do not wait for it, until it has answered again.
        self.0.link.send_replace(None);
        self.0.metrics.rate_limit_fallback.with(&[]).set(1.0);
        self.0.broken.notify_one();
        None
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
            let up = self.0.link.borrow().is_some();
            let pause = async {
                if up {
                    self.0.broken.notified().await;
                }
                tokio::time::sleep(if self.trouble().lasts() { LONG_PAUSE } else { PAUSE }).await;
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
            Ok(Err(error)) => self.complain(Trouble::of(&error), &error),
            Err(late) => self.complain(Trouble::Silent, &late),
        }
    }

    async fn try_connect(&self) -> RedisResult<RedisLink> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        let charge = RedisScript::load(connection.clone(), CHARGE).await?;
        let refund = RedisScript::load(connection.clone(), REFUND).await?;
        let attempt = RedisScript::load(connection.clone(), ATTEMPT).await?;
        let forget = RedisScript::load(connection.clone(), FORGET).await?;
        let mut link = RedisLink { connection, charge, refund, attempt, forget };
        let mut probed = self.probe(&link).await;
        if probed.as_ref().is_err_and(is_denied) && link.charge.sha.is_some() {
            // It may know the scripts' names, and not run them by name.
            for script in [&mut link.charge, &mut link.refund, &mut link.attempt, &mut link.forget] {
                script.sha = None;
            }
            probed = self.probe(&link).await;
        }
        probed.map(|()| link)
    }

    /// A replica and a full Redis take a connection, and no writes; and a node of a cluster takes some keys.
    async fn probe(&self, link: &RedisLink) -> RedisResult<()> {
        let charge = |number: u32| {
            link.charge.run::<Vec<u64>>(link.connection.clone(), move |command: &mut Cmd| {
                command.arg(1).arg(format!("erp:rl:{{probe-{number}}}")).arg(1).arg(1_000_000);
            })
        };
        match tokio::time::timeout(self.0.patience, try_join_all((0..PROBES).map(charge))).await {
            Ok(answers) => answers.map(drop),
            Err(_) => Err(RedisError::from((ErrorKind::Io, "too slow"))),
        }
    }
}

impl RedisScript {
    async fn load(mut connection: MultiplexedConnection, text: &'static str) -> RedisResult<Self> {
        let loaded = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async::<String>(&mut connection).await;
        match loaded {
            Ok(sha) => Ok(Self { text, sha: Some(sha.into()) }),
            Err(error) if is_denied(&error) => Ok(Self { text, sha: None }),
            Err(error) => Err(error),
        }
    }

    /// By its name; with its text, where that is not allowed or Redis has been emptied since.
    async fn run<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        if let Some(sha) = &self.sha {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&**sha);
            arguments(&mut command);
            match command.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(NoScript) => {}
                answer => return answer,
            }
        }
        let mut command = redis::cmd("EVAL");
        command.arg(self.text);
        arguments(&mut command);
        command.query_async(&mut connection).await
    }
}

/// What the scripts take that count units.
fn units(command: &mut Cmd, charges: &[Charge]) {
    keys(command, charges.iter().map(|charge| charge.key));
    for charge in charges {
        command.arg(charge.quota.interval()).arg(charge.quota.capacity());
    }
}

fn keys(command: &mut Cmd, keys: impl ExactSizeIterator<Item = Key>) {
    command.arg(keys.len());
    for key in keys {
        command.arg(key.to_string());
    }
}

fn client(url: &Secret<String>) -> RedisResult<Client> {
    let info = url.expose().as_str().into_connection_info()?;
    // Small commands leave at once: waiting for more bytes would add up to 40 ms.
    Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
