//! Statements: what is known of each in this process, and under which name in each session.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use fallible_iterator::FallibleIterator;
use postgres_protocol::Oid;
use postgres_protocol::message::{backend, frontend};
use postgres_types::{Kind, Type};

use super::exchange::ReplyReading;
use super::{Column, Wire, WireError};

/// A type that is not one of PostgreSQL's own. A label may hold anything, so that each has its length before it.
const TYPE: &str = "select typname, typtype, typelem, typbasetype, nspname, \
    (select string_agg(char_length(enumlabel) || ':' || enumlabel, '' order by enumsortorder) \
    from pg_enum where enumtypid = t.oid) \
    from pg_type t join pg_namespace n on n.oid = typnamespace where t.oid = $1::text::oid";

/// How many domains may lie over each other: a server could name ever new ones.
const DEEPEST: usize = 32;

/// The identity of a statement's text. Texts are never freed, so the place is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Text(usize, usize);

impl From<&'static str> for Text {
    fn from(sql: &'static str) -> Self {
        Self(sql.as_ptr().addr(), sql.len())
    }
}

/// A statement, as far as it can be known without its values.
#[derive(Debug)]
pub struct Plan {
    /// Its text.
    pub sql: &'static str,
    /// The parameters' types, as PostgreSQL inferred them.
    pub(super) types: Vec<Type>,
    /// Its verb, for metrics and logs, as [`describe`](crate::describe) tells it.
    pub operation: &'static str,
    /// Its first table.
    pub table: &'static str,
}

/// All statements that this process has sent, shared by its connections.
#[derive(Default)]
pub struct Plans {
    known: RwLock<HashMap<Text, Arc<Plan>>>,
    types: RwLock<HashMap<Oid, Type>>,
}

impl Plans {
    /// What is known of a statement.
    pub fn find(&self, sql: &'static str) -> Option<Arc<Plan>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&Text::from(sql)).map(Arc::clone)
    }

    /// A migration may have changed it all.
    pub fn forget(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.types.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The type with this number. One that nobody has asked about fits no Rust type.
    pub(super) fn kind(&self, oid: Oid) -> Type {
        self.known_kind(oid).unwrap_or_else(|| Type::new("unknown".into(), oid, Kind::Pseudo, String::new()))
    }

    fn known_kind(&self, oid: Oid) -> Option<Type> {
        Type::from_oid(oid)
            .or_else(|| self.types.read().unwrap_or_else(PoisonError::into_inner).get(&oid).cloned())
    }

    fn add_kind(&self, kind: Type) {
        self.types.write().unwrap_or_else(PoisonError::into_inner).insert(kind.oid(), kind);
    }

    fn add(&self, plan: Plan) -> Arc<Plan> {
        let plan = Arc::new(plan);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(Text::from(plan.sql), Arc::clone(&plan));
        plan
    }
}

/// A statement that a session knows by a name.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) name: Arc<str>,
    /// What it returns, once that was asked.
    pub(super) columns: Option<Arc<[Column]>>,
}

impl Wire {
    /// What the session knows of a statement; where that is nothing, the next exchange prepares it: under a name, or
    /// without one for this exchange only.
    pub(super) fn prepare(&mut self, sql: &'static str, types: &[Type]) -> Result<Prepared, WireError> {
        let text = Text::from(sql);
        if let Some(prepared) = self.prepared.get(&text) {
            return Ok(prepared.clone());
        }
        let name: Arc<str> = if self.naming { name(sql, types).into() } else { "".into() };
        // The same text from another place in the program.
        if let Some(prepared) = self.prepared.values().find(|prepared| prepared.name == name).cloned() {
            self.prepared.insert(text, prepared.clone());
            return Ok(prepared);
        }
        if self.naming && self.batch.preparing.iter().any(|(_, known)| *known == name) {
            return Ok(Prepared { name, columns: None });
        }
        frontend::parse(&name, sql, types.iter().map(Type::oid), &mut self.out)?;
        self.batch.preparing.push_back((text, Arc::clone(&name)));
        Ok(Prepared { name, columns: None })
    }

    /// The server has parsed the next statement that was to be prepared. It keeps it, whatever becomes of the rest.
    pub(super) fn confirm_prepared(&mut self) {
        if let Some((text, name)) = self.batch.preparing.pop_front()
            && self.naming
        {
            self.prepared.insert(text, Prepared { name, columns: None });
        }
    }

    /// Asks the server about a statement that this process sees for the first time: an exchange of its own, inside the
    /// transaction if there is one. It waits for locks like any statement, so `limit` bounds it where the session does not.
    ///
    /// # Errors
    /// As the server says; a transaction has then failed.
    pub async fn plan(&mut self, sql: &'static str, limit: Option<Duration>) -> Result<Arc<Plan>, WireError> {
        let plans = Arc::clone(&self.plans);
        let (types, columns) = self.describe(sql, limit).await?;
        for oid in types.iter().chain(columns.iter().map(|(_, oid)| oid)) {
            self.learn(&plans, *oid, DEEPEST).await?;
        }
        // A value of a domain is one of its base type, which is what the server wants to read.
        let types = types.into_iter().map(|oid| base(plans.kind(oid))).collect();
        let (operation, table) = crate::describe(sql);
        Ok(plans.add(Plan { sql, types, operation, table }))
    }

