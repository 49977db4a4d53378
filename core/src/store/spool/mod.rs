//! A store in front of a database that may go away: what cannot be appended there is appended to a local
//! file, synced, and acknowledged from there; when the database is back, the file is drained in order. A
//! row is deleted from the file only after the database has it, so a crash at any point repeats rows and
//! loses none. A row that the database refuses for good stays in the file, where it is loaded from, until a
//! snapshot holds it.
//!
//! Rows in the file have negative ids, so that they are told from the database's.

mod file;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{DocumentStore, LogBatch, LogId, StoredDocument, UpdateLog};
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;
use file::SpoolFile;

/// Bounds of a spool.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// An append to the database that takes longer counts as failed: a database that was stopped in its
    /// tracks answers nothing. Default 2 s.
    pub append_max: Duration,
    /// Bytes of updates in the file before it takes no more and nothing is acknowledged. Default 4 GiB.
    pub bytes_max: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self { append_max: Duration::from_secs(2), bytes_max: 4 * 1024 * 1024 * 1024 }
    }
}

/// What waits for the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolFigures {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of their updates.
    pub bytes: u64,
    /// The file itself could not be written to, last time: nothing is acknowledged.
    pub failing: bool,
}

/// Rows moved to the database at once.
const DRAIN_ROWS_MAX: u32 = 256;
/// How long a drained batch may take: the database has just come back and may be slow.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const DRAIN_RETRY: Duration = Duration::from_millis(500);
/// Rows that the database refused are offered to it again after this long.
const REFUSED_RETRY: Duration = Duration::from_secs(300);
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
    /// The file cannot be opened, or the store has no update log.
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
        let shared = Arc::new(Shared {
            inner,
            log,
            file,
            options,
            rows: AtomicU64::new(content.rows),
            bytes: AtomicU64::new(content.bytes),
            failing: AtomicBool::new(false),
            filled: Notify::new(),
            passed: AtomicI64::new(0),
            moved: Mutex::default(),
        });
        if content.rows > 0 {
            tracing::warn!(rows = content.rows, "Updates of an earlier run wait for the database");
        }
        let drainer = Arc::new(tokio::spawn(drain(Arc::clone(&shared))));
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
        let file::Content { rows, bytes } = content?;
        Ok(SpoolFigures { rows, bytes, failing: false })
    }

    /// What waits for the database.
    pub fn figures(&self) -> SpoolFigures {
        SpoolFigures {
            rows: self.shared.rows.load(Ordering::Acquire),
            bytes: self.shared.bytes.load(Ordering::Acquire),
            failing: self.shared.failing.load(Ordering::Acquire),
        }
    }
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

    /// Moves the oldest rows; whether there may be more.
    async fn move_oldest(&self) -> Result<bool, StoreError> {
        let (counted, counted_bytes) =
            (self.rows.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
        let rows = self.file.oldest_after(self.passed.load(Ordering::Acquire), DRAIN_ROWS_MAX).await?;
        let Some(&(last, _)) = rows.last() else {
            // Folded rows are not counted down one by one. What was added since the look still counts.
            let empty = self.rows.compare_exchange(counted, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if empty {
                subtract(&self.bytes, counted_bytes);
            }
            return Ok(!empty);
        };
        // Asked first, since a database that hangs is found out sooner by a small question.
        let answered = tokio::time::timeout(self.options.append_max, self.inner.ping()).await;
        answered.map_err(|elapsed| StoreError::retryable(self.inner.name(), elapsed))??;
        let (ids, batches): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        match self.move_rows(&ids, &batches).await {
            Err(error) if !error.retryable => self.move_one_by_one(&ids, &batches).await?,
            moved => moved?,
        }
        self.passed.store(last, Ordering::Release);
        Ok(true)
    }

    async fn move_rows(&self, ids: &[LogId], batches: &[LogBatch]) -> Result<(), StoreError> {
        let appended = tokio::time::timeout(DRAIN_MAX, self.log.append(batches)).await;
        let new_ids = appended.map_err(|elapsed| StoreError::retryable(self.inner.name(), elapsed))??;
        {
            let mut moved = self.lock_moved();
            if moved.len() > MOVED_MAX {
                moved.clear();
            }
            moved.extend(ids.iter().copied().zip(new_ids));
        }
        self.file.delete(ids).await?;
        self.count_off(batches);
        Ok(())
    }

    /// Moves those rows that the database takes: one that it refuses must not hold up the others for ever.
    async fn move_one_by_one(&self, ids: &[LogId], batches: &[LogBatch]) -> Result<(), StoreError> {
        let mut refused = Vec::new();
        for (id, batch) in ids.iter().zip(batches) {
            match self.move_rows(std::slice::from_ref(id), std::slice::from_ref(batch)).await {
                Err(error) if !error.retryable => refused.push((batch, error)),
                moved => moved?,
            }
        }
        if refused.len() == batches.len()
            && refused.len() > 1
            && let Some((_, error)) = refused.pop()
        {
            // It is not about the rows then.
            return Err(error);
        }
        for (batch, error) in refused {
            tracing::error!(document = %batch.document, %error, "The database refuses an update; it stays in the spool and is loaded from there");
            self.count_off(std::slice::from_ref(batch));
        }
        Ok(())
    }

    /// These rows wait no longer.
    fn count_off(&self, batches: &[LogBatch]) {
        subtract(&self.rows, batches.len() as u64);
        subtract(&self.bytes, batches.iter().map(|batch| batch.update.len() as u64).sum());
    }

    /// Has the rows that were refused offered to the database once more.
    async fn offer_again(&self) -> Result<(), StoreError> {
        let content = self.file.content().await?;
        // Where rows came meanwhile, they are moved first; another time then.
        let nothing_waits =
            || self.rows.compare_exchange(0, content.rows, Ordering::AcqRel, Ordering::Acquire);
        if content.rows > 0 && nothing_waits().is_ok() {
            self.bytes.fetch_add(content.bytes, Ordering::AcqRel);
            self.passed.store(0, Ordering::Release);
        }
        Ok(())
    }

    async fn load(&self, document: &DocumentName) -> Result<Option<StoredDocument>, StoreError> {
        // The file first: a row that is moved meanwhile is then seen twice, not never.
        let spooled = self.file.of_document(document).await?;
        let stored = self.inner.load(document).await?;
        if spooled.is_empty() {
            return Ok(stored);
        }
        let mut stored = stored.unwrap_or_default();
        stored.updates.extend(spooled.into_iter().map(|(id, batch)| (-id, batch.update)));
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

/// Counters run beside the file and are set right when it is found empty; they never wrap.
fn subtract(counter: &AtomicU64, amount: u64) {
    let lowered = |value: u64| Some(value.saturating_sub(amount));
    // The closure always answers, so this cannot fail.
    let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowered);
}

/// Moves rows to the database whenever there are any and it takes them.
async fn drain(shared: Arc<Shared>) {
    loop {
        while shared.rows.load(Ordering::Acquire) == 0 {
            if tokio::time::timeout(REFUSED_RETRY, shared.filled.notified()).await.is_err()
                && let Err(error) = shared.offer_again().await
            {
                tracing::warn!(%error, "The spool cannot be read");
            }
        }
        match shared.move_oldest().await {
            Ok(true) => {}
            Ok(false) => tracing::info!(
                store = shared.inner.name(),
                "The spool is empty: the database has all updates"
            ),
            Err(error) => {
                tracing::debug!(%error, "The spool cannot be drained yet");
                tokio::time::sleep(DRAIN_RETRY).await;
            }
        }
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
            let spooled = !self.shared.file.of_document(document).await?.is_empty();
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
