//! Lock-out: it shuts out those who guess, and never the owner.
//!
//! | What fails | Free | Then |
//! | --- | --- | --- |
//! | an address | `RATE_LIMIT_AUTH_MAX` in a window | it waits until the oldest is forgotten (`erp_core::limits`) |
//! | an account, in a row, wherever from | twice as many | pauses of 1 s, 2 s, 4 s … up to a window (A-06) |
//! | the same | `IDENTITY_LOCK_OUT_AFTER` | strangers stay out until one succeeds (A-05) |
//! | a tenant's accounts, in a window | 60 times as many | strangers wait until the oldest is forgotten |
//! | accounts of whichever tenants, from one address in a day | 4 times as many | the address waits: it tries stolen pairs |
//!
//! A device from which the owner has signed in before is counted by itself alone, in a row of its own; so is a session that proves
//! itself again, and an invitation that came by mail. A password that is set by the link of a mail opens the account to everybody.
//!
//! All of it is in PostgreSQL, so that instances agree without Redis. An attempt is charged before its password is looked at, and
//! given back when it was right, so that parallel guesses do not pass together. Times are the database's, and differences only: a
//! moment that is yet to come, since the clock was set back, delays nobody; and a run that shuts strangers out ends by no clock.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use erp_core::app::App;
use erp_core::auth::Trace;
use erp_core::db::System;
use erp_core::error::{Error, Result, codes as core};
use erp_core::jobs::{Job, JobKind, Schedule};
use erp_core::limits::{Attempt, Charged, Whom};
use erp_core::logging::Severity;
use erp_core::{from_row, security_event, sql};
use uuid::Uuid;

use super::session::{address, seconds};
use super::{IdentityMetrics, IdentitySettings, SIGN_IN, codes};

/// So many times as often as one address an account may be failed at before there are pauses.
const PAUSES: u32 = 2;
/// A tenant's accounts.
const TENANT: u32 = 60;
/// An address's accounts, in a day.
const PAIRS: u32 = 4;

/// At what somebody tries to get in, as it was typed, and from which device, if that is known.
pub(crate) struct GuessTarget<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) email: &'a str,
    /// A known device, or what proves as much: a session, an invitation.
    pub(crate) device: Option<Uuid>,
}

/// An attempt that counts as failed unless it is given back.
#[must_use = "it counts as failed unless it is given back"]
pub(crate) struct Guess<'a> {
    system: &'a System,
    trace: &'a Trace,
    charged: Charged,
    names: TargetNames,
    rules: LockOutRules,
    /// In a row, this one included.
    failures: i32,
}

/// What its owner is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Tries fail, and have to wait from now on.
    Tries,
    /// Strangers are shut out.
    LockedOut,
}

/// The names under which things are counted.
struct TargetNames {
    account: Uuid,
    tenant: Uuid,
    address: Uuid,
    device: Option<Uuid>,
}

impl TargetNames {
    /// Whose failures in a row count.
    fn run(&self) -> Uuid {
        self.device.unwrap_or(self.account)
    }
}

struct LockOutRules {
    /// Failures in a row without a pause.
    free: i32,
    /// Failures in a row after which strangers are shut out.
    most: i32,
    window: i64,
    tenant: i64,
    pairs: i64,
}

impl LockOutRules {
    fn of(app: &App) -> Result<Self> {
        let (each, window) = (app.config.rate_limit.auth_max, app.config.rate_limit.auth_window);
        let most = app.settings::<IdentitySettings>()?.lock_out_after;
        let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Self {
            free: number((PAUSES * each).min(most)),
            most: number(most),
            window: seconds(window),
            tenant: i64::from(TENANT * each),
            pairs: i64::from(PAIRS * each),
        })
    }
}

/// How long a stranger waits for what others have done to the tenant, and for what this address has done.
const WAITS: &str = "select \
       (select ceil(extract(epoch from x.at + $3::bigint * interval '1 second' - now()))::int8 from auth.sign_in_pairs x \
         where x.named_tenant = $1 and x.at > now() - $3::bigint * interval '1 second' and x.at <= clock_timestamp() \
         order by x.at desc offset $4::bigint - 1 limit 1) as tenant, \
       (select ceil(extract(epoch from x.at + interval '1 day' - now()))::int8 from auth.sign_in_pairs x \
         where x.address = $2 and x.at > now() - interval '1 day' and x.at <= clock_timestamp() \
         order by x.at desc offset $5::bigint - 1 limit 1) as address";
