//! Which tenants ask most of the instance that answers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::Operator;
use erp_core::db::System;
use erp_core::error::Result;
use erp_core::extract::{Json, Query};
use erp_core::from_row;
use erp_core::shared::{Int, LARGEST_EXACT, TenantId};
use erp_core::shares::{LOAD_MINUTES, LoadOfTenant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many are shown unless it is said.
const FEW: i64 = 20;

/// What is asked of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopQuery {
    /// What they are ordered by, the largest first; database time unless it is said.
    by: Option<TopOrder>,
    limit: Option<Int<1, 200>>,
}

/// What tenants are ordered by.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TopOrder {
    /// How long they held connections to the database.
    DatabaseTime,
    /// Requests that ended.
    Requests,
    /// Requests that were answered with 5xx.
    Errors,
    /// Connections that they hold now.
    Connections,
}

/// What a tenant asks of the instance that answers.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopTenant {
    id: TenantId,
    #[schemars(example = &"acme")]
    slug: String,
    /// Requests that ended in these minutes.
    #[schemars(range(max = LARGEST_EXACT))]
    requests: u64,
    /// Those of them that were answered with 5xx.
    #[schemars(range(max = LARGEST_EXACT))]
    errors: u64,
    /// How long it held connections to the database in these minutes, all together, in milliseconds.
    #[schemars(range(max = LARGEST_EXACT))]
    database_ms: u64,
    /// Connections that it holds now.
    #[schemars(range(max = LARGEST_EXACT))]
    connections: usize,
    /// Its requests that are worked on now.
    #[schemars(range(max = LARGEST_EXACT))]
    under_way: usize,
}

/// The tenants that ask most of the instance that answers: of this one alone, and since it was started at most.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopTenants {
    /// Of how many minutes the numbers are, the present one included.
    #[schemars(range(max = LARGEST_EXACT))]
    minutes: usize,
    tenants: Vec<TopTenant>,
}

const SLUGS: &str = "select id, slug from tenants where id = any($1)";

struct TopSlug {
    id: TenantId,
    slug: String,
}
from_row!(TopSlug { id, slug });

/// `GET /api/v1/admin/tenants/top`.
pub(super) async fn top(
    State(app): State<App>,
    operator: Operator,
    system: System,
    Query(asked): Query<TopQuery>,
) -> Result<Json<TopTenants>> {
    let mut loads = app.db.loads().all();
    let by = asked.by.unwrap_or(TopOrder::DatabaseTime);
    loads.sort_by_key(|load| (Reverse(weight(load, by)), load.tenant.to_string()));
    let most = asked.limit.map_or(FEW, |limit| limit.get());
    loads.truncate(usize::try_from(most).unwrap_or_default());
    let ids: Vec<TenantId> = loads.iter().map(|load| load.tenant).collect();
    let names: Vec<TopSlug> = system.by_operator(&operator).last().rows(SLUGS, &[&ids]).await?;
    let names: BTreeMap<String, String> =
        names.into_iter().map(|name| (name.id.to_string(), name.slug)).collect();
    let shown = |load: LoadOfTenant| {
        let slug = names.get(&load.tenant.to_string())?.clone(); // one that is gone is not shown
        let LoadOfTenant { tenant: id, requests, errors, database, connections, under_way } = load;
        let database_ms = u64::try_from(database.as_millis()).unwrap_or(u64::MAX);
        Some(TopTenant { id, slug, requests, errors, database_ms, connections, under_way })
    };
    Ok(Json(TopTenants { minutes: LOAD_MINUTES, tenants: loads.into_iter().filter_map(shown).collect() }))
}

fn weight(load: &LoadOfTenant, by: TopOrder) -> u128 {
    match by {
        TopOrder::DatabaseTime => load.database.as_micros(),
        TopOrder::Requests => load.requests.into(),
        TopOrder::Errors => load.errors.into(),
        TopOrder::Connections => load.connections as u128,
    }
}
