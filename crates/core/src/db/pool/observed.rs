use std::time::Instant;

use erp_postgres::{Plan, describe};

use crate::db::Db;
use crate::shared::TenantId;

/// A statement under way: counted and logged when it ends, and also when its request is given up before it has ended, at a
/// deadline or since the client has left. A statement that never ended is the one that an operator looks for.
pub(in crate::db) struct Observed<'db> {
    db: &'db Db,
    sql: &'static str,
    tenant: Option<TenantId>,
    started: Instant,
    ended: bool,
}

impl<'db> Observed<'db> {
    pub(in crate::db) fn begin(db: &'db Db, sql: &'static str, tenant: Option<TenantId>) -> Self {
        Self { db, sql, tenant, started: Instant::now(), ended: false }
    }

    /// It was answered, or has failed.
    pub(in crate::db) fn end(mut self, plan: Option<&Plan>, success: bool) {
        self.ended = true;
        self.db.observe(self.sql, plan, self.started, success, self.tenant);
    }

    /// Its rows begin to come. They are counted at their end.
    pub(in crate::db) fn streams(mut self, plan: &Plan) {
        self.ended = true;
        self.db.log(self.sql, (plan.operation, plan.table), self.started.elapsed(), true);
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (elapsed, (operation, table)) = (self.started.elapsed(), describe(self.sql));
        self.db.cancelled(self.sql, (operation, table), elapsed, self.tenant);
    }
}
