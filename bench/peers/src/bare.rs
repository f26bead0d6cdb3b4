//! The floor: the handler's own work and nothing around it.
//!
//! axum, a pool, and BEGIN READ ONLY with the tenant, the read and COMMIT sent before the first answer is awaited.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use axum::routing::get;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::future::join3;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

use crate::token::Verifier;

struct Shared {
    pool: Pool,
    verifier: Verifier,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: Uuid,
    sku: String,
    name: String,
    description: Option<String>,
    quantity: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: i64,
}

pub fn ping() -> Router {
    Router::new().route("/ping", get(async || "pong"))
}

pub fn router() -> Result<Router> {
    let config = crate::variable("DATABASE_URL")?.parse()?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(crate::max_connections()? as usize)
        .build()?;
    let shared = Shared { pool, verifier: Verifier::new()? };
    Ok(Router::new().route("/api/v1/items/{id}", get(read)).with_state(Arc::new(shared)))
}

async fn read(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Result<Json<Item>, StatusCode> {
    let tenant = shared.verifier.tenant(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    let client = shared.pool.get().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let statement = client.prepare_cached(crate::READ).await.map_err(failed)?;
    let begin = format!("begin read only;set local app.tenant_id='{tenant}'");
    // Polled in this order, so sent in this order.
    let (begun, row, committed) = join3(
        client.batch_execute(&begin),
        client.query_opt(&statement, &[&id]),
        client.batch_execute("commit"),
    )
    .await;
    begun.and(committed).map_err(failed)?;
    let row = row.map_err(failed)?.ok_or(StatusCode::NOT_FOUND)?;
    item(&row).map(Json).map_err(failed)
}

fn item(row: &Row) -> Result<Item, tokio_postgres::Error> {
    Ok(Item {
        id: row.try_get(0)?,
        sku: row.try_get(1)?,
        name: row.try_get(2)?,
        description: row.try_get(3)?,
        quantity: row.try_get(4)?,
        created_at: row.try_get(5)?,
        updated_at: row.try_get(6)?,
        version: row.try_get(7)?,
    })
}

fn failed(_: tokio_postgres::Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}
