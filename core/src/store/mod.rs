//! Where documents live: the trait of every store, and its optional capability of an update log. No
//! tokio here; stores that need it sit behind cargo features.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod blob;
#[cfg(feature = "test-util")]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod inspect;
mod memory;
pub(crate) mod merge;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod snapshot;
#[cfg(feature = "sqlite")]
mod spool;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use inspect::{DatabaseState, DocumentSummary, Inspect, LoggedRow};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{Migration, MigrationMode, PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use spool::{ForeignSpool, SpoolFigures, SpoolOptions, SpooledStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;

/// A position in one document's update log: larger is later. Zero stands before the first row.
pub type LogId = i64;

/// A document as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredDocument {
    /// The snapshot, one Yjs update v1; `None` where none was written yet, or an empty one.
    pub snapshot: Option<Bytes>,
    /// The rows of the log that the snapshot does not hold yet, in order.
    pub updates: Vec<(LogId, Bytes)>,
    /// Rows of the log that cannot be read, in order. They are kept as they are and count as stored, but
    /// nobody can load them: somebody should be told.
    pub quarantined: Vec<QuarantinedRow>,
}

impl StoredDocument {
    /// All of it that can be read, as one Yjs update v1.
    ///
    /// # Errors
    /// Its parts do not fit together.
    pub fn merged(&self) -> Result<Bytes, StoreError> {
        let mut merged = self.snapshot.clone().unwrap_or(Bytes::from_static(merge::EMPTY_UPDATE));
        for (_, update) in &self.updates {
            merged = merge::merge(&merged, update).map_err(|error| StoreError::permanent("merge", error))?;
        }
        Ok(merged)
    }
}

/// A row of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Its position in the log.
    pub id: LogId,
    /// What is wrong with it.
    pub reason: String,
}

/// Keeps one snapshot per document.
///
/// Guarantees that every store gives, and that the conformance suite checks:
/// - `store` is atomic: a reader sees the old or the new snapshot, never a part.
/// - Stored state only grows: `store` merges into what is stored (under the row's lock where several
///   servers share the database), it never overwrites what the caller has not seen.
/// - `store` is idempotent, and safe to repeat after a failure whose outcome is unknown.
/// - `load` fails rather than answer with less than what is stored. A snapshot that cannot be read, or
///   that is not what was written, is a permanent error of `load` and of `store`, and its bytes stay as
///   they are; a log row that cannot be read is quarantined.
/// - Dropping a future is safe: what it was to do is then done or not done, never half done.
pub trait DocumentStore: Send + Sync + 'static {
    /// What it is called in logs: "sqlite", "memory".
    fn name(&self) -> &'static str;

    /// Reads a document; `None` when it was never stored.
    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>>;

    /// Writes a snapshot, and folds exactly the log rows named: they are in the snapshot and are not
    /// loaded again. Names of rows that are gone, that are another document's or that are quarantined
    /// are passed over. Bytes that are no update are a permanent error and change nothing.
    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a document and its log. `false` when there was none.
    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// The names of stored documents after `after`, at most `limit` of them, in an order of the store's
    /// own that stays the same from page to page.
    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>>;

    /// Answers when the store can be reached: what `/health` shows. The caller sets the time-out.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Closes files and connections, after the last call.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Which database it is, without user and password: `postgres://host:5432/name`. `None` where nothing tells
    /// one from another. What waits for one database is not given to another.
    fn identity(&self) -> Option<String> {
        None
    }

    /// The store's update log, where it has one. It decides whether an ack means "stored".
    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        None
    }
}

/// One row for the log: a batch of one document's updates by one user, as one Yjs update v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// The document.
    pub document: DocumentName,
    /// The update.
    pub update: Bytes,
    /// Who made it.
    pub user: Option<Arc<str>>,
}

/// An append-only log of updates in front of the snapshots.
pub trait UpdateLog: Send + Sync + 'static {
    /// Appends the batches of many documents in one commit. When it returns `Ok`, all of them survive
    /// a crash of the process and of the machine; when it fails, none may be assumed stored, and
    /// appending them again is harmless (updates are idempotent). The ids are those of the batches, in
    /// their order.
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>>;

    /// Deletes rows that are folded and were kept as history for longer than `age`, and answers how many: a
    /// bounded number per call, so it is repeated until it answers zero. Rows that no snapshot holds and
    /// quarantined ones stay. A log that keeps no history has nothing to do.
    fn prune(&self, _age: Duration) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }
}
