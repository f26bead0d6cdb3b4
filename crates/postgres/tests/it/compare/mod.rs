//! The same statements through this client and through tokio-postgres: the same rows, the same types of columns, the
//! same errors. The statements are generated; `SEED` gives other ones, `COMPARE_STATEMENTS` more of them.

mod generate;

use std::collections::HashMap;
use std::error::Error as _;

use erp_postgres::{Connector, Row, Type, Wire, WireError};
use postgres_types::{FromSql, Kind};
use tokio_postgres::{Client, NoTls};

use super::{config, connector};
use generate::{Dice, Statement, Step, schema, steps};

/// How many statements are compared, unless `COMPARE_STATEMENTS` says so.
const STATEMENTS: usize = 3000;

/// A value as it was sent.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What came of a statement.
#[derive(Debug, PartialEq)]
enum Outcome {
    Rows(Vec<Column>, Vec<Vec<Option<Vec<u8>>>>),
    /// What the server said.
    Refused(String),
    /// The client found that a value does not fit.
    Local,
}

/// Its name, and its type as far as both clients know it.
#[derive(Debug, PartialEq)]
struct Column(String, String);

impl Column {
    fn new(name: &str, kind: &Type) -> Self {
        Self(name.to_owned(), shape(kind))
    }
}

/// A type with all that it is made of, but for the fields of rows and the bounds of ranges of one's own, which this
/// client does not ask about.
fn shape(kind: &Type) -> String {
    let inner = match kind.kind() {
        Kind::Array(inner) => format!("array of {}", shape(inner)),
        Kind::Domain(inner) => format!("domain over {}", shape(inner)),
        Kind::Enum(labels) => format!("enum {labels:?}"),
        _ => String::new(),
    };
    format!("{}.{} {} {inner}", kind.schema(), kind.name(), kind.oid())
}

/// A session of each client, in the same database.
struct Both {
    connector: Connector,
    ours: Wire,
    theirs: Client,
    known: HashMap<&'static str, tokio_postgres::Statement>,
}

impl Both {
    async fn open() -> Self {
        let connector = connector();
        let (theirs, connection) = config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let ours = connector.connect().await.unwrap();
        let mut both = Self { connector, ours, theirs, known: HashMap::new() };
        both.prepare_sessions().await;
        both
    }

    async fn prepare_sessions(&mut self) {
        for sql in generate::SESSION {
            self.ours.begin().unwrap();
            self.ours.own(sql, &[]).unwrap();
            self.ours.exchange(&mut false).await.unwrap();
            self.theirs.batch_execute(sql).await.unwrap();
        }
    }

    async fn ours(&mut self, statement: &Statement) -> Outcome {
        let outcome = self.ours_in_transaction(statement).await;
        assert!(!self.ours.is_broken(), "{}: {outcome:?}", statement.sql);
        self.ours.recover().await.unwrap();
        outcome.unwrap_or_else(|error| refusal(&error))
    }

    async fn ours_in_transaction(&mut self, statement: &Statement) -> Result<Outcome, WireError> {
        let Self { ours: wire, connector, .. } = self;
        let params = statement.params();
        let plan = match connector.plans().find(statement.sql) {
            Some(plan) => plan,
            None => wire.plan(statement.sql, None).await?,
        };
        wire.begin()?;
        wire.own("begin", &[])?;
        if !statement.in_pieces {
            wire.statement(&plan, &params)?;
            let reply = wire.exchange(&mut false).await?;
            let columns = reply.columns().iter().map(|column| Column::new(column.name(), column.kind()));
            let columns = columns.collect();
            let rows = wire.rows(&reply).map(|row| values(&row?)).collect::<Result<_, _>>()?;
            return Ok(Outcome::Rows(columns, rows));
        }
        let mut portal = wire.streamed(&plan, &params)?;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        while let Some(message) = wire.next_row(&mut portal).await? {
            let row = wire.row(&message)?;
            columns = row.columns().iter().map(|column| Column::new(column.name(), column.kind())).collect();
            rows.push(values(&row)?);
        }
        Ok(Outcome::Rows(columns, rows))
    }

