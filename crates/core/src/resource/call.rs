use axum::extract::FromRequestParts;
use http::HeaderValue;
use http::request::Parts;
use http::uri::PathAndQuery;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Created, Resource, Tagged, Transition};
use crate::answer::NoContent;
use crate::app::App;
use crate::auth::Caller;
use crate::db::{FromRow, Params, Row, RowError, RowValues, Sql, TenantTx, ToSql};
use crate::error::{Error, Result, Violation, codes};
use crate::extract::{IfMatch, Input};
use crate::shared::{Id, IdKind};

/// The app and the caller together: what most handlers need, and nothing else opens a tenant's data.
pub struct Call {
    /// Everything that a handler can reach.
    pub app: App,
    /// Who is calling.
    pub caller: Caller,
    /// Where the request was sent to.
    target: Option<PathAndQuery>,
}

impl FromRequestParts<App> for Call {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, app).await?;
        Ok(Self { app: app.clone(), caller, target: parts.uri.path_and_query().cloned() })
    }
}

impl Input for Call {}

impl Call {
    /// What a job has in place of a request.
    pub(crate) fn of(app: App, caller: Caller) -> Self {
        Self { app, caller, target: None }
    }

    /// A transaction in the caller's tenant, for work of more than one statement. See `Db::tenant`.
    pub fn tenant(&self) -> TenantTx<'_> {
        self.app.db.tenant(&self.caller)
    }

    /// A READ ONLY transaction in the caller's tenant. See `Db::tenant_read`.
    pub fn tenant_read(&self) -> TenantTx<'_> {
        self.app.db.tenant_read(&self.caller)
    }

    /// A new id.
    pub fn new_id<K: IdKind>(&self) -> Id<K> {
        Id::new(self.app.clock.as_ref(), self.app.rng.as_ref())
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// The year in the tenant's time zone, which is UTC as long as tenants have no settings; for `app.document_number`.
    pub fn year(&self) -> i32 {
        self.now().to_zoned(TimeZone::UTC).year().into()
    }

    /// Reads one record by a statement whose `$1` is its id: one round trip.
    ///
    /// # Errors
    /// `core.not_found`, or as the database answers.
    pub async fn read<R: Resource>(&self, sql: impl Sql, id: Id<R>) -> Result<Tagged<R>> {
        let found = self.tenant_read().last().optional(sql, &[&id]).await?;
        found.map(Tagged).ok_or_else(|| Error::new(&codes::NOT_FOUND))
    }

    /// Creates one record by a statement that returns it; `$1` is its new id, `values` follow: one round trip, COMMIT
    /// included.
    ///
    /// # Errors
    /// As the database answers.
    pub async fn create<R: Resource>(
        &self,
        sql: impl Sql,
        values: &(impl RowValues + ?Sized),
    ) -> Result<Created<R>> {
        let id: Id<R> = self.new_id();
        self.seal_row(values, R::TABLE, *id.as_uuid()).await?;
        let params = with(&[&id], values.params());
        let record: R = self.tenant().last().row(sql, &params).await?;
        self.created(record)
    }

    /// Answers that `record` was created, in the collection that was posted to.
    ///
    /// # Errors
    /// None for an id that [`Call::new_id`] made.
    pub fn created<R: Resource>(&self, record: R) -> Result<Created<R>> {
        self.created_at(record.id(), record)
    }

    /// The same for what has its id elsewhere, such as a record with something that is shown this once.
    ///
    /// # Errors
    /// As [`Call::created`].
    pub fn created_at<K: IdKind, R>(&self, id: Id<K>, record: R) -> Result<Created<R>> {
        let collection = self.target.as_ref().map_or("", |target| target.path());
        let location = HeaderValue::try_from(format!("{collection}/{id}")).map_err(Error::internal)?;
        Ok(Created { record, location })
    }

    /// Changes one record by a statement that returns it; its condition is [`THIS`](super::THIS), and `values` follow
    /// from `$3` on: one round trip, COMMIT included.
    ///
    /// # Errors
    /// `core.stale` where the record is not in a version of `If-Match`, `core.not_found` where there is none, or as the
    /// database answers. Nothing was changed then.
    pub async fn change<R: Resource>(
        &self,
        sql: impl Sql,
        id: Id<R>,
        when: IfMatch,
        values: &(impl RowValues + ?Sized),
    ) -> Result<Tagged<R>> {
        self.seal_row(values, R::TABLE, *id.as_uuid()).await?;
        let versions = when.versions();
        let changed = self.one::<R, R>(sql, id, &with(&[&id, &versions], values.params())).await?;
        Ok(Tagged(changed))
    }

    /// Removes one record by a statement whose condition is [`THIS`](super::THIS), and that returns something: one round
    /// trip, COMMIT included.
    ///
    /// # Errors
    /// As [`Call::change`].
    pub async fn remove<R: Resource>(&self, sql: impl Sql, id: Id<R>, when: IfMatch) -> Result<NoContent> {
        self.one::<R, ()>(sql, id, &[&id, &when.versions()]).await?;
        Ok(NoContent)
    }

    /// Takes a step of a document, by a statement whose assignments and condition are those of the [`Transition`] and that
    /// returns the record: one round trip, COMMIT included. The audit log tells it under the step's action, and the column
    /// of the step tells who took it.
    ///
    /// # Errors
    /// `core.forbidden` without the permission of the step, `core.not_found`, `core.stale` in another version than
    /// `If-Match` names, `core.wrong_state` in a state that the step cannot be taken in, `core.separation_of_duties` for
    /// the person who has taken one that excludes it, or as the database answers. Nothing was changed then.
    pub async fn advance<R: Resource>(
        &self,
        step: &'static Transition,
        sql: impl Sql,
        id: Id<R>,
        when: IfMatch,
    ) -> Result<Tagged<R>> {
        if self.caller.deferral().is_some() {
            // COMMIT waits for the answer, as in `one`.
            let (tx, record) = self.advancing(step, sql, id, when, &[]).await?;
            return tx.commit().await.map(|()| Tagged(record));
        }
        let by = step.taker(&self.caller)?;
        let params: [&(dyn ToSql + Sync); 3] = [&id, &when.versions(), &by];
        match self.tenant().action(step.action).last().optional(sql, &params).await? {
            Some(record) => Ok(Tagged(record)),
            None => Err(step.refusal(self.tenant_read().last().optional(step.look, &params).await?)),
        }
    }

    /// As [`Call::advance`], in a transaction that goes on; `values` are the statement's parameters from `$4` on. The
    /// record is locked until the transaction ends.
    ///
    /// # Errors
    /// As [`Call::advance`].
    pub async fn advancing<R: Resource>(
        &self,
        step: &'static Transition,
        sql: impl Sql,
        id: Id<R>,
        when: IfMatch,
        values: Params<'_>,
    ) -> Result<(TenantTx<'_>, R)> {
        let by = step.taker(&self.caller)?;
        let versions = when.versions();
        let params: [&(dyn ToSql + Sync); 3] = [&id, &versions, &by];
        let mut tx = self.tenant().action(step.action);
        match tx.optional(sql, &with(&params, values)).await? {
            Some(record) => Ok((tx, record)),
            None => Err(step.refusal(tx.optional(step.look, &params).await?)),
        }
    }

    /// Names in the refusal of a foreign key which of several values has no row: `/lines/1/itemId`. The constraint is
    /// declared with a pointer that has a `*`, `[order_lines_item_fkey at "/lines/*/itemId"]`; `present` returns as `id`
    /// which of the ids in `$1` there are, and `ids` are those of the lines, in their order. Other errors pass unchanged.
    /// Drop the transaction that has failed before.
    pub async fn locate<K: IdKind>(&self, error: Error, present: impl Sql, ids: &[Id<K>]) -> Error {
        let Some((code, pointer)) =
            self.app.constraints.of(&error).filter(|(_, pointer)| pointer.contains('*'))
        else {
            return error;
        };
        let found: Result<Vec<Present<K>>> = self.tenant_read().last().rows(present, &[&ids]).await;
        let Ok(found) = found else { return error };
        let missing = ids.iter().enumerate().filter(|(_, id)| found.iter().all(|row| row.id != **id));
        let named = missing.map(|(index, _)| {
            Violation::new(pointer.replacen('*', &index.to_string(), 1), "unknown", code.what)
        });
        named.fold(Error::new(code), Error::violation)
    }

    /// Runs a statement that touches one record or none. Where it touched none, nothing was changed by its COMMIT, and a
    /// look tells why.
    async fn one<R: Resource, T: FromRow>(&self, sql: impl Sql, id: Id<R>, params: Params<'_>) -> Result<T> {
        if self.caller.deferral().is_some() {
            // COMMIT waits for the answer: a look from another connection would hold two of them.
            let mut tx = self.tenant();
            return match tx.optional(sql, params).await? {
                Some(touched) => tx.commit().await.map(|()| touched),
                None => Err(missing(tx.optional::<()>(R::EXISTS, &[&id]).await?)),
            };
        }
        match self.tenant().last().optional(sql, params).await? {
            Some(touched) => Ok(touched),
            None => Err(missing(self.tenant_read().last().optional(R::EXISTS, &[&id]).await?)),
        }
    }
}

/// A row that a foreign key can lead to.
struct Present<K> {
    id: Id<K>,
}

impl<K> FromRow for Present<K> {
    fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self { id: row.try_get("id")? })
    }
}

/// Why a change touched nothing.
fn missing(there: Option<()>) -> Error {
    Error::new(if there.is_some() { &codes::STALE } else { &codes::NOT_FOUND })
}

fn with<'a>(
    first: &[&'a (dyn ToSql + Sync)],
    rest: &[&'a (dyn ToSql + Sync)],
) -> Vec<&'a (dyn ToSql + Sync)> {
    [first, rest].concat()
}
