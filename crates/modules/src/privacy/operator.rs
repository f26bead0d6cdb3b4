//! What an operator does for a person: exports what is held of it in all tenants, orders that it be forgotten, and reads the receipt.

use erp_core::bootstrap::OperatorSession;
use erp_core::error::{Error, Result, codes as core};
use erp_core::shared::{Clock, Id, Rng, TenantId, UserId};
use erp_core::{from_row, sql};
use serde_json::{Value, json};

use super::erasures::{ERASE, OrderedErasure, TENANTS, addresses_of, forget};
pub use super::erasures::{Erasure, ErasureReason};
use crate::identity::facade::people;

const ORDER: &str =
    "insert into erasures (id, subject, reason, ordered_by) values ($1, $2, $3, $4) returning id";
const READ: &str = sql!["select ", Erasure::COLUMNS, " from erasures where id = $1"];
const DATA: &str = "select relation, data from app.subject_data($1, $2, $3)";

struct TenantOfHeld {
    id: TenantId,
}
from_row!(TenantOfHeld { id });

struct HeldRow {
    relation: String,
    data: String,
}
from_row!(HeldRow { relation, data });

/// The person of an id or an address.
///
/// # Errors
/// `core.not_found`.
pub async fn find(session: &OperatorSession, who: &str) -> Result<UserId> {
    people::find(session.begin(), who).await
}

/// What is held of a person, by place: the platform, and each of the tenants that it belongs to or did.
///
/// # Errors
/// As the database answers.
pub async fn export(session: &OperatorSession, person: UserId) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    let mut tx = session.within(TenantId::PLATFORM).await?;
    let of_platform = addresses_of(&mut tx, *person.as_uuid(), false).await?;
    let id = person.to_string();
    for of_tenants in [false, true] {
        let rows: Vec<HeldRow> = tx.rows(DATA, &[&id, &of_platform, &of_tenants]).await?;
        for row in rows {
            lines.push(line("platform", &row)?);
        }
    }
    tx.rollback();
    for tenant in tenants(session, person).await? {
        let mut tx = session.within(tenant).await?;
        let mut addresses = addresses_of(&mut tx, *person.as_uuid(), true).await?;
        addresses.extend_from_slice(&of_platform);
        let rows: Vec<HeldRow> = tx.rows(DATA, &[&id, &addresses, &true]).await?;
        tx.rollback();
        for row in rows {
            lines.push(line(&tenant.to_string(), &row)?);
        }
    }
    Ok(lines)
}

fn line(at: &str, HeldRow { relation, data }: &HeldRow) -> Result<Value> {
    let row: Value = serde_json::from_str(data).map_err(Error::internal)?;
    Ok(json!({ "at": at, "table": relation, "row": row }))
}

async fn tenants(session: &OperatorSession, person: UserId) -> Result<Vec<TenantId>> {
    let found: Vec<TenantOfHeld> = session.begin().last().rows(TENANTS, &[&person]).await?;
    Ok(found.into_iter().map(|row| row.id).collect())
}

/// What would be forgotten of a person, by place. Nothing is changed.
///
/// # Errors
/// As the database answers.
pub async fn outlook(session: &OperatorSession, person: UserId) -> Result<Vec<(String, Value)>> {
    let mut tx = session.within(TenantId::PLATFORM).await?;
    let of_platform = addresses_of(&mut tx, *person.as_uuid(), false).await?;
    let mut all =
        vec![("platform".to_owned(), forget(&mut tx, (*person.as_uuid(), &of_platform), false, true).await?)];
    tx.rollback();
    for tenant in tenants(session, person).await? {
        let mut tx = session.within(tenant).await?;
        let mut addresses = addresses_of(&mut tx, *person.as_uuid(), true).await?;
        addresses.extend_from_slice(&of_platform);
        all.push((tenant.to_string(), forget(&mut tx, (*person.as_uuid(), &addresses), true, true).await?));
        tx.rollback();
    }
    Ok(all)
}

/// Orders that a person be forgotten: a job of a running process does it. The id of the order.
///
/// # Errors
/// As the database answers.
pub async fn order(
    session: &OperatorSession,
    (person, reason): (UserId, ErasureReason),
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<Id<Erasure>> {
    let id: Id<Erasure> = Id::new(clock, rng);
    let mut tx = session.within(TenantId::PLATFORM).await?;
    let by = "an operator's command";
    let _: Vec<()> = tx.rows(ORDER, &[&id, &person, &reason, &by]).await?;
    let order = OrderedErasure { erasure: *id.as_uuid(), again: false };
    session.enqueue(&mut tx, &ERASE, (TenantId::PLATFORM, &id.to_string()), &order).await?;
    tx.commit().await.map(|()| id)
}

/// An order of an operator, with its receipt once it is done.
///
/// # Errors
/// `core.not_found`.
pub async fn read(session: &OperatorSession, id: Id<Erasure>) -> Result<Erasure> {
    let found: Option<Erasure> =
        session.within(TenantId::PLATFORM).await?.last().optional(READ, &[&id]).await?;
    found.ok_or_else(|| Error::new(&core::NOT_FOUND))
}
