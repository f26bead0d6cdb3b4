//! Puts an exchange together: the statements that stand before one Sync.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend::{self, BindError};
use postgres_types::IsNull;

use super::prepare::Text;
use super::{Column, Params, Plan, Wire, WireError};

/// How values travel: our own texts as they are, all others as PostgreSQL holds them.
const TEXT: i16 = 0;
const BINARY: i16 = 1;
const TIMEOUT: &str = "select set_config('statement_timeout', $1, true)";
/// As many rows as there are.
const ALL: i32 = 0;

/// What has been put together for the next exchange.
#[derive(Default)]
pub(super) struct Batch {
    /// How many statements it executes, and which of them returns the rows that are wanted.
    pub(super) steps: usize,
    pub(super) wanted: Option<usize>,
    /// What that one returns, where it is known already; else whose description comes along.
    pub(super) columns: Option<Arc<[Column]>>,
    pub(super) described: Option<Text>,
    /// Statements that the server has not confirmed yet, in their order.
    pub(super) preparing: VecDeque<(Text, Arc<str>)>,
}

impl Wire {
    /// Begins to put an exchange together.
    ///
    /// # Errors
    /// When the last one was given up half-way: its answer would be taken for the one to this.
    pub fn begin(&mut self) -> Result<(), WireError> {
        if self.broken || self.awaited > 0 || !self.out.is_empty() {
            return Err(WireError::Closed);
        }
        self.inbox.clear();
        self.batch = Batch::default();
        Ok(())
    }

    /// Adds a statement of our own, whose values are texts and whose rows do not matter.
    ///
    /// # Errors
    /// When a value is longer than any message.
    pub fn own(&mut self, sql: &'static str, values: &[&str]) -> Result<(), WireError> {
        let outcome = self
            .prepare(sql, &[])
            .and_then(|prepared| bind_texts(&prepared.name, values, BINARY, &mut self.out));
        self.execute("", ALL, outcome)
    }

    /// Bounds the statements that follow in this transaction.
    ///
    /// # Errors
    /// None that are known of.
    pub fn bound(&mut self, limit: Option<Duration>) -> Result<(), WireError> {
        limit.map_or(Ok(()), |limit| self.own(TIMEOUT, &[&limit.as_millis().to_string()]))
    }

    /// Adds a statement of our own whose one row is wanted, as texts.
    pub(super) fn own_row(&mut self, sql: &'static str, values: &[&str]) -> Result<(), WireError> {
        self.batch.wanted = Some(self.batch.steps);
        let outcome = self
            .prepare(sql, &[])
            .and_then(|prepared| bind_texts(&prepared.name, values, TEXT, &mut self.out));
        self.execute("", ALL, outcome)
    }

    /// Adds the statement whose rows are wanted.
    ///
    /// # Errors
    /// When a value does not fit its parameter: nothing of the exchange is then sent.
    pub fn statement(&mut self, plan: &Plan, params: Params<'_>) -> Result<(), WireError> {
        self.portal("", ALL, plan, params)
    }

    /// The same through a portal, which hands out at most so many rows at a time.
    pub(super) fn portal(
        &mut self,
        name: &str,
        most: i32,
        plan: &Plan,
        params: Params<'_>,
    ) -> Result<(), WireError> {
        let outcome = self.prepare(plan.sql, &plan.types).and_then(|prepared| {
            bind(name, &prepared.name, plan, params, &mut self.out)?;
            if prepared.columns.is_none() {
                self.batch.described = Some(Text::from(plan.sql));
                frontend::describe(b'P', name, &mut self.out)?;
            }
            self.batch.columns = prepared.columns;
            Ok(())
        });
        self.batch.wanted = Some(self.batch.steps);
        self.execute(name, most, outcome)
    }

    /// Executes what was bound; or, when it could not be, gives up the exchange before anything is sent.
    pub(super) fn execute(
        &mut self,
        portal: &str,
        most: i32,
        bound: Result<(), WireError>,
    ) -> Result<(), WireError> {
        let outcome = bound.and_then(|()| Ok(frontend::execute(portal, most, &mut self.out)?));
        match outcome {
            Ok(()) => self.batch.steps += 1,
            Err(_) => self.out.clear(),
        }
        outcome
    }
}

fn bind(
    portal: &str,
    name: &str,
    plan: &Plan,
    params: Params<'_>,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let expected = plan.types.len();
    if params.len() != expected {
        return Err(WireError::Parameter(
            params.len(),
            format!("the statement takes {expected} values").into(),
        ));
    }
    let number = Cell::new(0);
    let values = || params.iter().zip(&plan.types);
    let formats = values().map(|(value, kind)| value.encode_format(kind) as i16);
    let write = |(value, kind): (&&(dyn crate::ToSql + Sync), &_), out: &mut BytesMut| {
        number.set(number.get() + 1);
        value.to_sql_checked(kind, out).map(|null| match null {
            IsNull::Yes => postgres_protocol::IsNull::Yes,
            IsNull::No => postgres_protocol::IsNull::No,
        })
    };
    frontend::bind(portal, name, formats, values(), write, [BINARY], out).map_err(|error| match error {
        BindError::Conversion(cause) => WireError::Parameter(number.get(), cause),
        BindError::Serialization(cause) => WireError::Parameter(number.get(), cause.into()),
    })
}

fn bind_texts(name: &str, values: &[&str], results: i16, out: &mut BytesMut) -> Result<(), WireError> {
    let write = |value: &&str, out: &mut BytesMut| {
        out.extend_from_slice(value.as_bytes());
        Ok(postgres_protocol::IsNull::No)
    };
    frontend::bind("", name, [TEXT], values, write, [results], out).map_err(|error| match error {
        BindError::Conversion(cause) => WireError::Parameter(0, cause),
        BindError::Serialization(cause) => WireError::Parameter(0, cause.into()),
    })
}
