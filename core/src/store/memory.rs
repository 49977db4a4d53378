//! Documents in memory, for tests and for hosts whose own hooks are the persistence. What it holds ends
//! with the process, so it has an update log only where one is asked for.

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::merge::{assemble, check, merge};
use super::{DocumentStore, LogBatch, LogId, StoredDocument, UpdateLog};
use crate::auth::BoxFuture;
use crate::error::StoreError;
use crate::id::DocumentName;

const NAME: &str = "memory";

/// Keeps documents for as long as it lives. Clones share their contents.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Contents>>,
    with_log: bool,
}

impl MemoryStore {
    /// How much it holds unless told otherwise, in bytes of snapshots and log rows.
    pub const BYTES_MAX_DEFAULT: usize = 1 << 30;

    /// A store without a log: acks are given at once.
    pub fn new() -> Self {
        Self { shared: Arc::default(), with_log: false }
    }

    /// A store with a log, which behaves as a durable store does.
    pub fn with_log() -> Self {
        Self { with_log: true, ..Self::new() }
    }

    /// Limits what it holds; a write beyond that fails and leaves everything as it was.
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: usize) -> Self {
        self.contents().bytes_max = bytes_max;
        self
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Every write below ends in one assignment, so a panic elsewhere cannot leave half of one.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Contents {
    documents: BTreeMap<DocumentName, Record>,
    last_id: LogId,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Contents {
    fn default() -> Self {
        Self { documents: BTreeMap::new(), last_id: 0, bytes: 0, bytes_max: MemoryStore::BYTES_MAX_DEFAULT }
    }
}

#[derive(Debug, Default)]
struct Record {
    snapshot: Option<Bytes>,
    log: Vec<(LogId, Bytes)>,
}

impl Record {
    fn bytes(&self) -> usize {
        self.snapshot.as_ref().map_or(0, Bytes::len)
            + self.log.iter().map(|(_, update)| update.len()).sum::<usize>()
    }
}

impl Contents {
    fn store(
        &mut self,
        document: &DocumentName,
        snapshot: Bytes,
        folded: &[LogId],
    ) -> Result<(), StoreError> {
        let stored = self.documents.get(document).and_then(|record| record.snapshot.as_ref());
        let merged = match stored {
            None => check(&snapshot).map(|()| snapshot),
            Some(stored) => merge(stored, &snapshot),
        };
        let merged = merged.map_err(|error| StoreError::permanent(NAME, error))?;
        let grown = self.bytes - stored.map_or(0, Bytes::len) + merged.len();
        self.admit(grown)?;
        self.bytes = grown;
        let record = self.documents.entry(document.clone()).or_default();
        record.snapshot = Some(merged);
        // A row that cannot be read is in no snapshot, whatever the caller says.
        let gone = |id: &LogId, update: &Bytes| folded.contains(id) && check(update).is_ok();
        self.bytes -= record
            .log
            .iter()
            .filter(|(id, update)| gone(id, update))
            .map(|(_, row)| row.len())
            .sum::<usize>();
        record.log.retain(|(id, update)| !gone(id, update));
        Ok(())
    }

    fn append(&mut self, batches: &[LogBatch]) -> Result<Vec<LogId>, StoreError> {
        let grown = self.bytes + batches.iter().map(|batch| batch.update.len()).sum::<usize>();
        self.admit(grown)?;
        self.bytes = grown;
        let mut ids = Vec::with_capacity(batches.len());
        for batch in batches {
            self.last_id += 1;
            let record = self.documents.entry(batch.document.clone()).or_default();
            record.log.push((self.last_id, batch.update.clone()));
            ids.push(self.last_id);
        }
        Ok(ids)
    }

    fn load(&self, document: &DocumentName) -> Option<StoredDocument> {
        self.documents.get(document).map(|record| assemble(record.snapshot.clone(), record.log.clone()))
    }

    fn delete(&mut self, document: &DocumentName) -> bool {
        let Some(record) = self.documents.remove(document) else { return false };
        self.bytes -= record.bytes();
        true
    }

    fn list(&self, after: Option<&DocumentName>, limit: usize) -> Vec<DocumentName> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.documents
            .range::<DocumentName, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn admit(&self, bytes: usize) -> Result<(), StoreError> {
        if bytes > self.bytes_max {
            return Err(StoreError::retryable(NAME, format!("full: holds at most {} bytes", self.bytes_max)));
        }
        Ok(())
    }
}

impl DocumentStore for MemoryStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load<'a>(
        &'a self,
        document: &'a DocumentName,
    ) -> BoxFuture<'a, Result<Option<StoredDocument>, StoreError>> {
        Box::pin(ready(Ok(self.contents().load(document))))
    }

    fn store<'a>(
        &'a self,
        document: &'a DocumentName,
        snapshot: Bytes,
        folded: &'a [LogId],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(ready(self.contents().store(document, snapshot, folded)))
    }

    fn delete<'a>(&'a self, document: &'a DocumentName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(ready(Ok(self.contents().delete(document))))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a DocumentName>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DocumentName>, StoreError>> {
        Box::pin(ready(Ok(self.contents().list(after, limit))))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn update_log(&self) -> Option<Arc<dyn UpdateLog>> {
        self.with_log.then(|| Arc::new(self.clone()) as Arc<dyn UpdateLog>)
    }
}

impl UpdateLog for MemoryStore {
    fn append<'a>(&'a self, batches: &'a [LogBatch]) -> BoxFuture<'a, Result<Vec<LogId>, StoreError>> {
        Box::pin(ready(self.contents().append(batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_refuses_and_keeps_what_it_has() {
        let store = MemoryStore::with_log().with_bytes_max(4);
        let mut contents = store.contents();
        let name = DocumentName::parse("a").unwrap();
        contents.store(&name, Bytes::from_static(&[0, 0]), &[]).unwrap();
        let batch = LogBatch { document: name.clone(), update: Bytes::from_static(&[0, 0]), user: None };
        let id = contents.append(std::slice::from_ref(&batch)).unwrap()[0];
        let refused = contents.append(&[batch]).unwrap_err();
        assert!(refused.retryable, "{refused}");
        assert_eq!(contents.load(&name).unwrap().updates.len(), 1);
        contents.store(&name, Bytes::from_static(&[0, 0]), &[id]).unwrap();
        assert_eq!(contents.bytes, 2);
        assert!(contents.delete(&name));
        assert_eq!(contents.bytes, 0);
    }
}
