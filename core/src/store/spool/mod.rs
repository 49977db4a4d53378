//! A store in front of a database that may go away: what cannot be appended there is appended to a local
//! file, synced, and acknowledged from there; when the database is back, the file is drained in order. A
//! row is deleted from the file only after the database has it, so a crash at any point repeats rows and
//! loses none. A row that the database refuses, for good or again and again while it takes those of other
//! documents, stays in the file, where it is loaded from, until a snapshot holds it. A row that cannot be read
//! is set aside in the file.
//!
//! The file knows which database its rows are for: another one does not get them unasked.
//!
//! Rows in the file have negative ids, so that they are told from the database's.

mod drain;
mod file;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{DocumentStore, LogBatch, LogId, QuarantinedRow, StoredDocument, UpdateLog, merge};
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;
use file::{Found, SpoolFile, UnreadableRow};

/// Bounds of a spool.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// An append to the database that takes longer counts as failed: a database that was stopped in its
    /// tracks answers nothing. Default 2 s.
    pub append_max: Duration,
    /// Bytes of updates in the file before it takes no more and nothing is acknowledged. Default 4 GiB.
    pub bytes_max: u64,
    /// Takes over what waits in the file for another database, such as one that has moved to another
    /// address. Default `false`: the file is refused.
    pub adopt: bool,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self { append_max: Duration::from_secs(2), bytes_max: 4 * 1024 * 1024 * 1024, adopt: false }
    }
}

/// What waits for the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolFigures {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of their updates.
    pub bytes: u64,
    /// Rows that cannot be read, beside the others; they are kept in the file.
    pub unreadable: u64,
    /// The file itself could not be written to, last time: nothing is acknowledged.
    pub failing: bool,
}

/// Drained rows whose new ids are remembered, so that the room that has them folds them. Rows beyond are
/// folded after the next load.
const MOVED_MAX: usize = 100_000;

/// See the module. Clones share it.
#[derive(Clone)]
pub struct SpooledStore {
    shared: Arc<Shared>,
    drainer: Arc<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn DocumentStore>,
    log: Arc<dyn UpdateLog>,
    file: SpoolFile,
    options: SpoolOptions,
    rows: AtomicU64,
    bytes: AtomicU64,
    unreadable: AtomicU64,
    failing: AtomicBool,
    filled: Notify,
    /// Rows up to this one were moved, or refused by the database.
    passed: AtomicI64,
    /// Rows of the file that the database has now, by their numbers there.
    moved: Mutex<HashMap<LogId, LogId>>,
}

impl SpooledStore {
    /// Puts the file in front of a store. What an earlier process left in it is drained at once. Call it
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// The file cannot be opened, updates for another database wait in it ([`ForeignSpool`]), or the store has
    /// no update log.
    pub async fn open(
        inner: Arc<dyn DocumentStore>,
        path: &Path,
        options: SpoolOptions,
    ) -> Result<Self, StoreError> {
        let Some(log) = inner.update_log() else {
            return Err(StoreError::permanent("spool", format!("{} has no update log", inner.name())));
        };
        let file = SpoolFile::open(path).await?;
        let content = file.content().await?;
        if let Some(store) = inner.identity() {
            claim(&file, path, content.rows, store, options.adopt).await?;
        }
        let shared = Arc::new(Shared {
            inner,
            log,
            file,
            options,
            rows: AtomicU64::new(content.rows),
            bytes: AtomicU64::new(content.bytes),
            unreadable: AtomicU64::new(content.unreadable),
            failing: AtomicBool::new(false),
            filled: Notify::new(),
            passed: AtomicI64::new(0),
            moved: Mutex::default(),
        });
        if content.rows > 0 {
            tracing::warn!(rows = content.rows, "Updates of an earlier run wait for the database");
        }
        let drainer = Arc::new(tokio::spawn(drain::run(Arc::clone(&shared))));
        Ok(Self { shared, drainer })
    }

    /// What waits in the file of a spool, without touching any of it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn peek(path: &Path) -> Result<SpoolFigures, StoreError> {
        let file = SpoolFile::open(path).await?;
        let content = file.content().await;
        file.close().await;
        let file::Content { rows, bytes, unreadable } = content?;
        Ok(SpoolFigures { rows, bytes, unreadable, failing: false })
    }

    /// What waits for the database.
    pub fn figures(&self) -> SpoolFigures {
        SpoolFigures {
            rows: self.shared.rows.load(Ordering::Acquire),
            bytes: self.shared.bytes.load(Ordering::Acquire),
            unreadable: self.shared.unreadable.load(Ordering::Acquire),
            failing: self.shared.failing.load(Ordering::Acquire),
        }
    }
}

/// Updates for another database wait in the file.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} holds {rows} updates for {other}, but {store} is to have them: start once with the former, so that it gets them, or have the latter adopt them",
    path.display()
)]
pub struct ForeignSpool {
    /// The file.
    pub path: PathBuf,
    /// How many.
    pub rows: u64,
    /// The database that they are for.
    pub other: String,
    /// The database that is there now.
    pub store: String,
}

