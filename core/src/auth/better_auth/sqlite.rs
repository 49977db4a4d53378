//! Better Auth on SQLite, in the file of the documents or another one. Opened for reading only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use super::super::Access;
use super::super::BoxFuture;
use super::super::identity::{DocumentAccess, Identity, SessionRow, SessionSource, UserRow};
use super::super::jwt::KeySource;
use super::super::policy::parse_access;
use super::super::role::RoleMap;
use super::tables::{
    AuthTables, BAN_EXPIRES, Columns, EXPIRES, IMPERSONATED_BY, NO_KEYS, PUBLIC_KEY, USER_ID,
};
use crate::error::BoxError;
use crate::id::DocumentName;

/// How long one lookup may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Sessions and users of Better Auth in an SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteSessions {
    pool: SqlitePool,
    tables: Arc<AuthTables>,
}

impl SqliteSessions {
    /// Reads from this file, which may come into being later. To be called inside a tokio runtime.
    pub fn new(path: &Path, connections_max: u32, tables: AuthTables) -> Self {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(LOOKUP_MAX);
        let pool = SqlitePoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(LOOKUP_MAX)
            .connect_lazy_with(options);
        Self { pool, tables: Arc::new(tables) }
    }

    /// A query that decides on documents: `$user` and `$document` stand for the ids, the first column of the
    /// first row for the answer.
    pub fn document_access(&self, query: &str, roles: RoleMap) -> SqliteDocumentAccess {
        let query = query.replace("$document", "?2").replace("$user", "?1");
        SqliteDocumentAccess { pool: self.pool.clone(), query, roles }
    }

    async fn columns(&self, table: &str) -> Result<Columns, BoxError> {
        let name = table.rsplit('.').next().unwrap_or(table).trim_matches('"');
        let query = sqlx::query("select name, type from pragma_table_info(?1)").bind(name);
        let rows = query.fetch_all(&self.pool).await?;
        let columns = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        Ok(Columns(columns.collect::<Result<_, sqlx::Error>>()?))
    }

    async fn rows(&self, sql: String, keys: &[&str]) -> Result<Vec<SqliteRow>, BoxError> {
        let keys = Value::from(keys.to_vec()).to_string();
        let query = sqlx::query(AssertSqlSafe(sql)).bind(keys);
        Ok(tokio::time::timeout(LOOKUP_MAX, query.fetch_all(&self.pool)).await??)
    }

    async fn find_sessions(&self, tokens: &[&str]) -> Result<Vec<SessionRow>, BoxError> {
        let (session, user) =
            (self.columns(&self.tables.session).await?, self.columns(&self.tables.user).await?);
        let missing = || "the table of sessions is not Better Auth's";
        let expires = seconds("s", &session.find(&EXPIRES).ok_or_else(missing)?);
        let user_id = session.find(&USER_ID).ok_or_else(missing)?;
        let impersonator = text(&session, "s", &IMPERSONATED_BY);
        let AuthTables { session: sessions, user: users, .. } = &*self.tables;
        let sql = format!(
            "select {}, s.token, cast(s.id as text), {expires} - {NOW}, {impersonator}
             from {sessions} s join {users} u on u.id = s.{user_id}
             where s.token in (select value from json_each(?1))",
            user_columns(&user)
        );
        let rows = self.rows(sql, tokens).await?;
        let sessions = rows.iter().map(|row| {
            Ok(SessionRow {
                user: read_user(row)?,
                token: row.try_get(5)?,
                id: row.try_get(6)?,
                // A time that cannot be read is none: expired.
                remaining_seconds: row.try_get::<Option<f64>, _>(7)?.unwrap_or(-1.0),
                impersonated_by: row.try_get(8)?,
            })
        });
        Ok(sessions.collect::<Result<_, sqlx::Error>>()?)
    }

    async fn find_users(&self, ids: &[&str]) -> Result<Vec<UserRow>, BoxError> {
        let columns = user_columns(&self.columns(&self.tables.user).await?);
        let table = &self.tables.user;
        let sql = format!(
            "select {columns} from {table} u where cast(u.id as text) in (select value from json_each(?1))"
        );
        let rows = self.rows(sql, ids).await?;
        Ok(rows.iter().map(read_user).collect::<Result<_, _>>()?)
    }
}

