//! The spool's file: rows in the order they came, one SQLite database, every commit synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row};

use crate::error::StoreError;
use crate::id::DocumentName;
use crate::store::{LogBatch, LogId, QuarantinedRow};

const NAME: &str = "spool";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of one insert: three values each, far below SQLite's bound on parameters.
const ROWS_PER_INSERT: usize = 256;
/// `unreadable` has columns of any type: what cannot be read is kept as it was found. `belongs_to` has one row.
const TABLES: &str = "create table if not exists spool (
    id integer primary key autoincrement, document text not null, update_data blob not null, user_id text,
    created_at text not null default current_timestamp) strict;
    create index if not exists spool_document on spool (document);
    create table if not exists unreadable (
    id integer primary key, document, update_data, user_id, created_at, reason text not null,
    set_aside_at text not null default current_timestamp);
    create table if not exists belongs_to (store text not null) strict";
const COLUMNS: &str = "id, document, update_data, user_id";

/// Rows that wait, with their numbers in the spool.
pub(super) type SpooledRow = (LogId, LogBatch);

/// Rows of the file.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that can be read, in order.
    pub(super) rows: Vec<SpooledRow>,
    /// Those that cannot.
    pub(super) unreadable: Vec<UnreadableRow>,
}

/// A row that cannot be read.
#[derive(Debug)]
pub(super) struct UnreadableRow {
    pub(super) row: QuarantinedRow,
    /// Of its update.
    pub(super) bytes: u64,
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    pool: SqlitePool,
    /// Rows in it, those that were set aside as well, or more: counted before they are written, and off when they
    /// are deleted.
    held: Arc<AtomicU64>,
}

