//! How such a service is usually written: sqlx, four round trips, and the tower-http layers one would look for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Json, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use tracing_appender::non_blocking::WorkerGuard;
use uuid::Uuid;

use crate::token::Verifier;

/// The headers are those of the product.
const CONTENT_POLICY: &str = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'";

struct Shared {
    pool: PgPool,
    verifier: Verifier,
}

#[derive(Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: Uuid,
    sku: String,
    name: String,
    description: Option<String>,
    quantity: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
}

/// The router, and what keeps the log's writer alive.
pub fn router() -> Result<(Router, WorkerGuard)> {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stdout());
    tracing_subscriber::fmt().json().with_writer(writer).with_max_level(tracing::Level::INFO).init();
    let options: PgConnectOptions = crate::variable("DATABASE_URL")?.parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(crate::max_connections()?)
        .test_before_acquire(false) // its default costs one more round trip
        .connect_lazy_with(options);
    let shared = Shared { pool, verifier: Verifier::new()? };
    let routes = Router::new()
        .route("/ping", get(async || "pong"))
        .route("/api/v1/items", post(create))
        .route("/api/v1/items/{id}", get(read))
        .route_layer(from_fn_with_state(Arc::new(Metrics::new()), measure))
        .with_state(Arc::new(shared));
    Ok((layered(routes), guard))
}

fn layered(routes: Router) -> Router {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    let fixed = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let id = request.headers().get(&ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
            tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
        })
        .on_request(())
        .on_body_chunk(())
        .on_eos(())
        .on_response(|response: &Response, latency: Duration, _: &Span| {
            let duration = latency.as_secs_f64() * 1000.0;
            tracing::info!(status = response.status().as_u16(), duration, "Request answered");
        });
    routes
        .layer(
            ServiceBuilder::new()
                .layer(CorsLayer::permissive())
                .layer(RequestBodyLimitLayer::new(1024 * 1024))
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Duration::from_secs(30),
                ))
                .layer(CompressionLayer::new())
                .layer(CatchPanicLayer::new()),
        )
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(ID, MakeRequestUuid))
                .layer(trace)
                .layer(PropagateRequestIdLayer::new(ID))
                .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .layer(fixed(header::X_FRAME_OPTIONS, "DENY"))
                .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
                .layer(fixed(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
                .layer(fixed(header::CACHE_CONTROL, "no-store")),
        )
}

async fn read(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
) -> Result<Json<Item>, StatusCode> {
    let tenant = shared.verifier.tenant(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    let item = find(&shared.pool, tenant, id).await.map_err(|error| {
        tracing::error!(%error, "Query failed");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    item.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn find(pool: &PgPool, tenant: Uuid, id: Uuid) -> sqlx::Result<Option<Item>> {
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('app.tenant_id', $1, true)")
        .bind(tenant.to_string())
        .execute(&mut *tx)
        .await?;
    let item = sqlx::query_as(crate::READ).bind(id).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    Ok(item)
}

#[derive(Deserialize)]
struct NewItem {
    sku: String,
    name: String,
    description: Option<String>,
    quantity: i64,
}

async fn create(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(new): Json<NewItem>,
) -> Result<(StatusCode, Json<Item>), StatusCode> {
    let tenant = shared.verifier.tenant(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    let item = add(&shared.pool, tenant, new).await.map_err(|error| {
        tracing::error!(%error, "Statement failed");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Ok((StatusCode::CREATED, Json(item)))
}

/// The item, and the row that tells of it: a statement each.
async fn add(pool: &PgPool, tenant: Uuid, new: NewItem) -> sqlx::Result<Item> {
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('app.tenant_id', $1, true)")
        .bind(tenant.to_string())
        .execute(&mut *tx)
        .await?;
    let item: Item = sqlx::query_as(crate::CREATE)
        .bind(new.sku)
        .bind(new.name)
        .bind(new.description)
        .bind(new.quantity)
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query(crate::TELL).bind(item.id).bind(sqlx::types::Json(&item)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(item)
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    method: String,
    path: String,
    status: u16,
}

struct Metrics {
    requests: Family<Labels, Counter>,
    duration: Family<Labels, Histogram>,
    _registry: Registry,
}

impl Metrics {
    fn new() -> Self {
        const BUCKETS: [f64; 13] =
            [1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];
        let requests = Family::default();
        let duration = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let mut registry = Registry::default();
        registry.register("http_requests", "Requests", requests.clone());
        registry.register("http_request_duration_ms", "Duration", duration.clone());
        Self { requests, duration, _registry: registry }
    }
}

async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().to_string();
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let labels = Labels { method, path, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    metrics.duration.get_or_create(&labels).observe(started.elapsed().as_secs_f64() * 1000.0);
    response
}