/// Makes the file this store's, unless something in it is for another one. A file that says nothing was
/// made before files did.
async fn claim(
    file: &SpoolFile,
    path: &Path,
    rows: u64,
    store: String,
    adopt: bool,
) -> Result<(), StoreError> {
    let former = file.store().await?;
    if former.as_ref() == Some(&store) {
        return Ok(());
    }
    if let Some(other) = former.filter(|_| rows > 0) {
        if !adopt {
            let foreign = ForeignSpool { path: path.to_owned(), rows, other, store };
            return Err(StoreError::permanent("spool", foreign));
        }
        tracing::warn!(rows, former = other, store, "Updates that wait for another database are adopted");
    }
    file.belong_to(&store).await
}

impl Shared {
    async fn append(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        // While rows wait, new ones queue behind them: what the database gets is in order.
        if self.rows.load(Ordering::Acquire) == 0 {
            match tokio::time::timeout(self.options.append_max, self.log.append(batches)).await {
                Ok(Err(error)) if error.retryable => self.warn(&error),
                Ok(answer) => {
                    if answer.is_ok() {
                        self.failing.store(false, Ordering::Release);
                    }
                    return answer;
                }
                // Whether it was committed nobody knows; rows that are there twice do no harm.
                Err(elapsed) => self.warn(&elapsed),
            }
        }
        self.spool(batches).await
    }

    fn warn(&self, error: &dyn std::error::Error) {
        tracing::error!(store = self.inner.name(), %error, "The database is away; updates are kept in the spool and acknowledged from there");
    }

    async fn spool(&self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        let bytes: u64 = batches.iter().map(|batch| batch.update.len() as u64).sum();
        if self.bytes.load(Ordering::Acquire) + bytes > self.options.bytes_max {
            self.failing.store(true, Ordering::Release);
            return Err(StoreError::retryable(
                "spool",
                format!("is full ({} bytes)", self.options.bytes_max),
            ));
        }
        let ids = self.file.append(batches).await;
        self.failing.store(ids.is_err(), Ordering::Release);
        let ids = ids?;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.rows.fetch_add(batches.len() as u64, Ordering::AcqRel);
        self.filled.notify_one();
        Ok(ids.into_iter().map(|id| -id).collect())
    }

    async fn load(&self, document: &DocumentName) -> Result<Option<StoredDocument>, StoreError> {
        // The file first: a row that is moved meanwhile is then seen twice, not never.
        let Found { rows, unreadable } = self.file.of_document(document).await?;
        let stored = self.inner.load(document).await?;
        if rows.is_empty() && unreadable.is_empty() {
            return Ok(stored);
        }
        let mut stored = stored.unwrap_or_default();
        let rows = rows.into_iter().map(|(id, batch)| (-id, batch.update)).collect();
        let StoredDocument { updates, quarantined, .. } = merge::assemble(None, rows);
        stored.updates.extend(updates);
        stored.quarantined.extend(quarantined);
        let unreadable = unreadable.into_iter().map(|UnreadableRow { row, .. }| row);
        stored.quarantined.extend(unreadable.map(|row| QuarantinedRow { id: -row.id, ..row }));
        Ok(Some(stored))
    }

    async fn store(
        &self,
        document: &DocumentName,
        snapshot: Bytes,
        folded: &[LogId],
    ) -> Result<(), StoreError> {
        let mut spooled = Vec::new();
        let mut inner = Vec::with_capacity(folded.len());
        {
            let moved = self.lock_moved();
            for &id in folded {
                match moved.get(&-id) {
                    _ if id >= 0 => inner.push(id),
                    Some(&new_id) => inner.push(new_id),
                    None => spooled.push(-id),
                }
            }
        }
        self.inner.store(document, snapshot, &inner).await?;
        if !spooled.is_empty() {
            // The snapshot holds them. What was moved since is folded after the next load.
            self.file.delete(&spooled).await?;
            self.filled.notify_one();
        }
        let mut moved = self.lock_moved();
        for id in folded.iter().filter(|id| **id < 0) {
            moved.remove(&-id);
        }
        Ok(())
    }

    fn lock_moved(&self) -> std::sync::MutexGuard<'_, HashMap<LogId, LogId>> {
        // The map is whole between any two statements.
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DocumentStore for SpooledStore {
    fn name(&self) -> &'static str {
        self.shared.inner.name()
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(self.shared.load(document))
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.shared.store(document, snapshot, folded))
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let Found { rows, unreadable } = self.shared.file.of_document(document).await?;
            let spooled = !rows.is_empty() || !unreadable.is_empty();
            let stored = self.shared.inner.delete(document).await?;
            self.shared.file.delete_document(document).await?;
            Ok(stored || spooled)
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        self.shared.inner.list(after, limit)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.shared.inner.ping()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.drainer.abort();
            self.shared.inner.close().await;
            self.shared.file.close().await;
        })
    }

    fn identity(&self) -> Option<String> {
        self.shared.inner.identity()
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl UpdateLog for SpooledStore {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(self.shared.append(batches))
    }

    fn prune(&self, age: Duration) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.shared.log.prune(age)
    }
}
