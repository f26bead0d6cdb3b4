use crate::auth::Caller;
use crate::db::{Db, TenantTx};
use crate::error::Result;

impl Db {
    /// Does `work` in one transaction in the caller's tenant and commits: the specification's `withRLSContext`. When
    /// `work` fails, or its future is dropped, nothing of it remains.
    ///
    /// A handler whose last statement is known writes [`Db::tenant`] and [`TenantTx::last`] instead, which saves a round
    /// trip.
    ///
    /// ```
    /// use erp_core::auth::Caller;
    /// use erp_core::db::Db;
    /// use erp_core::error::Result;
    ///
    /// struct Stock { quantity: i64 }
    /// erp_core::from_row!(Stock { quantity });
    ///
    /// async fn take_one(db: &Db, caller: &Caller, sku: &str) -> Result<Option<i64>> {
    ///     let left = db.with_tenant(caller, async |tx| {
    ///         let sql = "update items set quantity = quantity - 1 where sku = $1 returning quantity";
    ///         tx.optional::<Stock>(sql, &[&sku]).await
    ///     });
    ///     Ok(left.await?.map(|stock| stock.quantity))
    /// }
    /// ```
    ///
    /// # Errors
    /// As `work`, or as the commit.
    pub async fn with_tenant<T>(
        &self,
        caller: &Caller,
        work: impl AsyncFnOnce(&mut TenantTx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut tx = self.tenant(caller);
        let outcome = work(&mut tx).await?;
        tx.commit().await?;
        Ok(outcome)
    }
}
