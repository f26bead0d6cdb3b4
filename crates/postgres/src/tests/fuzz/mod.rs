//! What a server may send, byte by byte: mutated and random streams, cut into random pieces, through the decoder in each
//! of its states. None may make it panic, hang, take much memory, or accept a row that is not what the stream holds.
//!
//! `script/test` runs it for a few seconds, `script/check-deep` for ten minutes. `SEED` repeats a run, `FUZZ_EXECUTION`
//! one execution, whose number a failure prints (but for the
//! nonce that SCRAM draws); `FUZZ_SECONDS` is how long.

mod answers;
mod reference;
mod server;
mod states;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use allocation_counter::measure;

pub(crate) use server::Server;

use super::Dice;
use states::{STATES, Verdict};

/// Polls that a future may take for each byte of its server's, Pending included.
const POLLS: usize = 64;
/// What an execution may take of memory at a time: so much, and so much for each byte of its server's.
const MEMORY: u64 = 256 * 1024;
const MEMORY_PER_BYTE: u64 = 40;
/// An execution that takes longer hangs.
const STUCK: Duration = Duration::from_secs(60);

/// The future's outcome; it must not take more polls than its server's bytes explain.
pub(super) fn drive<T>(future: impl Future<Output = T>, bytes: usize) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..POLLS * (bytes + 64) {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut cx) {
            return outcome;
        }
    }
    panic!("it waits for ever");
}

/// What is being executed, for the one who watches.
static EXECUTION: AtomicU64 = AtomicU64::new(0);

/// Says which execution hangs, since nextest would only say that one does.
fn watch() {
    std::thread::spawn(|| {
        loop {
            let before = EXECUTION.load(Ordering::Relaxed);
            std::thread::sleep(STUCK);
            if before != 0 && before == EXECUTION.load(Ordering::Relaxed) {
                eprintln!("FUZZ_EXECUTION={before} hangs");
                std::process::abort();
            }
        }
    });
}

#[allow(clippy::disallowed_methods)] // the environment of tests is the process's
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One execution: everything in it follows from its number.
fn execute(number: u64) -> (usize, Verdict) {
    EXECUTION.store(number, Ordering::Relaxed);
    let mut dice = Dice::of(number);
    let state = dice.roll(STATES.len());
    let case = (STATES[state].1)(&mut dice);
    let bytes = case.bytes();
    let mut verdict = Verdict::Refused;
    let taken = measure(|| verdict = case.run());
    let most = MEMORY + MEMORY_PER_BYTE * bytes as u64;
    let (name, most_taken) = (STATES[state].0, taken.bytes_max);
    assert!(most_taken <= most, "{name}: {most_taken} bytes were taken for a stream of {bytes}");
    (state, verdict)
}

#[test]
fn fuzz_by_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter(); // timers may be made, and never fire
    let one = variable("FUZZ_EXECUTION");
    let seed = variable("SEED").unwrap_or(1);
    let limit = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(3));
    watch();
    let (begun, mut dice) = (Instant::now(), Dice::of(seed));
    let mut counts = vec![[0_u64; 2]; STATES.len()];
    while begun.elapsed() < limit {
        let number = one.unwrap_or_else(|| dice.next());
        let outcome = catch_unwind(AssertUnwindSafe(|| execute(number)));
        match outcome {
            Ok((state, verdict)) => counts[state][usize::from(verdict == Verdict::Refused)] += 1,
            Err(panic) => {
                eprintln!("FUZZ_EXECUTION={number} of SEED={seed} fails");
                resume_unwind(panic);
            }
        }
        if one.is_some() {
            return;
        }
    }
    let all: u64 = counts.iter().flatten().sum();
    println!("deep: {all} streams in {} s, seed {seed}, no finding", begun.elapsed().as_secs());
    let mut states = Vec::new();
    for ((name, _), [accepted, refused]) in STATES.iter().zip(&counts) {
        states.push(format!("{name} {accepted}/{refused}"));
        assert!(all < 10_000 || (*accepted > 0 && *refused > 0), "{name} is not tried");
    }
    println!("deep: accepted/refused of {}", states.join(", "));
}
