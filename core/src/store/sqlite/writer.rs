//! The only connection that writes. In a pool of one it would be asked for its health after each use, and
//! each question is a way to the thread of SQLite and back.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// How long a call waits for others of its own process. Longer than any sane write.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module. It is never given up: closing and opening it costs a checkpoint.
#[derive(Debug)]
pub(super) struct Writer(Mutex<Option<SqliteConnection>>);

impl Writer {
    pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        Ok(Self(Mutex::new(Some(options.connect().await?))))
    }

    /// Waits for its turn, in the order of the calls.
    ///
    /// # Errors
    /// `PoolClosed` after [`Self::close`]; `PoolTimedOut` when somebody writes for too long.
    pub(super) async fn turn(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.0.lock()).await;
        let connection = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
        MutexGuard::try_map(connection, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)
    }

    /// Waits for who writes, then moves the write-ahead log into the file.
    pub(super) async fn close(&self) {
        if let Some(connection) = self.0.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "The SQLite file could not be closed; what is committed is in its write-ahead log");
        }
    }
}
