//! The client against a real PostgreSQL: `TEST_DATABASE_URL`, which `script/test` sets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and their environment is the process's"
)]

mod compare;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use erp_postgres::tls::{Verify, client_config};
use erp_postgres::{Config, Connector, Params, Row, Wire, WireError};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run script/test");
    url.parse().expect("TEST_DATABASE_URL is a PostgreSQL URL")
}

fn connector() -> Connector {
    Connector::new(config(), Arc::new(client_config(Verify::Nothing, None).unwrap()))
}

/// The rows of one statement in a transaction of its own, each read by `read`.
async fn ask<T>(
    wire: &mut Wire,
    sql: &'static str,
    params: Params<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let plan = wire.plan(sql, None).await?;
    wire.begin()?;
    wire.statement(&plan, params)?;
    let reply = wire.exchange(&mut false).await?;
    wire.rows(&reply).map(|row| read(&row?)).collect()
}
