use std::borrow::Cow;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::db::TenantTx;
use erp_core::error::{self, Error, Result, on_constraint};
use erp_core::extract::{ETag, IfMatch, Json, Path, present};
use erp_core::from_row;
use erp_core::shared::{Id, IdKind, Identifier, LARGEST_EXACT, Text};
use erp_core::stream::{Line, Record};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::codes;

/// The columns of an [`Item`].
macro_rules! columns {
    () => {
        "id, sku, name, description, quantity, created_at, updated_at, version"
    };
}
pub(super) use columns;

const READ: &str = concat!("select ", columns!(), " from items where id = $1");
const EXISTS: &str = "select from items where id = $1";
const CREATE: &str = concat!(
    "insert into items (id, sku, name, description, quantity) values ($1, $2, $3, $4, $5) returning ",
    columns!()
);

/// A change of nothing keeps `version` and `updated_at`: nothing has happened that a cache or an auditor should know of.
macro_rules! unless_equal {
    ($values:literal) => {
        concat!(
            "updated_at = case when (sku, name, description, quantity) is distinct from (",
            $values,
            ") then now() else updated_at end, \
             version = version + ((sku, name, description, quantity) is distinct from (",
            $values,
            "))::int "
        )
    };
}
const REPLACE: &str = concat!(
    "update items set sku = $2, name = $3, description = $4, quantity = $5, ",
    unless_equal!("$2, $3, $4, $5"),
    "where id = $1 and ($6::bigint[] is null or version = any ($6)) returning ",
    columns!()
);
const PATCH: &str = concat!(
    "update items set sku = coalesce($2, sku), name = coalesce($3, name), \
     description = case when $4 then $5 else description end, quantity = coalesce($6, quantity), ",
    unless_equal!(
        "coalesce($2, sku), coalesce($3, name), case when $4 then $5 else description end, coalesce($6, quantity)"
    ),
    "where id = $1 and ($7::bigint[] is null or version = any ($7)) returning ",
    columns!()
);
const DELETE: &str =
    "delete from items where id = $1 and ($2::bigint[] is null or version = any ($2)) returning id";

/// See [`ItemId`].
#[derive(Debug)]
pub(super) enum ItemKind {}

impl IdKind for ItemKind {
    const NAME: &'static str = "item";
}

pub(super) type ItemId = Id<ItemKind>;

/// An item, as it is stored and answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) id: ItemId,
    /// The stock keeping unit: unique within the tenant, in any case (`bolt-m8` is `BOLT-M8`).
    #[schemars(example = SKU)]
    pub(super) sku: String,
    #[schemars(example = NAME)]
    pub(super) name: String,
    #[schemars(example = DESCRIPTION)]
    description: Option<String>,
    #[schemars(with = "Quantity", example = QUANTITY)]
    quantity: i64,
    pub(super) created_at: Timestamp,
    updated_at: Timestamp,
    /// Rises with every change; the ETag is made of it.
    #[schemars(range(min = 1, max = LARGEST_EXACT), example = 1)]
    version: i64,
}
from_row!(Item { id, sku, name, description, quantity, created_at, updated_at, version });

impl Record for Item {
    const COLUMNS: &'static [&'static str] =
        &["id", "sku", "name", "description", "quantity", "createdAt", "updatedAt", "version"];

    fn write(&self, line: &mut Line<'_>) {
        line.value(self.id).text(&self.sku).text(&self.name);
        line.text(self.description.as_deref().unwrap_or_default()).value(self.quantity);
        line.value(self.created_at).value(self.updated_at).value(self.version);
    }
}

// The item of the examples.
const SKU: &str = "BOLT-M8";
const NAME: &str = "Hexagon bolt M8";
const DESCRIPTION: &str = "ISO 4017, zinc-plated, 40 mm";
const QUANTITY: i64 = 250;

type Sku = Identifier<1, 64>;
type Name = Text<1, 200>;
type Description = Text<0, 2000>;

/// An integer from 0 to 9007199254740991, which JavaScript too reads exactly.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Quantity(i64);

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": LARGEST_EXACT })
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = u64::deserialize(deserializer)?;
        let exact = i64::try_from(value).ok().filter(|value| *value <= LARGEST_EXACT);
        exact.map(Self).ok_or_else(|| D::Error::custom(format!("is more than {LARGEST_EXACT}")))
    }
}

