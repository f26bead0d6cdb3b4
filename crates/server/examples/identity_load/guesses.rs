//! Whether the time of an answer tells who has an account: an unknown tenant, an unknown person, a wrong password and a disabled
//! person, in turn.

use std::io;
use std::time::Instant;

use erp_testkit::Measurement;
use http::StatusCode;

use super::Bench;
use super::sign_ins::{address, body};
use super::traffic::Answers;

const TIMES: u64 = 300;

pub(super) async fn measure(bench: &Bench<'_>) -> io::Result<Vec<Measurement>> {
    let password = &bench.person("acme")?.credential.password;
    let mut answers: [Answers; 4] = Default::default();
    for number in 0..TIMES {
        // Each account is tried few times, or its owner is defended, which takes time.
        let known = number % 400 + 1;
        let disabled = number % 200 + 401;
        let tries = [
            body(&format!("nowhere{number}"), "somebody@acme.example", password),
            body("acme", &format!("nobody{number}@acme.example"), password),
            body("acme", &format!("p{known}@acme.example"), "a wrong password of some length"),
            body("acme", &format!("p{disabled}@acme.example"), password),
        ];
        for (at, (body, answers)) in tries.iter().zip(&mut answers).enumerate() {
            let from = address(2_000_000 + number * 4 + at as u64);
            let began = Instant::now();
            let status = bench.post(from, "/api/v1/auth/login", body).await.status();
            answers.0.push((status, began.elapsed()));
        }
    }
    if answers
        .iter()
        .any(|answers| answers.count(|status| status == StatusCode::UNAUTHORIZED) < TIMES as usize)
    {
        return Err(io::Error::other("a guess was not answered by 401"));
    }
    let medians = answers.map(|answers| answers.percentile(50));
    let apart = medians.iter().fold(f64::MIN, |most, one| most.max(*one))
        - medians.iter().fold(f64::MAX, |least, one| least.min(*one));
    Ok(vec![Measurement::at_most("the medians of four failed sign-ins, apart", apart, "ms", 5.0)])
}
