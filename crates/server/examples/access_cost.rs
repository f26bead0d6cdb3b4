//! What access control costs: a check at 3,000 permissions, and reading what somebody may do in a tenant with 100 roles and 3,000
//! grants. Exit 1: a bound was missed.
//!
//! `script/bench access [--json]`

use std::ffi::OsString;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use erp_core::auth::{Grants, OwnRole, Permission, PermissionTable, Permissions};
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::middleware::Peer;
use erp_modules::PRODUCT;
use erp_testkit::{Database, Measurement, Person, report};
use http::StatusCode;

const PERMISSIONS: u32 = 3000;
const ROLES: u32 = 100;
const TIMES: u32 = 30_000;
const ROUNDS: u32 = 50;
const LOADS: usize = 50;
const PEER: Peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
/// 100 roles of 30 permissions each, which one person holds, and 2,900 grants of others.
const FILL: &str = "insert into roles (id, name) select md5('role' || n)::uuid, 'Role ' || n from generate_series(1, 100) n; \
     insert into role_permissions (role_id, permission) select md5('role' || n)::uuid, 'measured.thing.p' || p \
       from generate_series(1, 100) n, generate_series(1, 30) p; \
     insert into grants (id, principal_id, role_id) select gen_random_uuid(), '{person}', id from roles where name like 'Role %'; \
     insert into grants (id, principal_id, role_id) select gen_random_uuid(), md5('person' || n)::uuid, md5('role' || r)::uuid \
       from generate_series(1, 290) n, generate_series(1, 10) r; \
     analyze grants; analyze roles; analyze role_permissions";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let database = Database::create(&PRODUCT).await;
    let measured = measure(&database).await;
    database.remove();
    report(&measured?, std::env::args().any(|argument| argument == "--json"))
}

async fn measure(database: &Database) -> io::Result<Vec<Measurement>> {
    Ok(vec![
        Measurement::at_most("a check, of one of 3,000 permissions", check(), "ns", 20.0),
        Measurement::at_most("a request that reads its grants, median", load(database).await?, "ms", 5.0),
    ])
}

/// The best round, in nanoseconds, in an order that no processor foresees.
#[expect(clippy::disallowed_methods, reason = "a table of permissions is static, and this one is made here")]
fn check() -> f64 {
    let all: &'static [Permission] = Vec::leak((0..PERMISSIONS).map(named).collect());
    let table = Arc::new(PermissionTable::new(all));
    let role = |n: u32| OwnRole {
        name: n.to_string(),
        permissions: all
            .iter()
            .skip(n as usize)
            .step_by(ROLES as usize)
            .map(|one| one.name.to_owned())
            .collect(),
    };
    let own = (0..ROLES).step_by(2).map(role).collect();
    let held: Permissions = table.resolve(&Grants { own, ..Grants::default() });
    let next = |number: u32| &all[(number.wrapping_mul(2_654_435_761) % PERMISSIONS) as usize];
    let round = |first: u32| {
        let started = Instant::now();
        let held = (first..first + TIMES).filter(|number| black_box(&held).contains(next(*number))).count();
        (started.elapsed(), black_box(held))
    };
    let best = (0..ROUNDS).map(|number| round(number * TIMES).0).min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / f64::from(TIMES)
}

#[expect(clippy::disallowed_methods, reason = "a table of permissions is static, and this one is made here")]
fn named(number: u32) -> Permission {
    let name = String::leak(format!("measured.thing.p{number}"));
    Permission { name, what: "", roles: &[], owners_alone: false }
}

/// The median of requests each of which finds nothing remembered, in milliseconds.
async fn load(database: &Database) -> io::Result<f64> {
    let person = database.people.first().ok_or_else(|| io::Error::other("the seed made nobody"))?;
    let fill = FILL.replace("{person}", &person.user_id.to_string());
    let fill = format!("begin; set local app.tenant_id = '{}'; {fill}; commit", person.tenant_id);
    database.superuser().await.batch_execute(&fill).await.map_err(io::Error::other)?;
    let context = start(database).await?;
    let mut took = Vec::with_capacity(LOADS);
    for _ in 0..LOADS {
        context.edge.app.known_permissions.forget_all(person.tenant_id);
        let started = Instant::now();
        ask(&context, person).await?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[LOADS / 2])
}

async fn ask(context: &Context, person: &Person) -> io::Result<()> {
    let issued = context.edge.app.authenticator.issue(person.tenant_id, person.user_id, None);
    let token = issued.map_err(io::Error::other)?.access_token.expose().clone();
    let request = Request::get("/api/v1/permissions").header("authorization", format!("Bearer {token}"));
    let request =
        request.header("x-forwarded-proto", "https").body(Body::empty()).map_err(io::Error::other)?;
    let status = Arc::clone(&context.edge).handle(PEER, request).await.status();
    if status == StatusCode::OK { Ok(()) } else { Err(io::Error::other(format!("refused: {status}"))) }
}

async fn start(database: &Database) -> io::Result<Context> {
    let settings = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", database.roles.system_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("RATE_LIMIT_MAX", "1000000"),
        ("LOG_FILE", "/dev/null"),
        ("JOB_WORKERS", "0"),
    ];
    let layers = Layers::from(MapSource::environment(settings));
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, OsString::new());
    bootstrap(&PRODUCT, &layers, options).await.map_err(io::Error::other)
}
