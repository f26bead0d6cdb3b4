//! Reading through a cache: one call for a statement's rows, one for what else is worth keeping.

use std::sync::Arc;

use serde::Serialize;
use smallvec::{SmallVec, smallvec};

use super::Call;
use crate::auth::Caller;
use crate::cache::{CacheQuestion, Cacheable, Caches, ResultCache};
use crate::db::{Db, FromRow, Sql, ToSql};
use crate::error::Result;

/// Values of a statement, `$1` first: a tuple such as `(year, warehouse)`, or `()`. They are also what the answer is kept
/// under, so that it cannot be another's.
pub trait QueryValues: Serialize + Send + Sync + 'static {
    /// The values, as the statement takes them.
    fn params(&self) -> SmallVec<[&(dyn ToSql + Sync); 8]>;
}

macro_rules! query_values {
    ($($($name:ident)*;)+) => {
        $(impl<$($name: ToSql + Serialize + Send + Sync + 'static),*> QueryValues for ($($name,)*) {
            #[allow(non_snake_case)] // a variable for each type
            fn params(&self) -> SmallVec<[&(dyn ToSql + Sync); 8]> {
                let ($($name,)*) = self;
                smallvec![$($name as &(dyn ToSql + Sync)),*]
            }
        })+
    };
}

query_values! {
    ;
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}

/// What a statement answers, as a cache keeps it: all rows (`Vec`), or the first one if there is one (`Option`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a statement answers",
    note = "a cache of a statement is a `ResultCache<Vec<Row>>` or a `ResultCache<Option<Row>>`; for others there is `cached_by`"
)]
pub trait QueryAnswer: Cacheable {
    /// One row.
    type Row: FromRow;

    /// The answer of these rows.
    fn of(rows: Vec<Self::Row>) -> Self;
}

impl<R: FromRow + Cacheable> QueryAnswer for Vec<R> {
    type Row = R;

    fn of(rows: Vec<R>) -> Self {
        const {
            assert!(
                !R::SEALED,
                "what is encrypted in its column is kept by no cache: read it where it is needed"
            );
        }
        rows
    }
}

impl<R: FromRow + Cacheable> QueryAnswer for Option<R> {
    type Row = R;

    fn of(rows: Vec<R>) -> Self {
        const {
            assert!(
                !R::SEALED,
                "what is encrypted in its column is kept by no cache: read it where it is needed"
            );
        }
        rows.into_iter().next()
    }
}

impl Call {
    /// What a statement answers, read through a cache. It is the same for everybody in the tenant: the statement depends
    /// on its values and the tenant's data only, and both the data's tags and the values stand for what is kept.
    ///
    /// Within a change it reads past the cache: under an `Idempotency-Key` it shows what the request has changed so far.
    ///
    /// # Errors
    /// As the database answers: the same for all who wait for the same rows at a time. A failure is not kept.
    pub async fn cached<V: QueryAnswer>(
        &self,
        cache: &'static ResultCache<V>,
        sql: impl Sql,
        values: impl QueryValues,
    ) -> Result<Arc<V>> {
        self.app.caches.query(&self.caller, cache, sql, values).await
    }

    /// What else is worth keeping, by a key that says all that it depends on beside the tenant. See [`Caches::value`].
    ///
    /// # Errors
    /// As `load`, for all who wait for the same value at a time. A failure is not kept.
    pub async fn cached_by<V: Cacheable, F>(
        &self,
        cache: &'static ResultCache<V>,
        key: &impl Serialize,
        load: impl FnOnce(Db, Caller) -> F + Send + 'static,
    ) -> Result<Arc<V>>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        self.app.caches.value(&self.caller, cache, key, load).await
    }
}

impl Caches {
    /// As [`Call::cached`], for code that has no [`Call`].
    ///
    /// # Errors
    /// As [`Call::cached`].
    pub async fn query<V: QueryAnswer>(
        &self,
        caller: &Caller,
        cache: &'static ResultCache<V>,
        sql: impl Sql,
        values: impl QueryValues,
    ) -> Result<Arc<V>> {
        let sql = sql.text();
        let question = CacheQuestion::new(caller, sql, &values)?;
        let load = async move |db: Db, caller: Caller| {
            db.tenant_read(&caller).last().rows(sql, &values.params()).await.map(V::of)
        };
        self.get(cache, caller, question, load).await
    }

    /// A value of the caller's tenant, by `load` where it is not kept under `key`.
    ///
    /// `load` runs for all who ask at a time, for as long as one of them waits. The caller that it gets is in the same tenant,
    /// and nobody, with no permissions: what is kept is for everybody there. What depends on who asks has that in its key.
    ///
    /// # Errors
    /// As `load`; `core.timeout` where that takes longer than `REQUEST_TIMEOUT`.
    pub async fn value<V: Cacheable, F>(
        &self,
        caller: &Caller,
        cache: &'static ResultCache<V>,
        key: &impl Serialize,
        load: impl FnOnce(Db, Caller) -> F + Send + 'static,
    ) -> Result<Arc<V>>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let question = CacheQuestion::new(caller, "", key)?;
        self.get(cache, caller, question, load).await
    }
}
