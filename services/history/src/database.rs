//! The databases that may be used, SQLite and PostgreSQL, behind one door: they are told the same SQL.
//!
//! It must not know what is in the tables.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use boxoffice_listener::Away;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Statement, Transaction};

/// By this lock one process at a time has the tables of a schema. It is the connection's: of one that was killed the server
/// finds out by itself, and what it was told before ends first.
const LOCK: &str = "SELECT pg_advisory_lock(1112495694, hashtext(current_schema()))";
/// How long that may take before they are somebody else's.
const LOCK_PATIENCE: &str = "SET lock_timeout = '5s'";
const NO_PATIENCE_NEEDED: &str = "SET lock_timeout = 0";
/// How long anything may take before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is put into a statement, and what comes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(i64),
    Text(String),
    Nothing,
}

/// Something to be told, with its values in the order of `$1`, `$2`.
pub type Change = (&'static str, Vec<Value>);

/// A row of what was asked for.
pub type Row = Vec<Value>;

/// A database. What asks PostgreSQL waits, so that it is not for an asynchronous thread.
pub enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Postgres>),
}

impl Database {
    /// Opens `sqlite:FILE`, or `postgresql://` with what belongs behind it, and makes `tables` that are not there. Needs a
    /// runtime of tokio.
    ///
    /// # Errors
    /// It is neither, another process has it, or it cannot be had. No password is in what is said.
    pub fn open(url: &str, tables: &'static str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let connection = sqlite(Path::new(path), tables).with_context(|| format!("opening {path}"))?;
            return Ok(Self::Sqlite(connection));
        }
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            bail!("--database-url must begin with sqlite: or postgresql://");
        }
        let config: Config = url.parse().context("--database-url")?;
        let opening = || format!("opening {}", config.get_dbname().or(config.get_user()).unwrap_or_default());
        let postgres = Postgres::new(config.clone(), tables).with_context(opening)?;
        Ok(Self::Postgres(Box::new(postgres)))
    }

    /// What is asked for.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn rows(&mut self, query: &'static str, values: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare(query)?;
                let columns = statement.column_count();
                let read = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
                let rows = statement.query_map(rusqlite::params_from_iter(values), read)?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            }
            Self::Postgres(postgres) => postgres.rows(query, values),
        }
    }

    /// Makes all of these changes, in this order, or none.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn change(&mut self, changes: &[Change]) -> Result<()> {
        match self {
            Self::Sqlite(connection) => {
                let transaction = connection.transaction()?;
                for (statement, values) in changes {
                    transaction.prepare(statement)?.execute(rusqlite::params_from_iter(values))?;
                }
                Ok(transaction.commit()?)
            }
            Self::Postgres(postgres) => postgres.change(changes),
        }
    }
}

fn sqlite(path: &Path, tables: &str) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    // Locked by the first write, until the end.
    connection
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    connection.execute_batch(&format!("BEGIN EXCLUSIVE; {tables} COMMIT;"))?;
    Ok(connection)
}

/// A PostgreSQL server, without TLS. What passes, such as that it is gone, is [`Away`], and it is connected anew.
pub struct Postgres {
    config: Config,
    tables: &'static str,
    runtime: Handle,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl Postgres {
    fn new(config: Config, tables: &'static str) -> Result<Self> {
        let mut new = Self { config, tables, runtime: Handle::current(), connected: None };
        new.rows("SELECT 1::BIGINT", &[])?;
        Ok(new)
    }

    fn rows(&mut self, query: &'static str, values: &[Value]) -> Result<Vec<Row>> {
        self.with(async |connected| {
            let query = connected.prepare(query).await?;
            let rows = connected.client.query(&query, &parameters(values)).await?;
            rows.iter().map(|row| (0..row.len()).map(|column| value(row, column)).collect()).collect()
        })
    }

    fn change(&mut self, changes: &[Change]) -> Result<()> {
        self.with(async |connected| {
            let mut prepared = Vec::with_capacity(changes.len());
            for (statement, _) in changes {
                prepared.push(connected.prepare(statement).await?);
            }
            let transaction: Transaction<'_> = connected.client.transaction().await?;
            for (statement, (_, values)) in prepared.iter().zip(changes) {
                transaction.execute(statement, &parameters(values)).await?;
            }
            transaction.commit().await
        })
    }

    /// Does something with a connection, which is not used any more if that fails.
    fn with<T>(&mut self, work: impl AsyncFnOnce(&mut Connected) -> Result<T, tokio_postgres::Error>) -> Result<T> {
        let done = self.runtime.clone().block_on(tokio::time::timeout(PATIENCE, async {
            let mut connected = match self.connected.take().filter(|one| !one.client.is_closed()) {
                Some(connected) => connected,
                None => self.connect().await?,
            };
            let done = work(&mut connected).await?;
            self.connected = Some(connected);
            Ok(done)
        }));
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if passes(&error) => Err(Error::new(error).context(Away)),
            Ok(Err(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Err(Error::new(error).context("another process has these tables"))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(late) => Err(Error::new(late).context(Away)),
        }
    }

    async fn connect(&self) -> Result<Connected, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        // It ends with the client, which is told what it ended with.
        self.runtime.spawn(connection);
        for statement in [LOCK_PATIENCE, LOCK, NO_PATIENCE_NEEDED, self.tables] {
            client.batch_execute(statement).await?;
        }
        Ok(Connected { client, prepared: HashMap::new() })
    }
}

impl Connected {
    async fn prepare(&mut self, statement: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.prepared.get(statement) {
            return Ok(known.clone());
        }
        let new = self.client.prepare(statement).await?;
        self.prepared.insert(statement, new.clone());
        Ok(new)
    }
}

/// Whether it may be otherwise another time: nobody answers, or who answers is going, coming, or has too much to do.
fn passes(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    let is_io = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    error.is_closed() || is_io || matches!(class, Some("08" | "40" | "53" | "57"))
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(values.len());
    for value in values {
        parameters.push(match value {
            Value::Number(number) => number,
            Value::Text(text) => text,
            Value::Nothing => &None::<&str>,
        });
    }
    parameters
}

/// A column, of which the tables have two types only.
fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, tokio_postgres::Error> {
    Ok(if *row.columns()[column].type_() == Type::INT8 {
        row.try_get::<_, Option<i64>>(column)?.map_or(Value::Nothing, Value::Number)
    } else {
        row.try_get::<_, Option<String>>(column)?.map_or(Value::Nothing, Value::Text)
    })
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Nothing => ValueRef::Null,
        }))
    }
}

impl FromSql for Value {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            ValueRef::Text(_) => Ok(Self::Text(value.as_str()?.to_owned())),
            ValueRef::Null => Ok(Self::Nothing),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(FromSqlError::InvalidType),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Nothing, Self::Text)
    }
}
