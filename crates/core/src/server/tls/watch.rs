//! Reads the certificate and its key again when their files change, or on SIGHUP. Connections keep what they have.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::aws_lc_rs;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Tls;
use super::certificate::Pair;
use crate::config::SettingProblem;
use crate::shared::Clock;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// From so long before its end on, a certificate is warned of, once a day.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Tls {
    /// Watches the files until `stop`.
    pub(crate) async fn watch(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut read = self.0.shown.current().stamp;
        let mut seen = read;
        let mut warned = None;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => false,
                () = hung_up(&mut hangup) => true,
            };
            let stamp = self.0.files.stamp().await;
            // Two files are not replaced in one moment: they are read when both have come to rest.
            let at_rest = stamp == seen;
            seen = stamp;
            if asked || (at_rest && stamp != read) {
                read = stamp;
                self.reload(clock.now()).await;
            }
            self.warn_before_end(clock.now(), &mut warned);
        }
    }

    /// Shows the new pair, or keeps the old one and says why.
    pub(super) async fn reload(&self, now: Timestamp) {
        let reloads = |outcome: &str| self.0.metrics.tls_certificate_reloads_total.with(&[outcome]).inc();
        let pair = self.0.files.read(&aws_lc_rs::default_provider()).await;
        match pair.and_then(|pair| if pair.is_over(now) { Err(self.over()) } else { Ok(pair) }) {
            Ok(pair) => {
                self.0.shown.show(&pair);
                self.note(&pair);
                reloads("loaded");
                tracing::info!(
                    expires = pair.expires.map(tracing::field::display),
                    "The TLS certificate was loaded anew"
                );
            }
            Err(SettingProblem { name, message, fix }) => {
                reloads("refused");
                let reason = format!("{name}: {message}. {fix}.");
                tracing::error!(reason, "The new TLS certificate was refused; the old one is kept");
            }
        }
    }

    fn over(&self) -> SettingProblem {
        SettingProblem {
            name: "TLS_CERT_PATH".to_owned(),
            message: format!("the certificate in {} has expired", self.0.files.certificate.display()),
            fix: "Renew it".to_owned(),
        }
    }

    /// One warning a day, from 14 days before the end on.
    pub(super) fn warn_before_end(&self, now: Timestamp, warned: &mut Option<Timestamp>) {
        let Some(expires) = self.0.shown.current().expires else { return };
        let left = expires.duration_since(now);
        // A clock that was set back since the last warning does not silence the next one.
        let lately = |last| (SignedDuration::ZERO..DAY).contains(&now.duration_since(last));
        if left >= SOON || warned.is_some_and(lately) {
            return;
        }
        *warned = Some(now);
        if left.is_positive() {
            tracing::warn!(%expires, days = left.as_hours() / 24, "The TLS certificate expires soon");
        } else {
            tracing::error!(%expires, "The TLS certificate has expired: clients refuse it");
        }
    }
}

impl Pair {
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    let heard = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}