/// What is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows that are set aside, beside the others.
    pub(super) unreadable: u64,
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
        let pool = pool.connect_lazy_with(options);
        let file = Self { path: path.to_owned(), pool, held: Arc::default() };
        sqlx::raw_sql(TABLES).execute(&file.pool).await.map_err(|error| file.failed(error))?;
        let Content { rows, unreadable, .. } = file.content().await?;
        file.held.store(rows + unreadable, Ordering::Release);
        Ok(file)
    }

    /// Appends rows in one commit; their numbers, in order.
    pub(super) async fn append(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        // Before, and also where nobody will know whether they were written: a row that is there must be found.
        self.held.fetch_add(batches.len() as u64, Ordering::AcqRel);
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
    pub(super) async fn oldest_after(&self, after: LogId, limit: u32) -> Result<Found, StoreError> {
        let sql = format!("select {COLUMNS} from spool where id > ? order by id limit ?");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(limit).fetch_all(&self.pool).await;
        found(&rows.map_err(|error| self.failed(error))?).map_err(|error| self.failed(error))
    }

    /// An old row after this one that is of none of these documents.
    pub(super) async fn oldest_of_others(
        &self,
        after: LogId,
        documents: &[&str],
    ) -> Result<Option<SpooledRow>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from spool where id > ? and document not in (select value from json_each(?))
             order by id limit 16"
        );
        let documents = serde_json::Value::from(documents.to_vec()).to_string();
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(documents).fetch_all(&self.pool).await;
        let found = found(&rows.map_err(|error| self.failed(error))?).map_err(|error| self.failed(error))?;
        Ok(found.rows.into_iter().next())
    }

    /// The rows of one document, those that were set aside as well.
    pub(super) async fn of_document(&self, document: &DocumentName) -> Result<Found, StoreError> {
        // Each document is looked for here when it is loaded, and hardly ever is anything there.
        if self.held.load(Ordering::Acquire) == 0 {
            return Ok(Found::default());
        }
        self.read_document(document).await.map_err(|error| self.failed(error))
    }

    async fn read_document(&self, document: &DocumentName) -> Result<Found, sqlx::Error> {
        // One transaction: a row that is set aside meanwhile is seen once.
        let mut tx = self.pool.begin().await?;
        let sql = format!("select {COLUMNS} from spool where document = ? order by id");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(document.as_str()).fetch_all(&mut *tx).await?;
        let mut found = found(&rows)?;
        let sql = "select id, reason from unreadable where document = ? order by id";
        for row in sqlx::query(sql).bind(document.as_str()).fetch_all(&mut *tx).await? {
            let row = QuarantinedRow { id: row.try_get(0)?, reason: row.try_get(1)? };
            found.unreadable.push(UnreadableRow { row, bytes: 0 });
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Moves rows that cannot be read to a table of their own, as they are.
    pub(super) async fn set_aside(&self, unreadable: &[UnreadableRow]) -> Result<(), StoreError> {
        self.move_aside(unreadable).await.map_err(|error| self.failed(error))
    }

    async fn move_aside(&self, unreadable: &[UnreadableRow]) -> Result<(), sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        for UnreadableRow { row, .. } in unreadable {
            let copy = "insert into unreadable (id, document, update_data, user_id, created_at, reason)
                        select id, document, update_data, user_id, created_at, ? from spool where id = ?";
            sqlx::query(copy).bind(&row.reason).bind(row.id).execute(&mut *tx).await?;
            sqlx::query("delete from spool where id = ?").bind(row.id).execute(&mut *tx).await?;
        }
        tx.commit().await
    }

    /// Which store the rows are for, where the file says so.
    pub(super) async fn store(&self) -> Result<Option<String>, StoreError> {
        let store = sqlx::query_scalar("select store from belongs_to").fetch_optional(&self.pool).await;
        store.map_err(|error| self.failed(error))
    }

    /// Writes down which store the rows are for.
    pub(super) async fn belong_to(&self, store: &str) -> Result<(), StoreError> {
        self.write_store(store).await.map_err(|error| self.failed(error))
    }

    async fn write_store(&self, store: &str) -> Result<(), sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("delete from belongs_to").execute(&mut *tx).await?;
        sqlx::query("insert into belongs_to (store) values (?)").bind(store).execute(&mut *tx).await?;
        tx.commit().await
    }

    /// Deletes these rows.
    pub(super) async fn delete(&self, ids: &[LogId]) -> Result<(), StoreError> {
        let ids = ids.iter().map(LogId::to_string).collect::<Vec<_>>().join(",");
        let deleted = sqlx::query("delete from spool where id in (select value from json_each(?))")
            .bind(format!("[{ids}]"))
            .execute(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        self.held.fetch_sub(deleted.rows_affected(), Ordering::AcqRel);
        Ok(())
    }

    /// Deletes all rows of a document, readable or not.
    pub(super) async fn delete_document(&self, document: &DocumentName) -> Result<(), StoreError> {
        for sql in ["delete from spool where document = ?", "delete from unreadable where document = ?"] {
            let deleted = sqlx::query(sql).bind(document.as_str()).execute(&self.pool).await;
            let deleted = deleted.map_err(|error| self.failed(error))?;
            self.held.fetch_sub(deleted.rows_affected(), Ordering::AcqRel);
        }
        Ok(())
    }

    /// How much waits.
    pub(super) async fn content(&self) -> Result<Content, StoreError> {
        let sql = "select count(*), coalesce(sum(length(update_data)), 0), (select count(*) from unreadable)
                   from spool";
        let row = sqlx::query(sql).fetch_one(&self.pool).await.map_err(|error| self.failed(error))?;
        let number = |column| row.try_get::<i64, _>(column).map(|number| number.unsigned_abs());
        let content =
            number(0).and_then(|rows| Ok(Content { rows, bytes: number(1)?, unreadable: number(2)? }));
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

fn found(rows: &[SqliteRow]) -> Result<Found, sqlx::Error> {
    let mut found = Found::default();
    for row in rows {
        let id = row.try_get(0)?;
        match batch(row) {
            Ok(batch) => found.rows.push((id, batch)),
            Err(error) => {
                // Whatever it is, it has a length.
                let bytes = row.try_get_unchecked::<Vec<u8>, _>(2).map_or(0, |update| update.len() as u64);
                let row = QuarantinedRow { id, reason: error.to_string() };
                found.unreadable.push(UnreadableRow { row, bytes });
            }
        }
    }
    Ok(found)
}

fn batch(row: &SqliteRow) -> Result<LogBatch, sqlx::Error> {
    let document: String = row.try_get(1)?;
    let document = DocumentName::parse(&document).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let update: Vec<u8> = row.try_get(2)?;
    // A user's name that cannot be read costs nobody an update.
    let user: Option<Vec<u8>> = row.try_get_unchecked(3)?;
    let user = user.map(|user| String::from_utf8_lossy(&user).into());
    Ok(LogBatch { document, update: Bytes::from(update), user })
}
