//! What a decision about a request costs in process: nanoseconds for a stranger and for a member, with few clients and
//! with a million. Exit 1: one of them costs more than a microsecond.
//!
//! `cargo run --release -p erp-core --example limit_cost`

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erp_core::limits::{Charge, DEFAULT, LimitOptions, Limits, Quota, Whom};
use erp_core::metrics::Metrics;
use erp_core::shared::{PrincipalId, Secret, SystemClock, SystemRng, TenantId};
use futures_util::FutureExt as _;

const TIMES: u32 = 20_000;
const ROUNDS: u32 = 50;
const MOST: Duration = Duration::from_micros(1);

fn main() -> ExitCode {
    let limits = limits();
    let quota = Quota::new(1_000_000, Duration::from_secs(900));
    let tenant = TenantId::new(&SystemClock, &SystemRng::new());
    let user = PrincipalId::new(&SystemClock, &SystemRng::new());
    let stranger = |number: u32| [limits.counter(&DEFAULT, quota, Whom::Stranger(address(number)))];
    let member = |number: u32| {
        [Whom::Office(tenant, address(number)), Whom::Member(tenant, user)]
            .map(|whom| limits.counter(&DEFAULT, quota, whom))
    };
    let decide = |charges: &[Charge]| drop(limits.charge(charges).now_or_never());
    let mut cheap = true;
    for (clients, of) in [(1, "one"), (1_000_000, "a million")] {
        (0..clients).for_each(|number| decide(&stranger(number)));
        // Steps that reach all of them in an order that no cache foresees.
        let next = |number: u32| number.wrapping_mul(2_654_435_761) % clients;
        cheap &= report(&format!("stranger, one of {of}"), |number| decide(&stranger(next(number))));
        cheap &= report(&format!("member, from one address of {of}"), |number| decide(&member(next(number))));
    }
    if cheap { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn limits() -> Limits {
    Limits::new(LimitOptions {
        secret: Secret::new("example".to_owned()),
        instances: 1,
        shared: None,
        clock: Arc::new(SystemClock),
        metrics: Metrics::new(true),
    })
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

/// The best round: what the code costs, without what else the machine was doing.
fn report(what: &str, decide: impl Fn(u32)) -> bool {
    let round = |first: u32| {
        let started = Instant::now();
        (first..first + TIMES).for_each(&decide);
        started.elapsed()
    };
    let best = (0..ROUNDS).map(|number| round(number * TIMES)).min().unwrap_or_default() / TIMES;
    let line = format!("{what}: {} ns\n", best.as_nanos());
    let _ = io::stdout().write_all(line.as_bytes());
    best <= MOST
}
