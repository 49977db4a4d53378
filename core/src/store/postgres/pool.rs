//! The connections, and the rule that one which was left in the middle of something is closed, not reused.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::Failure;
use super::{NAME, PostgresOptions};
use crate::error::StoreError;

/// A call that waits longer than this for a row that somebody else holds fails, and is repeated.
const LOCK_TIMEOUT: &str = "10s";
/// How long `close` waits for calls that are under way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Pool {
    pool: PgPool,
    place: String,
    connect_timeout: Duration,
    /// Turns of those who leave connections to others; see [`Self::turn`].
    turns: Semaphore,
}

impl Pool {
    pub(super) fn new(url: &str, options: &PostgresOptions) -> Result<Self, StoreError> {
        // The URL holds a password: the error may say what is wrong with it, but not show it.
        let connect = PgConnectOptions::from_str(url).map_err(|error| {
            StoreError::permanent(NAME, format!("the database URL cannot be read: {error}"))
        })?;
        let connect = match connect.get_application_name() {
            None => connect.application_name("fidibus"),
            Some(_) => connect,
        };
        let host =
            connect.get_socket().map_or(connect.get_host().to_owned(), |path| path.display().to_string());
        let database = connect.get_database().unwrap_or(connect.get_username());
        let place = format!("{host}:{}/{database}", connect.get_port());
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(options.connect_timeout)
            .idle_timeout(options.idle_timeout)
            // A dead connection shows at its first statement, whose caller repeats it anyway (`drop_idle`).
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(async { prepare(connection).await }))
            .connect_lazy_with(connect);
        let turns = Semaphore::new(options.connections_max.div_ceil(2) as usize);
        Ok(Self { pool, place, connect_timeout: options.connect_timeout, turns })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) async fn lease(&self) -> Result<Lease, Failure> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Lease { connection: Some(connection) }),
            Err(sqlx::Error::PoolTimedOut) => Err(Failure::Unreachable(self.connect_timeout)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a turn to save a snapshot: all saves together take half of the connections. Many documents that are
    /// saved at once would keep acks and loads waiting.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.acquire().await.ok()
    }

    /// Closes the connections that nobody uses: after a restart of the database, each of them would fail one
    /// call more.
    pub(super) fn drop_idle(&self) {
        while let Some(connection) = self.pool.try_acquire() {
            drop(connection.detach());
        }
    }

    pub(super) async fn close(&self) {
        // A database that has stopped answering must not hold up the end.
        tokio::time::timeout(CLOSE_TIMEOUT, self.pool.close()).await.ok();
    }
}

async fn prepare(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    // An acknowledgement means stored, whatever the default of this database; stricter settings stay.
    sqlx::query(
        "select set_config('lock_timeout', $1, false), case current_setting('synchronous_commit')
         when 'off' then set_config('synchronous_commit', 'on', false) end",
    )
    .bind(LOCK_TIMEOUT)
    .execute(connection)
    .await?;
    Ok(())
}

/// A connection for one call. Dropped before [`Lease::finish`], because the call failed, timed out or
/// was given up, it is closed on the spot: whoever waits for what it was doing would wait as long as the
/// database does.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<PoolConnection<Postgres>>,
}

impl Lease {
    /// Gives the connection back for others.
    pub(super) fn finish(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

// Invariant: the connection is there until `finish` or `drop`, and both end the lease.
impl Deref for Lease {
    type Target = PoolConnection<Postgres>;

    #[expect(clippy::expect_used, reason = "stated invariant")]
    fn deref(&self) -> &Self::Target {
        self.connection.as_ref().expect("a lease holds its connection")
    }
}

impl DerefMut for Lease {
    #[expect(clippy::expect_used, reason = "stated invariant")]
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.connection.as_mut().expect("a lease holds its connection")
    }
}
