//! The live part: two reserved tenants attack each other in every registered relation.
//!
//! The attacks are declared once, in [`STEPS`]. `canary.sql` acts them out and notes rows or SQLSTATEs; `judge` says
//! what they mean.

use serde_json::json;

use super::Sample;

const ONE: &str = "00000000-0000-7000-8000-00000000c001";
const TWO: &str = "00000000-0000-7000-8000-00000000c002";

/// Whose the sample rows are, where a table shows one's own rows only.
const OWNER: &str = "00000000-0000-7000-8000-00000000ca01";
const COLLEAGUE: &str = "00000000-0000-7000-8000-00000000ca02";

/// Stands for a relation's sample row.
pub(super) const SAMPLE: &str = "{sample}";

const ROWS: &str = "T-06 live-rows";

/// The kind of steps for tables with a row condition, beside those of all tenants' tables.
pub(super) const OWN_ROWS: &str = "own-rows";

const MOVE: &str = "T-06 live-move";

/// The check of whatever could not be tried.
pub(super) const UNTRIED: &str = "C-03 live-untried";

/// One attack, or one control that shows the attacks to mean something.
#[derive(Debug)]
pub struct CanaryStep {
    /// The check that a failure is reported as.
    pub check: &'static str,
    /// The kind of relation it is tried on; `own-rows` is a tenant's table with a row condition.
    pub kind: &'static str,
    /// Who acts.
    pub acting: CanaryActor,
    /// What is tried; `{table}` is the relation, `{sample}` its sample row, `{owner}` the column that says whose a row is, `{one}` and `{two}`
    /// are the canary tenants.
    pub sql: &'static str,
    /// What has to come of it.
    pub must: Must,
    /// The column of the matrix.
    pub(super) column: MatrixColumn,
}

/// Who acts in a [`CanaryStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryActor {
    /// Nobody, on a connection that never had a tenant.
    Fresh,
    /// Nobody, after a tenant was set and taken back.
    Nobody,
    /// Somebody of the first canary tenant, whose the sample rows are.
    One,
    /// Somebody else of the first canary tenant.
    Colleague,
    /// The same, with the permission to see all rows.
    Lifted,
    /// The second canary tenant.
    Two,
}

/// What has to come of a [`CanaryStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// Touch no row; or be denied, where the privilege is not registered.
    TouchNothing,
    /// Touch exactly one row.
    TouchOne,
    /// Be refused with 42501.
    BeRefused,
}

/// The command that a step tells something about; `Unset` is any, without a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatrixColumn {
    Select,
    Insert,
    Update,
    Delete,
    Unset,
}

const fn step(
    check: &'static str,
    kind: &'static str,
    acting: CanaryActor,
    sql: &'static str,
    must: Must,
    column: MatrixColumn,
) -> CanaryStep {
    CanaryStep { check, kind, acting, sql, must, column }
}

/// Every step, in the order in which a relation goes through them.
#[rustfmt::skip]
pub const STEPS: &[CanaryStep] = {
    use CanaryActor::{Colleague, Fresh, Lifted, Nobody, One, Two};
    use MatrixColumn::{Delete, Insert, Select, Unset, Update};
    use Must::{BeRefused, TouchNothing, TouchOne};
    const FOREIGN: &str = "insert into {table} (tenant_id) values ('{one}')";
    const ANY: &str = "select from {table} limit 1";
    &[
        step("T-03 live-unset-select", "tenant", Fresh, ANY, TouchNothing, Unset),
        step("T-03 live-unset-insert", "tenant", Fresh, FOREIGN, BeRefused, Unset),
        step("C-02 live-sample", "tenant", One, SAMPLE, TouchOne, Insert),
        step("C-02 live-control", "tenant", One, "select from {table} where tenant_id = '{one}' limit 1", TouchOne, Select),
        step("T-03 live-unset-select", "tenant", Nobody, ANY, TouchNothing, Unset),
        step("T-03 live-unset-insert", "tenant", Nobody, FOREIGN, BeRefused, Unset),
        step("T-06 live-select", "tenant", Two, "select from {table} where tenant_id is distinct from '{two}' limit 1", TouchNothing, Select),
        step("T-06 live-update", "tenant", Two, "update {table} set tenant_id = tenant_id where tenant_id = '{one}'", TouchNothing, Update),
        step("T-06 live-delete", "tenant", Two, "delete from {table} where tenant_id = '{one}'", TouchNothing, Delete),
        step("T-06 live-insert", "tenant", Two, FOREIGN, BeRefused, Insert),
        step(MOVE, "tenant", One, "update {table} set tenant_id = '{two}' where tenant_id = '{one}'", BeRefused, Update),
        step(ROWS, OWN_ROWS, Colleague, ANY, TouchNothing, Select),
        step(ROWS, OWN_ROWS, Colleague, "update {table} set tenant_id = tenant_id where tenant_id = '{one}'", TouchNothing, Update),
        step(ROWS, OWN_ROWS, Colleague, "delete from {table} where tenant_id = '{one}'", TouchNothing, Delete),
        step(ROWS, OWN_ROWS, Colleague, "insert into {table} (tenant_id, {owner}) values ('{one}', '{one}')", BeRefused, Insert),
        step("C-02 live-control", OWN_ROWS, Lifted, "select from {table} where tenant_id = '{one}' limit 1", TouchOne, Select),
        step("T-03 live-unset-select", "member-scoped", Fresh, ANY, TouchNothing, Unset),
        step("C-02 live-control", "member-scoped", One, ANY, TouchOne, Select),
        step("T-03 live-unset-select", "member-scoped", Nobody, ANY, TouchNothing, Unset),
        step("T-06 live-select", "member-scoped", Two, ANY, TouchNothing, Select),
        step("T-10 live-write", "member-scoped", Two, "insert into {table} default values", BeRefused, Insert),
        step("T-10 live-write", "member-scoped", Two, "select from {table} where false for update", BeRefused, Update),
        step("T-10 live-write", "member-scoped", Two, "delete from {table} where false", BeRefused, Delete),
        step("T-10 live-write", "shared-read", Two, "insert into {table} default values", BeRefused, Insert),
        step("T-10 live-write", "shared-read", Two, "select from {table} where false for update", BeRefused, Update),
        step("T-10 live-write", "shared-read", Two, "delete from {table} where false", BeRefused, Delete),
        step("T-10 live-triggers-off", "server", Two, "set local session_replication_role = replica", BeRefused, Update),
    ]
};

