//! Tables of which one sees one's own rows only: what each transaction in a tenant tells PostgreSQL for their sake.

use erp_postgres::{Wire, WireError};
use uuid::Uuid;

use crate::auth::{Caller, Permission};

/// A tenant's table that `app.row_condition` has narrowed to one's own rows. Declared in [`Module::row_conditions`], so that
/// transactions say who acts, and for whom the condition is lifted; without the row nobody sees anything of the table.
///
/// [`Module::row_conditions`]: crate::module::Module::row_conditions
#[derive(Debug, Clone, Copy)]
pub struct RowCondition {
    /// The table, in the schema `public`.
    pub table: &'static str,
    /// The permission that the migration names: its holders see all of the tenant's rows.
    pub lifted_by: &'static Permission,
}

const SCOPE: &str = "select set_config('app.principal', $1, true), set_config('app.lifted', $2, true)";

/// Whose rows a transaction sees where a table has a row condition.
#[derive(Clone)]
pub(in crate::db) struct RowScope {
    /// Nobody's own, for work of the system and while the caller is not known yet.
    principal: Option<Uuid>,
    /// The names of the permissions that lift conditions for the caller, with commas between them.
    lifted: String,
}

impl RowScope {
    /// The scope of a caller; none in a product whose tables have no condition, where it would cost a statement for nothing.
    pub(in crate::db) fn of(conditions: &[RowCondition], caller: &Caller) -> Option<Self> {
        if conditions.is_empty() {
            return None;
        }
        let lifted = conditions.iter().map(|condition| condition.lifted_by).filter(|lifts| caller.may(lifts));
        let lifted: Vec<_> = lifted.map(|permission| permission.name).collect();
        let principal = caller.acts_for().map(|principal| *principal.as_uuid());
        Some(Self { principal, lifted: lifted.join(",") })
    }

    /// Adds it to an exchange.
    pub(in crate::db) fn add(&self, wire: &mut Wire) -> Result<(), WireError> {
        let mut buffer = Uuid::encode_buffer();
        let principal = self.principal.as_ref().map(|id| &*id.hyphenated().encode_lower(&mut buffer));
        wire.own(SCOPE, &[principal.unwrap_or_default(), &self.lifted])
    }
}
