//! `GET /api/v1/admin/log`: what happened that concerns no tenant, as operators read it.

use erp_core::auth::Operator;
use erp_core::db::System;
use erp_core::error::Result;
use erp_core::extract::{Json, Query};
use erp_core::from_row;
use erp_core::shared::{Int, LARGEST_EXACT};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many are shown unless it is said.
const PAGE: i64 = 50;

/// What is asked of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogPage {
    /// `nextCursor` of the page before.
    cursor: Option<Int<0, 9_007_199_254_740_991>>,
    limit: Option<Int<1, 200>>,
}

/// A line of the log.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperatorLogLine {
    #[schemars(range(min = 1, max = LARGEST_EXACT))]
    id: i64,
    at: Timestamp,
    /// Who: `operator:` and its id, or `system:` and the work, for the command line and the process itself.
    #[schemars(example = &"operator:0190163d-8694-739b-aea5-966c26f8ad91")]
    actor: String,
    #[schemars(example = &"operators.signed_in")]
    action: String,
    /// To whom or what: an operator, a person, a plan, a feature, a migration.
    subject: Option<String>,
    correlation_id: String,
}
from_row!(OperatorLogLine { id, at, actor, action, subject, correlation_id });

/// A page of the log.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperatorLogLines {
    items: Vec<OperatorLogLine>,
    next_cursor: Option<String>,
}

const LIST: &str = "select id, at, actor, action, subject, correlation_id from app.platform_log \
     where ($1::int8 is null or id < $1) order by id desc limit $2";

/// `GET /api/v1/admin/log`.
pub(super) async fn list(
    operator: Operator,
    system: System,
    Query(page): Query<LogPage>,
) -> Result<Json<OperatorLogLines>> {
    let limit = page.limit.map_or(PAGE, |limit| limit.get());
    let before = page.cursor.map(|cursor| cursor.get());
    let tx = system.by_operator(&operator).last();
    let mut items: Vec<OperatorLogLine> = tx.rows(LIST, &[&before, &(limit + 1)]).await?;
    let more = items.len() as i64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let next_cursor = items.last().filter(|_| more).map(|line| line.id.to_string());
    Ok(Json(OperatorLogLines { items, next_cursor }))
}
