use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Call, InTable as _, Listable, Listed, Page, SortKey, Values};
use crate::db::{AuditEntry, ToSql};
use crate::error::{Error, Result, Violation, codes};
use crate::extract::{Json, MediaType};
use crate::shared::Id;
use crate::stream;

/// The longest that a list or search may run (I-05).
const TIMEOUT: Duration = Duration::from_secs(5);
const JSON: &str = "application/json";
/// What a list can be answered as.
pub(super) const TYPES: &[&str] = &[JSON, stream::NDJSON, stream::CSV];

/// A list of records, page by page or whole. [`list!`](crate::list) declares it.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a list", note = "declare it with `list!`")]
pub trait Listing: 'static {
    /// What is listed.
    type Record: Listable;
    /// What a query can ask for beside order and page: the values of the condition's parameters.
    type Filter: DeserializeOwned + JsonSchema + Values + Send;
    /// The orders that a query can ask for; the first is the default.
    const SORTS: &'static [SortKey<Self::Record>];
    /// Whether the default is the first order backwards.
    const DESCENDING: bool;
    /// How many records a page has, unless the query says.
    const LIMIT: u16;
    /// How many it may ask for.
    const MOST: u16;
}

/// Declares a list: what is listed, what it can be filtered and sorted by, and where it comes from.
///
/// ```
/// # use erp_core::{input, list, record, shared::{Contains, Id, Version}};
/// # use jiff::Timestamp;
/// # record! { pub Item in "items" as "item" { id: Id<Item>, sku: String, created_at: Timestamp, version: Version } }
/// input! {
///     /// What a list of items can be narrowed to.
///     pub Search {
///         /// Part of a sku, in any case.
///         q: Option<Contains<200>>,
///     }
/// }
/// list! {
///     /// Items, the newest first.
///     pub Items of Item by Search
///     from "items" where "$1::text is null or sku collate app.search ilike $1"
///     sorted [-created_at, sku] limit 20 to 100
/// }
/// ```
///
/// The condition's parameters `$1`, `$2`, … are the filter's fields, in their order. The first of the orders is the
/// default, backwards with a `-`; each needs an index that leads with `tenant_id` and ends with `id`. `by …`, `where …` and
/// `limit …` may be left out; a page has 50 records by default, and 200 at most. Without `where`, each column of a
/// filter's name has the filter's value, where that is given. `from` may be a join in parentheses, or a constant:
/// `"(select o.*, s.name as supplier from orders o join suppliers s on s.id = o.supplier_id) o"`.
#[macro_export]
macro_rules! list {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident of $record:ident $(by $filter:ident)?
        from $from:tt $(where $condition:literal)?
        sorted [- $first:ident $(, $key:ident)* $(,)?] $(limit $limit:literal to $most:literal)?
    ) => {
        $crate::list!(@ ($(#[$meta])*) ($vis) $name $record [$($filter)?] $from [$($condition)?] true
            [$first $($key)*] [$($limit $most)?]);
    };
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident of $record:ident $(by $filter:ident)?
        from $from:tt $(where $condition:literal)?
        sorted [$first:ident $(, $key:ident)* $(,)?] $(limit $limit:literal to $most:literal)?
    ) => {
        $crate::list!(@ ($(#[$meta])*) ($vis) $name $record [$($filter)?] $from [$($condition)?] false
            [$first $($key)*] [$($limit $most)?]);
    };
    (@ $meta:tt $vis:tt $name:ident $record:ident [] $from:tt $condition:tt $descending:literal $keys:tt $limit:tt) => {
        $crate::list!(@ $meta $vis $name $record [$crate::resource::Unfiltered] $from $condition $descending $keys $limit);
    };
    (@ $meta:tt $vis:tt $name:ident $record:ident $filter:tt $from:tt [] $descending:literal $keys:tt $limit:tt) => {
        $crate::list!(@ $meta $vis $name $record $filter $from [@equal] $descending $keys $limit);
    };
    (@ $meta:tt $vis:tt $name:ident $record:ident $filter:tt $from:tt $condition:tt $descending:literal $keys:tt []) => {
        $crate::list!(@ $meta $vis $name $record $filter $from $condition $descending $keys [50 200]);
    };
    (@ ($($meta:tt)*) ($vis:vis) $name:ident $record:ident [$filter:ty] $from:tt $condition:tt
        $descending:literal [$($key:ident)+] [$limit:literal $most:literal]) => {
        $($meta)*
        $vis enum $name {}

        impl $crate::resource::Listing for $name {
            type Record = $record;
            type Filter = $filter;
            const SORTS: &'static [$crate::resource::SortKey<$record>] =
                &[$($crate::list!(@key $record $filter, $from $condition $key)),+];
            const DESCENDING: bool = $descending;
            const LIMIT: u16 = $limit;
            const MOST: u16 = $most;
        }
    };
    (@condition $filter:ty, [@equal]) => { <$filter as $crate::resource::Values>::EQUAL };
    (@condition $filter:ty, [$condition:literal]) => { $condition };
    (@key $record:ident $filter:ty, $from:tt $condition:tt $key:ident) => {{
        const PARTS: [&str; 4] =
            [$record::COLUMNS, $from, $crate::list!(@condition $filter, $condition), stringify!($key)];
        const KEYS: &[$crate::resource::SortColumn] =
            $crate::resource::sort_columns_of(|record: &$record| &record.$key);
        const FILTERS: usize = <$filter as $crate::resource::Values>::COUNT;
        const _: () =
            assert!(
                !$crate::resource::names_sealed(<$record as $crate::resource::InTable>::FIELDS, PARTS[2]),
                "the condition of a list names an encrypted field, whose column holds ciphertexts: look it up in its blind index"
            );
        $crate::resource::SortKey {
            name: $crate::const_text!($crate::resource::camel_case, stringify!($key)),
            statements: [
                [
                    $crate::const_text!($crate::resource::page_statement, PARTS, KEYS, FILTERS, true, false),
                    $crate::const_text!($crate::resource::page_statement, PARTS, KEYS, FILTERS, true, true),
                ],
                [
                    $crate::const_text!($crate::resource::page_statement, PARTS, KEYS, FILTERS, false, false),
                    $crate::const_text!($crate::resource::page_statement, PARTS, KEYS, FILTERS, false, true),
                ],
            ],
            place: |record: &$record| $crate::resource::SortValue::place(&record.$key),
            accepts: $crate::resource::accepts_of(|record: &$record| &record.$key),
        }
    }};
}

/// A page of records.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageOf<R> {
    items: Vec<R>,
    next_cursor: Option<String>,
}

impl<R: Listable> JsonSchema for PageOf<R> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Page", R::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": format!("A page of {}.", R::TABLE.replace('_', " ")),
            "properties": {
                "items": generator.subschema_for::<Vec<R>>(),
                "nextCursor": {
                    "type": ["string", "null"],
                    "description": "Pass it as `cursor` for the next page; `null` at the end.",
                    "examples": ["eyJzb3J0IjoiLWNyZWF0ZWRBdCJ9"],
                },
            },
            "required": ["items", "nextCursor"],
        })
    }
}

