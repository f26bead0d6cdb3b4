//! How many sign in a second, what those who read notice of it, and what becomes of more than can.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use erp_core::middleware::{Edge, Peer};
use erp_testkit::{Measurement, Person};
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::traffic::{Answers, closed, open};
use super::{Bench, PEOPLE};

/// Who reads comes from here.
const HERE: [u8; 4] = [127, 0, 0, 1];

/// People like the first one, with that one's password; every other one of the second half is disabled.
const ADD: &str = "insert into auth.people (id, email, name, disabled_at) \
       select md5('measured' || n)::uuid, 'p' || n || '@acme.example', 'P' || n, case when n > 400 then now() end \
       from generate_series(1, {people}) n; \
     insert into auth.passwords (person_id, phc) select p.id, (select phc from auth.passwords where person_id = '{like}') \
       from auth.people p where p.email like 'p%@acme.example' and p.id <> '{like}' on conflict do nothing; \
     insert into memberships (user_id, email, name, disabled_at) select p.id, p.email, p.name, p.disabled_at \
       from auth.people p join (select md5('measured' || n)::uuid as id from generate_series(1, {people}) n) m on m.id = p.id; \
     insert into grants (id, principal_id, built_in) select gen_random_uuid(), md5('measured' || n)::uuid, 'member' \
       from generate_series(1, {people}) n";

pub(super) async fn add_people(bench: &Bench<'_>) -> io::Result<()> {
    let first = bench.person("acme")?;
    // It signs in once before the others take its hash, which is as strong then as in production.
    let status = sign_in(bench, 0, &first.credential.email, first).await;
    if status != StatusCode::OK {
        return Err(io::Error::other(format!("nobody signs in: {status}")));
    }
    let fill = ADD.replace("{like}", &first.user_id.to_string()).replace("{people}", &PEOPLE.to_string());
    let fill = format!("begin; set local app.tenant_id = '{}'; {fill}; commit; analyze", first.tenant_id);
    bench.database.superuser().await.batch_execute(&fill).await.map_err(io::Error::other)
}

/// The body of a sign-in.
pub(super) fn body(tenant: &str, email: &str, password: &str) -> Value {
    json!({ "tenant": tenant, "email": email, "password": password })
}

/// From an address of its own: a machine in an office, and no stuffing of stolen passwords.
pub(super) fn address(number: u64) -> [u8; 4] {
    let [.., a, b, c] = number.to_be_bytes();
    [10, a, b, c]
}

async fn sign_in(bench: &Bench<'_>, number: u64, email: &str, like: &Person) -> StatusCode {
    let body = body("acme", email, &like.credential.password);
    bench.post(address(number), "/api/v1/auth/login", &body).await.status()
}

pub(super) async fn measure(bench: &Bench<'_>) -> io::Result<Vec<Measurement>> {
    let first = bench.person("acme")?;
    let token = bench.token(first)?;
    let edge = bench.context.edge.clone();
    let reads = |rate: f64| {
        let (edge, token) = (edge.clone(), token.clone());
        open(rate, Duration::from_secs(8), move |_| read(edge.clone(), token.clone(), HERE))
    };
    let peak = closed(16, Duration::from_secs(4), |_| read(edge.clone(), token.clone(), HERE)).await;
    let quarter = peak.0.len() as f64 / 4.0 / 4.0;
    let quiet = reads(quarter).await;
    let sign_ins = closed(8, Duration::from_secs(8), |number| async move {
        sign_in(bench, number, &format!("p{}@acme.example", number % 400 + 1), first).await
    });
    let (busy, signed_in) = tokio::join!(reads(quarter), sign_ins);
    let a_second = signed_in.count(|status| status == StatusCode::OK) as f64 / 8.0;
    let before = resident()?;
    let crowd = crowd(bench, first).await;
    let _ = self::crowd(bench, first).await;
    let grown = resident()? - before;
    let refused = Answers(crowd.0.iter().filter(|(status, _)| *status != StatusCode::OK).copied().collect());
    let row = |name, value, unit| Measurement { name, value, unit, bound: None };
    Ok(vec![
        row("reads at their peak", quarter * 4.0, "/s"),
        row("p95 of reads at a quarter of it", quiet.percentile(95), "ms"),
        Measurement::at_least("sign-ins meanwhile", a_second, "/s", 30.0),
        Measurement::at_most(
            "p95 of those reads, in times",
            busy.percentile(95) / quiet.percentile(95),
            "x",
            2.0,
        ),
        row("of 200 who sign in at once, let in", crowd.count(|status| status == StatusCode::OK) as f64, ""),
        Measurement::at_most("the slowest refusal of the others", refused.percentile(100), "ms", 100.0),
        Measurement::at_most("memory that they leave behind", grown, "MiB", 64.0),
    ])
}

pub(super) async fn read(edge: Arc<Edge>, token: String, from: [u8; 4]) -> StatusCode {
    let request = Request::get("/api/v1/items?limit=10")
        .header("authorization", format!("Bearer {token}"))
        .header("x-forwarded-proto", "https")
        .body(Body::empty())
        .expect("a request");
    let peer = Peer { address: from.into(), tls: true };
    edge.handle(peer, request).await.status()
}

/// 200 at the same moment.
async fn crowd(bench: &Bench<'_>, first: &Person) -> Answers {
    let one = |number: u64| async move {
        let began = std::time::Instant::now();
        let email = format!("p{}@acme.example", number + 1);
        (sign_in(bench, 1_000_000 + number, &email, first).await, began.elapsed())
    };
    Answers(futures_util::future::join_all((0..200).map(one)).await)
}

/// What the process holds of the machine's memory, in MiB.
fn resident() -> io::Result<f64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(f64::NAN);
    Ok(pages * 4096.0 / 1024.0 / 1024.0)
}
