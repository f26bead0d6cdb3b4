use axum::extract::State;
use axum::response::{IntoResponse, Response};
use erp_core::app::App;
use erp_core::auth::Caller;
use erp_core::db::TenantTx;
use erp_core::error::{self, Error, Result, on_constraint};
use erp_core::extract::{ETag, IfMatch, Json, Path};
use erp_core::from_row;
use erp_core::shared::{Id, IdKind, LARGEST_EXACT, Text};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codes;

const LIST: &str = "select id, name, email, created_at, version from suppliers order by name limit 200";
const READ: &str = "select id, name, email, created_at, version from suppliers where id = $1";
const EXISTS: &str = "select from suppliers where id = $1";
const CREATE: &str = "insert into suppliers (id, name, email) values ($1, $2, $3) \
     returning id, name, email, created_at, version";
const REPLACE: &str = "update suppliers set name = $2, email = $3, updated_at = now(), version = version + 1 \
     where id = $1 and ($4::bigint[] is null or version = any ($4)) \
     returning id, name, email, created_at, version";
const DELETE: &str = "delete from suppliers where id = $1 returning id";

/// See [`SupplierId`].
pub(super) enum SupplierKind {}

impl IdKind for SupplierKind {
    const NAME: &'static str = "supplier";
}

pub(super) type SupplierId = Id<SupplierKind>;

/// A supplier, as it is stored and answered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Supplier {
    id: SupplierId,
    name: String,
    email: Option<String>,
    created_at: Timestamp,
    #[schemars(range(min = 1, max = LARGEST_EXACT))]
    version: i64,
}
from_row!(Supplier { id, name, email, created_at, version });

/// The body of POST and PUT.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSupplier {
    name: Text<1, 200>,
    #[serde(default)]
    email: Option<Text<3, 254>>,
}

/// The answer of `GET /api/v1/suppliers`.
#[derive(Serialize, JsonSchema)]
pub(super) struct Suppliers {
    suppliers: Vec<Supplier>,
}

/// `GET /api/v1/suppliers`: the first 200 by name. `catalog/list.rs` shows pages, search and sort orders.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Suppliers>> {
    let suppliers = app.db.tenant_read(&caller).last().rows(LIST, &[]).await?;
    Ok(Json(Suppliers { suppliers }))
}

/// `POST /api/v1/suppliers`: 201 with `Location` and `ETag`.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(new): Json<NewSupplier>,
) -> Result<Response> {
    let id = SupplierId::new(app.clock.as_ref(), app.rng.as_ref());
    let tx = app.db.tenant(&caller).last();
    let created: Supplier = tx.row(CREATE, &[&id, &new.name, &new.email]).await.map_err(name_taken())?;
    let location = HeaderValue::try_from(format!("/api/v1/suppliers/{id}")).map_err(Error::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], tagged(created)).into_response())
}

/// `GET /api/v1/suppliers/{id}`.
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SupplierId>,
) -> Result<Response> {
    let found = app.db.tenant_read(&caller).last().optional(READ, &[&id]).await?;
    found.map(tagged).ok_or_else(|| Error::new(&error::codes::NOT_FOUND))
}

/// `PUT /api/v1/suppliers/{id}`: replaces, never creates.
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SupplierId>,
    if_match: IfMatch,
    Json(new): Json<NewSupplier>,
) -> Result<Response> {
    let mut tx = app.db.tenant(&caller);
    let replaced = tx.optional(REPLACE, &[&id, &new.name, &new.email, &if_match.versions()]).await;
    match replaced.map_err(name_taken())? {
        Some(replaced) => {
            tx.commit().await?;
            Ok(tagged(replaced))
        }
        None => Err(stale_or_not_found(tx, id).await?),
    }
}

/// `DELETE /api/v1/suppliers/{id}`: 204.
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SupplierId>,
) -> Result<StatusCode> {
    let deleted: Option<()> = app.db.tenant(&caller).last().optional(DELETE, &[&id]).await?;
    deleted.map(|()| StatusCode::NO_CONTENT).ok_or_else(|| Error::new(&error::codes::NOT_FOUND))
}

/// Why a change found no row: it is not there, or not in the state of `If-Match`. The transaction is rolled back.
async fn stale_or_not_found(mut tx: TenantTx<'_>, id: SupplierId) -> Result<Error> {
    let there: Option<()> = tx.optional(EXISTS, &[&id]).await?;
    Ok(Error::new(if there.is_some() { &error::codes::STALE } else { &error::codes::NOT_FOUND }))
}

fn tagged(supplier: Supplier) -> Response {
    ([(header::ETAG, HeaderValue::from(ETag(supplier.version)))], Json(supplier)).into_response()
}

fn name_taken() -> impl Fn(Error) -> Error {
    on_constraint("suppliers_name_key", &codes::NAME_TAKEN)
}

#[cfg(test)]
mod tests {
    use super::NewSupplier;

    #[test]
    fn a_body_names_the_supplier_and_nothing_else() {
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": "Bolt & Co"}"#).is_ok());
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": " "}"#).is_err());
        assert!(serde_json::from_str::<NewSupplier>(r#"{"name": "Bolt & Co", "tenant_id": "x"}"#).is_err());
    }
}
