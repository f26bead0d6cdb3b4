//! What identity costs and bears: `script/bench identity [--json]`. Exit 1: a bound was missed.
//!
//! Requests go through the whole chain and the database, and not through HTTP: what loads it is in the same process, and takes its part of
//! the processors.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "it measures time, loads the product from tasks of its own, and ends where something is wrong"
)]

mod costs;
mod guesses;
mod noise;
mod sign_ins;
mod traffic;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use erp_core::bootstrap::{BootstrapOptions, Context, LogSetup, bootstrap};
use erp_core::config::{Layers, MapSource};
use erp_core::middleware::Peer;
use erp_core::module::Product;
use erp_modules::PRODUCT;
use erp_testkit::{Database, Person, report, with_modules};
use serde_json::Value;

/// How many people the tenant has who sign in, all with one password.
const PEOPLE: u32 = 600;

#[tokio::main]
async fn main() -> io::Result<()> {
    let product: &'static Product = Box::leak(Box::new(with_modules(PRODUCT, &[&costs::MODULE])));
    let database = Database::create(product).await;
    let measured = measure(product, &database).await;
    database.remove();
    report(&measured?, std::env::args().any(|argument| argument == "--json"))
}

async fn measure(
    product: &'static Product,
    database: &Database,
) -> io::Result<Vec<erp_testkit::Measurement>> {
    let bench = Bench { context: start(product, database).await?, database };
    let mut all = costs::measure(&bench).await?;
    sign_ins::add_people(&bench).await?;
    all.extend(sign_ins::measure(&bench).await?);
    all.extend(guesses::measure(&bench).await?);
    all.extend(noise::measure(&bench).await?);
    Ok(all)
}

/// The product with its database.
struct Bench<'a> {
    context: Context,
    database: &'a Database,
}

impl Bench<'_> {
    /// The first of a tenant's people.
    fn person(&self, tenant: &str) -> io::Result<&Person> {
        let mut people = self.database.people.iter();
        people
            .find(|person| person.credential.tenant == tenant)
            .ok_or_else(|| io::Error::other("the seed made nobody"))
    }

    /// A token of a person's, without a session.
    fn token(&self, person: &Person) -> io::Result<String> {
        let issued = self.context.edge.app.authenticator.issue(person.tenant_id, person.user_id, None);
        issued.map(|token| token.access_token.expose().clone()).map_err(io::Error::other)
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        self.handle([127, 0, 0, 1], request, Body::empty()).await
    }

    async fn post(&self, from: [u8; 4], path: &str, body: &Value) -> Response {
        let request = Request::post(path).header("content-type", "application/json");
        self.handle(from, request, Body::from(body.to_string())).await
    }

    async fn handle(&self, from: [u8; 4], request: http::request::Builder, body: Body) -> Response {
        let request = request.header("x-forwarded-proto", "https").body(body).expect("a request");
        let peer = Peer { address: IpAddr::from(from), tls: true };
        Arc::clone(&self.context.edge).handle(peer, request).await
    }
}

async fn start(product: &'static Product, database: &Database) -> io::Result<Context> {
    let settings = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", database.roles.runtime_url.as_str()),
        ("DATABASE_SYSTEM_URL", database.roles.system_url.as_str()),
        ("JWT_SECRET", "n3Qk8vZp1sXw7Rt5Yb2Lm9Hc4Jd6Fg0Aa"),
        ("ENCRYPTION_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("AUDIT_SIGNING_KEY", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("RATE_LIMIT_MAX", "1000000"),
        ("RATE_LIMIT_WINDOW", "1m"),
        ("RATE_LIMIT_AUTH_MAX", "100"),
        ("LOG_FILE", "/dev/null"),
        ("JOB_WORKERS", "0"),
    ];
    let layers = Layers::from(MapSource::environment(settings));
    let options = BootstrapOptions::new(LogSetup::Install { terminal: false }, OsString::new());
    bootstrap(product, &layers, options).await.map_err(io::Error::other)
}
