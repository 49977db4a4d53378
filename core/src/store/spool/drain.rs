//! Moves rows from the file to the database, in order, whenever there are any and it takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use super::file::{Found, SpooledRow, UnreadableRow};
use super::{MOVED_MAX, Shared};
use crate::error::StoreError;
use crate::id::DocumentName;
use crate::store::{LogBatch, LogId};

/// Rows moved to the database at once.
const ROWS_MAX: u32 = 256;
/// How long a batch may take: the database has just come back and may be slow.
const MOVE_MAX: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(500);
/// Once the database answers, but has not taken the oldest rows for this long, they are tried one by one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rows that the database refused are offered to it again after this long.
const REFUSED_RETRY: Duration = Duration::from_secs(300);

/// The spool's task.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut drain = Drain { shared, failing_since: None, refused: HashSet::new() };
    loop {
        drain.wait_for_rows().await;
        match drain.move_oldest().await {
            Ok(true) => {}
            Ok(false) => {
                let store = drain.shared.inner.name();
                tracing::info!(store, "The spool is empty: the database has all updates");
            }
            Err(error) => {
                tracing::debug!(%error, "The spool cannot be drained yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

struct Drain {
    shared: Arc<Shared>,
    /// Since when the database answers, but does not take the oldest rows.
    failing_since: Option<Instant>,
    /// Documents of which the database refused a row: theirs stay in the file, in order, until they are offered
    /// again. At most what is in the file.
    refused: HashSet<DocumentName>,
}

impl Drain {
    async fn wait_for_rows(&mut self) {
        while self.shared.rows.load(Ordering::Acquire) == 0 {
            if tokio::time::timeout(REFUSED_RETRY, self.shared.filled.notified()).await.is_err() {
                self.refused.clear();
                if let Err(error) = self.shared.offer_again().await {
                    tracing::warn!(%error, "The spool cannot be read");
                }
            }
        }
    }

    /// Moves the oldest rows; whether there may be more.
    async fn move_oldest(&mut self) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (counted, counted_bytes) =
            (shared.rows.load(Ordering::Acquire), shared.bytes.load(Ordering::Acquire));
        let Found { rows, unreadable } =
            shared.file.oldest_after(shared.passed.load(Ordering::Acquire), ROWS_MAX).await?;
        shared.set_aside(&unreadable).await?;
        let Some(&(last, _)) = rows.last() else {
            return Ok(!unreadable.is_empty() || !shared.is_empty_now(counted, counted_bytes));
        };
        let (kept, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, batch)| self.refused.contains(&batch.document));
        if !rows.is_empty() {
            self.move_batch(rows).await?;
        }
        for (_, batch) in &kept {
            shared.count_off(std::slice::from_ref(batch));
        }
        shared.passed.store(last, Ordering::Release);
        Ok(true)
    }

    async fn move_batch(&mut self, rows: Vec<SpooledRow>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        // Asked first, since a database that hangs is found out sooner by a small question.
        let answered = tokio::time::timeout(shared.options.append_max, shared.inner.ping()).await;
        let answered = answered.map_err(|elapsed| StoreError::retryable(shared.inner.name(), elapsed));
        if let Err(error) = answered.and_then(|answer| answer) {
            self.failing_since = None;
            return Err(error);
        }
        let (ids, batches): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let moved = match shared.move_rows(&ids, &batches).await {
            Err(error) if self.is_over(&error) => self.move_one_by_one(&ids, &batches).await,
            moved => moved,
        };
        match moved {
            Ok(()) => self.failing_since = None,
            Err(_) => _ = self.failing_since.get_or_insert_with(Instant::now),
        }
        moved
    }

    /// Whether there is no sense in trying the same again.
    fn is_over(&self, error: &StoreError) -> bool {
        !error.retryable || self.failing_since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// Moves those rows that the database takes: one that it does not must not hold up the others for ever.
    async fn move_one_by_one(&mut self, ids: &[LogId], batches: &[LogBatch]) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut refused = HashMap::<&DocumentName, StoreError>::new();
        let (mut kept, mut moved) = (Vec::new(), false);
        for (id, batch) in ids.iter().zip(batches) {
            if refused.contains_key(&batch.document) {
                kept.push(batch);
                continue;
            }
            match shared.move_rows(std::slice::from_ref(id), std::slice::from_ref(batch)).await {
                Ok(()) => moved = true,
                Err(error) if self.is_over(&error) => {
                    refused.insert(&batch.document, error);
                    kept.push(batch);
                }
                Err(error) => return Err(error),
            }
        }
        let certain = batches.len() == 1 && refused.values().all(|error| !error.retryable);
        if !moved && !certain && !shared.takes_another(ids, &refused).await {
            // It is not about the rows then, or nobody else waits.
            return refused.into_values().next().map_or(Ok(()), Err);
        }
        for batch in kept {
            shared.count_off(std::slice::from_ref(batch));
        }
        for (document, error) in refused {
            tracing::error!(document = %document, %error, "The database refuses an update; it stays in the spool and is loaded from there");
            self.refused.insert(document.clone());
        }
        Ok(())
    }
}

impl Shared {
    /// Corrects the counters where no row is left to move: folded rows are not counted down one by one. `false`
    /// where some were added since they were read.
    fn is_empty_now(&self, counted: u64, counted_bytes: u64) -> bool {
        let empty = self.rows.compare_exchange(counted, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if empty {
            subtract(&self.bytes, counted_bytes);
        }
        empty
    }

    async fn move_rows(&self, ids: &[LogId], batches: &[LogBatch]) -> Result<(), StoreError> {
        let appended = tokio::time::timeout(MOVE_MAX, self.log.append(batches)).await;
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

    /// Whether the database takes a later row, of a document that is not among the refused; it has it then.
    async fn takes_another(&self, ids: &[LogId], refused: &HashMap<&DocumentName, StoreError>) -> bool {
        let documents: Vec<_> = refused.keys().map(|document| document.as_str()).collect();
        let Some(&last) = ids.last() else { return false };
        match self.file.oldest_of_others(last, &documents).await {
            Ok(Some((id, batch))) => self.move_rows(&[id], &[batch]).await.is_ok(),
            _ => false,
        }
    }

    async fn set_aside(&self, unreadable: &[UnreadableRow]) -> Result<(), StoreError> {
        if unreadable.is_empty() {
            return Ok(());
        }
        self.file.set_aside(unreadable).await?;
        for UnreadableRow { row, bytes } in unreadable {
            tracing::error!(
                row = row.id,
                reason = row.reason,
                "A row of the spool cannot be read; it is kept in the file's table `unreadable`, and the others go on"
            );
            subtract(&self.bytes, *bytes);
        }
        subtract(&self.rows, unreadable.len() as u64);
        self.unreadable.fetch_add(unreadable.len() as u64, Ordering::AcqRel);
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
}

/// Counters run beside the file and are set right when it is found empty; they never wrap.
fn subtract(counter: &AtomicU64, amount: u64) {
    let lowered = |value: u64| Some(value.saturating_sub(amount));
    // The closure always answers, so this cannot fail.
    let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowered);
}
