//! What operators did that concerns no tenant: each thing is told in the transaction that does it.

use erp_core::auth::{Actor, Operator, Trace};
use erp_core::db::{System, SystemTx, TenantTx};
use erp_core::error::Result;
use erp_core::extract::{Json, Query};
use erp_core::from_row;
use erp_core::shared::{Int, LARGEST_EXACT};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many are shown unless it is said.
const PAGE: i64 = 50;

/// Something that an operator did, or that was done to one.
pub(super) struct LogEntry<'a> {
    pub(super) actor: Actor,
    pub(super) action: &'static str,
    /// To whom or what it was done, if to one.
    pub(super) subject: Option<String>,
    pub(super) details: Value,
    pub(super) trace: &'a Trace,
}

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
    /// Who: `operator:` and its id, or `system:` and the work, for the command line.
    #[schemars(example = &"operator:0190163d-8694-739b-aea5-966c26f8ad91")]
    actor: String,
    #[schemars(example = &"operators.signed_in")]
    action: String,
    /// To whom or what: an operator, a person, a plan, a feature.
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

const ADD: &str = "insert into auth.operator_log (actor, action, subject, details, correlation_id) \
     values ($1, $2, $3, $4::text::jsonb, $5)";
const LIST: &str = "select id, at, actor, action, subject, correlation_id from auth.operator_log \
     where ($1::int8 is null or id < $1) order by id desc limit $2";

impl LogEntry<'_> {
    /// Adds it as the last statement of a transaction.
    ///
    /// # Errors
    /// As the database answers.
    pub(super) async fn end(self, tx: SystemTx<'_>) -> Result<()> {
        let (actor, details) = (self.actor.to_string(), self.details.to_string());
        let id = &*self.trace.correlation_id;
        tx.last().rows::<()>(ADD, &[&actor, &self.action, &self.subject, &details, &id]).await.map(drop)
    }

    /// Adds it to a transaction.
    pub(super) async fn add(self, tx: &mut TenantTx<'_>) -> Result<()> {
        let (actor, details) = (self.actor.to_string(), self.details.to_string());
        let id = &*self.trace.correlation_id;
        tx.rows::<()>(ADD, &[&actor, &self.action, &self.subject, &details, &id]).await.map(drop)
    }
}

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