pub(super) const NOTES: &str = "
Besides: `C-03 live-untried` is whatever could not be tried (a lock, a missing privilege, an error of a trigger),
`C-04 sample-missing` a tenant table without a row in its module's `samples`, `R-00 registry` a database without the
registry. Tables whose rows the runtime role may not insert need no sample; their row comes with the tenant.

As the system's login the same is tried on every relation, also on those that it holds nothing on: it must then be denied.
Controls, and moving a row, need a row of the tenant's own: they are tried where the login may add the sample, or where the
row came with the tenant. A table that the registry lets the login see across tenants is not attacked; the catalogue is
asked for exactly that policy and those privileges.

On a server that is read-only only the catalogue is asked, and the report's mode is `partial`.

Not covered, because PostgreSQL offers nothing to check: `lo_create` is open to every role (a large object that exists
is a finding), sessions of one role see each other's running statements in `pg_stat_activity` (send values as
parameters), and NOTIFY channels and advisory locks are shared (their keys carry the tenant).
";

impl CanaryStep {
    /// Whether it means something only where the login sees a row of the tenant that acts.
    pub(super) fn needs_own_row(&self) -> bool {
        self.sql != SAMPLE && (self.must == Must::TouchOne || self.check == MOVE)
    }
}

impl CanaryActor {
    fn tenant(self) -> Option<&'static str> {
        match self {
            Self::Fresh => None,
            Self::Nobody => Some(""),
            Self::One | Self::Colleague | Self::Lifted => Some(ONE),
            Self::Two => Some(TWO),
        }
    }

    fn principal(self) -> &'static str {
        match self {
            Self::One => OWNER,
            Self::Colleague | Self::Lifted => COLLEAGUE,
            Self::Fresh | Self::Nobody | Self::Two => "",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "nobody, never set",
            Self::Nobody => "nobody, `''`",
            Self::One => "canary-one",
            Self::Colleague => "a colleague in canary-one",
            Self::Lifted => "a colleague with the permission",
            Self::Two => "canary-two",
        }
    }
}

impl Must {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::TouchNothing => "touch no row",
            Self::TouchOne => "touch one row",
            Self::BeRefused => "be refused with 42501",
        }
    }
}

/// The plan for `canary.sql`, as JSON.
pub(super) fn plan(samples: &[Sample]) -> String {
    let steps = STEPS.iter().enumerate().map(|(no, step)| {
        let sql = step.sql.replace("{one}", ONE).replace("{two}", TWO);
        let (tenant, principal) = (step.acting.tenant(), step.acting.principal());
        let lifts = step.acting == CanaryActor::Lifted;
        json!({"no": no, "kind": step.kind, "tenant": tenant, "principal": principal, "lifts": lifts, "sql": sql, "own_row": step.needs_own_row()})
    });
    let samples = samples.iter().map(|sample| (sample.qualified(), sample.insert.into()));
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "samples": samples.collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}
