use schemars::JsonSchema;
use serde::Serialize;

use super::{Call, Created, InTable, Resource, Tagged, Values, Versioned};
use crate::crypto::{Keyring, Unopened};
use crate::db::{
    FromRow, IsNull, Params, Row, RowError, RowValues, Sql, SqlBuffer, TenantTx, ToSql, Type, no_row,
    to_sql_checked,
};
use crate::error::{Error, Result, codes};
use crate::shared::{Id, Version};

/// A document: a record, and its lines under `lines`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{H}WithLines")]
pub struct WithLines<H, L> {
    /// What stands above the lines.
    #[serde(flatten)]
    pub head: H,
    /// The lines, in their order.
    pub lines: Vec<L>,
}

/// A line, and the head that it belongs to: a row of their join.
pub struct HeadAndLine<H, L>(H, L);

/// A value of a line, as an element of an array.
#[derive(Debug)]
struct Element<'a>(&'a (dyn ToSql + Sync));

impl ToSql for Element<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut SqlBuffer,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql_checked(ty, out)
    }

    /// Each value says it itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Of each column of the lines an array with its values, for `unnest`.
fn arrays<L: Values>(lines: &[L]) -> Vec<Vec<Element<'_>>> {
    let mut arrays: Vec<_> = (0..L::COUNT).map(|_| Vec::with_capacity(lines.len())).collect();
    for line in lines {
        for (array, value) in arrays.iter_mut().zip(line.values()) {
            array.push(Element(value));
        }
    }
    arrays
}

impl<H: FromRow, L: FromRow> FromRow for HeadAndLine<H, L> {
    fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self(H::from_row(row)?, L::from_row(row)?))
    }

    const SEALED: bool = H::SEALED || L::SEALED;

    fn open(&mut self, ring: &Keyring) -> Result<(), Unopened> {
        self.0.open(ring)?;
        self.1.open(ring)
    }
}

impl<H: Resource, L: InTable> Versioned for WithLines<H, L> {
    const TABLES: &'static [&'static str] = &[H::TABLE, L::TABLE];

    fn version(&self) -> Version {
        Resource::version(&self.head)
    }
}

impl<H, L> WithLines<H, L> {
    /// The document of a statement's rows: one for each line, in the order of the lines. `None` where there are none.
    pub fn of(rows: Vec<HeadAndLine<H, L>>) -> Option<Self> {
        let mut rows = rows.into_iter();
        let HeadAndLine(head, first) = rows.next()?;
        Some(Self { head, lines: std::iter::once(first).chain(rows.map(|row| row.1)).collect() })
    }
}

impl Call {
    /// Reads a document with its lines, by a statement that returns a row for each line, in their order: one round trip.
    ///
    /// # Errors
    /// `core.not_found`, or as the database answers.
    pub async fn read_with_lines<H: Resource, L: InTable>(
        &self,
        sql: impl Sql,
        id: Id<H>,
    ) -> Result<Tagged<WithLines<H, L>>> {
        let rows = self.tenant_read().last().rows(sql, &[&id]).await?;
        WithLines::of(rows).map(Tagged).ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }

    /// Creates a document with its lines, by one statement that returns a row for each line, in their order; `$1` is its
    /// new id, `values` and then an array for each column of `lines` follow: one round trip, COMMIT included.
    ///
    /// # Errors
    /// As the database answers; [`Call::locate`] finds the line that a foreign key refuses.
    pub async fn create_with_lines<H: Resource, L: InTable>(
        &self,
        sql: impl Sql,
        values: &(impl RowValues + ?Sized),
        lines: &[impl Values],
    ) -> Result<Created<WithLines<H, L>>> {
        let id: Id<H> = self.new_id();
        self.seal_row(values, H::TABLE, *id.as_uuid()).await?;
        let arrays = arrays(lines);
        let rows = self.tenant().last().rows(sql, &params(&id, values.params(), &arrays)).await?;
        self.created_at(id, WithLines::of(rows).ok_or_else(no_row)?)
    }
}

impl TenantTx<'_> {
    /// Replaces the lines of a document that this transaction has locked, by one statement that returns a row for each new
    /// line, in their order; `$1` is its id, an array for each column of `lines` follows: one round trip, COMMIT included.
    ///
    /// # Errors
    /// As the database answers; [`Call::locate`] finds the line that a foreign key refuses.
    pub async fn replace_lines<H: Resource, L: InTable>(
        self,
        sql: impl Sql,
        id: Id<H>,
        lines: &[impl Values],
    ) -> Result<Tagged<WithLines<H, L>>> {
        let arrays = arrays(lines);
        let rows = self.last().rows(sql, &params(&id, &[], &arrays)).await?;
        WithLines::of(rows).map(Tagged).ok_or_else(no_row)
    }
}

fn params<'a>(
    id: &'a (dyn ToSql + Sync),
    values: Params<'a>,
    arrays: &'a [Vec<Element<'a>>],
) -> Vec<&'a (dyn ToSql + Sync)> {
    let arrays = arrays.iter().map(|array| array as &(dyn ToSql + Sync));
    std::iter::once(id).chain(values.iter().copied()).chain(arrays).collect()
}
