//! What a transaction tells PostgreSQL before its first statement: its tenant, who acts, and how long a statement may run.
//! All of it is local to the transaction.

use erp_postgres::Wire;
use std::time::Duration;

use crate::auth::{Actor, Entitlements, Trace};
use crate::db::Db;
use crate::db::row_condition::RowScope;
use crate::shared::TenantId;

/// A read in a tenant: READ ONLY from here on, which nothing can take back (`transaction_read_only` has no way to off).
const READ: &str =
    "select set_config('app.tenant_id', $1, true), set_config('transaction_read_only', 'on', true)";
const READ_IN_TIME: &str = "select set_config('app.tenant_id', $1, true), \
    set_config('transaction_read_only', 'on', true), set_config('statement_timeout', $2, true)";
const WRITE: &str = "select set_config('app.tenant_id', $1, true), set_config('app.actor', $2, true), \
    set_config('app.correlation_id', $3, true), set_config('app.client_ip', $4, true)";
const SYSTEM: &str = "select set_config('app.actor', $1, true), set_config('app.correlation_id', $2, true), \
    set_config('app.client_ip', $3, true)";
const ACTION: &str = "select set_config('app.action', $1, true)";
/// The quotas of rows that the tenant's plan has, for `app.count_usage`.
const QUOTAS: &str = "select set_config('app.quotas', $1, true)";
const TENANT: &str = "select set_config('app.tenant_id', $1, true)";

/// The context of one transaction.
#[derive(Clone, Default)]
pub(in crate::db) struct TxContext {
    tenant: Option<TenantId>,
    acting: Option<Acting>,
    rows: Option<RowScope>,
    /// What the tenant has, with its quotas of rows.
    entitlements: Entitlements,
    /// Where it is not the session's own.
    pub(in crate::db) statement_timeout: Option<Duration>,
    /// What the change is called in the audit log, if it has a name of its own.
    pub(in crate::db) action: Option<&'static str>,
}

/// Who changes something: the audit rows take it.
#[derive(Clone)]
struct Acting {
    actor: String,
    trace: Trace,
}

impl Db {
    /// The context, with what a session behind a pooler cannot be relied on to have.
    pub(in crate::db) fn context(&self, mut context: TxContext) -> TxContext {
        if !self.options().prepared_statements {
            context.statement_timeout = Some(self.options().statement_timeout);
        }
        context
    }
}

impl TxContext {
    /// Of a read: its transaction is READ ONLY.
    pub(in crate::db) fn read(tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..Self::default() }
    }

    /// Of a change, in a tenant or in none.
    pub(in crate::db) fn change(tenant: Option<TenantId>, actor: Actor, trace: &Trace) -> Self {
        let acting = Some(Acting { actor: actor.to_string(), trace: trace.clone() });
        Self { tenant, acting, ..Self::default() }
    }

    /// Of somebody who sees his own rows where a table has a row condition.
    pub(in crate::db) fn seeing(mut self, rows: Option<RowScope>) -> Self {
        self.rows = rows;
        self
    }

    /// Of a tenant that has no more room than this.
    pub(in crate::db) fn limited(mut self, entitlements: &Entitlements) -> Self {
        self.entitlements = entitlements.clone();
        self
    }

    /// Goes on in one tenant; of the rest, what has been `sent` already holds on.
    pub(in crate::db) fn within(&mut self, tenant: TenantId, sent: bool) {
        let rest = if sent { Self::default() } else { std::mem::take(self) };
        *self = Self { tenant: Some(tenant), ..rest };
    }

    /// Adds it to an exchange of a transaction that had another change's context before.
    pub(in crate::db) fn replace(&self, wire: &mut Wire) -> Result<(), erp_postgres::WireError> {
        wire.own(ACTION, &[""])?;
        self.add(wire, false)
    }

    /// Adds it to an exchange. `read_only` says that the transaction is to be READ ONLY.
    pub(in crate::db) fn add(&self, wire: &mut Wire, read_only: bool) -> Result<(), erp_postgres::WireError> {
        if let Some(rows) = &self.rows {
            rows.add(wire)?;
        }
        let mut buffer = uuid::Uuid::encode_buffer();
        let tenant =
            self.tenant.as_ref().map(|tenant| &*tenant.as_uuid().hyphenated().encode_lower(&mut buffer));
        match (tenant, &self.acting, self.statement_timeout) {
            (Some(tenant), None, None) if read_only => return wire.own(READ, &[tenant]),
            (Some(tenant), None, Some(limit)) if read_only => {
                return wire.own(READ_IN_TIME, &[tenant, &limit.as_millis().to_string()]);
            }
            (tenant, Some(Acting { actor, trace }), _) => {
                let address = trace.client_ip.map(|ip| ip.to_string()).unwrap_or_default();
                let (id, address) = (&*trace.correlation_id, address.as_str());
                match tenant {
                    Some(tenant) => wire.own(WRITE, &[tenant, actor, id, address])?,
                    None => wire.own(SYSTEM, &[actor, id, address])?,
                }
            }
            (Some(tenant), None, _) => wire.own(TENANT, &[tenant])?,
            (None, None, _) => {}
        }
        if let Some(action) = self.action {
            wire.own(ACTION, &[action])?;
        }
        if let Some(quotas) = self.entitlements.row_quotas() {
            wire.own(QUOTAS, &[&**quotas])?;
        }
        wire.bound(self.statement_timeout)
    }
}
