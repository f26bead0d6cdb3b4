//! The database that is read: migrated by the product, filled by its owner.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

pub const TENANTS: u64 = 100;
pub const ITEMS: u64 = 1000;
/// People who are members of each tenant.
pub const USERS_PER_TENANT: u64 = 10;

const ROLES: &str = include_str!("../../../migrations/roles.sql");

/// A database, as its owner and its runtime role reach it.
pub struct Database {
    pub owner_url: String,
    pub runtime_url: String,
}

/// The id of a tenant, from 1.
pub fn tenant(number: u64) -> Uuid {
    id(0x7000_0000, number)
}

/// The id of a tenant's item, both from 1.
pub fn item(tenant: u64, number: u64) -> Uuid {
    id(tenant, number)
}

/// The id of one of a tenant's people, both from 1.
pub fn user(tenant: u64, number: u64) -> Uuid {
    id(0x7100_0000 + tenant, number)
}

/// A UUIDv7 of no particular time. Written in SQL below once more.
fn id(group: u64, number: u64) -> Uuid {
    let text = format!("{group:08x}-0000-7000-8000-{number:012x}");
    Uuid::try_parse(&text).unwrap_or_default()
}

/// Makes database `name` on the server of `admin_url`, and migrates it with the product.
pub async fn migrated(admin_url: &str, name: &str, server: &Path) -> Result<Database> {
    let admin = connect(admin_url).await?;
    admin.batch_execute(&format!("create database {name}")).await?;
    connect(&at(admin_url, None, name)?).await?.batch_execute(ROLES).await?;
    let database = Database {
        owner_url: at(admin_url, Some("erp_owner"), name)?,
        runtime_url: at(admin_url, Some("erp_app"), name)?,
    };
    run(server, &["db", "migrate"], &database, &[]).await?;
    Ok(database)
}

/// Runs a verb of the product to its end.
pub async fn run(server: &Path, verb: &[&str], database: &Database, settings: &[(&str, &str)]) -> Result<()> {
    let output = Command::new(server)
        .args(verb)
        .args(["--env-file", "/dev/null"])
        .env("DATABASE_OWNER_URL", &database.owner_url)
        .env("DATABASE_URL", &database.runtime_url)
        .envs(settings.iter().copied())
        .env_remove("APP_ENV")
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("{} cannot be run", server.display()))?;
    if !output.status.success() {
        bail!("{verb:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// 100 tenants with 1,000 items each.
pub async fn fill(database: &Database) -> Result<()> {
    let owner = connect(&database.owner_url).await?;
    // What is loaded here is nobody's doing.
    for table in ["items", "memberships", "grants"] {
        owner.batch_execute(&format!("alter table {table} disable trigger audit")).await?;
    }
    owner
        .execute(
            "insert into tenants (id, slug) select ('70000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
             'tenant-' || n from generate_series(1, $1::bigint) n",
            &[&(TENANTS as i64)],
        )
        .await?;
    for number in 1..=TENANTS {
        owner
            .execute("select set_config('app.tenant_id', $1, false)", &[&tenant(number).to_string()])
            .await?;
        owner
            .execute(
                "insert into items (id, sku, name, description, quantity, created_at, updated_at) select \
                 (lpad(to_hex($1::bigint), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
                 'SKU-' || n, 'Item ' || n, 'An item of middling length, as they are', n, \
                 '2026-01-02 03:04:05.123456Z', '2026-02-03 04:05:06.654321Z' \
                 from generate_series(1, $2::bigint) n",
                &[&(number as i64), &(ITEMS as i64)],
            )
            .await?;
        for person in (1..=USERS_PER_TENANT).map(|person| user(number, person)) {
            let email = format!("{person}@example.com");
            owner.execute("insert into auth.people (id, email) values ($1, $2)", &[&person, &email]).await?;
            owner.execute("insert into memberships (user_id, email) values ($1, $2)", &[&person, &email]).await?;
            let grant = "insert into grants (id, principal_id, built_in) values ($1, $1, 'member')";
            owner.execute(grant, &[&person]).await?;
        }
    }
    for table in ["items", "memberships", "grants"] {
        owner.batch_execute(&format!("alter table {table} enable trigger audit")).await?;
    }
    connect(&database.owner_url).await?.batch_execute("vacuum analyze items, memberships, grants").await?;
    Ok(())
}

/// Takes the audit trigger from items, and lets the runtime role write the log by itself, as a service without one would.
pub async fn stop_auditing(database: &Database) -> Result<()> {
    let sql = "alter table items disable trigger audit; grant insert on audit_log to erp_app";
    Ok(connect(&database.owner_url).await?.batch_execute(sql).await?)
}

/// The server's version, such as `15.4`.
pub async fn version(admin_url: &str) -> Result<String> {
    let row = connect(admin_url).await?.query_one("show server_version", &[]).await?;
    let version: String = row.try_get(0)?;
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// `postgresql://user@host/database` with another user or database.
fn at(url: &str, user: Option<&str>, database: &str) -> Result<String> {
    let (start, query) = url.split_once('?').map_or((url, None), |(start, query)| (start, Some(query)));
    let rest = start.split_once("://").map(|(_, rest)| rest);
    let (login, host) =
        rest.and_then(|rest| rest.split_once('@')).context("TEST_DATABASE_URL has no user")?;
    let host = host.rsplit_once('/').map_or(host, |(host, _)| host);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("postgresql://{}@{host}/{database}{query}", user.unwrap_or(login)))
}