/// The body of POST and PUT.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewItem {
    /// The stock keeping unit: unique within the tenant, in any case (`bolt-m8` is `BOLT-M8`).
    #[schemars(example = SKU)]
    sku: Sku,
    #[schemars(example = NAME)]
    name: Name,
    #[serde(default)]
    #[schemars(example = DESCRIPTION)]
    description: Option<Description>,
    #[serde(default)]
    #[schemars(example = QUANTITY)]
    quantity: Quantity,
}

/// The body of PATCH (RFC 7396): absent keeps, `null` clears.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemPatch {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Sku", example = SKU)]
    sku: Option<Sku>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Name", example = NAME)]
    name: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Description>", example = DESCRIPTION)]
    description: Option<Option<Description>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Quantity", example = QUANTITY)]
    quantity: Option<Quantity>,
}

/// `POST /api/v1/items`: 201 with `Location` and `ETag`.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewItem>,
) -> Result<Response> {
    let id = ItemId::new(app.clock.as_ref(), app.rng.as_ref());
    let params: [&(dyn erp_core::db::ToSql + Sync); 5] =
        [&id, &new.sku, &new.name, &new.description, &new.quantity.0];
    let created = app.db.tenant(&caller).last().row(CREATE, &params).await.map_err(sku_taken())?;
    let location = HeaderValue::try_from(format!("/api/v1/items/{id}")).map_err(Error::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], tagged(created)).into_response())
}

/// `GET /api/v1/items/{id}`.
pub(super) async fn read(State(app): State<App>, caller: Caller, Path(id): Path<ItemId>) -> Result<Response> {
    let found = app.db.tenant_read(&caller).last().optional(READ, &[&id]).await?;
    found.map(tagged).ok_or_else(|| Error::new(&error::codes::NOT_FOUND))
}

/// `PUT /api/v1/items/{id}`: replaces, never creates.
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ItemId>,
    if_match: IfMatch,
    Json(new): Json<NewItem>,
) -> Result<Response> {
    let mut tx = app.db.tenant(&caller);
    let params: [&(dyn erp_core::db::ToSql + Sync); 6] =
        [&id, &new.sku, &new.name, &new.description, &new.quantity.0, &if_match.versions()];
    let replaced = tx.optional(REPLACE, &params).await.map_err(sku_taken())?;
    finish(tx, id, replaced).await.map(tagged)
}

/// `PATCH /api/v1/items/{id}`: changes what is given.
pub(super) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ItemId>,
    if_match: IfMatch,
    Json(patch): Json<ItemPatch>,
) -> Result<Response> {
    let mut tx = app.db.tenant(&caller);
    let (has_description, description) = (patch.description.is_some(), patch.description.flatten());
    let quantity = patch.quantity.map(|quantity| quantity.0);
    let params: [&(dyn erp_core::db::ToSql + Sync); 7] =
        [&id, &patch.sku, &patch.name, &has_description, &description, &quantity, &if_match.versions()];
    let patched = tx.optional(PATCH, &params).await.map_err(sku_taken())?;
    finish(tx, id, patched).await.map(tagged)
}

/// `DELETE /api/v1/items/{id}`: 204.
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ItemId>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let mut tx = app.db.tenant(&caller);
    let deleted: Option<()> = tx.optional(DELETE, &[&id, &if_match.versions()]).await?;
    finish(tx, id, deleted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Commits a change that found its row; else says whether the row is not there, or not in the state of `If-Match`.
async fn finish<T>(mut tx: TenantTx<'_>, id: ItemId, changed: Option<T>) -> Result<T> {
    if let Some(changed) = changed {
        tx.commit().await?;
        return Ok(changed);
    }
    let there: Option<()> = tx.optional(EXISTS, &[&id]).await?;
    Err(Error::new(if there.is_some() { &error::codes::STALE } else { &error::codes::NOT_FOUND }))
}

fn tagged(item: Item) -> Response {
    ([(header::ETAG, HeaderValue::from(ETag(item.version)))], Json(item)).into_response()
}

/// The same sku, or one that looks the same.
fn sku_taken() -> impl Fn(Error) -> Error {
    let same = on_constraint("items_sku_key", &codes::SKU_TAKEN);
    let alike = on_constraint("items_sku_folded_key", &codes::SKU_TAKEN);
    move |error| alike(same(error))
}