/// A place in an order; travels as base64url, opaque to the client.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Cursor<R: Listable> {
    sort: String,
    value: String,
    id: Id<R::Kind>,
}

/// An order of a list and its direction, as a query names it.
#[derive(Clone, Copy)]
pub(super) struct Sort {
    pub(super) key: usize,
    pub(super) descending: bool,
}

impl Sort {
    pub(super) fn name<L: Listing>(self) -> String {
        let name = L::SORTS.get(self.key).map_or("", |key| key.name);
        if self.descending { format!("-{name}") } else { name.to_owned() }
    }

    /// All orders of a list, in the order in which they are documented.
    pub(super) fn all<L: Listing>() -> impl Iterator<Item = Self> {
        (0..L::SORTS.len()).flat_map(|key| [false, true].map(|descending| Self { key, descending }))
    }

    pub(super) const fn default<L: Listing>() -> Self {
        Self { key: 0, descending: L::DESCENDING }
    }

    fn key<L: Listing>(self) -> Result<&'static SortKey<L::Record>> {
        L::SORTS.get(self.key).ok_or_else(|| Error::internal("a list without an order"))
    }

    /// The statement of the first page, or of one after a place.
    fn statement<L: Listing>(self, after: bool) -> Result<&'static str> {
        let [ascending, descending] = self.key::<L>()?.statements;
        let [first, next] = if self.descending { descending } else { ascending };
        Ok(if after { next } else { first })
    }

    fn cursor<L: Listing>(self, record: &L::Record) -> Result<String> {
        let value = (self.key::<L>()?.place)(record);
        let cursor: Cursor<L::Record> = Cursor { sort: self.name::<L>(), value, id: record.id() };
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).map_err(Error::internal)?))
    }

    /// A cursor of another order, or one that was tampered with, is refused.
    fn place<L: Listing>(self, text: &str) -> Result<Cursor<L::Record>> {
        let (name, accepts) = (self.name::<L>(), self.key::<L>()?.accepts);
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Cursor<L::Record>>(&bytes).ok());
        cursor
            .filter(|cursor| cursor.sort == name && accepts(&cursor.value))
            .ok_or_else(|| Error::new(&codes::MALFORMED_CURSOR))
    }
}

