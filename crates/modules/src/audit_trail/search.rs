//! `GET /api/v1/audit`: who did what to what, the newest first.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use erp_core::answer::Refusing;
use erp_core::audit::{self, AuditEvent, AuditPlace, AuditSearch};
use erp_core::error::{Error, Result, codes};
use erp_core::extract::{Json, Query};
use erp_core::resource::Call;
use erp_core::shared::{Contains, Int, Text};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many rows a page has unless it is said.
const PAGE: i64 = 50;

/// What a search of the audit log is narrowed to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Who, as the rows name it.
    actor: Option<Text<1, 200>>,
    /// What was done, such as `item.updated`.
    action: Option<Text<1, 200>>,
    /// To what kind of thing, such as `item`.
    resource: Option<Text<1, 200>>,
    /// To which one.
    resource_id: Option<Text<1, 400>>,
    /// `success`, `failure` or `denied`.
    outcome: Option<Text<1, 20>>,
    /// Not before this time.
    since: Option<Timestamp>,
    /// And before this one.
    until: Option<Timestamp>,
    /// A text that is somewhere in the values, the id or the correlation id, in any case. It is looked for row by row: give a time, too.
    text: Option<Contains<200>>,
    /// How many rows a page has at most.
    limit: Option<Int<1, 200>>,
    /// `nextCursor` of the page before, unchanged.
    cursor: Option<String>,
}

/// A page of the audit log.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditEventPage {
    /// The rows, the newest first. There can be fewer than `limit`, and none, before the end.
    items: Vec<AuditEvent>,
    /// Pass it as `cursor` for the next page; `null` at the end.
    next_cursor: Option<String>,
}

impl AuditQuery {
    fn search(&self) -> AuditSearch {
        AuditSearch {
            actor: given(self.actor.as_ref()),
            action: given(self.action.as_ref()),
            resource: given(self.resource.as_ref()),
            resource_id: given(self.resource_id.as_ref()),
            outcome: given(self.outcome.as_ref()),
            since: self.since,
            until: self.until,
            text: self.text.as_ref().map(|text| text.as_pattern().to_owned()),
        }
    }
}

/// Answers a page of a search.
pub(super) async fn list(
    call: Call,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditEventPage>, Refusing<codes::MALFORMED_CURSOR>> {
    let concealed = call.app.guarded_columns.concealed_from(&call.caller).await?;
    if query.text.is_some() {
        concealed.refuse("?text")?; // what is found would tell what is left out
    }
    let limit = usize::try_from(query.limit.map_or(PAGE, Int::get)).unwrap_or_default();
    let place = query.cursor.as_deref().map(place).transpose()?;
    let mut found = audit::search(&mut call.tenant_read(), &query.search(), place, limit).await?;
    found.events.iter_mut().for_each(|event| event.leave_out(&concealed));
    Ok(Json(AuditEventPage { items: found.events, next_cursor: found.next.map(cursor) }))
}

fn given<const MAX: usize>(text: Option<&Text<1, MAX>>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

/// A place as it travels, opaque to the client.
fn cursor(place: AuditPlace) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}.{}", place.seq, place.at.as_microsecond()))
}

fn place(cursor: &str) -> Result<AuditPlace> {
    let place = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (seq, at) = text.split_once('.')?;
        let (seq, at) = (seq.parse().ok()?, Timestamp::from_microsecond(at.parse().ok()?).ok()?);
        (seq > 0 && at >= Timestamp::UNIX_EPOCH).then_some(AuditPlace { seq, at })
    };
    place().ok_or_else(|| Error::new(&codes::MALFORMED_CURSOR))
}
