//! Documents and their update log in PostgreSQL 14 and later, with the tables that other Yjs servers use
//! too. Connects when it is first needed and again whenever it has to: a database that is away makes calls
//! fail, never the store.

mod catalogue;
mod failure;
mod inspect;
mod log;
mod migrate;
mod pieces;
mod pool;
mod statements;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use self::catalogue::Catalogue;
use self::failure::Failure;
use self::pool::Pool;
use self::statements::{Statement, Statements};
use super::blob::blob;
use super::snapshot::{Seal, Snapshot};
use super::{DocumentStore, LogBatch, LogId, StoredDocument, UpdateLog};
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;

pub use self::migrate::{Migration, MigrationMode};

const NAME: &str = "postgres";

/// What can be chosen about a PostgreSQL store.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Keeps folded rows of the log as history, instead of deleting them.
    pub keep_log: bool,
    /// Connections at most.
    pub connections_max: u32,
    /// How long a call waits for a connection, the making of a new one included.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a call waits for the database in all. Its connection is closed then.
    pub call_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            keep_log: false,
            connections_max: 10,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
        }
    }
}

/// A store in a PostgreSQL database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    keep_log: bool,
    call_timeout: Duration,
    statements: RwLock<Option<Arc<Statements>>>,
}

impl PostgresStore {
    /// A store at a `postgres://` URL. Nothing is connected yet; calls fail with a retryable error for as
    /// long as the database is away. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// Permanent, when the URL cannot be read.
    pub fn new(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let pool = Pool::new(url, &options)?;
        let PostgresOptions { keep_log, call_timeout, .. } = options;
        Ok(Self { inner: Arc::new(Inner { pool, keep_log, call_timeout, statements: RwLock::default() }) })
    }

    /// Makes the tables that are missing, or says what it would do. Tables that exist are adopted as they
    /// are. Idempotent, and safe beside other servers that do the same.
    ///
    /// # Errors
    /// When the database cannot be reached, rights are missing, or a table that exists cannot be used; nothing
    /// is changed then.
    pub async fn migrate(&self, mode: MigrationMode) -> Result<Migration, StoreError> {
        self.call(async {
            let mut lease = self.inner.pool.lease().await?;
            let migration = migrate::run(&mut lease, mode).await?;
            lease.finish();
            self.forget_statements();
            Ok(migration)
        })
        .await
    }

    /// Where the database is, without user and password.
    pub fn place(&self) -> &str {
        self.inner.pool.place()
    }

