//! Opening the file, and saying what is wrong with it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::writer::Writer;
use super::{BEGIN, NAME};
use crate::error::StoreError;

/// How long a call waits for another process that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for one of the connections that read.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const READERS_MAX: u32 = 4;
/// A write-ahead log that a large write has blown up is cut back to this.
const WAL_BYTES_MAX: &str = "67108864";
const MIGRATIONS: [(i64, &str); 2] = [
    (1, include_str!("../../../../migrations/sqlite/0001_documents.sql")),
    (2, include_str!("../../../../migrations/sqlite/0002_log_by_span.sql")),
];

/// What is wrong with the file, in words.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
struct FileError {
    path: PathBuf,
    what: String,
    #[source]
    source: Option<sqlx::Error>,
}

/// The connection that writes, and the pool of those that read.
pub(super) async fn open(path: &Path) -> Result<(Writer, SqlitePool), StoreError> {
    create(path).map_err(|error| broken(path, error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full);
    let write =
        options.clone().journal_mode(SqliteJournalMode::Wal).pragma("journal_size_limit", WAL_BYTES_MAX);
    let writer = Writer::connect(&write).await.map_err(|error| failed(path, error))?;
    migrate(&writer, path).await?;
    let readers = SqlitePoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        // None is given up for its age, though each holds up to 2 MB of the file: whoever looks after that waits for
        // ever, and that has a price (`crate::clock`).
        .max_lifetime(None)
        .idle_timeout(None)
        .max_connections(READERS_MAX)
        .connect_lazy_with(options.read_only(true));
    Ok((writer, readers))
}

/// Makes the file and the directories above it, for their owner only.
pub(in crate::store) fn create(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // Before SQLite sees it, which would make it readable for all; its companions take over the mode.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

async fn migrate(writer: &Writer, path: &Path) -> Result<(), StoreError> {
    let failed = |error| failed(path, error);
    let mut connection = writer.turn().await.map_err(failed)?;
    let mut tx = connection.begin_with(BEGIN).await.map_err(failed)?;
    let tables: Vec<String> = sqlx::query_scalar("select name from sqlite_master where type = 'table'")
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has("documents") && !has("yjs_document") {
        let what = "is a database of Hocuspocus' SQLite extension (table \"documents\"); \
                    copy it into a file of its own with: fidibus import";
        return Err(broken(path, what.into()));
    }
    let applied: i64 = match has("fidibus_migration") {
        false => 0,
        true => sqlx::query_scalar("select coalesce(max(version), 0) from fidibus_migration")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?,
    };
    let newest = MIGRATIONS.iter().map(|(version, _)| *version).max().unwrap_or(0);
    if applied > newest {
        let what = format!("was written by a newer Fidibus (version {applied} of the tables, here {newest})");
        return Err(broken(path, what));
    }
    for (version, sql) in MIGRATIONS.into_iter().filter(|(version, _)| *version > applied) {
        sqlx::raw_sql(sql).execute(&mut *tx).await.map_err(failed)?;
        sqlx::query("insert into fidibus_migration (version) values (?)")
            .bind(version)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

fn broken(path: &Path, what: String) -> StoreError {
    StoreError::permanent(NAME, FileError { path: path.into(), what, source: None })
}

/// Says what an error of SQLite means for this file, and whether it may pass.
pub(super) fn failed(path: &Path, error: sqlx::Error) -> StoreError {
    let code =
        error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    // Extended codes carry the plain one in their lowest byte (sqlite.org/rescode.html).
    let (retryable, what) = match (code.map(|code| code & 0xff), &error) {
        (Some(5 | 6), _) => (true, "is locked by another process"),
        (Some(8), _) => (false, "is read-only"),
        (Some(10), _) => (true, "cannot be read or written (disk error)"),
        (Some(11), _) => (false, "is damaged; keep it, and restore a backup"),
        (Some(13), _) => (true, "cannot grow, the disk is full"),
        (Some(14), _) => (true, "cannot be opened"),
        (Some(26), _) => (false, "is not an SQLite database"),
        (Some(_), _) => (false, ""),
        (None, sqlx::Error::PoolClosed) => (false, "is closed"),
        (None, sqlx::Error::PoolTimedOut) => (true, "is busy, no connection became free"),
        (None, _) => (true, ""),
    };
    let what = if what.is_empty() { error.to_string() } else { what.to_owned() };
    let failure = FileError { path: path.into(), what, source: Some(error) };
    if retryable { StoreError::retryable(NAME, failure) } else { StoreError::permanent(NAME, failure) }
}