    async fn theirs(&mut self, statement: &Statement) -> Outcome {
        self.theirs.batch_execute("begin").await.unwrap();
        let outcome = self.theirs_in_transaction(statement).await;
        self.theirs.batch_execute("rollback").await.unwrap();
        outcome.unwrap_or_else(|error| {
            // A conversion of theirs is one of ours.
            match error.as_db_error() {
                Some(_) => refusal(&WireError::from(error)),
                None if error.is_closed() => panic!("{}: {error}", statement.sql),
                None => Outcome::Local,
            }
        })
    }

    async fn theirs_in_transaction(
        &mut self,
        statement: &Statement,
    ) -> Result<Outcome, tokio_postgres::Error> {
        let prepared = match self.known.get(statement.sql) {
            Some(prepared) => prepared.clone(),
            None => {
                let mut prepared = self.theirs.prepare(statement.sql).await?;
                // A value of a domain is one of its base type; tokio-postgres takes it for one if it is told.
                if prepared.params().iter().any(|kind| matches!(kind.kind(), Kind::Domain(_))) {
                    let types: Vec<Type> = prepared.params().iter().map(base).collect();
                    prepared = self.theirs.prepare_typed(statement.sql, &types).await?;
                }
                self.known.insert(statement.sql, prepared.clone());
                prepared
            }
        };
        let rows = self.theirs.query(&prepared, &statement.params()).await?;
        let columns = prepared.columns().iter().map(|column| Column::new(column.name(), column.type_()));
        let read = |row: &tokio_postgres::Row| {
            let value = |index| row.try_get::<_, Option<Raw>>(index).map(|raw| raw.map(|raw| raw.0));
            (0..row.len()).map(value).collect::<Result<Vec<_>, _>>()
        };
        let rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let columns = if statement.in_pieces && rows.is_empty() { Vec::new() } else { columns.collect() };
        Ok(Outcome::Rows(columns, rows))
    }

    /// What is known of a statement does not hold any more.
    async fn forget(&mut self) {
        self.known.clear();
        self.connector.forget();
        assert!(!self.ours.is_fit(&self.connector).await, "it is of an older generation");
        self.ours = self.connector.connect().await.unwrap();
        self.prepare_sessions().await;
    }
}

fn base(kind: &Type) -> Type {
    if let Kind::Domain(inner) = kind.kind() { base(inner) } else { kind.clone() }
}

fn values(row: &Row<'_>) -> Result<Vec<Option<Vec<u8>>>, WireError> {
    let value = |index| Ok(row.value(index)?.map(<[u8]>::to_vec));
    (0..row.columns().len()).map(value).collect()
}

/// An error by all that both clients tell of it.
fn refusal(error: &WireError) -> Outcome {
    match error {
        WireError::Server(server) => {
            Outcome::Refused(format!("{server} {:?} {}", server.constraint, server.routine))
        }
        WireError::Parameter(..) => Outcome::Local,
        _ => panic!("{error}: {:?}", error.source()),
    }
}

#[tokio::test]
async fn generated_statements_give_what_tokio_postgres_gives() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = number("SEED").unwrap_or(1);
    let most = number("COMPARE_STATEMENTS").map_or(STATEMENTS, |most| usize::try_from(most).unwrap());
    let (admin, connection) = config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute(&schema()).await.unwrap();
    let (mut both, mut dice) = (Both::open().await, Dice::new(seed));
    let (mut compared, mut counts) = (0, [0; 3]);
    while compared < most {
        for step in steps(&mut dice) {
            let statement = match step {
                Step::Compare(statement) => statement,
                Step::Define(sql) => {
                    admin.batch_execute(&sql).await.unwrap();
                    continue;
                }
                Step::Forget => {
                    both.forget().await;
                    continue;
                }
            };
            let (ours, theirs) = (both.ours(&statement).await, both.theirs(&statement).await);
            assert_eq!(ours, theirs, "seed {seed}, {statement:?}");
            compared += 1;
            counts[match ours {
                Outcome::Rows(..) => 0,
                Outcome::Refused(_) => 1,
                Outcome::Local => 2,
            }] += 1;
        }
    }
    admin.batch_execute(&format!("drop schema {}, \"Odd Schema\" cascade", generate::SCHEMA)).await.unwrap();
    let [rows, refused, local] = counts;
    println!(
        "deep: {compared} statements, seed {seed}, no difference, {rows} with rows, {refused} refused, {local} unsent"
    );
    assert!(counts.iter().all(|count| *count > most / 100), "{counts:?}");
}
