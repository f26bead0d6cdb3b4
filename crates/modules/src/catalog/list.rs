use std::borrow::Cow;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::error::{Error, Result, Violation, codes};
use erp_core::extract::{Json, MediaType, Query};
use erp_core::shared::Text;
use erp_core::stream;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::items::{Item, ItemId, columns};

/// The longest that a list or search may run (I-05).
const TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: u16 = 50;
const MOST: u16 = 200;

/// The query of `GET /api/v1/items`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// How many items a page has at most.
    // `with` hides the Option from schemars: only `default` tells it that the parameter may be left out.
    #[serde(default)]
    #[schemars(with = "Limit", extend("default" = DEFAULT_LIMIT))]
    limit: Option<Limit>,
    /// `nextCursor` of the page before, unchanged.
    cursor: Option<String>,
    /// Part of a name or a sku, in any case.
    q: Option<Text<1, 200>>,
    /// The order; `-` is for descending.
    #[serde(default)]
    sort: Sort,
}

/// 1 to 200, 50 by default.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "u16")]
struct Limit(u16);

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl JsonSchema for Limit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MOST })
    }
}

impl TryFrom<u16> for Limit {
    type Error = String;

    fn try_from(limit: u16) -> std::result::Result<Self, String> {
        if (1..=MOST).contains(&limit) { Ok(Self(limit)) } else { Err(format!("1 to {MOST} are allowed")) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
enum Sort {
    #[serde(rename = "createdAt")]
    CreatedAt,
    #[default]
    #[serde(rename = "-createdAt")]
    CreatedAtDescending,
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "sku")]
    Sku,
    #[serde(rename = "-sku")]
    SkuDescending,
}

/// The first page of an order, and the page after a place in it. `$1` is the search pattern, `$2` the page size,
/// `$3` and `$4` the place: the sorted column's value as text, and the id that makes the order total.
macro_rules! pages {
    ($column:literal, $type:literal, $after:literal, $direction:literal) => {
        (
            concat!(
                "select ",
                columns!(),
                " from items where ($1::text is null or name collate app.search ilike $1 or sku collate app.search ilike $1)",
                " order by ",
                $column,
                " ",
                $direction,
                ", id ",
                $direction,
                " limit $2"
            ),
            concat!(
                "select ",
                columns!(),
                " from items where ($1::text is null or name collate app.search ilike $1 or sku collate app.search ilike $1)",
                " and (",
                $column,
                ", id) ",
                $after,
                " ($3::text::",
                $type,
                ", $4)",
                " order by ",
                $column,
                " ",
                $direction,
                ", id ",
                $direction,
                " limit $2"
            ),
        )
    };
}

impl Sort {
    const fn statements(self) -> (&'static str, &'static str) {
        match self {
            Self::CreatedAt => pages!("created_at", "timestamptz", ">", "asc"),
            Self::CreatedAtDescending => pages!("created_at", "timestamptz", "<", "desc"),
            Self::Name => pages!("name", "text", ">", "asc"),
            Self::NameDescending => pages!("name", "text", "<", "desc"),
            Self::Sku => pages!("sku", "text", ">", "asc"),
            Self::SkuDescending => pages!("sku", "text", "<", "desc"),
        }
    }

    /// The place of `item` in this order.
    fn value_of(self, item: &Item) -> String {
        match self {
            Self::CreatedAt | Self::CreatedAtDescending => item.created_at.to_string(),
            Self::Name | Self::NameDescending => item.name.clone(),
            Self::Sku | Self::SkuDescending => item.sku.clone(),
        }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            // As we wrote it: PostgreSQL's calendar and spellings are others than jiff's. Four digits of a year hold any
            // time of a row (`app.bound_times`), and year 0 is none to PostgreSQL.
            Self::CreatedAt | Self::CreatedAtDescending => {
                let years = value.get(..5).is_some_and(|year| year.ends_with('-') && year != "0000-");
                years && value.parse::<Timestamp>().is_ok_and(|at| at.to_string() == value)
            }
            _ => !value.contains('\0'),
        }
    }
}

/// A place in an order; travels as base64url, opaque to the client.
#[derive(Serialize, Deserialize)]
struct Cursor {
    sort: Sort,
    value: String,
    id: ItemId,
}

impl Cursor {
    fn after(sort: Sort, item: &Item) -> Result<String> {
        let cursor = Self { sort, value: sort.value_of(item), id: item.id };
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).map_err(Error::internal)?))
    }

    /// A cursor of another order, or one that was tampered with, is refused.
    fn parse(text: &str, sort: Sort) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        cursor
            .filter(|cursor| cursor.sort == sort && sort.accepts(&cursor.value))
            .ok_or_else(|| Error::new(&codes::MALFORMED_CURSOR))
    }
}

/// A page of items.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ItemPage")]
pub(super) struct Page {
    items: Vec<Item>,
    /// Pass it as `cursor` for the next page; `null` at the end.
    #[schemars(example = &"eyJzb3J0IjoiLWNyZWF0ZWRBdCJ9")]
    next_cursor: Option<String>,
}

/// `GET /api/v1/items`: a page of items; as NDJSON or CSV all of them.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    media_type: MediaType,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    match media_type {
        MediaType(JSON) => page(&app, &caller, query).await.map(Json::into_response),
        _ => whole(&app, &caller, media_type, &query).await,
    }
}

/// What the list can be answered as.
pub(super) const TYPES: &[&str] = &[JSON, stream::NDJSON, stream::CSV];
const JSON: &str = "application/json";

async fn whole(app: &App, caller: &Caller, media_type: MediaType, query: &ListQuery) -> Result<Response> {
    for (pointer, given) in [("?limit", query.limit.is_some()), ("?cursor", query.cursor.is_some())] {
        if given {
            let detail = format!("{} has no pages", media_type.0);
            return Err(Error::new(&codes::INVALID).violation(Violation {
                pointer: pointer.to_owned(),
                code: "unknown",
                detail,
            }));
        }
    }
    let pattern = query.q.as_ref().map(pattern);
    let (first, _) = query.sort.statements();
    let all: Option<i64> = None; // LIMIT NULL is none
    stream::answer::<Item>(app, caller, media_type, first, &[&pattern, &all]).await
}

async fn page(app: &App, caller: &Caller, query: ListQuery) -> Result<Json<Page>> {
    let limit = query.limit.unwrap_or_default().0;
    let pattern = query.q.as_ref().map(pattern);
    let (limit, one_more) = (usize::from(limit), i64::from(limit) + 1);
    let (first, after) = query.sort.statements();
    let page = app.db.tenant_read(caller).statement_timeout(TIMEOUT).last();
    let mut items: Vec<Item> = match query.cursor {
        None => page.rows(first, &[&pattern, &one_more]).await?,
        Some(text) => {
            let place = Cursor::parse(&text, query.sort)?;
            page.rows(after, &[&pattern, &one_more, &place.value, &place.id]).await?
        }
    };
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|item| Cursor::after(query.sort, item)).transpose()?;
    Ok(Json(Page { items, next_cursor }))
}

/// The pattern that finds a text within others: what the user typed is text, not a pattern.
fn pattern(text: &Text<1, 200>) -> String {
    let text = text.as_str().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{text}%")
}