/// No row where it has to wait: a run that is over its free failures until its pause is over, and one of `$3` for good. A run that
/// was left alone for a day begins anew, unless it has come so far. The time is looked at when the row is held: what the transaction
/// before it has written is past then.
const CHARGE: &str = "insert into auth.sign_in_runs as r (key, failures, since, last_at) \
       values ($1, 1, clock_timestamp(), clock_timestamp()) \
     on conflict (key) do update set last_at = clock_timestamp(), \
       failures = case when r.last_at < clock_timestamp() - interval '1 day' and r.failures < $3 then 1 else r.failures + 1 end, \
       since = case when r.last_at < clock_timestamp() - interval '1 day' and r.failures < $3 or r.failures = 0 \
         then clock_timestamp() else r.since end \
     where r.failures < $3 and (r.failures < $2 or r.last_at > clock_timestamp() \
       or r.last_at + least(1 << least(r.failures - $2, 20), $4::bigint) * interval '1 second' <= clock_timestamp()) \
     returning failures";
/// How long the pause lasts; null where no time ends it.
const PAUSE: &str = "select case when r.failures < $3 then greatest(1, ceil(extract(epoch from r.last_at - clock_timestamp() \
       + least(1 << greatest(0, least(r.failures - $2, 20)), $4::bigint) * interval '1 second'))::int8) end as pause \
     from auth.sign_in_runs r where r.key = $1";
/// The same, and which account it was from which address, unless it has to wait.
const CHARGE_STRANGER: &str = sql![
    "with run as (",
    CHARGE,
    "), pair as (insert into auth.sign_in_pairs (address, account, named_tenant, at) \
         select $5::uuid, $1, $6::uuid, clock_timestamp() from run on conflict (address, account) do update set at = excluded.at) \
     select failures from run"
];
const FORGIVE: &str = "with honest as (delete from auth.sign_in_pairs where address = $1 and account = $2) \
     update auth.sign_in_runs set failures = 0 where key in ($2, $3)";
const GIVE_BACK: &str =
    "update auth.sign_in_runs set failures = failures - 1 where key = $1 and failures between 1 and $2";
/// Strangers come in again.
pub(super) const OPEN: &str = "update auth.sign_in_runs set failures = 0 where key = $1";

struct LockOutWaits {
    tenant: Option<i64>,
    address: Option<i64>,
}
from_row!(LockOutWaits { tenant, address });

struct CountedRun {
    failures: i32,
}
from_row!(CountedRun { failures });

struct RunPause {
    pause: Option<i64>,
}
from_row!(RunPause { pause });

/// The name of an account's run of failures.
pub(super) fn account_name(app: &App, tenant: &str, email: &str) -> Uuid {
    app.limits.name(Whom::Account(tenant, email))
}

/// Begins an attempt, which is charged to all that is counted.
///
/// # Errors
/// `core.rate_limited`, with the time to wait; `identity.locked_out`.
pub(crate) async fn begin<'a>(
    (app, system, trace): (&App, &'a System, &'a Trace),
    attempt: &Attempt,
    target: &GuessTarget<'_>,
) -> Result<Guess<'a>> {
    let charged = match target.device {
        Some(device) => attempt.by_device(device).await,
        None => attempt.at(target.tenant, target.email).await,
    };
    let charged = charged.inspect_err(|_| refused(app, "address"))?;
    let from = trace.client_ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let names = TargetNames {
        account: account_name(app, target.tenant, target.email),
        tenant: app.limits.name(Whom::Named(target.tenant)),
        address: app.limits.name(Whom::Stranger(from)),
        device: target.device.map(|device| app.limits.name(Whom::Device(device))),
    };
    let rules = LockOutRules::of(app)?;
    match charge(app, system, trace, (&names, &rules)).await {
        Ok(failures) => Ok(Guess { system, trace, charged, names, rules, failures }),
        Err(error) => {
            charged.give_back().await; // it was not tried
            Err(error)
        }
    }
}

/// How many have failed in a row, this one included.
async fn charge(
    app: &App,
    system: &System,
    trace: &Trace,
    (names, rules): (&TargetNames, &LockOutRules),
) -> Result<i32> {
    let LockOutRules { free, most, window, tenant, pairs } = rules;
    let run = names.run();
    let mut tx = system.begin(trace);
    if names.device.is_none() {
        let waits = tx.optional(WAITS, &[&names.tenant, &names.address, window, tenant, pairs]).await?;
        let LockOutWaits { tenant, address } = waits.unwrap_or(LockOutWaits { tenant: None, address: None });
        if let Some(wait) = address {
            return Err(stuffing(app, trace, wait));
        }
        if let Some(wait) = tenant {
            refused(app, "tenant");
            return Err(wait_for(wait));
        }
    }
    let counted: Option<CountedRun> = match names.device {
        Some(_) => tx.last().optional(CHARGE, &[&run, free, most, window]).await?,
        None => {
            let TargetNames { address, tenant, .. } = names;
            tx.last().optional(CHARGE_STRANGER, &[&run, free, most, window, address, tenant]).await?
        }
    };
    match counted {
        Some(CountedRun { failures }) => Ok(failures),
        None => Err(held_up(app, system, trace, (run, rules)).await?),
    }
}

