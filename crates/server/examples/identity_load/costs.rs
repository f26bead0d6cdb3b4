//! What a request pays for being somebody's, and what a feature costs that asks whether it is on.

use std::hint::black_box;
use std::io;
use std::sync::Mutex;
use std::time::Instant;

use erp_core::answer::NoContent;
use erp_core::auth::{Caller, Flag};
use erp_core::module::{Access, Module, Routes};
use erp_testkit::Measurement;
use http::StatusCode;

use super::Bench;

const ROUNDS: usize = 40;
const TIMES: u32 = 2000;
const ASKED: u32 = 1_000_000;

static FEATURE: Flag = Flag::off("measured.feature", "A feature that is asked for again and again.");
/// What a question took, in nanoseconds.
static TOOK: Mutex<f64> = Mutex::new(f64::NAN);

/// Routes that do nothing, and one that asks.
pub(super) static MODULE: Module = Module { name: "measured", routes, flags: &[&FEATURE], ..Module::BARE };

fn routes() -> Routes {
    Routes::new()
        .get("/test/open", Access::Public, || async { NoContent })
        .get("/test/own", Access::SignedIn, |_: Caller| async { NoContent })
        .get("/test/feature", Access::SignedIn, ask)
}

async fn ask(caller: Caller) -> NoContent {
    let round = || {
        let began = Instant::now();
        let on = (0..ASKED).filter(|_| black_box(&caller).is_on(black_box(&FEATURE))).count();
        black_box(on);
        began.elapsed().as_secs_f64() * 1e9 / f64::from(ASKED)
    };
    *TOOK.lock().expect("no round has panicked") = (0..5).map(|_| round()).fold(f64::INFINITY, f64::min);
    NoContent
}

pub(super) async fn measure(bench: &Bench<'_>) -> io::Result<Vec<Measurement>> {
    let token = bench.token(bench.person("acme")?)?;
    let (mut open, mut own) = (f64::INFINITY, f64::INFINITY);
    // In turn: what slows the machine down slows both down.
    for _ in 0..ROUNDS {
        open = open.min(round(bench, "/test/open", "").await?);
        own = own.min(round(bench, "/test/own", &token).await?);
    }
    let asked = bench.get("/test/feature", &token).await.status();
    if asked != StatusCode::NO_CONTENT {
        return Err(io::Error::other(format!("refused: {asked}")));
    }
    let feature = *TOOK.lock().expect("no round has panicked");
    Ok(vec![
        Measurement {
            name: "a request of nobody's that does nothing", value: open, unit: "µs", bound: None
        },
        Measurement::at_most("what it takes more to be somebody's", own - open, "µs", 30.0),
        Measurement::at_most("whether a feature is on", feature, "ns", 200.0),
    ])
}

/// The mean of some requests one after the other, in microseconds.
async fn round(bench: &Bench<'_>, path: &str, token: &str) -> io::Result<f64> {
    let began = Instant::now();
    for _ in 0..TIMES {
        let status = bench.get(path, token).await.status();
        if status != StatusCode::NO_CONTENT {
            return Err(io::Error::other(format!("{path} refused: {status}")));
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES))
}
