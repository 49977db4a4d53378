//! Better Auth on PostgreSQL: one round trip a lookup, in the spelling of whichever adapter made the tables,
//! and the database's own word that something changed.

mod listen;
mod statements;

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgPool, Row};

pub use listen::ChangeListener;

use super::super::Access;
use super::super::BoxFuture;
use super::super::identity::{DocumentAccess, Identity, SessionRow, SessionSource, UserRow};
use super::super::jwt::KeySource;
use super::super::policy::parse_access;
use super::super::role::RoleMap;
use super::by_json;
use super::tables::{AuthTables, Columns, NO_KEYS, PUBLIC_KEY};
use crate::error::BoxError;
use crate::id::DocumentName;
use statements::{Statements, document_query};

/// How long one lookup may take, waiting for a connection included.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Sessions and users of Better Auth in a PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresSessions {
    pool: PgPool,
    tables: Arc<AuthTables>,
    statements: Arc<RwLock<Option<Arc<Statements>>>>,
}

impl PostgresSessions {
    /// Reads from the database at a `postgres://` URL, over no more than `connections_max` connections of its
    /// own. Connects at the first lookup. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(url: &str, connections_max: u32, tables: AuthTables) -> Result<Self, BoxError> {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(LOOKUP_MAX)
            .idle_timeout(IDLE_MAX)
            .test_before_acquire(false)
            .connect_lazy_with(PgConnectOptions::from_str(url)?.application_name("fidibus-auth"));
        Ok(Self { pool, tables: Arc::new(tables), statements: Arc::default() })
    }

    /// A query that decides on documents: `$user` and `$document` stand for the ids, the first column of the
    /// first row for the answer.
    pub fn document_access(&self, query: &str, roles: RoleMap) -> PostgresDocumentAccess {
        PostgresDocumentAccess { pool: self.pool.clone(), query: document_query(query), roles }
    }

    /// What tells of changes at once, where triggers do.
    pub fn listener(&self) -> ChangeListener {
        ChangeListener::new(self.pool.clone(), Arc::clone(&self.tables))
    }

    /// The statements for the tables as they are now. Found out at the first lookup, and again after one that
    /// failed: tables may be made, and changed, while this runs.
    async fn statements(&self) -> Result<Arc<Statements>, BoxError> {
        let known = self.statements.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(statements) = known {
            return Ok(statements);
        }
        let (session, user) =
            (self.columns(&self.tables.session).await?, self.columns(&self.tables.user).await?);
        let statements = Arc::new(Statements::new(&self.tables, &session, &user));
        *self.statements.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&statements));
        Ok(statements)
    }

    async fn columns(&self, table: &str) -> Result<Columns, BoxError> {
        const QUERY: &str = "select attname::text, format_type(atttypid, null) from pg_attribute
            where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";
        let rows = sqlx::query(QUERY).bind(table).fetch_all(&self.pool).await?;
        let columns = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        Ok(Columns(columns.collect::<Result<_, sqlx::Error>>()?))
    }

    /// Asks over another connection where one turns out to be broken: after a restart of the database all in the pool
    /// are, which shows only when they are used.
    async fn fetch(&self, sql: &str, keys: &[&str]) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut left = self.pool.size();
        loop {
            let query = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(keys);
            match query.fetch_all(&self.pool).await {
                Err(error) if left > 0 && is_broken_connection(&error) => left -= 1,
                answer => return answer,
            }
        }
    }

    async fn rows(&self, sql: &str, keys: &[&str]) -> Result<Vec<PgRow>, BoxError> {
        match tokio::time::timeout(LOOKUP_MAX, self.fetch(sql, keys)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) if is_no_id(&error) => Ok(Vec::new()),
            Ok(Err(error)) => {
                *self.statements.write().unwrap_or_else(PoisonError::into_inner) = None;
                Err(error.into())
            }
            Err(elapsed) => Err(elapsed.into()),
        }
    }
}

/// Whether the connection was at fault, and not the question.
fn is_broken_connection(error: &sqlx::Error) -> bool {
    const ADMIN_SHUTDOWN: &str = "57P01";
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == ADMIN_SHUTDOWN),
        _ => false,
    }
}