    // Everything that the database is asked runs through here, so that nobody waits for ever for one that
    // has stopped answering.
    async fn call<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, StoreError> {
        let limit = self.inner.call_timeout;
        let outcome = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::TimedOut(limit)));
        outcome.map_err(|failure| {
            if failure.doubts_catalogue() {
                self.forget_statements();
            }
            if failure.lost_connection() {
                self.inner.pool.drop_idle();
            }
            failure.at(self.place())
        })
    }

    async fn statements(&self, connection: &mut PgConnection) -> Result<Arc<Statements>, Failure> {
        let known =
            self.inner.statements.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(Arc::clone);
        if let Some(statements) = known {
            return Ok(statements);
        }
        let statements = Arc::new(Statements::new(&Catalogue::read(connection).await??));
        *self.inner.statements.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&statements));
        Ok(statements)
    }

    fn forget_statements(&self) {
        *self.inner.statements.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn load_document(&self, document: &DocumentName) -> Result<Option<StoredDocument>, Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let Some((found, rows)) = log::load(&mut lease, &sql, document).await? else {
            lease.finish();
            return Ok(None);
        };
        let snapshot = match found {
            Some(pieces) => Some(pieces.open(document.as_str()).await?),
            None => None,
        };
        let assembled = log::assemble(&mut lease, &sql, snapshot, rows).await?;
        lease.finish();
        Ok(Some(assembled))
    }

    async fn store_snapshot(
        &self,
        document: &DocumentName,
        update: Bytes,
        folded: &[LogId],
    ) -> Result<(), Failure> {
        let _turn = self.inner.pool.turn().await;
        // Before the row is locked: the larger part of the work.
        let snapshot = Snapshot::read(document.as_str(), update).await?;
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let mut tx = lease.begin().await?;
        let stored = lock(&mut tx, &sql, document).await?;
        let sealed = if snapshot.covers(&stored) {
            snapshot.into_sealed()
        } else {
            let row = sqlx::query(text(&sql.read)).bind(document.as_str()).fetch_one(&mut *tx).await?;
            let seal = Seal { sha256: row.try_get(1)?, coverage: None };
            snapshot.merge(blob(row, 0)?, seal).await?
        };
        if !sealed.is(&stored) {
            sqlx::query(text(&sql.write))
                .bind(document.as_str())
                .bind(&sealed.update[..])
                .bind(&sealed.sha256[..])
                .bind(sealed.coverage.as_deref())
                .execute(&mut *tx)
                .await?;
        }
        if !folded.is_empty() {
            let fold = if self.inner.keep_log { &sql.fold_and_keep } else { &sql.fold_away };
            sqlx::query(text(fold)).bind(document.as_str()).bind(folded).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        lease.finish();
        Ok(())
    }

    async fn delete_document(&self, document: &DocumentName) -> Result<bool, Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let mut tx = lease.begin().await?;
        let mut rows = 0;
        for statement in &sql.delete {
            rows =
                sqlx::query(text(statement)).bind(document.as_str()).execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        lease.finish();
        Ok(rows > 0)
    }

    async fn names(&self, after: Option<&DocumentName>, limit: usize) -> Result<Vec<DocumentName>, Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let names: Vec<String> = sqlx::query_scalar(text(&sql.list))
            .bind(after.map_or("", DocumentName::as_str))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut **lease)
            .await?;
        lease.finish();
        // A name that we would refuse (another program wrote it) can be opened by nobody.
        Ok(names.iter().filter_map(|name| DocumentName::parse(name).ok()).collect())
    }

    async fn answer(&self) -> Result<(), Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        sqlx::query(text(&sql.ping)).fetch_optional(&mut **lease).await?;
        lease.finish();
        Ok(())
    }

    async fn append_batches(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, Failure> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let ids = log::append(&mut lease, &sql, batches).await?;
        lease.finish();
        Ok(ids)
    }

    async fn prune_history(&self, age: Duration) -> Result<u64, Failure> {
        let mut lease = self.inner.pool.lease().await?;
        let sql = self.statements(&mut lease).await?;
        let rows = log::prune(&mut lease, &sql, age).await?;
        lease.finish();
        Ok(rows)
    }
}

/// The seal of a document's row, which is locked against other writers of snapshots; the row is made where
/// there is none, since one that is not there cannot be locked.
async fn lock(
    connection: &mut PgConnection,
    sql: &Statements,
    document: &DocumentName,
) -> Result<Seal, Failure> {
    let lock = || sqlx::query(text(&sql.lock)).bind(document.as_str());
    let row = match lock().fetch_optional(&mut *connection).await? {
        Some(row) => row,
        None => {
            sqlx::query(text(&sql.create)).bind(document.as_str()).execute(&mut *connection).await?;
            lock().fetch_one(connection).await?
        }
    };
    Ok(Seal { sha256: row.try_get(0)?, coverage: row.try_get(1)? })
}

fn text(statement: &Statement) -> AssertSqlSafe<Statement> {
    AssertSqlSafe(Arc::clone(statement))
}

impl DocumentStore for PostgresStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(self.call(self.load_document(document)))
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.call(self.store_snapshot(document, snapshot, folded)))
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.call(self.delete_document(document)))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        Box::pin(self.call(self.names(after, limit)))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(self.answer()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.pool.close())
    }

    fn identity(&self) -> Option<String> {
        Some(format!("postgres://{}", self.place()))
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl UpdateLog for PostgresStore {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(self.call(self.append_batches(batches)))
    }

    fn prune(&self, age: Duration) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.call(self.prune_history(age)))
    }
}