/// Why a run lets nobody try now.
async fn held_up(
    app: &App,
    system: &System,
    trace: &Trace,
    (run, LockOutRules { free, most, window, .. }): (Uuid, &LockOutRules),
) -> Result<Error> {
    let paused: Option<RunPause> =
        system.begin(trace).last().optional(PAUSE, &[&run, free, most, window]).await?;
    if let Some(RunPause { pause: None }) = paused {
        refused(app, "locked_out");
        return Ok(Error::new(&codes::LOCKED_OUT).retry_after(app.config.rate_limit.auth_window));
    }
    refused(app, "account");
    Ok(wait_for(paused.and_then(|paused| paused.pause).unwrap_or(1)))
}

fn wait_for(seconds: i64) -> Error {
    Error::new(&core::RATE_LIMITED).retry_after(Duration::from_secs(seconds.max(1).unsigned_abs()))
}

/// One address has failed at so many accounts that it tries pairs which were stolen elsewhere.
fn stuffing(app: &App, trace: &Trace, wait: i64) -> Error {
    refused(app, "stuffing");
    security_event!(
        Severity::High,
        "An address tries the accounts of many: it has to wait",
        action = "identity.credential_stuffing",
        ip = address(trace),
        wait,
    );
    // Told in windows, as an address that has failed too often: what was noticed is not told.
    wait_for(wait.min(seconds(app.config.rate_limit.auth_window)))
}

fn refused(app: &App, by: &str) {
    if let Ok(metrics) = app.metrics.of::<IdentityMetrics>() {
        metrics.identity_sign_ins_refused_total.with(&[by]).inc();
    }
}

impl Guess<'_> {
    /// Whether it is the last for now: when it fails, the next one waits.
    pub(super) fn is_last(&self) -> bool {
        self.charged.is_last() || self.failures >= self.rules.free
    }

    /// What the account's owner is to be told when it fails: once in a run, and again when strangers are shut out.
    pub(super) fn notice(&self) -> Option<Notice> {
        match self.failures {
            failures if failures == self.rules.most => Some(Notice::LockedOut),
            failures if failures == self.rules.free => Some(Notice::Tries),
            _ => None,
        }
    }

    /// It went well: it does not count, and with it ends the run of failures, of strangers too.
    pub(crate) async fn succeeded(self) {
        let TargetNames { account, address, .. } = &self.names;
        let forgiven = self.system.begin(self.trace).last();
        let forgiven = forgiven.rows::<()>(FORGIVE, &[address, account, &self.names.run()]).await.map(drop);
        self.told(forgiven).await;
    }

    /// Nobody could decide whether it fails: it does not count.
    pub(crate) async fn undecided(self) {
        let given = self.system.begin(self.trace).last();
        let given = given.rows::<()>(GIVE_BACK, &[&self.names.run(), &self.rules.most]).await.map(drop);
        self.told(given).await;
    }

    /// What could not be written counts as one failure, and decides nothing.
    async fn told(self, written: Result<()>) {
        self.charged.give_back().await;
        if let Err(error) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "An attempt that did not fail counts");
        }
    }
}

/// Nobody is told of anything by their names any more.
const FORGET_PAIRS: &str = "delete from auth.sign_in_pairs where at < now() - interval '1 day'";
const FORGET_RUNS: &str = "delete from auth.sign_in_runs where last_at < now() - interval '30 days' \
     or failures < $1 and last_at < now() - interval '1 day'";

pub(super) static FORGET: JobKind<()> = JobKind::<()>::new(
    "identity.forget_failures",
    "Removes what is known of failed sign-ins: after a day, and after 30 days where strangers are shut out.",
    |job, ()| Box::pin(forget(job)),
)
.system(&SIGN_IN)
.unhurried();

pub(super) static NIGHTLY: Schedule = Schedule::for_platform(
    "identity.forget_failures",
    "Removes what is known of failed sign-ins that are long over.",
    "55 3 * * *",
    &FORGET,
    &(),
);

async fn forget(job: &Job) -> Result<()> {
    let rules = LockOutRules::of(&job.call.app)?;
    let mut tx = job.system()?.begin(job.call.caller.trace());
    let _: Vec<()> = tx.rows(FORGET_PAIRS, &[]).await?;
    tx.last().rows::<()>(FORGET_RUNS, &[&rules.most]).await?;
    Ok(())
}