/// An id that cannot be one of this column's type (`sub` is no UUID) names nobody.
fn is_no_id(error: &sqlx::Error) -> bool {
    const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code == INVALID_TEXT_REPRESENTATION)
}

impl SessionSource for PostgresSessions {
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
        Box::pin(async move {
            match &*self.statements().await? {
                Statements::Typed { sessions, .. } => {
                    let rows = self.rows(sessions, tokens).await?;
                    Ok(rows.iter().map(typed_session).collect::<Result<_, _>>()?)
                }
                Statements::Json { sessions, .. } => {
                    let rows = self.rows(sessions, tokens).await?;
                    Ok(rows.iter().filter_map(|row| by_json::session(&objects(row)?)).collect())
                }
            }
        })
    }

    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
        Box::pin(async move {
            match &*self.statements().await? {
                Statements::Typed { users, .. } => {
                    let rows = self.rows(users, ids).await?;
                    Ok(rows.iter().map(|row| typed_user(row, 0)).collect::<Result<_, _>>()?)
                }
                Statements::Json { users, .. } => {
                    let rows = self.rows(users, ids).await?;
                    Ok(rows.iter().filter_map(|row| by_json::user(&objects(row)?)).collect())
                }
            }
        })
    }
}

/// id, name, email, role, banned from this column on.
fn typed_user(row: &PgRow, first: usize) -> Result<UserRow, sqlx::Error> {
    Ok(UserRow {
        id: row.try_get(first)?,
        name: row.try_get(first + 1)?,
        email: row.try_get(first + 2)?,
        role: row.try_get(first + 3)?,
        banned: row.try_get(first + 4)?,
    })
}

fn typed_session(row: &PgRow) -> Result<SessionRow, sqlx::Error> {
    Ok(SessionRow {
        user: typed_user(row, 0)?,
        token: row.try_get(5)?,
        id: row.try_get(6)?,
        remaining_seconds: row.try_get(7)?,
        impersonated_by: row.try_get(8)?,
    })
}

/// Session, user and the time as JSON.
fn objects(row: &PgRow) -> Option<Value> {
    serde_json::from_str(row.try_get::<&str, _>(0).ok()?).ok()
}

/// The JWT plugin's keys from its table. Of these only the public halves are read.
impl KeySource for PostgresSessions {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(async move {
            let table = &self.tables.jwks;
            let columns = self.columns(table).await?;
            // Without the JWT plugin there is no such table, and no token that anybody could verify.
            let Some(key) = columns.find(&PUBLIC_KEY) else { return Ok(NO_KEYS.to_owned()) };
            let sql = format!("select id::text, {key}::text from {table} order by 1 desc limit 100");
            let query = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool);
            let rows = tokio::time::timeout(LOOKUP_MAX, query).await??;
            let keys = rows.iter().filter_map(|row| {
                let mut key: Value = serde_json::from_str(row.try_get::<&str, _>(1).ok()?).ok()?;
                key.as_object_mut()?.insert("kid".to_owned(), row.try_get::<String, _>(0).ok()?.into());
                Some(key)
            });
            Ok(serde_json::json!({"keys": keys.collect::<Vec<_>>()}).to_string())
        })
    }
}

/// See [`PostgresSessions::document_access`].
#[derive(Debug)]
pub struct PostgresDocumentAccess {
    pool: PgPool,
    query: String,
    roles: RoleMap,
}

impl DocumentAccess for PostgresDocumentAccess {
    fn access<'a>(
        &'a self,
        identity: &'a Identity,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<Access>, BoxError>> {
        Box::pin(async move {
            let query =
                sqlx::query(AssertSqlSafe(self.query.clone())).bind(&*identity.user).bind(document.as_str());
            let row = tokio::time::timeout(LOOKUP_MAX, query.fetch_optional(&self.pool)).await??;
            let word: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
            Ok(word.and_then(|word| parse_access(&word).unwrap_or_else(|| self.roles.access(Some(&word)))))
        })
    }
}
