//! What the pool's sessions say of themselves, asked as requests ask.

use super::context::TxContext;
use super::exchange::Tx;
use super::no_row;
use crate::db::Db;
use crate::error::Result;

struct SessionValue {
    value: String,
}
crate::from_row!(SessionValue { value });

impl Db {
    /// The role that the pool's sessions act as.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn role(&self) -> Result<String> {
        let mut tx = Tx::new(self, None, true, TxContext::default());
        tx.run("select current_user::text as value", &[], false).await?;
        let row: Option<SessionValue> = tx.row()?;
        row.map(|row| row.value).ok_or_else(no_row)
    }

    /// The tenants that sessions of the pool carry while nobody uses them: none, since a context ends with its transaction
    /// (T-04). It asks every open session; behind a pooler, which has fewer, so many times in turn.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn tenants_left_behind(&self) -> Result<Vec<String>> {
        let (mut held, mut left) = (Vec::new(), Vec::new());
        for _ in 0..self.connections().0 {
            let mut tx = Tx::new(self, None, true, TxContext::default());
            tx.run("select coalesce(current_setting('app.tenant_id', true), '') as value", &[], false)
                .await?;
            left.extend(tx.row::<SessionValue>()?.map(|row| row.value).filter(|tenant| !tenant.is_empty()));
            if self.options().prepared_statements {
                held.push(tx); // so that the next one asks another session
            }
        }
        Ok(left)
    }
}
