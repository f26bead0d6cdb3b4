//! Rows, read where they lie in the inbox.

use std::cell::Cell;
use std::error::Error as StdError;

use postgres_protocol::message::backend::DATA_ROW_TAG;
use postgres_types::{FromSql, Type, WrongType};

use super::WireError;
use super::inbox::HEADER;

/// A column of a statement's result.
#[derive(Debug)]
pub struct Column {
    pub(super) name: Box<str>,
    pub(super) kind: Type,
}

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type; one that is not PostgreSQL's own is known if [`Wire::plan`](crate::Wire::plan) has asked about it.
    pub fn kind(&self) -> &Type {
        &self.kind
    }
}

/// A row of a statement's result. Its values are read by name, fastest in the order of the statement.
#[derive(Debug)]
pub struct Row<'a> {
    columns: &'a [Column],
    /// Length and bytes of each value.
    values: &'a [u8],
    /// The column that will be asked for next, most probably, and where its value lies.
    next: Cell<(usize, usize)>,
}

impl<'a> Row<'a> {
    /// Reads the body of a DataRow.
    pub(super) fn new(columns: &'a [Column], body: &'a [u8]) -> Result<Self, WireError> {
        let Some((count, values)) = body.split_first_chunk() else {
            return Err(WireError::Protocol("a row cut short"));
        };
        // The count comes from the server, and so does the description: they must not disagree.
        if usize::from(u16::from_be_bytes(*count)) != columns.len() {
            return Err(WireError::Protocol("a row of other columns than it said"));
        }
        Ok(Self { columns, values, next: Cell::new((0, 0)) })
    }

    /// The value of the column `name`.
    ///
    /// # Errors
    /// When there is no such column, or its value cannot be read as `T`.
    pub fn try_get<T: FromSql<'a>>(&self, name: &str) -> Result<T, WireError> {
        self.get(self.find(|column| column == name), || name.to_owned())
    }

    /// The value of the column whose name is `field` and `suffix` together.
    ///
    /// # Errors
    /// As [`Row::try_get`].
    pub fn try_get_part<T: FromSql<'a>>(&self, field: &str, suffix: &str) -> Result<T, WireError> {
        self.get(self.find_part(field, suffix), || format!("{field}{suffix}"))
    }

    /// Whether the value of the column whose name is `field` and `suffix` together is NULL.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn is_null(&self, field: &str, suffix: &str) -> Result<bool, WireError> {
        match self.find_part(field, suffix) {
            Some(index) => self.value(index).map(|value| value.is_none()),
            None => Err(WireError::Column(format!("{field}{suffix}"), "there is no such column".into())),
        }
    }

    fn get<T: FromSql<'a>>(&self, index: Option<usize>, name: impl Fn() -> String) -> Result<T, WireError> {
        let failed = |cause: Box<dyn StdError + Send + Sync>| WireError::Column(name(), cause);
        let Some(index) = index else { return Err(failed("there is no such column".into())) };
        let value = self.value(index)?;
        let Some(column) = self.columns.get(index) else {
            return Err(failed("there is no such column".into()));
        };
        if !T::accepts(&column.kind) {
            return Err(failed(Box::new(WrongType::new::<T>(column.kind.clone()))));
        }
        T::from_sql_nullable(&column.kind, value).map_err(failed)
    }

    fn find_part(&self, field: &str, suffix: &str) -> Option<usize> {
        self.find(|column| column.strip_prefix(field) == Some(suffix))
    }

    fn find(&self, is: impl Fn(&str) -> bool) -> Option<usize> {
        let (likely, _) = self.next.get();
        match self.columns.get(likely) {
            Some(column) if is(&column.name) => Some(likely),
            _ => self.columns.iter().position(|column| is(&column.name)),
        }
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &'a [Column] {
        self.columns
    }

    /// The bytes of a column's value as they were sent, counted from 0; `None` is NULL.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, index: usize) -> Result<Option<&'a [u8]>, WireError> {
        let (mut at, mut offset) = self.next.get();
        if at > index {
            (at, offset) = (0, 0);
        }
        loop {
            let rest = self.values.get(offset..).unwrap_or_default();
            let (value, length) = cut(rest).ok_or(WireError::Protocol("a row cut short"))?;
            (at, offset) = (at + 1, offset + length);
            if at > index {
                if at == self.columns.len() && offset < self.values.len() {
                    return Err(WireError::Protocol("a row that is longer than its values"));
                }
                self.next.set((at, offset));
                return Ok(value);
            }
        }
    }
}

/// The first value of `bytes`, and how long it is with its length.
fn cut(bytes: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    let (length, rest) = bytes.split_first_chunk()?;
    match i32::from_be_bytes(*length) {
        -1 => Some((None, 4)),
        length => {
            let length = usize::try_from(length).ok()?;
            Some((Some(rest.get(..length)?), 4 + length))
        }
    }
}

/// All rows of a reply.
pub struct Rows<'a> {
    pub(super) columns: &'a [Column],
    /// Whole messages.
    pub(super) messages: &'a [u8],
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (tag, rest) = self.messages.split_first()?;
            let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
            let (message, rest) = rest.split_at_checked(length)?;
            self.messages = rest;
            if *tag == DATA_ROW_TAG {
                return Some(Row::new(self.columns, message.get(4..)?));
            }
        }
    }
}

impl Rows<'_> {
    /// The values of the first row of a reply to a statement of our own, which come as texts.
    pub(super) fn first_texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let first = self.messages.split_at_checked(HEADER).and_then(|(header, rest)| {
            let length = u32::from_be_bytes(*header.last_chunk()?);
            rest.get(..usize::try_from(length).ok()?.checked_sub(4)?)
        });
        let Some((_, mut rest)) = first.and_then(<[u8]>::split_first_chunk::<2>) else { return texts };
        while let Some((value, length)) = cut(rest) {
            texts.push(String::from_utf8_lossy(value.unwrap_or_default()).into_owned());
            rest = rest.get(length..).unwrap_or_default();
        }
        texts
    }
}
