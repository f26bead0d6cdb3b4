//! Work of the system itself, which is no caller's: declared by a module, and handed to the code that does it.
//!
//! A module cannot begin such work by itself. It declares a [`SystemWork`] in its table, names it on a route or in its
//! [`Authentication`](crate::module::Authentication), and gets a [`System`] there; nothing else makes one. What is
//! declared stands in `docs/reference/system-work.md`.

use crate::auth::{Actor, Caller, Operator, Trace};
use crate::db::{Db, FromRow, Params, Sql};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::shared::TenantId;

use super::context::TxContext;
use super::exchange::{BEGIN_SNAPSHOT, Tx, Unfinished};
use super::{Last, TenantTx};

/// One kind of work that the system does in the database beyond what a caller may: a row of a `system_work!` table.
#[derive(Debug)]
pub struct SystemWork {
    /// Its name, unique in the product: audit rows have it as their actor, `system:sign-in`.
    pub name: &'static str,
    /// What it does and why no caller can do it, in a sentence.
    pub why: &'static str,
}

/// The right to do one kind of system work. There is no public constructor: a handler takes it as an argument on a route
/// that names the work with [`Routes::system`](crate::module::Routes::system).
///
/// ```compile_fail,E0624
/// use erp_core::{app::App, db::{System, SystemWork}};
///
/// static WORK: SystemWork = SystemWork { name: "mine", why: "I should like to" };
/// fn take(app: &App) -> System {
///     System::new(app.db.clone(), &WORK) // error: private
/// }
/// ```
#[derive(Clone)]
pub struct System {
    db: Db,
    work: &'static SystemWork,
}

/// A transaction without a tenant: it sees shared tables only, until it goes [`within`](SystemTx::within) one.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct SystemTx<'db> {
    tx: Tx<'db>,
}

const ACTIVE: &str = "select id from tenants where slug = $1 and status = 'active'";

struct ActiveTenant {
    id: TenantId,
}
from_row!(ActiveTenant { id });

/// Declares the work that a module does as the system, with the table of it for
/// [`Module::system`](crate::module::Module::system).
///
/// ```
/// erp_core::system_work! {
///     /// What this module does as the system.
///     pub SYSTEM {
///         CLEAN_UP = "clean-up": "Removes what no tenant needs any more; there is nobody who would ask for it.";
///     }
/// }
/// assert_eq!((CLEAN_UP.name, SYSTEM.len()), ("clean-up", 1));
/// ```
#[macro_export]
macro_rules! system_work {
    ($(#[$doc:meta])* $vis:vis $table:ident { $($name:ident = $work:literal: $why:literal;)+ }) => {
        $(
            #[doc = $why]
            $vis static $name: $crate::db::SystemWork = $crate::db::SystemWork { name: $work, why: $why };
        )+

        $(#[$doc])*
        $vis static $table: &[&$crate::db::SystemWork] = &[$(&$name),+];
    };
}

impl System {
    pub(crate) fn new(db: Db, work: &'static SystemWork) -> Self {
        Self { db, work }
    }

    /// A transaction without a tenant. Its audit rows have the work as their actor, and `trace` as their request.
    pub fn begin(&self, trace: &Trace) -> SystemTx<'_> {
        tracing::debug!(work = self.work.name, "System transaction");
        let context = self.db.context(TxContext::change(None, self.actor(), trace));
        SystemTx { tx: Tx::new(&self.db, None, false, context) }
    }

    /// A transaction without a tenant, as the system, but on behalf of a caller who has been found to have the right: its
    /// audit rows name the caller. It goes [`within`](SystemTx::within) the caller's tenant, and there belongs to the caller's
    /// request as its own changes do: under an `Idempotency-Key` it waits for the answer.
    pub fn on_behalf(&self, caller: &Caller) -> SystemTx<'_> {
        tracing::debug!(work = self.work.name, "System transaction");
        let context = TxContext::change(None, caller.actor(), caller.trace()).limited(caller.entitlements());
        let context = self.db.context(context);
        let mut tx = Tx::new(&self.db, None, false, context).deferred(caller.deferral());
        tx.unfinished = Unfinished::of(caller);
        SystemTx { tx }
    }

    /// A transaction without a tenant, as the system, but as an operator asks for it: its audit rows name the operator.
    pub fn by_operator(&self, operator: &Operator) -> SystemTx<'_> {
        tracing::debug!(work = self.work.name, "System transaction");
        let context = self.db.context(TxContext::change(None, operator.actor(), operator.trace()));
        SystemTx { tx: Tx::new(&self.db, None, false, context) }
    }

    /// A transaction that reads in one tenant, as the system: its rows can be streamed.
    pub(crate) fn read_within(&self, tenant: TenantId) -> TenantTx<'_> {
        tracing::debug!(work = self.work.name, "System transaction");
        TenantTx(Tx::new(&self.db, Some(tenant), true, self.db.context(TxContext::read(tenant))))
    }

    /// A transaction in the active tenant of this slug, as the system: for a public route whose path names the tenant.
    ///
    /// # Errors
    /// `core.not_found` where there is none.
    pub async fn within(&self, trace: &Trace, slug: &str) -> Result<TenantTx<'_>> {
        let mut tx = self.begin(trace);
        let found: Option<ActiveTenant> = tx.optional(ACTIVE, &[&slug]).await?;
        let ActiveTenant { id } = found.ok_or_else(|| Error::new(&codes::NOT_FOUND))?;
        tx.within(id).await
    }

    /// Who acts, as audit rows name it.
    pub fn actor(&self) -> Actor {
        Actor::System(self.work.name)
    }
}

impl<'db> SystemTx<'db> {
    /// Lets all its statements see the database as it was at the first one, whatever others commit meanwhile. Call it before the first
    /// statement.
    pub fn snapshot(mut self) -> Self {
        self.tx.begin = BEGIN_SNAPSHOT;
        self
    }

    /// The row of a statement on shared tables, if there is one.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn optional<R: FromRow>(&mut self, sql: impl Sql, params: Params<'_>) -> Result<Option<R>> {
        self.tx.run(sql.text(), params, false).await?;
        self.tx.row()
    }

    /// All rows of a statement in the middle of the transaction.
    ///
    /// # Errors
    /// As [`TenantTx::rows`].
    pub async fn rows<R: FromRow>(&mut self, sql: impl Sql, params: Params<'_>) -> Result<Vec<R>> {
        self.tx.run(sql.text(), params, false).await?;
        self.tx.rows()
    }

    /// Commits what was done.
    ///
    /// # Errors
    /// As [`TenantTx::commit`].
    pub async fn commit(self) -> Result<()> {
        self.tx.commit().await
    }

    /// The next statement is the last: COMMIT goes out with it.
    pub fn last(self) -> Last<'db> {
        Last(self.tx)
    }

    /// Goes on in one tenant, as the system, and out of the tenant's share of the pool. In the same transaction, unless
    /// the tenant's share is used up: then what was done so far is committed before it waits for a place.
    ///
    /// # Errors
    /// As [`TenantTx::commit`], where it has to wait.
    pub async fn within(self, tenant: TenantId) -> Result<TenantTx<'db>> {
        self.tx.within(tenant).await.map(TenantTx)
    }
}