impl Call {
    /// Answers a list: a page of it as JSON, or all of it as NDJSON or CSV, row by row.
    ///
    /// # Errors
    /// `core.malformed_cursor`, or as the database answers.
    pub async fn list<L: Listing>(&self, page: Page<L>) -> Result<Listed<L>> {
        let response = match page.media_type {
            MediaType(JSON) => self.page(&page).await?.into_response(),
            _ => self.whole(&page).await?,
        };
        Ok(Listed { response, list: PhantomData })
    }

    async fn page<L: Listing>(&self, page: &Page<L>) -> Result<Json<PageOf<L::Record>>> {
        let limit = page.limit.unwrap_or(L::LIMIT);
        let (limit, one_more) = (usize::from(limit), i64::from(limit) + 1);
        let place = page.cursor.as_deref().map(|text| page.sort.place::<L>(text)).transpose()?;
        self.seal_filter(&page.filter, L::Record::TABLE).await?;
        let mut params = page.filter.values();
        params.push(&one_more);
        if let Some(place) = &place {
            params.extend([&place.value as &(dyn ToSql + Sync), &place.id]);
        }
        let sql = page.sort.statement::<L>(place.is_some())?;
        let tx = self.app.db.tenant_read(&self.caller).statement_timeout(TIMEOUT).last();
        let mut items: Vec<L::Record> = tx.rows(sql, &params).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|record| page.sort.cursor::<L>(record)).transpose()?;
        Ok(Json(PageOf { items, next_cursor }))
    }

    /// Leaves a row in the audit log: who takes a whole list along. A server that takes no changes still answers.
    async fn note_export(&self, table: &'static str, media_type: &'static str) -> Result<()> {
        let mut tx = self.app.db.tenant(&self.caller).undeferred();
        tx.audit(&AuditEntry {
            action: "core.exported",
            resource: "list",
            resource_id: Some(table.to_owned()),
            outcome: "success",
            details: json!({ "type": media_type }),
        })?;
        match tx.commit().await {
            Err(error) if error.code() == &codes::READ_ONLY => Ok(()),
            noted => noted,
        }
    }

    async fn whole<L: Listing>(&self, page: &Page<L>) -> Result<axum::response::Response> {
        for (pointer, given) in [("?limit", page.limit.is_some()), ("?cursor", page.cursor.is_some())] {
            if given {
                let detail = format!("{} has no pages", page.media_type.0);
                let violation = Violation::new(pointer, "unknown", detail);
                return Err(Error::new(&codes::INVALID).violation(violation));
            }
        }
        self.note_export(L::Record::TABLE, page.media_type.0).await?;
        let all: Option<i64> = None; // LIMIT NULL is none
        self.seal_filter(&page.filter, L::Record::TABLE).await?;
        let mut params = page.filter.values();
        params.push(&all);
        let sql = page.sort.statement::<L>(false)?;
        stream::answer::<L::Record>(&self.app, &self.caller, page.media_type, sql, &params).await
    }
}
