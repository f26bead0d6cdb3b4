//! What it costs to encrypt and open 100 bytes of a column: `cargo run --release -p erp-core --example encryption_cost`.

use std::hint::black_box;
use std::time::Instant;

use erp_core::crypto::{DataKey, Keyring, SealPlace};
use erp_core::shared::{SystemRng, TenantId};
use uuid::Uuid;

const ROUNDS: u32 = 200_000;

#[allow(clippy::print_stdout, clippy::expect_used)] // it is read by who measures
fn main() {
    let rng = SystemRng::new();
    let key = DataKey::new(1, &DataKey::random(&rng)).expect("32 bytes");
    let ring = Keyring::new(TenantId::NOBODY, vec![key], Vec::new());
    let place = SealPlace { table: "suppliers", column: "iban", row: Uuid::from_u128(7) };
    let text = [b'x'; 100];
    let sealed = ring.seal(&rng, &place, &text).expect("a ciphertext");
    let measure = |name: &str, work: &dyn Fn()| {
        let begun = Instant::now();
        (0..ROUNDS).for_each(|_| work());
        println!("{name}: {:.0} ns", begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    };
    measure("encrypt 100 bytes", &|| drop(black_box(ring.seal(&rng, &place, black_box(&text)))));
    measure("open 100 bytes", &|| drop(black_box(ring.open(&place, black_box(&sealed)))));
    measure("blind index", &|| drop(black_box(ring.index(["suppliers", "iban"], black_box(&text)))));
}
