//! The spool's file: rows in the order they came, one SQLite database, every commit synced.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row};

use crate::error::StoreError;
use crate::id::DocumentName;
use crate::store::{LogBatch, LogId};

const NAME: &str = "spool";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of one insert: three values each, far below SQLite's bound on parameters.
const ROWS_PER_INSERT: usize = 256;
const TABLE: &str = "create table if not exists spool (
    id integer primary key autoincrement, document text not null, update_data blob not null, user_id text,
    created_at text not null default current_timestamp) strict;
    create index if not exists spool_document on spool (document)";

/// Rows that wait, with their numbers in the spool.
pub(super) type SpooledRow = (LogId, LogBatch);

/// The file.
#[derive(Clone, Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    pool: SqlitePool,
}

/// What is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl SpoolFile {
    /// Opens the file, or makes it, readable by its owner only.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        super::super::sqlite::create_private(path).map_err(|error| StoreError::permanent(NAME, error))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let file = Self { path: path.to_owned(), pool: pool.connect_lazy_with(options) };
        sqlx::raw_sql(TABLE).execute(&file.pool).await.map_err(|error| file.failed(error))?;
        Ok(file)
    }

    /// Appends rows in one commit; their numbers, in order.
    pub(super) async fn append(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        self.insert(batches).await.map_err(|error| self.failed(error))
    }

    async fn insert(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, sqlx::Error> {
        let mut ids = Vec::with_capacity(batches.len());
        let mut tx = self.pool.begin().await?;
        for some in batches.chunks(ROWS_PER_INSERT) {
            let values = vec!["(?, ?, ?)"; some.len()].join(", ");
            let sql =
                format!("insert into spool (document, update_data, user_id) values {values} returning id");
            let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
            for batch in some {
                query =
                    query.bind(batch.document.as_str()).bind(&batch.update[..]).bind(batch.user.as_deref());
            }
            let mut inserted: Vec<LogId> = query.fetch_all(&mut *tx).await?;
            // Numbers count up in the order of the values; `returning` does not promise to keep to it.
            inserted.sort_unstable();
            ids.append(&mut inserted);
        }
        tx.commit().await?;
        Ok(ids)
    }

    /// The oldest rows after this one, at most `limit`.
    pub(super) async fn oldest_after(&self, after: LogId, limit: u32) -> Result<Vec<SpooledRow>, StoreError> {
        let sql = "select id, document, update_data, user_id from spool where id > ? order by id limit ?";
        let rows = sqlx::query(sql)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        rows.iter().map(row).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    /// The rows of one document, in order.
    pub(super) async fn of_document(&self, document: &DocumentName) -> Result<Vec<SpooledRow>, StoreError> {
        let rows = sqlx::query(
            "select id, document, update_data, user_id from spool where document = ? order by id",
        )
        .bind(document.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(row).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    /// Deletes these rows.
    pub(super) async fn delete(&self, ids: &[LogId]) -> Result<(), StoreError> {
        let ids = ids.iter().map(LogId::to_string).collect::<Vec<_>>().join(",");
        sqlx::query("delete from spool where id in (select value from json_each(?))")
            .bind(format!("[{ids}]"))
            .execute(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Deletes all rows of a document.
    pub(super) async fn delete_document(&self, document: &DocumentName) -> Result<(), StoreError> {
        sqlx::query("delete from spool where document = ?")
            .bind(document.as_str())
            .execute(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// How much waits.
    pub(super) async fn content(&self) -> Result<Content, StoreError> {
        let row = sqlx::query("select count(*), coalesce(sum(length(update_data)), 0) from spool")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        let number = |column| row.try_get::<i64, _>(column).map(|number| number.unsigned_abs());
        let content = number(0).and_then(|rows| Ok(Content { rows, bytes: number(1)? }));
        content.map_err(|error| self.failed(error))
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        StoreError::retryable(NAME, SpoolError { path: self.path.clone(), source: error })
    }
}

/// What went wrong, with the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
struct SpoolError {
    path: PathBuf,
    #[source]
    source: sqlx::Error,
}

fn row(row: &sqlx::sqlite::SqliteRow) -> Result<SpooledRow, sqlx::Error> {
    let document: String = row.try_get(1)?;
    let document = DocumentName::parse(&document).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let user: Option<String> = row.try_get(3)?;
    let update: Vec<u8> = row.try_get(2)?;
    Ok((row.try_get(0)?, LogBatch { document, update: Bytes::from(update), user: user.map(Into::into) }))
}