/// The time, in seconds since 1970.
const NOW: &str = "((julianday('now') - 2440587.5) * 86400.0)";

/// A column's time in seconds since 1970: the built-in adapter writes ISO 8601, Drizzle seconds or
/// milliseconds.
fn seconds(table: &str, column: &str) -> String {
    let value = format!("{table}.{column}");
    format!(
        "(case typeof({value}) when 'text' then (julianday({value}) - 2440587.5) * 86400.0
          when 'null' then null else case when {value} > 100000000000 then {value} / 1000.0 else {value} * 1.0 end end)"
    )
}

fn text(columns: &Columns, table: &str, names: &[&str]) -> String {
    columns.find(names).map_or("null".to_owned(), |name| format!("cast({table}.{name} as text)"))
}

/// id, name, email, role, banned.
fn user_columns(user: &Columns) -> String {
    let banned = user.find(&["banned"]).map_or("0".to_owned(), |banned| {
        let still = user.find(&BAN_EXPIRES).map_or("1".to_owned(), |expires| {
            // An end that cannot be read does not end a ban.
            format!("(coalesce({} > {NOW}, 1))", seconds("u", &expires))
        });
        format!("(coalesce(u.{banned}, 0) and {still})")
    });
    let [name, email, role] = [["name"], ["email"], ["role"]].map(|names| text(user, "u", &names));
    format!("cast(u.id as text), {name}, {email}, {role}, cast({banned} as boolean)")
}

fn read_user(row: &SqliteRow) -> Result<UserRow, sqlx::Error> {
    Ok(UserRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        email: row.try_get(2)?,
        role: row.try_get(3)?,
        banned: row.try_get::<i64, _>(4)? != 0,
    })
}

impl SessionSource for SqliteSessions {
    fn sessions<'a>(&'a self, tokens: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<SessionRow>, BoxError>> {
        Box::pin(self.find_sessions(tokens))
    }

    fn users<'a>(&'a self, ids: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<UserRow>, BoxError>> {
        Box::pin(self.find_users(ids))
    }
}

/// The JWT plugin's keys from its table. Of these only the public halves are read.
impl KeySource for SqliteSessions {
    fn fetch(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(async move {
            let table = &self.tables.jwks;
            // Without the JWT plugin there is no such table, and no token that anybody could verify.
            let Some(column) = self.columns(table).await?.find(&PUBLIC_KEY) else {
                return Ok(NO_KEYS.to_owned());
            };
            let sql = format!("select cast(id as text), {column} from {table} limit 100");
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
            let keys = rows.iter().filter_map(|row| {
                let mut key: Value = serde_json::from_str(row.try_get::<&str, _>(1).ok()?).ok()?;
                key.as_object_mut()?.insert("kid".to_owned(), row.try_get::<String, _>(0).ok()?.into());
                Some(key)
            });
            Ok(serde_json::json!({"keys": keys.collect::<Vec<_>>()}).to_string())
        })
    }
}

/// See [`SqliteSessions::document_access`].
#[derive(Debug)]
pub struct SqliteDocumentAccess {
    pool: SqlitePool,
    query: String,
    roles: RoleMap,
}

impl DocumentAccess for SqliteDocumentAccess {
    fn access<'a>(
        &'a self,
        identity: &'a Identity,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<Access>, BoxError>> {
        Box::pin(async move {
            let query =
                sqlx::query(AssertSqlSafe(self.query.clone())).bind(&*identity.user).bind(document.as_str());
            let row = tokio::time::timeout(LOOKUP_MAX, query.fetch_optional(&self.pool)).await??;
            let Some(row) = row else { return Ok(None) };
            // Numbers stand for themselves: SQLite has no type of its own for yes and no.
            let number = |row: &SqliteRow| row.try_get::<Option<i64>, _>(0).map(|n| n.map(|n| n.to_string()));
            let word = row.try_get::<Option<String>, _>(0).or_else(|_| number(&row))?;
            Ok(word.and_then(|word| parse_access(&word).unwrap_or_else(|| self.roles.access(Some(&word)))))
        })
    }
}

#[cfg(test)]
mod tests;