    /// The numbers of the types of a statement's parameters, and of its columns.
    async fn describe(
        &mut self,
        sql: &'static str,
        limit: Option<Duration>,
    ) -> Result<(Vec<Oid>, Vec<(String, Oid)>), WireError> {
        self.begin()?;
        self.bound(limit)?;
        frontend::parse("", sql, [], &mut self.out)?;
        frontend::describe(b'S', "", &mut self.out)?;
        self.sync();
        self.flush().await?;
        let mut types = Vec::new();
        let mut columns = Vec::new();
        let mut reading = ReplyReading::default();
        while self.awaited > 0 {
            let message = self.read_one(&mut reading).await?;
            match message.tag {
                backend::PARAMETER_DESCRIPTION_TAG => types = parameters(&self.inbox.parse(&message)?)?,
                backend::ROW_DESCRIPTION_TAG => columns = fields(&self.inbox.parse(&message)?)?,
                _ => {}
            }
        }
        reading.refusal.map_or(Ok((types, columns)), Err)
    }

    /// Asks about a type that is not one of PostgreSQL's own.
    async fn learn(&mut self, plans: &Plans, oid: Oid, depth: usize) -> Result<(), WireError> {
        if plans.known_kind(oid).is_some() {
            return Ok(());
        }
        let depth = depth.checked_sub(1).ok_or(WireError::Protocol("a domain without an end"))?;
        self.begin()?;
        self.own_row(TYPE, &[&oid.to_string()])?;
        let reply = self.exchange(&mut false).await?;
        let text = self.rows(&reply).first_texts();
        let [name, kind, element, base, schema, labels] = text.as_slice() else {
            return Err(WireError::Protocol("an unknown type"));
        };
        let number = |text: &str| text.parse::<Oid>().ok().filter(|oid| *oid != 0);
        // A domain over a domain, an array of an enum.
        if let Some(inner) = number(base).or(number(element)) {
            Box::pin(self.learn(plans, inner, depth)).await?;
        }
        let inner = |oid| plans.known_kind(oid).unwrap_or(Type::UNKNOWN);
        let kind = match (kind.as_str(), number(element), number(base)) {
            ("e", ..) => Kind::Enum(counted(labels)),
            (_, _, Some(base)) => Kind::Domain(inner(base)),
            (_, Some(element), _) => Kind::Array(inner(element)),
            _ => Kind::Simple,
        };
        plans.add_kind(Type::new(name.clone(), oid, kind, schema.clone()));
        Ok(())
    }
}

/// The texts of `2:ab1:c`.
fn counted(mut all: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((count, rest)) = all.split_once(':') {
        let count = count.parse().unwrap_or(0);
        let end = rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at);
        let (text, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        texts.push(text.to_owned());
        all = after;
    }
    texts
}

/// What a domain is made of, however many lie over each other.
fn base(mut kind: Type) -> Type {
    while let Kind::Domain(inner) = kind.kind() {
        kind = inner.clone();
    }
    kind
}

/// A statement's name, which follows from its text and its parameters: wherever the name is known, in a session that a
/// pooler has put in the place of ours too, it stands for this statement and no other.
fn name(sql: &str, types: &[Type]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(sql.as_bytes());
    types.iter().for_each(|kind| context.update(&kind.oid().to_be_bytes()));
    let digest = context.finish();
    let start: [u8; 8] = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("s{:016x}", u64::from_be_bytes(start))
}

fn parameters(message: &backend::Message) -> Result<Vec<Oid>, WireError> {
    let backend::Message::ParameterDescription(body) = message else { return Err(UNREADABLE) };
    each(body.parameters(), Ok)
}

/// Names and types of the columns that a RowDescription tells.
pub(super) fn fields(message: &backend::Message) -> Result<Vec<(String, Oid)>, WireError> {
    let backend::Message::RowDescription(body) = message else { return Err(UNREADABLE) };
    each(body.fields(), |field| Ok((field.name().to_owned(), field.type_oid())))
}

/// All that a description lists. The count that it begins with is the server's word, and nothing is allocated for it.
fn each<I: FallibleIterator, T>(
    mut listed: I,
    read: impl Fn(I::Item) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut all = Vec::new();
    while let Some(item) = listed.next().map_err(|_| UNREADABLE)? {
        all.push(read(item)?);
    }
    Ok(all)
}

const UNREADABLE: WireError = WireError::Protocol("a description that cannot be read");
